"""Golden loss curve on real data: 10 steps of LoRA + AdamW on the real all-MiniLM-L6-v2 (see fetch_minilm.sh) over the first 320 rows of
SST-2, in file order, 32 rows a step, by PyTorch, transformers and PEFT in float32.

usage: sst2_curve.py SST2-TRAIN.tsv.gz            (writes tests/golden/train/sst2_curve.safetensors: losses f64 [10])

Initial values follow a rule that both sides compute:  A[i, j] and the head's weight = ((37 i + 101 j) mod 257 - 128) / 128 / sqrt(columns),
B and the head's bias = 0. Rank 8, alpha 16, on query, key, value and dense (the pooler too); rate 2e-3, constant; clip 1; no dropout.
"""
import gzip, os, sys
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

STEPS, ROWS = 10, 32
cache = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "crank", "all-MiniLM-L6-v2")
lines = gzip.open(sys.argv[1], "rt").read().split("\n")[1 : 1 + STEPS * ROWS]
torch.set_num_threads(1)
tokenizer = AutoTokenizer.from_pretrained(cache)
base = AutoModelForSequenceClassification.from_pretrained(cache, num_labels=2, dtype=torch.float32)
model = get_peft_model(base, LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "key", "value", "dense"], lora_dropout=0.0))
model.eval()

def rule(shape):
    i, j = torch.arange(shape[0], dtype=torch.float64)[:, None], torch.arange(shape[1], dtype=torch.float64)[None, :]
    return (((37 * i + 101 * j) % 257 - 128) / 128 / shape[1] ** 0.5).float()

trained = {n: q for n, q in model.named_parameters() if q.requires_grad}
with torch.no_grad():
    for name, q in trained.items():
        q.copy_(rule(q.shape) if "lora_A" in name or q.dim() == 2 and "classifier" in name else torch.zeros_like(q))
optimizer = torch.optim.AdamW(trained.values(), lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
losses = []
for step in range(STEPS):
    rows = [line.split("\t") for line in lines[step * ROWS : (step + 1) * ROWS]]
    batch = tokenizer([text for _, text in rows], padding=True, return_tensors="pt")
    loss = torch.nn.functional.cross_entropy(model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits,
                                             torch.tensor([int(label) for label, _ in rows]))
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
    optimizer.step()
    losses.append(loss.item())
save_file({"losses": torch.tensor(losses, dtype=torch.float64)},
          os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "train", "sst2_curve.safetensors"))
print(losses)
