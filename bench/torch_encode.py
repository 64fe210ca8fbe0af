"""Scoring and encoding by PyTorch + transformers, random weights: what bench/gpu_encode.py compares crank with.

usage: torch_encode.py SHAPE.json IDS.json [--compile] [--device cuda] [--order sorted|arrival] [--tokens 8192] [--repeat N]
An encoder gives mean-pooled vectors, a decoder the logits of the last position of each row, its attention with is_causal and no mask tensor.
A batch has at most --tokens tokens; ragged rows are padded on the right to the longest of their batch (multiples of 64), in order of length
or of arrival. Ids are on the device before the clock starts and results stay there. Prints one
JSON line: seconds of the median pass, real tokens/s, share of padding.
"""
import argparse, json, statistics, time
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
import transformers.models.llama.modeling_llama as llama

p = argparse.ArgumentParser()
p.add_argument("shape"); p.add_argument("ids"); p.add_argument("--compile", action="store_true"); p.add_argument("--device", default="cuda")
p.add_argument("--order", default="sorted"); p.add_argument("--tokens", type=int, default=8192); p.add_argument("--repeat", type=int, default=10)
p.add_argument("--dtype", default="bfloat16"); p.add_argument("--threads", type=int, default=0)
a = p.parse_args()
if a.threads:
    torch.set_num_threads(a.threads)
llama.create_causal_mask = lambda *args, **kwargs: None
torch.manual_seed(0)
rows = json.load(open(a.ids))
config = AutoConfig.for_model(**json.load(open(a.shape)))
config._attn_implementation = "sdpa"
decoder = config.model_type == "llama"
torch.set_default_dtype(getattr(torch, a.dtype))
with torch.device(a.device):
    model = (AutoModelForCausalLM if decoder else AutoModel).from_config(config).eval()
torch.set_default_dtype(torch.float32)
ragged = len({len(r) for r in rows}) > 1

def padded(batch):
    longest = max(map(len, batch))
    longest = -(-longest // 64) * 64 if ragged else longest
    ids = torch.tensor([r + [0] * (longest - len(r)) for r in batch], device=a.device)
    return ids, torch.tensor([len(r) - 1 for r in batch], device=a.device)

batches, now = [], []
for r in sorted(rows, key=len, reverse=True) if a.order == "sorted" else rows:
    longest = max(map(len, [*now, r]))
    longest = -(-longest // 64) * 64 if ragged else longest
    if now and longest * (len(now) + 1) > a.tokens:
        batches.append(padded(now))
        now = []
    now.append(r)
batches.append(padded(now))

def last_logits(ids, last):
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    return model.lm_head(hidden[torch.arange(len(ids), device=ids.device), last])

def pooled(ids, last):
    return model(ids, torch.ones_like(ids)).last_hidden_state.mean(1)

body = last_logits if decoder else pooled
run = torch.compile(body, dynamic=True if ragged else None) if a.compile else body

def one_pass():
    for ids, last in batches:
        run(ids, last)

def wait():
    if a.device.startswith("cuda"):
        torch.cuda.synchronize()

times = []
with torch.inference_mode():
    for i in range(3 + a.repeat):
        wait()
        start, used = time.perf_counter(), time.process_time()
        one_pass()
        wait()
        times.append((time.perf_counter() - start, time.process_time() - used))
seconds = statistics.median(t[0] for t in times[3:])
real = sum(map(len, rows))
computed = sum(ids.numel() for ids, _ in batches)
print(json.dumps({"torch": torch.__version__, "seconds": seconds, "processor_seconds": statistics.median(t[1] for t in times[3:]), "rows_per_second": len(rows) / seconds,
                  "tokens_per_second": real / seconds, "padding": 1 - real / computed, "batches": len(batches)}))
