"""Golden curves of PEFT's methods: 100 steps of AdamW on the tiny llama of tests/golden/models, in float32, from PEFT's own factors.

usage: peft_curves.py            (writes tests/golden/train/peft/NAME/ and tests/golden/train/peft/curves.safetensors)

NAME/ is the adapter as PEFT saved it before the first step. LoRA-GA changes the base weight: its tensors are the start (A0, B0), which a
model with the original weight subtracts. curves.safetensors holds the rows, drawn as in lora_curve.py, and for each NAME the loss of
every step ("losses.NAME"), and "calibration" [8, 12, 12], the batches that EVA and LoRA-GA started from. A step is a window of two micro-batches of three rows; warm-up over 3 steps, then cosine.
"""
import os
import shutil

import peft
import torch
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

import curve
from peft_adapters import ALL, MODELS, OUT, random_rows, wrap

STEPS, WINDOW = 100, 6
TRAIN = os.path.join(OUT, "..", "train", "peft")

# name: (config, rate)
METHODS = {
    "randlora": (peft.RandLoraConfig(r=5, randlora_alpha=20, target_modules=ALL), 1e-2),
    "miss": (peft.MissConfig(r=5, target_modules=ALL), 5e-3),
    "miss_mini": (peft.MissConfig(r=6, mini_r=8, init_weights="mini", target_modules=ALL), 5e-3),
    "bat": (peft.MissConfig(r=8, init_weights="bat", target_modules=ALL), 5e-3),
    "eva": (peft.LoraConfig(r=4, lora_alpha=8, target_modules=ALL, init_lora_weights="eva", eva_config=peft.EvaConfig(rho=2.0, tau=0.999)), 1e-2),
    "lora_ga": (peft.LoraConfig(r=4, lora_alpha=8, target_modules=ALL, init_lora_weights="lora_ga", lora_ga_config=peft.LoraGAConfig()), 5e-3),
}


def main():
    torch.set_num_threads(1)
    rows = curve.draw_rows(torch.Generator().manual_seed(3), 96, STEPS * WINDOW)
    data = {"ids": torch.tensor([t for r in rows for t in r], dtype=torch.int32), "lengths": torch.tensor([len(r) for r in rows], dtype=torch.int32)}
    data["calibration"] = torch.stack(random_rows(8, 2)).to(torch.int32)
    for name, (config, rate) in METHODS.items():
        torch.manual_seed(0)
        base = LlamaForCausalLM.from_pretrained(os.path.join(MODELS, "llama"), dtype=torch.float32, attn_implementation="eager")
        model = wrap(base, config)
        folder = os.path.join(TRAIN, name)
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder, save_embedding_layers=False)
        os.remove(os.path.join(folder, "README.md"))
        path = os.path.join(folder, "adapter_config.json")
        with open(path) as file:
            text = file.read()
        with open(path, "w") as file:
            file.write(text.replace(os.path.join(MODELS, "llama"), "models/llama"))
        losses, _ = curve.train(model, rows, STEPS, rate)
        data["losses." + name] = torch.tensor(losses, dtype=torch.float64)
        print(name, losses[0], losses[49], losses[-1])
    save_file(data, os.path.join(TRAIN, "curves.safetensors"))


main()
