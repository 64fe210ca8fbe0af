"""What the golden loss curves share: rows of a learnable pattern, and AdamW over windows of rows, run one by one without padding.

The loss of a step is the sum of next-token negative log-likelihoods over their number in the whole window; the rate rises over WARMUP
steps and falls as a cosine; gradients are clipped to norm CLIP. Not a script: lora_curve.py, data_driven.py and peft_curves.py use it.
"""
import math

import torch
from safetensors.torch import save_file

WARMUP, DECAY, CLIP = 3, 0.01, 1.0


def draw_row(generator, vocab, length):
    """Each token follows from the one before it, with some noise."""
    ids = [int(torch.randint(0, vocab, (1,), generator=generator))]
    for _ in range(length - 1):
        noise = int(torch.randint(0, 4, (1,), generator=generator))
        ids.append((ids[-1] * 3 + 1 + (noise == 0)) % vocab)
    return ids


def draw_rows(generator, vocab, count):
    """Rows of 2 to 13 tokens."""
    return [draw_row(generator, vocab, int(torch.randint(2, 14, (1,), generator=generator))) for _ in range(count)]


def train(model, rows, steps, rate):
    """Losses and gradient norms (before the clip) of every step; the rows are shared out evenly."""
    window = len(rows) // steps
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=DECAY)
    losses, norms = [], []
    model.train()
    for step in range(1, steps + 1):
        factor = step / WARMUP if step <= WARMUP else 0.5 * (1 + math.cos(math.pi * (step - 1 - WARMUP) / (steps - WARMUP)))
        for group in optimizer.param_groups:
            group["lr"] = rate * factor
        present = rows[(step - 1) * window : step * window]
        count, total = sum(len(r) - 1 for r in present), 0.0
        optimizer.zero_grad()
        for r in present:
            ids = torch.tensor([r])
            nll = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="sum")
            (nll / count).backward()
            total += nll.item()
        norms.append(float(torch.nn.utils.clip_grad_norm_(trained, CLIP)))
        optimizer.step()
        losses.append(total / count)
    return losses, norms


def save(path, rows, losses, norms):
    save_file({"ids": torch.tensor([t for r in rows for t in r], dtype=torch.int32), "lengths": torch.tensor([len(r) for r in rows], dtype=torch.int32),
               "losses": torch.tensor(losses, dtype=torch.float64), "norms": torch.tensor(norms, dtype=torch.float64)}, path)
