"""Weak scaling of training from one GPU to several of one host: each keeps its batch.

usage: gpu_scale.py [--crank PATH] [--rows lora-1b,full-1b] [--gpus 2] [--steps N] [--set section.key=value] [--shard]
Rows are those of gpu_train.py. A row's tokens/s are those of the median step; the scaling is that of several GPUs over one. Steps with sums of
gradients behind the reverse pass (train.overlap=false) tell what overlap saves:
    share = (behind - beside) / (behind - alone)        of the time that summing adds to a step
--shard adds a run with the optimiser's state in shares (train.shard=optimizer). Two rows on two cards take under five minutes.
"""
import argparse, json, os, subprocess, sys

here = os.path.dirname(os.path.abspath(__file__))
p = argparse.ArgumentParser()
p.add_argument("--crank", default="build/crank"); p.add_argument("--rows", default="lora-1b,full-1b"); p.add_argument("--gpus", type=int, default=2)
p.add_argument("--steps", type=int, default=8); p.add_argument("--set", action="append", default=[]); p.add_argument("--shard", action="store_true")
a = p.parse_args()

def step(row, gpus, *words):
    """tokens/s and milliseconds of a step, and the card's memory."""
    settings = [part for word in [*a.set, *words] for part in ("--set", word)]
    done = subprocess.run([sys.executable, os.path.join(here, "gpu_train.py"), "--crank", a.crank, "--rows", row, "--modes", "", "--steps", str(a.steps),
                           "--processes", str(gpus), *settings], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith(f"{row}: crank ")]
    result = json.loads(lines[-1].split(": crank ", 1)[1]) if lines else {"error": done.stdout[-1500:]}
    if "error" in result:
        raise SystemExit(f"{row} on {gpus} GPUs failed:\n{result['error']}")
    return result

def told(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout.strip().splitlines()

print("; ".join(told(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])))
print("; ".join(line for line in told([a.crank, "doctor"]) if line.startswith("sums")), flush=True)
for row in a.rows.split(","):
    alone, beside, behind = step(row, 1), step(row, a.gpus), step(row, a.gpus, "train.overlap=false")
    added, saved = behind["step_ms"] - alone["step_ms"], behind["step_ms"] - beside["step_ms"]
    print(f"{row}: 1 GPU {alone['tokens_per_second']:.0f} tokens/s ({alone['step_ms']:.2f} ms), {a.gpus} GPUs {beside['tokens_per_second']:.0f} tokens/s "
          f"({beside['step_ms']:.2f} ms): {beside['tokens_per_second'] / alone['tokens_per_second']:.3f} times; sums behind the reverse pass {behind['step_ms']:.2f} ms; "
          f"overlap hides {100 * saved / added if added > 0 else float('nan'):.0f} % of summing; memory {alone['driver_gib']:.1f} and {beside['driver_gib']:.1f} GiB a card", flush=True)
    if a.shard:
        shared = step(row, a.gpus, "train.shard=optimizer")
        print(f"{row}: with the optimiser's state in shares {shared['tokens_per_second']:.0f} tokens/s ({shared['step_ms']:.2f} ms), {shared['driver_gib']:.1f} GiB a card", flush=True)
