"""Fine-tuning the bundled base model with LoRA: held-out losses of crank and of PyTorch + PEFT at every evaluation.

usage: lm_parity.py --data FOLDER [--crank PATH] [--python PATH] [--rows N] [--steps N] [--threads N] [--recipes NAME,..]
FOLDER holds gsm8k-{train,test}.jsonl.gz and wikitext2-{valid,test}.txt.gz. --rows limits the held-out lines (0: all). Both sides compute
in float32 from the same factors on the same batches. Ends with status 1 where a difference is above the tolerance (nats a token).
"""
import argparse, gzip, os, sys, tempfile
from both_sides import Sides

p = argparse.ArgumentParser()
p.add_argument("--data", required=True); p.add_argument("--crank", default="build/crank"); p.add_argument("--python", default=sys.executable)
p.add_argument("--rows", type=int, default=0); p.add_argument("--steps", type=int, default=60); p.add_argument("--every", type=int, default=20)
p.add_argument("--recipes", default="gsm8k-lora,wikitext2-lora")
p.add_argument("--threads", type=int, default=2); p.add_argument("--tolerance", type=float, default=2e-3)
a = p.parse_args()

def head(name, work):
    if not a.rows:
        return os.path.join(a.data, name)
    path = os.path.join(work, name[:-3])
    with gzip.open(os.path.join(a.data, name), "rt") as f, open(path, "w") as out:
        out.writelines(line for _, line in zip(range(a.rows), f))
    return path

worst = 0.0
for recipe, train, held_out in [("gsm8k-lora", "gsm8k-train.jsonl.gz", "gsm8k-test.jsonl.gz"), ("wikitext2-lora", "wikitext2-valid.txt.gz", "wikitext2-test.txt.gz")]:
    if recipe not in a.recipes.split(","):
        continue
    work = tempfile.mkdtemp()
    sides = Sides(a.crank, a.python, f"recipes/{recipe}.yaml", [f"data.train={os.path.join(a.data, train)}", f"data.eval={head(held_out, work)}",
                  f"train.steps={a.steps}", f"train.eval_every={a.every}"], work, a.threads)
    sides.start()
    ours, theirs = sides.ours(), sides.peer()
    print(f"{recipe}: {a.steps} steps, crank {ours['seconds']:.1f} s, {ours['peak_mib']:.0f} MiB | PyTorch {theirs['seconds']:.1f} s, {theirs['peak_mib']:.0f} MiB")
    print(f"  largest difference of a training loss {max(abs(ours['losses'][i + 1] - x) for i, x in enumerate(theirs['losses'])):.2e}")
    for e in theirs["evaluations"]:
        difference = abs(ours["held_out"][e["step"]] - e["loss"])
        worst = max(worst, difference)
        print(f"  step {e['step']:3}  held-out loss  crank {ours['held_out'][e['step']]:.6f}  PyTorch {e['loss']:.6f}  difference {difference:.1e}", flush=True)
sys.exit(worst > a.tolerance)
