"""Golden curve of PEFT's EVA: 20 steps of AdamW from PEFT's own EVA factors (ranks redistributed, rho = 2) on the tiny llama of
tests/golden/models, in float32.

usage: data_driven.py            (writes tests/golden/train/eva_start/ and eva_curve.safetensors)

The rows are drawn as in lora_curve.py. Calibration sees all tokens of eight batches of 12 rows of 12 tokens.
"""
import os
import torch
from peft import EvaConfig, LoraConfig, get_peft_model, initialize_lora_eva_weights
from transformers import LlamaForCausalLM

import curve

here = os.path.dirname(os.path.abspath(__file__))
golden = os.path.join(here, "..", "golden")
STEPS, WINDOW, RATE = 20, 6, 2e-2

torch.manual_seed(0)
torch.set_num_threads(1)
base = LlamaForCausalLM.from_pretrained(os.path.join(golden, "models", "llama"), dtype=torch.float32, attn_implementation="eager")
vocab = base.config.vocab_size
generator = torch.Generator().manual_seed(2)

batches = [torch.tensor([curve.draw_row(generator, vocab, 12) for _ in range(12)]) for _ in range(8)]
loader = [{"input_ids": b, "attention_mask": torch.ones_like(b), "labels": b} for b in batches]
config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
                    init_lora_weights="eva", eva_config=EvaConfig(rho=2.0, tau=0.5))
model = get_peft_model(base, config)
initialize_lora_eva_weights(model, loader, show_progress_bar=False)
start = os.path.join(golden, "train", "eva_start")
model.save_pretrained(start, save_embedding_layers=False)
for extra in ("README.md",):
    path = os.path.join(start, extra)
    if os.path.exists(path):
        os.remove(path)

rows = curve.draw_rows(generator, vocab, STEPS * WINDOW)
losses, norms = curve.train(model, rows, STEPS, RATE)
curve.save(os.path.join(golden, "train", "eva_curve.safetensors"), rows, losses, norms)
print(losses[0], losses[-1], norms[:3])
