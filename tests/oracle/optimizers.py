"""Golden files of optimisers: tests/golden/optim/{torch,adam8bit}.safetensors.

torch.safetensors: 50 steps of torch.optim's optimisers in f32 on a [4, 6] matrix with given gradients; the rate of step t is
rate * (0.5 + 0.5 * cos(t / 50)). adam8bit.safetensors: 50 steps of 8-bit AdamW on 5000 elements, a transcription of
bitsandbytes' block-wise kernel in NumPy float32; gradients are made from integers, the same in tests/optim/test_adamw8bit.c.

usage: python optimizers.py (in tests/oracle, with torch and safetensors)
"""
import math
import os

import numpy as np
import torch
from safetensors.numpy import save_file

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "optim")
STEPS = 50

CASES = {
    "adamw": (torch.optim.AdamW, dict(lr=1e-2, weight_decay=0.01)),
    "adamw_other": (torch.optim.AdamW, dict(lr=3e-2, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)),
    "adam_l2": (torch.optim.Adam, dict(lr=1e-2, weight_decay=0.1)),
    "sgd": (torch.optim.SGD, dict(lr=1e-2)),
    "sgd_momentum": (torch.optim.SGD, dict(lr=1e-2, momentum=0.9, dampening=0.1, weight_decay=0.05)),
    "sgd_nesterov": (torch.optim.SGD, dict(lr=1e-2, momentum=0.9, nesterov=True)),
}


def torch_cases():
    draw = np.random.default_rng(1)
    w0 = draw.normal(size=(4, 6)).astype(np.float32)
    g = (draw.normal(size=(STEPS, 4, 6)) * np.exp(draw.normal(size=(1, 4, 6)))).astype(np.float32)
    files = {"w0": w0, "g": g}
    for name, (kind, options) in CASES.items():
        w = torch.nn.Parameter(torch.tensor(w0))
        optimizer = kind([w], **options)
        for t in range(STEPS):
            optimizer.param_groups[0]["lr"] = options["lr"] * (0.5 + 0.5 * math.cos((t + 1) / STEPS))
            w.grad = torch.tensor(g[t])
            optimizer.step()
        files[name] = w.detach().numpy()
    save_file(files, os.path.join(OUT, "torch.safetensors"))


def dynamic_map(signed):
    values = []
    for i in range(7):
        count = 2 ** i if signed else 2 ** (i + 1)
        bounds = np.linspace(0.1, 1.0, count + 1, dtype=np.float32)
        means = (bounds[:-1] + bounds[1:]) / np.float32(2)
        values += list(10.0 ** (i - 6) * means)
        if signed:
            values += list(-(10.0 ** (i - 6)) * means)
    return np.sort(np.array(values + [0, 1.0], dtype=np.float32))


def nearest(table, x):
    right = np.clip(np.searchsorted(table, x), 1, 255)
    left = right - 1
    return np.where(x - table[left] <= table[right] - x, left, right).astype(np.uint8)


def gradient(t, n):
    i = np.arange(n, dtype=np.int64)
    k = (i * 7919 + t * 104729 + i * i % 613 * t) % 2003 - 1001
    return (k.astype(np.float32) / np.float32(1024)) * np.float32(0.5) ** ((i // 256) % 6).astype(np.float32)


def adam8bit(n=5000, lr=2.0 ** -7, b1=0.9, b2=0.999, eps=1e-8, decay=0.0625):
    f = np.float32
    maps = dynamic_map(True), dynamic_map(False)
    i = np.arange(n, dtype=np.int64)
    w = ((i * 31 % 257 - 128).astype(f) / f(256))
    blocks = [slice(a, min(a + 256, n)) for a in range(0, n, 256)]
    codes = [np.full(n, 127, np.uint8), np.zeros(n, np.uint8)]
    amax = [np.zeros(len(blocks), f), np.zeros(len(blocks), f)]
    for t in range(1, STEPS + 1):
        g = gradient(t, n)
        c1, c2 = f(1 - b1 ** t), f(math.sqrt(1 - b2 ** t))
        for j, block in enumerate(blocks):
            m = maps[0][codes[0][block]] * amax[0][j]
            v = maps[1][codes[1][block]] * amax[1][j]
            m = m * f(b1) + f(1 - b1) * g[block]
            v = v * f(b2) + f(1 - b2) * g[block] * g[block]
            w[block] += -f(lr) * c2 / c1 * (m / (np.sqrt(v) + c2 * f(eps)))
            w[block] *= f(1 - lr * decay)
            amax[0][j], amax[1][j] = np.abs(m).max(), v.max()
            x = m / amax[0][j]
            code = nearest(maps[0], x).astype(np.int64)
            wrong = np.signbit(maps[0][code]) != np.signbit(x)
            code = np.where(wrong, code + np.where(x > 0, 1, -1), code)
            codes[0][block] = code
            codes[1][block] = nearest(maps[1], v / amax[1][j])
    save_file({"w": w, "codes_m": codes[0], "codes_v": codes[1], "amax_m": amax[0], "amax_v": amax[1]},
              os.path.join(OUT, "adam8bit.safetensors"))


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    torch_cases()
    adam8bit()
