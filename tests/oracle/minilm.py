"""Golden embeddings of the real all-MiniLM-L6-v2 (see fetch_minilm.sh).

Usage: python tests/oracle/minilm.py        (writes tests/golden/minilm.safetensors)

    ids, positions i32 [n], segments i32 [s+1]: sentences as its tokenizer encodes them, packed
    pooled [s, 384]: mean over the tokens of the last hidden states, one sentence at a time, f32
"""

import os

import torch
import transformers as tf
from safetensors.torch import save_file

cache = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "crank", "all-MiniLM-L6-v2")
SENTENCES = [
    "This is an example sentence",
    "Each sentence is converted",
    "Low-rank adaptation trains two thin matrices beside a frozen weight.",
    "Was kostet eine Fahrkarte nach München?",
    "a",
    "def rank(scores): return sorted(range(len(scores)), key=lambda i: -scores[i])",
    " ".join("The quick brown fox jumps over the lazy dog, and then number %d comes." % i for i in range(14)),
]

torch.set_num_threads(1)
tokenizer = tf.AutoTokenizer.from_pretrained(cache)
model = tf.AutoModel.from_pretrained(cache, dtype=torch.float32, attn_implementation="eager").eval()
rows = [tokenizer(sentence)["input_ids"] for sentence in SENTENCES]
bounds = [0]
for row in rows:
    bounds.append(bounds[-1] + len(row))
with torch.no_grad():
    pooled = torch.stack([model(input_ids=torch.tensor([row])).last_hidden_state[0].mean(0) for row in rows])
save_file({"ids": torch.tensor(sum(rows, []), dtype=torch.int32), "segments": torch.tensor(bounds, dtype=torch.int32),
           "positions": torch.cat([torch.arange(len(row)) for row in rows]).int(), "pooled": pooled},
          os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "minilm.safetensors"))
print(bounds, pooled.shape)
