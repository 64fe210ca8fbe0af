"""Training step of every low-rank method, beside crank's own LoRA and beside PEFT where it has the method.

usage: adapters.py --crank build/crank [--python PYTHON] [--threads 2] [--methods lora,dora,..] [--pairs 3] [--steps 6] [--precision f32|bf16] [--no-peer] [--profile]
       adapters.py --device cuda [--shape 1b] [--batch 8] [--seq 2048] [--methods ..] [--steps 6] [--seconds 560]

On the CPU: a Llama shape of 15M parameters, B=4, T=256, the method on all linears (crank's `all-linear`). Runs alternate: LoRA, the method, LoRA,
the method, ..; the ratio of a pair is the method's median step over that of the LoRA run before it. PEFT runs eager, in pairs with crank's
run of the same method. Peak is the resident memory of the process. Prints a row a method; the median of the pairs and their range.

On a GPU: Llama-1B's shape, B=8, T=2048, bf16, random weights. Each method once, LoRA at both ends, PEFT eager behind the methods that it has. Peaks are
what the driver counts for crank beyond context and libraries, and what PyTorch allocated. Methods that calibrate tell how long that took and the
memory of its largest round. Methods for which no time is left are named, and go into another call by --methods. --device cpu --shape tiny tries it.
"""
import argparse, json, os, re, statistics, subprocess, sys, tempfile, time
from gpu_shapes import shape_file, train_words

p = argparse.ArgumentParser()
p.add_argument("--crank", default="build/crank")
p.add_argument("--python", default=sys.executable)
p.add_argument("--threads", type=int, default=2)
p.add_argument("--methods", default="")
p.add_argument("--pairs", type=int, default=3)
p.add_argument("--steps", type=int, default=6)
p.add_argument("--precision", default="f32", choices=["f32", "bf16"])
p.add_argument("--no-peer", action="store_true")
p.add_argument("--profile", action="store_true", help="print crank's roofline table of each method")
p.add_argument("--device", default="cpu"); p.add_argument("--shape", default="", help="1b on a GPU; with it the CPU runs the GPU's way of measuring")
p.add_argument("--batch", type=int, default=8); p.add_argument("--seq", type=int, default=2048)
p.add_argument("--seconds", type=float, default=560, help="GPU: no method begins that may not end by then")
a = p.parse_args()
here = os.path.dirname(os.path.abspath(__file__))
tokenizers = os.path.join(here, "..", "tests", "golden", "tokenizers")
work = tempfile.mkdtemp()

# name of the row: (crank's method, its options, PEFT's name of the method or None, PEFT's rank)
METHODS = {
    "lora": ("lora", "rank=8 alpha=16", "lora", 8),
    "dora": ("dora", "rank=8 alpha=16", "dora", 8),
    "bat": ("bone", "rank=8", "bat", 8),
    "miss": ("miss", "rank=8", "miss", 8),
    "randlora": ("randlora", "rank=32", "randlora", 32),
    "nola": ("nola", "rank=8 basis=64", None, 0),
    "dylora": ("dylora", "rank=8", None, 0),
    "hydra": ("hydra", "rank=4 sequential=4", None, 0),
    "sora": ("sora", "rank=8", None, 0),
    "allora": ("allora", "rank=8", None, 0),
    "asf-lora": ("asf-lora", "rank=8", None, 0),
    "lora-xs": ("lora-xs", "rank=8", None, 0),
    "lora-sb": ("lora-sb", "rank=8", None, 0),
    "svfit-8": ("svfit", "rank=8", None, 0),
    "svfit-all": ("svfit", "rank=0", None, 0),
    "lamda": ("lamda", "rank=8", None, 0),
    "lora-pro": ("lora-pro", "rank=8", None, 0),
    "smora": ("smora", "rank=64 active=8", None, 0),
    "eva": ("eva", "rank=8", "lora", 8),
    "lora-ga": ("lora-ga", "rank=8", "lora", 8),
    "relora": ("relora", "rank=8", None, 0),
}

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 6,
         "num_attention_heads": 6, "num_key_value_heads": 6, "vocab_size": 32000, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
         "rope_theta": 10000.0, "tie_word_embeddings": True, "initializer_range": 0.02, "hidden_act": "silu"}

def write_data():
    words = [w for n in sorted(os.listdir(tokenizers)) if n.endswith(".txt") for w in open(os.path.join(tokenizers, n), errors="replace").read().split()]
    words = [w for w in words if w.isascii()] or ["word"]
    with open(os.path.join(work, "text.txt"), "w") as f:
        f.write(" ".join(words[i % len(words)] for i in range(60000)))
    with open(os.path.join(work, "llama.json"), "w") as f:
        json.dump(LLAMA, f)

STATS = ("import resource,subprocess,sys; r=subprocess.run(sys.argv[1:]); "
         "sys.stderr.write('\\nPEAK %d' % resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(r.returncode)")

def crank(method, options, profile=False):
    """Seconds of the median step, peak resident MiB."""
    command = [a.crank, "train", f"model.config={work}/llama.json", "model.device=cpu", f"model.compute={a.precision}", f"lowrank.method={method}",
               *(f"lowrank.{o}" for o in options.split()), f"train.steps={a.steps}", "train.lr=1e-4", "train.batch=4", f"train.threads={a.threads}",
               f"data.tokenizer={tokenizers}/gpt2.json", f"data.train={work}/text.txt", "data.context=256", f"output.path={work}/out",
               "train.resume=false", "output.report=false", "--json", "-q", *(["--profile"] if profile else [])]
    env = dict(os.environ, OMP_WAIT_POLICY="active", OMP_PROC_BIND="false")
    r = subprocess.run([sys.executable, "-c", STATS, *command], capture_output=True, text=True, env=env)
    if r.returncode:
        raise SystemExit(f"crank failed on {method}: {r.stderr}")
    result = json.loads(r.stdout)
    if profile:
        print(result["profile"], flush=True)
    return result["median_step_seconds"], int(re.search(r"PEAK (\d+)", r.stderr).group(1)) / 1024

def peer(method, rank):
    r = subprocess.run([a.python, os.path.join(here, "torch_cpu.py"), "15m", "4", "256", "--method", method, "--rank", str(rank), *(["--bf16"] if a.precision == "bf16" else []), "--threads", str(a.threads),
                        "--steps", str(a.steps)], capture_output=True, text=True)
    found = re.search(r"step ([\d.]+) ms.*peak resident ([\d,]+) MiB", r.stdout)
    if r.returncode or not found:
        raise SystemExit(f"PEFT failed on {method}: {r.stderr}")
    return float(found.group(1)) / 1000, float(found.group(2).replace(",", ""))

def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"

def on_cpu(name):
    method, options, theirs, rank = METHODS[name]
    ratios, steps, memory, speed, share = [], [], 0, [], []
    for pair in range(a.pairs):
        base, _ = crank("lora", "rank=8 alpha=16")
        step, peak = crank(method, options, a.profile and pair == 0)
        ratios.append(step / base)
        steps.append(step)
        memory = max(memory, peak)
        if theirs and not a.no_peer:
            other, other_peak = peer(theirs, rank)
            speed.append(other / step)
            share.append(peak / other_peak)
    line = f"{name:10} {options:22} step {statistics.median(steps) * 1e3:6.0f} ms, over LoRA's {spread(ratios)}, {memory:5.0f} MiB"
    if speed:
        line += f" | PEFT: {spread(speed)} times as long, crank's peak is {max(share):.2f} of its"
    print(line, flush=True)

# ---- one shape on one device, each method once ----

def crank_once(name, method, options):
    words = train_words(a.crank, work, a.shape, a.batch, a.seq, a.steps + 3, name, device=a.device, compute="bf16" if a.device != "cpu" else "f32")
    words += [f"lowrank.method={method}", *(f"lowrank.{o}" for o in options.split()), "--json", *(["--profile"] if a.profile else [])]
    r = subprocess.run(words, capture_output=True, text=True)
    if r.returncode:
        return {"error": r.stderr[-800:]}
    result = json.loads(r.stdout[r.stdout.index("{"):])
    if a.profile:
        print(result["profile"], flush=True)
    found = re.search(r"calibrated \S+ on (\d+) batches.* at most ([\d.]+) MiB, ([\d.]+) s", r.stderr)
    start = {"batches": int(found.group(1)), "gib": float(found.group(2)) / 1024, "seconds": float(found.group(3))} if found else None
    return {"step": result["median_step_seconds"], "gib": result["peak_bytes"] / 2**30, "planned_gib": result["planned_bytes"] / 2**30, "start": start}

def peer_once(method, rank):
    r = subprocess.run([a.python, os.path.join(here, "torch_gpu.py"), shape_file(work, a.shape), str(a.batch), str(a.seq), "--method", method, "--rank", str(rank),
                        "--steps", str(a.steps), "--device", a.device], capture_output=True, text=True)
    return json.loads(r.stdout.strip().splitlines()[-1]) if r.returncode == 0 else {"error": r.stderr[-800:]}

def on_device():
    names, began, peers, took, left = a.methods.split(",") if a.methods else [*METHODS, "lora"], time.time(), {}, [], []
    tokens, base = a.batch * a.seq, None
    for name in names:
        method, options, theirs, rank = METHODS[name]
        if took and time.time() - began + 1.3 * max(took) > a.seconds:
            left.append(name)
            continue
        start, ours = time.time(), crank_once(name, method, options)
        if "error" in ours:
            print(f"{name}: crank failed: {ours['error']}", flush=True)
            continue
        if name == "lora":
            base = base or ours["step"]
        line = f"{name:10} {options:22} step {ours['step'] * 1e3:7.1f} ms, {tokens / ours['step']:8.0f} tok/s, {ours['gib']:6.2f} GiB ({ours['planned_gib']:.2f} planned)"
        if base:
            line += f", over LoRA's {ours['step'] / base:.2f}"
        if ours["start"]:
            line += f"; calibrated on {ours['start']['batches']} batches in {ours['start']['seconds']:.1f} s, {ours['start']['gib']:.2f} GiB beside the weights"
        if theirs and not a.no_peer:
            if (theirs, rank) not in peers:
                peers[theirs, rank] = peer_once(theirs, rank)
            other = peers[theirs, rank]
            if "error" in other:
                line += f" | PEFT failed: {other['error']}"
            else:
                line += (f" | PEFT {other['step_ms']:.1f} ms, {other['tokens_per_second']:.0f} tok/s, {other['allocated_gib']:.2f} GiB: {other['step_ms'] / 1e3 / ours['step']:.2f} "
                         f"times as long, crank's peak is {ours['gib'] / other['allocated_gib']:.2f} of its")
        print(line, flush=True)
        took.append(time.time() - start)
    if left:
        print(f"no time was left for --methods {','.join(left)}", flush=True)

if a.device != "cpu" or a.shape:
    a.shape = a.shape or "1b"
    on_device()
else:
    write_data()
    for row in a.methods.split(",") if a.methods else METHODS:
        on_cpu(row)
