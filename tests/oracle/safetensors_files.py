"""Golden files of tests/data/test_safetensors.c, written by the safetensors library.

every_type.safetensors  one tensor of each element type; element i of a tensor is i - 3 (unsigned: i)
one_key.safetensors     metadata with one key, names in need of escapes, ranks 0 to 5, an empty tensor
sharded/                two shards and their index, as transformers writes them

usage: safetensors_files.py tests/golden/safetensors
"""
import json
import os
import sys

import torch
from safetensors.torch import save_file

folder = sys.argv[1]
os.makedirs(folder + "/sharded", exist_ok=True)


def ramp(count, dtype, start=-3):
    return (torch.arange(count, dtype=torch.float32) + start).to(dtype)


save_file(
    {
        "f32": ramp(6, torch.float32).reshape(2, 3),
        "bf16": ramp(6, torch.bfloat16).reshape(3, 2),
        "f16": ramp(7, torch.float16),
        "f64": ramp(6, torch.float64),
        "i32": ramp(6, torch.int32),
        "i64": ramp(6, torch.int64),
        "u8": ramp(5, torch.uint8, 0),
        "f8": ramp(6, torch.float8_e4m3fn),
    },
    folder + "/every_type.safetensors",
)
save_file(
    {
        "scalar": torch.tensor(7.0),
        "rank5": ramp(2 * 1 * 3 * 1 * 2, torch.float32).reshape(2, 1, 3, 1, 2),
        "empty": torch.zeros(0, 4),
        'quote"back\\slash': ramp(1, torch.float32),
        "gr\u00f6\u00dfe \U0001f600": ramp(2, torch.float32),
        "mask": torch.tensor([True, False, True]),
        "small": ramp(3, torch.int8),
    },
    folder + "/one_key.safetensors",
    metadata={"format": "pt"},
)
shards = [
    {"layers.0.w": ramp(4, torch.float32).reshape(2, 2), "layers.0.b": ramp(2, torch.float32)},
    {"layers.1.w": ramp(4, torch.bfloat16).reshape(2, 2), "head": ramp(3, torch.float32)},
]
names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
for name, tensors in zip(names, shards):
    save_file(tensors, f"{folder}/sharded/{name}", metadata={"format": "pt"})
index = {
    "metadata": {"total_size": sum(t.numel() * t.element_size() for s in shards for t in s.values())},
    "weight_map": {key: name for name, tensors in zip(names, shards) for key in tensors},
}
with open(folder + "/sharded/model.safetensors.index.json", "w") as file:
    file.write(json.dumps(index, indent=2, sort_keys=True) + "\n")
