"""One training step of PyTorch + transformers (+ PEFT) on a GPU, random weights: what bench/gpu_train.py compares crank with.

usage: torch_gpu.py SHAPE.json BATCH SEQ [--compile] [--method lora|dora|full] [--rank R] [--steps N]
Attention runs with is_causal and no mask tensor (while compiling, transformers would build one). Prints one JSON line: tokens/s of the
median step, peak GiB that PyTorch allocated and that the driver counts.
"""
import argparse, json, statistics, time
import torch
from transformers import AutoConfig, AutoModelForCausalLM
import transformers.models.llama.modeling_llama as llama

p = argparse.ArgumentParser()
p.add_argument("shape"); p.add_argument("batch", type=int); p.add_argument("seq", type=int)
p.add_argument("--compile", action="store_true"); p.add_argument("--method", default="lora"); p.add_argument("--rank", type=int, default=16)
p.add_argument("--steps", type=int, default=8)
a = p.parse_args()
llama.create_causal_mask = lambda *args, **kwargs: None
torch.manual_seed(0)
config = AutoConfig.for_model(**json.load(open(a.shape)))
config.use_cache = False
torch.set_default_dtype(torch.bfloat16)
with torch.device("cuda"):
    model = AutoModelForCausalLM.from_config(config)
torch.set_default_dtype(torch.float32)
if a.method != "full":
    from peft import LoraConfig, get_peft_model
    model = get_peft_model(model, LoraConfig(r=a.rank, lora_alpha=2 * a.rank, target_modules="all-linear", lora_dropout=0.0, use_dora=a.method == "dora"))
model.train()
optimizer = torch.optim.AdamW([q for q in model.parameters() if q.requires_grad], lr=1e-4, fused=True)
run = torch.compile(model) if a.compile else model
ids = torch.randint(0, config.vocab_size, (a.batch, a.seq), device="cuda")

def step():
    with torch.autocast("cuda", torch.bfloat16):
        loss = run(input_ids=ids, labels=ids).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

times = []
for i in range(3 + a.steps):
    torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    torch.cuda.synchronize()
    times.append(time.perf_counter() - start)
free, total = torch.cuda.mem_get_info()
print(json.dumps({"torch": torch.__version__, "tokens_per_second": a.batch * a.seq / statistics.median(times[3:]), "step_ms": 1e3 * statistics.median(times[3:]),
                  "allocated_gib": torch.cuda.max_memory_allocated() / 2**30, "driver_gib": (total - free) / 2**30}))
