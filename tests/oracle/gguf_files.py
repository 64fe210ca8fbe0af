#!/usr/bin/env python3
"""What GGUF files of the golden models and adapters must hold, and what a file does hold.

    gguf_files.py                writes tests/golden/gguf.json: for every model and adapter, name -> [shape, SHA-256 of its f32 bytes]
    gguf_files.py --check FILE   prints the same of a GGUF file, as the PyPI package `gguf` reads it, with its keys

Names come from the package's own tables (gguf.get_tensor_name_map); values from the safetensors files. Rows of q and k of Llama and
Mistral are put in the order that the format's readers rotate: heads [2, d/2] -> [d/2, 2]. An adapter file has one alpha: what a linear's own
differs by is in its B."""
import hashlib
import json
import math
import pathlib
import re
import sys

import gguf
import numpy as np
from safetensors import safe_open

HERE = pathlib.Path(__file__).resolve().parent.parent / "golden"
ARCHITECTURES = {"llama": gguf.MODEL_ARCH.LLAMA, "mistral": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2, "qwen3": gguf.MODEL_ARCH.QWEN3,
                 "gpt2": gguf.MODEL_ARCH.GPT2, "bert": gguf.MODEL_ARCH.BERT, "roberta": gguf.MODEL_ARCH.BERT}
MODELS = ["llama", "llama_linear", "llama3", "mistral", "qwen2", "qwen3", "gpt2", "bert", "roberta"]
ADAPTERS = {"llama_lora": "llama", "llama_regex": "llama3"}
CONV1D = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


def tensors(folder):
    for path in sorted(pathlib.Path(folder).glob("*model*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():
                yield name, file.get_tensor(name).float().numpy()


def permute(w, heads):
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def digest(a):
    a = np.ascontiguousarray(a, dtype="<f4")
    return [list(a.shape), hashlib.sha256(a.tobytes()).hexdigest()]


class Names:
    def __init__(self, config):
        self.config = config
        self.map = gguf.get_tensor_name_map(ARCHITECTURES[config["model_type"]], config.get("num_hidden_layers", config.get("n_layer")))

    def find(self, name):
        for prefix in ("", "model.", "transformer."):
            for start in ("", "bert.", "roberta."):
                if name.startswith(start):
                    found = self.map.get_name(prefix + name[len(start):], try_suffixes=(".weight", ".bias"))
                    if found:
                        return found
        return None

    def heads(self, name):
        if self.config["model_type"] not in ("llama", "mistral"):
            return 0
        if "q_proj" in name:
            return self.config["num_attention_heads"]
        return self.config["num_key_value_heads"] if "k_proj" in name else 0


def rope_factors(config):
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if scaling.get("rope_type") != "llama3":
        return None
    dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    theta = scaling.get("rope_theta", config.get("rope_theta", 10000.0))
    old, low, high, factor = (scaling[k] for k in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor", "factor"))
    out = []
    for i in range(0, dim, 2):
        length = 2 * math.pi * theta ** (i / dim)
        smooth = (old / length - low) / (high - low)
        out.append(1 if length < old / high else factor if length > old / low else 1 / ((1 - smooth) / factor + smooth))
    return np.array(out, np.float32)


def model(folder):
    config = json.loads((folder / "config.json").read_text())
    names, out = Names(config), {}
    for name, w in tensors(folder):
        found = names.find(name)
        if not found or "pooler" in name or "golden" in name:
            continue
        if config["model_type"] == "gpt2" and name.endswith(CONV1D):
            w = w.T
        if names.heads(name):
            w = permute(w, names.heads(name))
        if config["model_type"] == "roberta" and "position_embeddings" in name:
            w = w[config["pad_token_id"] + 1:]
        out[found] = digest(w)
    factors = rope_factors(config)
    if factors is not None:
        out["rope_freqs.weight"] = digest(factors)
    return out


def alpha_of(peft, module):
    return next((v for k, v in (peft.get("alpha_pattern") or {}).items() if re.match(rf"(.*\.)?({k})$", module)), peft["lora_alpha"])


def adapter(folder, base):
    config, peft = json.loads((base / "config.json").read_text()), json.loads((folder / "adapter_config.json").read_text())
    names, out = Names(config), {}
    for name, w in tensors(folder):
        module = name.removeprefix("base_model.model.").replace(".lora_A.weight", "").replace(".lora_B.weight", "")
        b = ".lora_B" in name
        if b and names.heads(module):
            w = permute(w, names.heads(module))
        if b and not peft.get("use_rslora"):
            w = (w.astype(np.float64) * (alpha_of(peft, module) / peft["lora_alpha"])).astype(np.float32)
        out[f"{names.find(module + '.weight')}.lora_{'b' if b else 'a'}"] = digest(w)
    return out


def check(path):
    reader = gguf.GGUFReader(path)
    out = {t.name: digest(gguf.dequantize(t.data, t.tensor_type).reshape(list(reversed([int(d) for d in t.shape])))) for t in reader.tensors}
    keys = {name: field.contents() for name, field in reader.fields.items()}
    print(json.dumps({"tensors": out, "keys": keys}, ensure_ascii=False, default=str))


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--check":
        return check(sys.argv[2])
    golden = {"models": {m: model(HERE / "models" / m) for m in MODELS},
              "adapters": {a: adapter(HERE / "adapters" / a, HERE / "models" / b) for a, b in ADAPTERS.items()}}
    (HERE / "gguf.json").write_text(json.dumps(golden, indent=0, sort_keys=True) + "\n")


main()
