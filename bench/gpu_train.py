"""Training steps on one GPU: crank beside PyTorch + PEFT on the same card in one run.

usage: gpu_train.py [--crank PATH] [--rows lora-1b,lora-8b,lora-8b-nf4,lora-1b-fp8,lora-8b-fp8,dora-1b,full-1b,full-350m] [--modes eager,compile] [--steps N] [--set section.key=value]
With --processes N crank runs on N cards of the host (mpirun), each with the row's batch. Random weights in bf16, full packed batches. A row's tokens/s are those of the median step; memory is the plan's, what the driver counts
beyond context and libraries, and PyTorch's peak of allocated memory. --profile adds crank's roofline table.
"""
import argparse, atexit, json, os, random, shutil, subprocess, sys, tempfile

here = os.path.dirname(os.path.abspath(__file__))
SHAPES = {  # hidden, layers, heads, key heads, intermediate, vocabulary, tied
    "350m": (1024, 24, 16, 16, 2736, 32000, False),
    "1b": (2048, 16, 32, 8, 8192, 128256, True),
    "8b": (4096, 32, 32, 8, 14336, 128256, False),
}
ROWS = {"lora-1b": ("1b", 8, 2048, "lora"), "lora-8b": ("8b", 2, 2048, "lora"), "dora-1b": ("1b", 8, 2048, "dora"),
        "lora-8b-nf4": ("8b", 2, 2048, "lora-nf4"), "lora-1b-fp8": ("1b", 8, 2048, "lora-fp8"), "lora-8b-fp8": ("8b", 2, 2048, "lora-fp8"),
        "full-1b": ("1b", 8, 2048, "full"), "full-350m": ("350m", 16, 1024, "full")}
p = argparse.ArgumentParser()
p.add_argument("--crank", default="build/crank"); p.add_argument("--rows", default="lora-1b"); p.add_argument("--modes", default="compile")
p.add_argument("--steps", type=int, default=8); p.add_argument("--set", action="append", default=[]); p.add_argument("--profile", action="store_true")
p.add_argument("--processes", type=int, default=1)
p.add_argument("--tokenizer", default=os.path.join(os.path.dirname(here), "assets", "base")); p.add_argument("--python", default=sys.executable)
a = p.parse_args()
work = tempfile.mkdtemp()
atexit.register(shutil.rmtree, work, ignore_errors=True)  # checkpoints of a full row take 15 GiB
os.environ.setdefault("OMPI_MCA_plm_rsh_agent", "sh")  # mpirun asks for one although it stays on this host

def shape_file(name):
    h, layers, heads, keys, inner, vocabulary, tied = SHAPES[name]
    path = os.path.join(work, name + ".json")
    json.dump({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": h, "intermediate_size": inner, "num_hidden_layers": layers,
               "num_attention_heads": heads, "num_key_value_heads": keys, "vocab_size": vocabulary, "max_position_embeddings": 8192,
               "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": tied, "initializer_range": 0.02, "hidden_act": "silu",
               "bos_token_id": 0, "eos_token_id": 0}, open(path, "w"))
    return path

def text_file(tokens):
    """One document of random words: long enough for every step whatever the tokenizer makes of it."""
    path = os.path.join(work, f"text{tokens}.txt")
    words, draw = [], random.Random(1)
    for _ in range(tokens):
        words.append("".join(draw.choice("etaoinshrdlu") for _ in range(draw.randint(3, 8))))
    open(path, "w").write(" ".join(words))
    return path

def crank(row):
    shape, batch, seq, method = ROWS[row]
    steps = a.steps + 3
    launch = ["mpirun", "--allow-run-as-root", "--bind-to", "none", "-n", str(a.processes)] if a.processes > 1 else []
    words = [*launch, a.crank, "train", f"model.config={shape_file(shape)}", "model.device=cuda", "model.compute=bf16", f"data.tokenizer={a.tokenizer}",
             f"data.train={text_file(batch * seq * steps * a.processes)}", "data.document=file", f"data.context={seq}", "data.overflow=split", f"train.batch={batch}",
             f"train.steps={steps}", "train.lr=1e-4", "train.save_every=1000000", "train.keep=last", "train.resume=false", "output.report=false",
             "output.tensorboard=false", f"output.path={work}/{row}", *a.set]
    method, _, weights = method.partition("-")
    words += ["lowrank.method=none"] if method == "full" else [f"lowrank.method={method}", "lowrank.rank=16", "lowrank.alpha=32"]
    words += [f"model.weights={weights}"] if weights else []
    done = subprocess.run([*words, "--json", *(["--profile"] if a.profile else [])], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        return {"error": done.stderr[-1500:]}
    result = json.loads(done.stdout[done.stdout.index("{"):])
    print(done.stderr[-3000:] if a.profile else "", end="")
    return {"tokens_per_second": a.processes * batch * seq / result["median_step_seconds"], "step_ms": 1e3 * result["median_step_seconds"],
            "planned_gib": result["planned_bytes"] / 2**30, "driver_gib": result["peak_bytes"] / 2**30, "table": result.get("profile")}

def peer(row, mode):
    shape, batch, seq, method = ROWS[row]
    method = method.partition("-")[0]  # beside a quantised base stands PyTorch's bf16 base
    done = subprocess.run([a.python, os.path.join(here, "torch_gpu.py"), shape_file(shape), str(batch), str(seq), "--method", method, "--steps", str(a.steps),
                           *(["--compile"] if mode == "compile" else [])], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr[-800:]}

for row in a.rows.split(","):
    ours = crank(row)
    table = ours.pop("table", None) if "error" not in ours else None
    print(f"{row}: crank {json.dumps(ours)}", flush=True)
    if table:
        print(table)
    for mode in filter(None, a.modes.split(",")):
        theirs = peer(row, mode)
        ratio = ours.get("tokens_per_second", 0) / theirs["tokens_per_second"] if "tokens_per_second" in theirs else float("nan")
        print(f"{row}: PyTorch {mode} {json.dumps(theirs)}; crank is {ratio:.3f} times as fast", flush=True)
