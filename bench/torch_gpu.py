"""One training step of PyTorch + transformers (+ PEFT) on a GPU, random weights: what bench/gpu_train.py and bench/adapters.py compare crank with.

usage: torch_gpu.py SHAPE.json BATCH SEQ [--compile] [--method lora|dora|miss|bat|randlora|full] [--rank R] [--steps N] [--device cuda|cpu]
Attention runs with is_causal and no mask tensor (while compiling, transformers would build one). Prints one JSON line: tokens/s of the
median step, peak GiB that PyTorch allocated and that the driver counts; on a CPU, which tries the script, the resident memory.
"""
import argparse, json, resource, statistics, time
import torch
from transformers import AutoConfig, AutoModelForCausalLM
import transformers.models.llama.modeling_llama as llama

p = argparse.ArgumentParser()
p.add_argument("shape"); p.add_argument("batch", type=int); p.add_argument("seq", type=int)
p.add_argument("--compile", action="store_true"); p.add_argument("--method", default="lora"); p.add_argument("--rank", type=int, default=16)
p.add_argument("--steps", type=int, default=8); p.add_argument("--device", default="cuda")
a = p.parse_args()
llama.create_causal_mask = lambda *args, **kwargs: None
torch.manual_seed(0)
config = AutoConfig.for_model(**json.load(open(a.shape)))
config.use_cache = False
torch.set_default_dtype(torch.bfloat16)
with torch.device(a.device):
    model = AutoModelForCausalLM.from_config(config)
torch.set_default_dtype(torch.float32)
if a.method != "full":
    from peft import get_peft_model
    from gpu_shapes import peft_config
    model = get_peft_model(model, peft_config(a.method, a.rank))
model.train()
optimizer = torch.optim.AdamW([q for q in model.parameters() if q.requires_grad], lr=1e-4, fused=True)
run = torch.compile(model) if a.compile else model
ids = torch.randint(0, config.vocab_size, (a.batch, a.seq), device=a.device)

def step():
    with torch.autocast(a.device, torch.bfloat16):
        loss = run(input_ids=ids, labels=ids).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

on_card = a.device != "cpu"
wait = torch.cuda.synchronize if on_card else lambda: None
times = []
for i in range(3 + a.steps):
    wait()
    start = time.perf_counter()
    step()
    wait()
    times.append(time.perf_counter() - start)
if on_card:
    free, total = torch.cuda.mem_get_info()
    allocated, taken = torch.cuda.max_memory_allocated(), total - free
else:
    allocated = taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"torch": torch.__version__, "tokens_per_second": a.batch * a.seq / statistics.median(times[3:]), "step_ms": 1e3 * statistics.median(times[3:]),
                  "allocated_gib": allocated / 2**30, "driver_gib": taken / 2**30}))
