"""One recipe by crank and by PyTorch + PEFT, from the same initial values on the same batches: what the parity scripts share."""
import json, os, subprocess, sys
import yaml

here = os.path.dirname(os.path.abspath(__file__))
root = os.path.dirname(here)
# A thread that waits for another gives its core away: busy machines give both sides their true time.
calm = dict(os.environ, OMP_WAIT_POLICY=os.environ.get("OMP_WAIT_POLICY", "passive"))

def ran(command, what):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=calm, cwd=root)
    if done.returncode:
        raise SystemExit(f"{what} failed ({done.returncode}):\n{done.stderr[-2000:]}")
    return done.stdout

def metrics(folder, key):
    rows = map(json.loads, open(os.path.join(folder, "metrics.jsonl")))
    return {r["step"]: r[key] for r in rows if key in r}

class Sides:
    """`settings`: section.key=value words beside the recipe; `work`: an empty folder."""
    def __init__(self, crank, python, recipe, settings, work, threads):
        self.crank, self.python, self.work, self.threads = os.path.abspath(crank), python, work, threads
        self.words = ["train", recipe, *settings, "model.compute=f32", "model.device=cpu", f"train.threads={threads}", f"output.path={work}/run", "train.resume=false",
                      "train.keep=last", "output.report=false", "output.tensorboard=false"]
        self.recipe = yaml.safe_load(ran([self.crank, *self.words, "--print-recipe"], "crank"))

    def start(self):
        ran([self.crank, *self.words, "--start", f"{self.work}/start"], "crank")
        with open(f"{self.work}/start/batches.jsonl") as f:
            self.batches = sum('"part": "train"' in line[:20] for line in f)

    def ours(self):
        """What `crank train --json` tells, with losses and evaluations by step."""
        watched = ("import resource, subprocess, sys; r = subprocess.run(sys.argv[1:]);"
                   "sys.stderr.write('PEAK %d' % resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(r.returncode)")
        done = subprocess.run([sys.executable, "-c", watched, self.crank, *self.words, "--json", "-q"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, env=calm, cwd=root)
        if done.returncode:
            raise SystemExit(f"crank failed:\n{done.stderr[-2000:]}")
        result = json.loads(done.stdout)
        result["peak_mib"] = int(done.stderr.rsplit("PEAK ", 1)[1]) / 1024
        result["losses"] = metrics(f"{self.work}/run", "train/loss")
        result["held_out"] = metrics(f"{self.work}/run", "eval/loss")
        return result

    def peer(self, steps=0, evaluate=True):
        train = self.recipe["train"]
        accumulate = int(train.get("accumulate", 1))
        total = (self.batches + accumulate - 1) // accumulate
        warmup = int(train.get("warmup", 0)) or -int(-float(train.get("warmup_share", 0)) * total // 1)
        command = [self.python, os.path.join(here, "torch_train.py"), os.path.join(root, os.path.expanduser(self.recipe["model"]["path"])),
                   f"{self.work}/start", "--lr", str(train["lr"]), "--schedule", train.get("schedule", "cosine"), "--warmup", str(warmup), "--total", str(total),
                   "--clip", str(train.get("clip", 1)), "--accumulate", str(accumulate), "--steps", str(steps), "--threads", str(self.threads)]
        if evaluate and train.get("eval_every"):
            command += ["--eval-every", str(train["eval_every"])]
        return json.loads(ran(command, "PyTorch"))
