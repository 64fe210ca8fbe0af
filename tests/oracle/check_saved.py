"""Folders that crank saved load in transformers and compute what the golden files say.

Usage: python tests/oracle/check_saved.py BUILD     (after the test program model.model has run there)

The test saves every golden model to BUILD/saved_models/NAME; each must load strictly and give the golden outputs.
"""

import os
import sys

import torch
from safetensors.torch import load_file

from models import MODELS, OUT, encode

worst = 0.0
for name, (cls, config, kind, extra) in MODELS.items():
    folder = os.path.join(sys.argv[1], "saved_models", name)
    golden = load_file(os.path.join(OUT, name, "golden.safetensors"))
    more = {"add_pooling_layer": False} if extra.get("pooler") is False else {}
    model, info = cls.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True, **more)
    if info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"]:
        sys.exit(f"{name}: {info}")
    model.eval()
    bounds, rows = golden["segments"].tolist(), []
    with torch.no_grad():
        for begin, end in zip(bounds, bounds[1:]):
            types = golden["types"][None, begin:end].long() if "types" in golden else None
            rows.append(encode(model, kind, golden["ids"][None, begin:end].long(), types)[0])
    features = torch.cat(rows)
    error = ((features - golden["features"]).norm() / golden["features"].norm()).item()
    worst = max(worst, error)
    print(f"{name}: {error:.2e}")
print(f"worst {worst:.2e}")
sys.exit(worst > 1e-6)
