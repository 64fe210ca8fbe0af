"""Loss of a causal model on a text file by transformers, window by window: what `crank eval MODEL --text FILE --seq N` measures.

usage: text_loss.py MODEL FILE N

The text and an end token are cut into windows of N tokens; each window predicts its second to last token from its own tokens.
"""
import gzip, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, path, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
text = (gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")).read().decode()
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
ids = tokenizer(text, add_special_tokens=True)["input_ids"] + [model.config.eos_token_id]
total, count = 0.0, 0
with torch.no_grad():
    for at in range(0, len(ids), n):
        window = torch.tensor([ids[at : at + n]])
        logits = model(window).logits[0, :-1]
        total += torch.nn.functional.cross_entropy(logits, window[0, 1:], reduction="sum").item()
        count += window.shape[1] - 1
print(f"loss {total / count:.6f} nats a token over {count} tokens")
