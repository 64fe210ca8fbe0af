"""Golden loss curve: 20 steps of LoRA + AdamW on the tiny llama of tests/golden/models, by PyTorch, transformers and PEFT in float32.

usage: lora_curve.py            (writes tests/golden/train/lora_start/ and lora_curve.safetensors)

The initial factors are PEFT's own, with B filled with small numbers so that both factors move from the first step. Each step is a
window of two micro-batches of three sequences of uneven lengths, run one by one without padding; the loss is the sum over
next-token negative log-likelihoods divided by their number in the whole window.
"""
import os
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

import curve

here = os.path.dirname(os.path.abspath(__file__))
golden = os.path.join(here, "..", "golden")
STEPS, WINDOW, RATE = 20, 6, 2e-2

torch.manual_seed(0)
torch.set_num_threads(1)
base = LlamaForCausalLM.from_pretrained(os.path.join(golden, "models", "llama"), dtype=torch.float32, attn_implementation="eager")
model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", lora_dropout=0.0))
for name, p in model.named_parameters():
    if "lora_B" in name:
        torch.nn.init.normal_(p, std=0.02)
start = os.path.join(golden, "train", "lora_start")
model.save_pretrained(start, save_embedding_layers=False)
for extra in ("README.md",):
    path = os.path.join(start, extra)
    if os.path.exists(path):
        os.remove(path)

rows = curve.draw_rows(torch.Generator().manual_seed(1), base.config.vocab_size, STEPS * WINDOW)
losses, norms = curve.train(model, rows, STEPS, RATE)
curve.save(os.path.join(golden, "train", "lora_curve.safetensors"), rows, losses, norms)
print(losses[0], losses[-1], norms[:3])
