"""Golden curve of PEFT's EVA: 20 steps of AdamW from PEFT's own EVA factors (ranks redistributed, rho = 2) on the tiny llama of
tests/golden/models, in float32.

usage: data_driven.py            (writes tests/golden/train/eva_start/ and eva_curve.safetensors)

The rows are drawn as in lora_curve.py. Calibration sees all tokens of eight batches of 12 rows of 12 tokens.
"""
import math, os
import torch
from peft import EvaConfig, LoraConfig, get_peft_model, initialize_lora_eva_weights
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

here = os.path.dirname(os.path.abspath(__file__))
golden = os.path.join(here, "..", "golden")
STEPS, MICRO, ROWS, RATE, WARMUP, DECAY, CLIP = 20, 2, 3, 2e-2, 3, 0.01, 1.0

torch.manual_seed(0)
torch.set_num_threads(1)
base = LlamaForCausalLM.from_pretrained(os.path.join(golden, "models", "llama"), dtype=torch.float32, attn_implementation="eager")
vocab = base.config.vocab_size
generator = torch.Generator().manual_seed(2)


def row(n):
    ids = [int(torch.randint(0, vocab, (1,), generator=generator))]
    for _ in range(n - 1):
        noise = int(torch.randint(0, 4, (1,), generator=generator))
        ids.append((ids[-1] * 3 + 1 + (noise == 0)) % vocab)
    return ids


batches = [torch.tensor([row(12) for _ in range(12)]) for _ in range(8)]
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

rows, lengths = [], []
for _ in range(STEPS * MICRO * ROWS):
    n = int(torch.randint(2, 14, (1,), generator=generator))
    rows.append(row(n))
    lengths.append(n)
trained = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=DECAY)
losses, norms = [], []
model.train()
for step in range(1, STEPS + 1):
    factor = step / WARMUP if step <= WARMUP else 0.5 * (1 + math.cos(math.pi * (step - 1 - WARMUP) / (STEPS - WARMUP)))
    for group in optimizer.param_groups:
        group["lr"] = RATE * factor
    window = rows[(step - 1) * MICRO * ROWS : step * MICRO * ROWS]
    count = sum(len(r) - 1 for r in window)
    total = 0.0
    optimizer.zero_grad()
    for r in window:
        ids = torch.tensor([r])
        logits = model(ids).logits[0, :-1]
        nll = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
        (nll / count).backward()
        total += nll.item()
    norms.append(float(torch.nn.utils.clip_grad_norm_(trained, CLIP)))
    optimizer.step()
    losses.append(total / count)
save_file({"ids": torch.tensor([t for r in rows for t in r], dtype=torch.int32), "lengths": torch.tensor(lengths, dtype=torch.int32),
           "losses": torch.tensor(losses, dtype=torch.float64), "norms": torch.tensor(norms, dtype=torch.float64)},
          os.path.join(golden, "train", "eva_curve.safetensors"))
print(losses[0], losses[-1], norms[:3])
