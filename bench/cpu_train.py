"""LoRA training step on the CPU: crank beside PyTorch + PEFT, same shapes, same threads, one run.

usage: cpu_train.py --crank build/crank [--python PYTHON] [--peer torch_cpu.py] [--threads 2] [--rows 15m,110m,minilm] [--pairs 3]

Rows: Llama shapes of 15M and 110M parameters (B=4, T=256) and MiniLM-L6 (B=32, T=64), LoRA r=8 on all linears, in f32 and where the
processor has it bf16. PyTorch runs eager and compiled; its best counts. crank and the peer run in turn, `--pairs` times, and the ratio
is the median of the pairs' ratios. Prints one line a row: tokens/s of both, ratio, peak resident MiB of both and their ratio.
"""
import argparse, json, os, re, statistics, subprocess, sys, tempfile

p = argparse.ArgumentParser()
p.add_argument("--crank", default="build/crank")
p.add_argument("--python", default=sys.executable)
p.add_argument("--peer", default=os.path.join(os.path.dirname(__file__), "torch_cpu.py"))
p.add_argument("--threads", type=int, default=2)
p.add_argument("--rows", default="15m,110m,minilm")
p.add_argument("--pairs", type=int, default=3)
p.add_argument("--steps", type=int, default=10)
p.add_argument("--precisions", default="f32,bf16")
p.add_argument("--modes", default="eager,compile", help="of PyTorch; the best counts")
p.add_argument("--no-peer", action="store_true")
p.add_argument("--profile", action="store_true", help="print crank's roofline table of each row")
a = p.parse_args()
here = os.path.dirname(os.path.abspath(__file__))
tokenizers = os.path.join(here, "..", "tests", "golden", "tokenizers")
SHAPES = {"15m": (288, 6, 6, 768), "110m": (768, 12, 12, 2048)}
work = tempfile.mkdtemp()

def llama(name):
    h, layers, heads, inter = SHAPES[name]
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": h, "intermediate_size": inter, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": heads, "vocab_size": 32000, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0, "tie_word_embeddings": True, "initializer_range": 0.02, "hidden_act": "silu"}

MINILM = {"architectures": ["BertForSequenceClassification"], "model_type": "bert", "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6,
          "num_attention_heads": 12, "vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
          "hidden_act": "gelu", "initializer_range": 0.02, "num_labels": 2}

def write_data():
    words = [w for n in sorted(os.listdir(tokenizers)) if n.endswith(".txt") for w in open(os.path.join(tokenizers, n), errors="replace").read().split()]
    words = [w for w in words if w.isascii()] or ["word"]
    text = " ".join(words[i % len(words)] for i in range(60000))
    open(os.path.join(work, "text.txt"), "w").write(text)
    with open(os.path.join(work, "rows.tsv"), "w") as f:
        f.write("label\tsentence\n")
        for i in range(640):
            f.write(f"{i % 2}\t{' '.join(words[(i * 37 + k) % len(words)] for k in range(90))}\n")

def run(command, env=None):
    """Standard output, and the peak resident MiB of the process."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    out, err = child.communicate()
    return out, err, child.returncode

def crank(row, precision):
    config = os.path.join(work, row + ".json")
    json.dump(MINILM if row == "minilm" else llama(row), open(config, "w"))
    out = os.path.join(work, "out")
    common = [a.crank, "train", f"model.config={config}", "model.device=cpu", f"model.compute={precision}", "lowrank.rank=8", "lowrank.alpha=16", f"train.steps={a.steps}",
              "train.lr=1e-4", f"train.threads={a.threads}", f"output.path={out}", "train.resume=false", "output.report=false", "--json", "-q", *(["--profile"] if a.profile else [])]
    if row == "minilm":
        common += [f"data.tokenizer={tokenizers}/bert.json", f"data.train={work}/rows.tsv", "data.text_field=sentence", "data.context=64",
                   "data.overflow=right", "train.batch=32", "loss.objective=classification", "model.labels=2"]
    else:
        common += [f"data.tokenizer={tokenizers}/gpt2.json", f"data.train={work}/text.txt", "data.context=256", "train.batch=4"]
    env = dict(os.environ, OMP_WAIT_POLICY="active", OMP_PROC_BIND="false")
    stats = "import resource,subprocess,sys; r=subprocess.run(sys.argv[1:]); sys.stderr.write('\\nPEAK %d' % resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(r.returncode)"
    text, err, code = run([sys.executable, "-c", stats] + common, env)
    if code:
        raise SystemExit(f"crank failed on {row} {precision}: {err}")
    result = json.loads(text)
    if a.profile:
        print(result["profile"], flush=True)
    tokens = result["tokens"] / result["steps"]
    return tokens / result["median_step_seconds"], int(re.search(r"PEAK (\d+)", err).group(1)) / 1024

def peer(row, precision):
    shape = ["minilm", "32", "64"] if row == "minilm" else [row, "4", "256"]
    best = (0.0, 0.0, "")
    for mode in [[] if m == "eager" else ["--compile"] for m in a.modes.split(",")]:
        text, err, code = run([a.python, a.peer, *shape, *mode, *(["--bf16"] if precision == "bf16" else []), "--threads", str(a.threads), "--steps", str(a.steps)])
        found = re.search(r": ([\d,]+) tok/s.*peak resident ([\d,]+) MiB", text)
        if code or not found:
            print(f"  (peer {row} {precision} {' '.join(mode)} did not run: {err.strip().splitlines()[-1] if err.strip() else code})", file=sys.stderr)
            continue
        speed, memory = (float(g.replace(",", "")) for g in found.groups())
        if speed > best[0]:
            best = (speed, memory, "compile" if mode else "eager")
    return best

write_data()
for row in a.rows.split(","):
    for precision in a.precisions.split(","):
        ours, theirs, ratios = [], [], []
        for _ in range(a.pairs):
            ours.append(crank(row, precision))
            if not a.no_peer:
                theirs.append(peer(row, precision))
                ratios.append(ours[-1][0] / theirs[-1][0] if theirs[-1][0] else float("nan"))
        line = f"{row:7} {precision:5} crank {statistics.median(o[0] for o in ours):9,.0f} tok/s {max(o[1] for o in ours):7,.0f} MiB"
        if theirs:
            line += (f" | PyTorch ({theirs[0][2]}) {statistics.median(t[0] for t in theirs):9,.0f} tok/s {min(t[1] for t in theirs):7,.0f} MiB"
                     f" | speed x{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}), memory x{max(o[1] for o in ours) / min(t[1] for t in theirs):.2f}")
        print(line, flush=True)
