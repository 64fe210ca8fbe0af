"""SST-2 on the real all-MiniLM-L6-v2 with LoRA of rank 8: accuracy, seconds and memory of crank and of PyTorch + PEFT.

usage: sst2_minilm.py --data FOLDER [--seeds 0,1,2] [--peer-seeds 0] [--model FOLDER] [--crank PATH] [--python PATH] [--threads N]
FOLDER holds sst2-{train,dev}.tsv.gz; tests/oracle/fetch_minilm.sh fetches the model. A seed fixes factors, head and order of rows; both
sides start from the same values and see the same batches. The first --check steps' losses are compared before the long run.
"""
import argparse, os, statistics, sys, tempfile
from both_sides import Sides

p = argparse.ArgumentParser()
p.add_argument("--data", required=True); p.add_argument("--crank", default="build/crank"); p.add_argument("--python", default=sys.executable)
p.add_argument("--model", default=os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "crank", "all-MiniLM-L6-v2"))
p.add_argument("--seeds", default="0,1,2"); p.add_argument("--peer-seeds", default="0"); p.add_argument("--check", type=int, default=50)
p.add_argument("--threads", type=int, default=2); p.add_argument("--set", action="append", default=[], help="another section.key=value of the recipe")
a = p.parse_args()
if not os.path.exists(os.path.join(a.model, "model.safetensors")):
    print(f"skipped: no model in {a.model}: tests/oracle/fetch_minilm.sh fetches it")
    sys.exit(0)
accuracy, peer_accuracy = {}, {}
peers = set(filter(None, a.peer_seeds.split(",")))
for seed in a.seeds.split(","):
    sides = Sides(a.crank, a.python, "recipes/sst2-minilm.yaml", [f"model.path={a.model}", f"data.train={a.data}/sst2-train.tsv.gz",
                  f"data.eval={a.data}/sst2-dev.tsv.gz", f"train.seed={seed}", "train.eval_every=527", *a.set], tempfile.mkdtemp(), a.threads)
    sides.start()
    ours = sides.ours()
    accuracy[seed] = 100 * ours["accuracy_after"]
    print(f"seed {seed}: crank {accuracy[seed]:.2f} % after {ours['steps']} steps, {ours['seconds']:.0f} s, {ours['peak_mib']:.0f} MiB", flush=True)
    if seed not in peers:
        continue
    first = sides.peer(steps=a.check, evaluate=False)
    difference = max(abs(ours["losses"][i + 1] - x) for i, x in enumerate(first["losses"]))
    print(f"  losses of the first {a.check} steps differ by at most {difference:.1e}", flush=True)
    if difference > 1e-3:
        sys.exit(1)
    theirs = sides.peer()
    peer_accuracy[seed] = 100 * theirs["evaluations"][-1]["accuracy"]
    print(f"  PyTorch + PEFT {peer_accuracy[seed]:.2f} %, {theirs['seconds']:.0f} s, {theirs['peak_mib']:.0f} MiB", flush=True)
print(f"mean accuracy: crank {statistics.mean(accuracy.values()):.2f} %" +
      (f", PyTorch {statistics.mean(peer_accuracy.values()):.2f} % (seeds {', '.join(peer_accuracy)})" if peer_accuracy else ""))
sys.exit(statistics.mean(accuracy.values()) < 87.5)
