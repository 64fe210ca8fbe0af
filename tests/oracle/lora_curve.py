"""Golden loss curve: 20 steps of LoRA + AdamW on the tiny llama of tests/golden/models, by PyTorch, transformers and PEFT in float32.

usage: lora_curve.py            (writes tests/golden/train/lora_start/ and lora_curve.safetensors)

The initial factors are PEFT's own, with B filled with small numbers so that both factors move from the first step. Each step is a
window of two micro-batches of three sequences of uneven lengths, run one by one without padding; the loss is the sum over
next-token negative log-likelihoods divided by their number in the whole window.
"""
import math, os
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

here = os.path.dirname(os.path.abspath(__file__))
golden = os.path.join(here, "..", "golden")
STEPS, MICRO, ROWS, RATE, WARMUP, DECAY, CLIP = 20, 2, 3, 2e-2, 3, 0.01, 1.0

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

vocab = base.config.vocab_size
generator = torch.Generator().manual_seed(1)
rows, lengths = [], []
for _ in range(STEPS * MICRO * ROWS):
    n = int(torch.randint(2, 14, (1,), generator=generator))
    # a learnable pattern: each token follows from the one before it, with some noise
    ids = [int(torch.randint(0, vocab, (1,), generator=generator))]
    for _ in range(n - 1):
        noise = int(torch.randint(0, 4, (1,), generator=generator))
        ids.append((ids[-1] * 3 + 1 + (noise == 0)) % vocab)
    rows.append(ids)
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
          os.path.join(golden, "train", "lora_curve.safetensors"))
print(losses[0], losses[-1], norms[:3])
