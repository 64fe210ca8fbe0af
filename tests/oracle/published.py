"""Golden file of published code: tests/golden/optim/published.safetensors.

50 steps of galore-torch 1.0's AdamW and Adafactor and of fira 1.0.2's AdamW, in f32, on the matrices and gradients of
subspaces.safetensors; rank 3, gap 7, scale 0.25; the rate of step t is 0.05 * (0.5 + 0.5 * cos(t / 50)). The sign of a singular vector is
arbitrary: here the largest entry of each kept vector is positive, as the engine has it.

usage: python published.py FOLDER (in tests/oracle; FOLDER holds the packages galore_torch and fira, installed with --no-deps --target; with
torch, transformers and safetensors)
"""
import importlib
import os
import sys
import types

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from subspaces import OUT, STEPS, rate_of

sys.path.insert(0, sys.argv[1])
for name in ("galore_torch", "fira"):
    package = types.ModuleType(name)  # without __init__.py, which may import an 8-bit optimiser
    package.__path__ = [os.path.join(sys.argv[1], name)]
    sys.modules[name] = package
galore_adamw = importlib.import_module("galore_torch.adamw").AdamW
galore_adafactor = importlib.import_module("galore_torch.adafactor").Adafactor
fira_adamw = importlib.import_module("fira.fira_adamw").AdamW
projectors = (importlib.import_module("galore_torch.galore_projector").GaLoreProjector, importlib.import_module("fira.gradient_projection").GradientProjector)


def with_signs(original):
    def get(self, weights, rank, type):
        P = original(self, weights, rank, type)
        if type == "right":  # rows
            return P * torch.sign(P[torch.arange(len(P)), P.abs().argmax(1)])[:, None]
        return P * torch.sign(P[P.abs().argmax(0), torch.arange(P.shape[1])])

    return get


for projector in projectors:
    projector.get_orthogonal_matrix = with_signs(projector.get_orthogonal_matrix)


def run(kind, w0, g, **options):
    w = torch.nn.Parameter(torch.tensor(w0))
    group = dict(params=[w], rank=3, update_proj_gap=7, scale=0.25, alpha=0.25, proj_type="std")
    optimizer = kind([group], lr=0.05, **options)
    for t in range(1, STEPS + 1):
        optimizer.param_groups[0]["lr"] = rate_of(0.05, t)
        w.grad = torch.tensor(g[t - 1])
        optimizer.step()
    return w.detach().numpy()


def main():
    data = load_file(os.path.join(OUT, "subspaces.safetensors"))
    files = {}
    for shape in ("wide", "tall", "square"):
        w0, g = data[shape + ".w0"], data[shape + ".g"]
        files[shape + ".galore"] = run(galore_adamw, w0, g, no_deprecation_warning=True)
        files[shape + ".galore_decay"] = run(galore_adamw, w0, g, weight_decay=0.5, no_deprecation_warning=True)
        files[shape + ".galore_adafactor"] = run(galore_adafactor, w0, g, relative_step=False, scale_parameter=False, warmup_init=False, beta1=None)
        files[shape + ".fira"] = run(fira_adamw, w0, g, no_deprecation_warning=True)
        files[shape + ".fira_decay"] = run(fira_adamw, w0, g, weight_decay=0.1, no_deprecation_warning=True)
    save_file({k: np.ascontiguousarray(v) for k, v in files.items()}, os.path.join(OUT, "published.safetensors"))


if __name__ == "__main__":
    main()
