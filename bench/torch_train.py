"""The peer of a crank run: PyTorch + transformers + PEFT from the same initial values, on the same batches in the same order.

usage: torch_train.py MODEL START [--steps N] [--lr X --schedule S --warmup N --clip X --accumulate N] [--eval-every N] [--threads N]
START is a folder written by `crank train RECIPE --start START`: adapter/ (PEFT) and batches.jsonl. No dropout (as crank), float32,
AdamW(0.9, 0.999, 1e-8, no decay). Prints one JSON object: losses of the steps, evaluations, seconds of the steps, peak MiB.
"""
import argparse, json, math, resource, sys, time
import torch
import torch.nn.functional as F
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers import logging as hf_logging

p = argparse.ArgumentParser()
p.add_argument("model"); p.add_argument("start")
p.add_argument("--steps", type=int, default=0); p.add_argument("--total", type=int, default=0)
p.add_argument("--lr", type=float, required=True); p.add_argument("--schedule", default="linear"); p.add_argument("--warmup", type=int, default=0)
p.add_argument("--clip", type=float, default=1.0); p.add_argument("--accumulate", type=int, default=1)
p.add_argument("--eval-every", type=int, default=0); p.add_argument("--threads", type=int, default=2)
a = p.parse_args()
torch.set_num_threads(a.threads)
hf_logging.set_verbosity_error()

train, held_out = [], []
for line in open(f"{a.start}/batches.jsonl"):
    batch = json.loads(line)
    (train if batch["part"] == "train" else held_out).append(batch)
classifies = "labels" in train[0]
config = json.load(open(f"{a.start}/adapter/adapter_config.json"))
if classifies:
    labels = 1 + max(l for b in train for l in b["labels"] if l is not None)
    base = AutoModelForSequenceClassification.from_pretrained(a.model, num_labels=labels, dtype=torch.float32)
else:
    base = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32)
model = PeftModel.from_pretrained(base, f"{a.start}/adapter", is_trainable=True)
model.eval()  # no dropout anywhere
trained = [q for q in model.parameters() if q.requires_grad]
print(f"{sum(q.numel() for q in trained)} trainable, {len(train)} batches", file=sys.stderr)

def padded(batch):
    longest = max(map(len, batch["rows"]))
    ids = torch.tensor([r + [0] * (longest - len(r)) for r in batch["rows"]])
    mask = torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r in batch["rows"]])
    return ids, mask

def forward(batch):
    """Sum of the losses, how many there are, and how many predictions are right (classification)."""
    ids, mask = padded(batch)
    logits = model(input_ids=ids, attention_mask=mask).logits
    if classifies:
        target = torch.tensor([-100 if l is None else l for l in batch["labels"]])
        return F.cross_entropy(logits, target, reduction="sum"), int((target >= 0).sum()), int((logits.argmax(-1) == target).sum())
    target = torch.full_like(ids, -100)
    for i, (row, counts) in enumerate(zip(batch["rows"], batch["trained"])):
        for t, c in enumerate(counts):
            if c:
                target[i, t - 1] = row[t]
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100, reduction="sum"), int((target >= 0).sum()), 0

@torch.no_grad()
def evaluate(step):
    total = count = right = 0
    for batch in held_out:
        s, n, r = forward(batch)
        total, count, right = total + s.item(), count + n, right + r
    return {"step": step, "loss": total / count, **({"accuracy": right / count} if classifies else {})}

def factor(step, total):
    if a.warmup and step <= a.warmup:
        return step / a.warmup
    if a.schedule == "constant":
        return 1.0
    q = (step - 1 - a.warmup) / (total - a.warmup)
    return 1 - q if a.schedule == "linear" else (1 + math.cos(math.pi * q)) / 2

steps = len(train) // a.accumulate if not a.steps else a.steps
total = a.total or (len(train) + a.accumulate - 1) // a.accumulate
optimizer = torch.optim.AdamW(trained, lr=a.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, fused=True)
losses, evaluations, seconds = [], [], 0.0
if held_out and a.eval_every:
    evaluations.append(evaluate(0))
for step in range(1, steps + 1):
    start = time.perf_counter()
    window = train[(step - 1) * a.accumulate : step * a.accumulate]
    sums, counted = 0.0, 0
    optimizer.zero_grad(set_to_none=True)
    for batch in window:
        loss, n, _ = forward(batch)
        loss.backward()
        sums, counted = sums + loss.item(), counted + n
    for q in trained:
        q.grad.div_(counted)
    if a.clip:
        torch.nn.utils.clip_grad_norm_(trained, a.clip)
    for group in optimizer.param_groups:
        group["lr"] = a.lr * factor(step, total)
    optimizer.step()
    seconds += time.perf_counter() - start
    losses.append(sums / counted)
    if held_out and (step == steps or (a.eval_every and step % a.eval_every == 0)):
        evaluations.append(evaluate(step))
        print(evaluations[-1], file=sys.stderr, flush=True)
print(json.dumps({"losses": losses, "evaluations": evaluations, "seconds": seconds,
                  "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "torch": torch.__version__}))
