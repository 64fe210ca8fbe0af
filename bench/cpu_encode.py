"""Vectors of real texts on the CPU: crank beside sentence-transformers, in processor time.

usage: cpu_encode.py --model FOLDER --texts FILE [--crank build/crank] [--python PYTHON] [--rows 400] [--threads 2] [--precisions f32,bf16]

FOLDER: a sentence-transformers folder (tests/oracle/fetch_minilm.sh fetches all-MiniLM-L6-v2). FILE: plain text, its longer lines are the
rows. Both sides read texts and give vectors in the rows' order: crank in packs without padding, sentence-transformers in batches of 32
rows sorted by length. Seconds are those of the processor, all threads together, without loading: the run over all rows less a run over
eight (crank), or the clock around `encode` behind a first call (sentence-transformers; model in bf16 where that is asked for).
"""
import argparse, gzip, json, os, resource, subprocess, sys, tempfile

p = argparse.ArgumentParser()
p.add_argument("--model", required=True); p.add_argument("--texts", required=True); p.add_argument("--crank", default="build/crank"); p.add_argument("--python", default=sys.executable)
p.add_argument("--rows", type=int, default=400); p.add_argument("--threads", type=int, default=2); p.add_argument("--precisions", default="f32,bf16")
p.add_argument("--shortest", type=int, default=40, help="bytes of a line that is taken"); p.add_argument("--profile", action="store_true")
a = p.parse_args()
work = tempfile.mkdtemp()
calm = dict(os.environ, OMP_WAIT_POLICY="passive")
opened = gzip.open(a.texts, "rt") if a.texts.endswith(".gz") else open(a.texts)
lines = [l.strip() for l in opened if len(l.strip()) >= a.shortest][: a.rows]

def texts_file(count):
    path = os.path.join(work, f"{count}.txt")
    open(path, "w").write("".join(l + "\n" for l in lines[:count]))
    return path

def processor_seconds(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=calm)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout

def crank(precision):
    def run(count):
        return processor_seconds([a.crank, "encode", a.model, "--texts", texts_file(count), "-o", f"{work}/crank.{precision}.npy", "--compute", precision, "--device", "cpu",
                                  "--threads", str(a.threads), "--json", *(["--profile"] if a.profile and count > 8 else [])])
    few = run(8)[0]
    seconds, out = run(len(lines))
    told = json.loads(out)
    if a.profile:
        print(told["profile"])
    return seconds - few, told["tokens"]

PEER = """
import json, sys, time, numpy, torch
from sentence_transformers import SentenceTransformer
folder, texts, out, precision, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
model = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": torch.bfloat16 if precision == "bf16" else torch.float32})
rows = open(texts).read().split("\\n")[:-1]
model.encode(rows[:40])
start = time.process_time()
vectors = model.encode(rows, batch_size=32, convert_to_tensor=True)
seconds = time.process_time() - start
numpy.save(out, vectors.float().numpy())
print(json.dumps({"seconds": seconds}))
"""

def peer(precision):
    _, out = processor_seconds([a.python, "-c", PEER, a.model, texts_file(len(lines)), f"{work}/peer.{precision}.npy", precision, str(a.threads)])
    return json.loads(out.strip().splitlines()[-1])["seconds"]

def largest_difference(precision):
    code = "import sys, numpy; x, y = (numpy.load(f) for f in sys.argv[1:]); print(abs(x - y).max(), (x * y).sum(1).min())"
    return subprocess.run([a.python, "-c", code, f"{work}/crank.{precision}.npy", f"{work}/peer.f32.npy"], stdout=subprocess.PIPE, text=True).stdout.split()

reference = None
for precision in a.precisions.split(","):
    ours, tokens = crank(precision)
    theirs = peer(precision)
    print(f"{precision:5} {len(lines)} rows, {tokens} tokens: crank {ours:7.2f} s ({tokens / ours:8,.0f} tokens/s of one core), sentence-transformers {theirs:7.2f} s; "
          f"{theirs / ours:.2f} times as fast", end="", flush=True)
    if os.path.exists(f"{work}/peer.f32.npy"):
        most, cosine = largest_difference(precision)
        print(f"; against its f32 vectors at most {float(most):.2g}, smallest cosine {float(cosine):.6f}", end="")
    print(flush=True)
