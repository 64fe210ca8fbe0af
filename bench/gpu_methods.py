"""Optimisers of gradient subspaces on one GPU: what GaLore and Fira cost beside AdamW, refreshes of their bases included.

usage: gpu_methods.py [--crank PATH] [--rows adamw-350m,galore-350m,fira-350m,galore8-7b] [--steps N] [--device cuda] [--set section.key=value] [--profile]
Random weights, full packed batches, bf16 products. A row of a subspace method runs twice: as it is (its median step does not refresh), and with
optim.gap=1 (every step does). `mean_ms` is what a step costs over a whole gap: ordinary + (refresh - ordinary) / gap. Each row is one command
of a few minutes. galore8-7b is the GaLore paper's headline, one sequence of 256 tokens; galore8-largest asks the planner for the largest shape that
fits --gib (the card's memory less what the driver keeps) and trains it. --rows tiny-adamw,tiny-galore,tiny-fira,tiny-galore8 --device cpu tries the script.
"""
import argparse, json, os, random, subprocess, tempfile

here = os.path.dirname(os.path.abspath(__file__))
SHAPES = {  # hidden, layers, heads, intermediate, vocabulary: the LLaMA sizes of the GaLore paper
    "tiny": (64, 2, 2, 128, 32000), "350m": (1024, 24, 16, 2736, 32000), "7b": (4096, 32, 32, 11008, 32000)}
GAP = 200
SUBSPACE = ["optim.rank={rank}", "optim.scale=0.25"]
EIGHT = ["optim.inner=adamw8bit", "model.weights=bf16", "train.inside=true", "train.clip=0"]
ROWS = {  # shape, sequences, tokens of each, rank, method, more words
    "adamw-350m": ("350m", 16, 1024, 256, "adamw", []), "galore-350m": ("350m", 16, 1024, 256, "galore", SUBSPACE),
    "fira-350m": ("350m", 16, 1024, 256, "fira", SUBSPACE), "galore8-7b": ("7b", 1, 256, 1024, "galore", SUBSPACE + EIGHT), "galore8-largest": ("largest", 1, 256, 1024, "galore", SUBSPACE + EIGHT),
    "tiny-adamw": ("tiny", 2, 64, 16, "adamw", []), "tiny-galore": ("tiny", 2, 64, 16, "galore", SUBSPACE),
    "tiny-fira": ("tiny", 2, 64, 16, "fira", SUBSPACE), "tiny-galore8": ("tiny", 2, 64, 16, "galore", SUBSPACE + EIGHT)}
p = argparse.ArgumentParser()
p.add_argument("--crank", default="build/crank"); p.add_argument("--rows", default="adamw-350m,galore-350m,fira-350m"); p.add_argument("--steps", type=int, default=8)
p.add_argument("--device", default="cuda"); p.add_argument("--compute", default="bf16"); p.add_argument("--set", action="append", default=[]); p.add_argument("--gib", type=float, default=76)
p.add_argument("--tokenizer", default=os.path.join(os.path.dirname(here), "assets", "base")); p.add_argument("--profile", action="store_true")
a = p.parse_args()
work = tempfile.mkdtemp()

def largest():
    """The largest LLaMA-like shape whose step the planner fits into --gib."""
    words = [a.crank, "inspect", "7b", "--plan", "--step", "1x256", "--way", "GaLore, 8 bits", "--rank", "1024", "--largest", str(a.gib), "--json"]
    found = json.loads(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout)[0]
    print(f"largest: {json.dumps(found)}", flush=True)
    k = found["layers"]
    return 128 * k, k, k, (1024 * k + 767) // 768 * 256, 32000

def shape_file(name):
    h, layers, heads, inner, vocabulary = largest() if name == "largest" else SHAPES[name]
    path = os.path.join(work, name + ".json")
    json.dump({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": h, "intermediate_size": inner, "num_hidden_layers": layers,
               "num_attention_heads": heads, "num_key_value_heads": heads, "vocab_size": vocabulary, "max_position_embeddings": 8192,
               "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "initializer_range": 0.02, "hidden_act": "silu", "bos_token_id": 0,
               "eos_token_id": 0}, open(path, "w"))
    return path

def text_file(tokens):
    """One document of random words: long enough for every step whatever the tokenizer makes of it."""
    path, draw = os.path.join(work, f"text{tokens}.txt"), random.Random(1)
    open(path, "w").write(" ".join("".join(draw.choice("etaoinshrdlu") for _ in range(draw.randint(3, 8))) for _ in range(tokens)))
    return path

def train(row, gap):
    shape, batch, seq, rank, method, more = ROWS[row]
    steps = a.steps + 3
    words = [a.crank, "train", f"model.config={shape_file(shape)}", f"model.device={a.device}", f"model.compute={a.compute}", f"data.tokenizer={a.tokenizer}",
             f"data.train={text_file(batch * seq * steps)}", "data.document=file", f"data.context={seq}", "data.overflow=split", f"train.batch={batch}",
             f"train.steps={steps}", "train.lr=1e-3", "train.save_every=1000000", "train.keep=last", "train.resume=false", "output.report=false",
             "output.tensorboard=false", f"output.path={work}/{row}-{gap}", "lowrank.method=none", f"optim.method={method}",
             *[word.format(rank=rank) for word in more], *([f"optim.gap={gap}"] if method != "adamw" else []), *a.set]
    done = subprocess.run([*words, "--json", *(["--profile"] if a.profile else [])], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{row}: {done.stderr[-1500:]}")
    if a.profile:
        print(done.stderr[-3000:])
    result = json.loads(done.stdout[done.stdout.index("{"):])
    return 1e3 * result["median_step_seconds"], result

for row in a.rows.split(","):
    shape, batch, seq, _, method, _ = ROWS[row]
    ordinary, result = train(row, GAP)
    line = {"step_ms": ordinary, "planned_gib": result["planned_bytes"] / 2**30, "peak_gib": result["peak_bytes"] / 2**30}
    if method != "adamw":
        line["refresh_ms"] = train(row, 1)[0]
        line["mean_ms"] = ordinary + (line["refresh_ms"] - ordinary) / GAP
        line["refresh_over_ordinary"] = line["refresh_ms"] / ordinary
    line["tokens_per_second"] = 1e3 * batch * seq / line.get("mean_ms", ordinary)
    print(f"{row}: {json.dumps({key: round(value, 3) for key, value in line.items()})}", flush=True)
