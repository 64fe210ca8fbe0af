"""Boosted trees on the CPU: crank, LightGBM and XGBoost side by side.

usage: ltr_cpu.py CRANK [--set generated|yandex|lightgbm] [--docs 300000] [--threads 2] [--seeds 5] [--repeat 1] [--data FOLDER] [--cache FOLDER]
                  [--extra KEY=VALUE ...]

Sets: `generated` has MSLR-WEB30K's shape (136 features of mixed distributions, about 120 documents a query, labels 0-4 in MSLR's
proportions; --docs 2270000 is its size); a seed makes other data. `yandex` (Internet Mathematics) and `lightgbm` (its example) are read
from FOLDER (default: $CRANK_DATA or ../shared/data); there a seed draws 80 % of rows and columns for each tree. Yandex's real-valued labels become
grades: 0; to .07; to .14; to .41; above. Data are made once for a seed, as text for crank and arrays for the peers, and removed after it;
--cache FOLDER keeps them there for the next run. The whole of MSLR's size takes 5 GB of disk a seed and 8 GB of memory.

Each learner gets the same trees, leaves and bins and runs in a process of its own. The peers get the set's rate and rows of a leaf; crank has
its defaults, or what --extra says. Training time is what the learner says of its boosting, memory is the process's peak (`lightgbm file`: of
LightGBM that reads the same file by its path). Ratios: above 1 crank is faster. The last lines are means over seeds, and whether crank meets
the bars: mean NDCG@10 (of queries that have a relevant document) at least the better peer's less .002, training 1.5 times as fast as the faster
peer, scoring with one thread 3 times LightGBM's speed and 1.5 times XGBoost's, memory at most LightGBM's when it reads the file.
"""
import argparse, gzip, json, os, re, shutil, subprocess, sys, tempfile, time
import numpy as np

def generate(docs, seed):
    r = np.random.default_rng(seed); w = np.random.default_rng(7)  # w: the fixed teacher
    sizes = r.lognormal(4.6, .55, docs // 60).astype(int).clip(5, 900); sizes = sizes[np.cumsum(sizes) <= docs]; n = int(sizes.sum())
    q = np.repeat(np.arange(len(sizes)), sizes)
    z = r.standard_normal((n, 12)).astype(np.float32) + r.standard_normal((len(sizes), 12)).astype(np.float32)[q] * .7
    x = np.empty((n, 136), np.float32); mix = w.standard_normal((12, 136)).astype(np.float32)
    for j in range(136):
        c = z @ mix[:, j] * .5 + r.standard_normal(n).astype(np.float32)
        x[:, j] = [c, np.floor(np.exp(c)), np.exp(2 * c), (c > .8) * np.abs(c), np.round(c * 3)][j % 5]
    s = z[:, 0] + .6 * z[:, 1] * (z[:, 2] > 0) + .5 * np.sin(2 * z[:, 3]) + .4 * np.maximum(z[:, 4], z[:, 5]) + .9 * r.standard_normal(n).astype(np.float32)
    return x, np.digitize(s, np.quantile(s, [.52, .84, .97, .99])).astype(np.int32), sizes

def yandex(folder, part):
    rows = [line.rstrip("\n").split("\t") for line in gzip.open(f"{folder}/ltr/yandex-features-{part}.tsv.gz", "rt")]
    rows.sort(key=lambda r: int(r[0]))  # stable: rows of a query stand together
    q = np.array([int(r[0]) for r in rows]); label = np.array([float(r[1]) for r in rows])
    return np.array([r[4:] for r in rows], np.float32), np.digitize(label, [1e-9, .0701, .1401, .4101]).astype(np.int32), np.unique(q, return_counts=True)[1]

def lightgbm_set(folder, part):
    sizes = np.array(gzip.open(f"{folder}/ltr/lightgbm-rank.{part}.gz.query", "rt").read().split() if os.path.exists(f"{folder}/ltr/lightgbm-rank.{part}.gz.query")
                     else open(f"{folder}/ltr/lightgbm-rank.{part}.query").read().split(), int)
    x = np.zeros((sizes.sum(), 301), np.float32); y = np.empty(len(x), np.int32)
    for i, line in enumerate(gzip.open(f"{folder}/ltr/lightgbm-rank.{part}.gz", "rt")):
        words = line.split(); y[i] = int(words[0])
        for pair in words[1:]: x[i, int(pair.split(":")[0])] = float(pair.split(":")[1])
    return x, y, sizes

SETS = {"generated": {"trees": 100, "leaves": 255, "rate": .1, "rows": 50}, "yandex": {"trees": 300, "leaves": 31, "rate": .05, "rows": 20},
        "lightgbm": {"trees": 100, "leaves": 31, "rate": .1, "rows": 50}}

def load(a, seed):
    if a.set == "generated": return generate(a.docs, 1 + 10 * seed), generate(a.docs // 5, 2 + 10 * seed)
    read = yandex if a.set == "yandex" else lightgbm_set
    return read(a.data, "train"), read(a.data, "test")

def ndcg(y, s, sizes, k=10):
    out, i = [], 0; d = 1 / np.log2(np.arange(2, k + 2))
    for m in sizes:
        g = 2.0 ** y[i:i + m] - 1; o = np.argsort(-s[i:i + m], kind="stable")[:k]; b = np.sort(g)[::-1][:k]
        if b[0] > 0: out.append((g[o] * d[:len(o)]).sum() / (b * d[:len(b)]).sum())
        i += m
    return float(np.mean(out))

def peak():
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def lightgbm_options(a):
    p = {"objective": "lambdarank", "num_leaves": a.leaves, "learning_rate": a.rate, "min_data_in_leaf": a.rows, "max_bin": 255, "num_threads": a.threads, "verbose": -1, "seed": a.seed + 1}
    if a.sample < 1: p.update(bagging_fraction=a.sample, bagging_freq=1, feature_fraction=a.sample)
    return p

def peer(name, a):
    if name == "lightgbm-file":
        import lightgbm as lgb
        lgb.train(lightgbm_options(a), lgb.Dataset(a.folder + "/train.csv", params=lightgbm_options(a)), a.trees)
        return print(json.dumps({"peak": peak()}))
    part = {k: np.load(f"{a.folder}/{k}.npy") for k in ("x", "y", "g", "xt")}
    if name == "lightgbm":
        import lightgbm as lgb
        p = lightgbm_options(a)
        t = time.perf_counter(); d = lgb.Dataset(part["x"], part["y"], group=part["g"], params=p).construct(); bins = time.perf_counter() - t
        t = time.perf_counter(); b = lgb.train(p, d, a.trees); train = time.perf_counter() - t
        t = time.perf_counter(); s = b.predict(part["xt"], num_threads=1); score = time.perf_counter() - t
    else:
        import xgboost as xgb
        t = time.perf_counter(); d = xgb.QuantileDMatrix(part["x"], part["y"], group=part["g"], nthread=a.threads, max_bin=256); bins = time.perf_counter() - t
        p = {"objective": "rank:ndcg", "tree_method": "hist", "grow_policy": "lossguide", "max_leaves": a.leaves, "max_depth": 0, "eta": a.rate, "min_child_weight": 1e-3,
             "nthread": a.threads, "seed": a.seed + 1, "subsample": a.sample, "colsample_bytree": a.sample}
        t = time.perf_counter(); b = xgb.train(p, d, a.trees); train = time.perf_counter() - t
        b.set_param({"nthread": 1})
        t = time.perf_counter(); s = b.inplace_predict(part["xt"]); score = time.perf_counter() - t
    np.save(f"{a.folder}/scores.npy", np.asarray(s, np.float64))
    print(json.dumps({"bins": bins, "train": train, "score": score, "peak": peak()}))

def write_csv(path, x, y, g):
    with open(path, "w") as f:
        for i in range(0, len(y), 50000): np.savetxt(f, np.column_stack([y[i:i + 50000], x[i:i + 50000]]), fmt="%.9g", delimiter=",")
    np.savetxt(path + ".query", g, fmt="%d")

PEAK = "import resource,subprocess,sys; p=subprocess.run(sys.argv[1:],capture_output=True,text=True); sys.stderr.write(p.stderr); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss/1024); sys.exit(p.returncode)"

def ours(a):
    model = a.folder + "/model.txt"
    fit = [a.crank, "rank", "fit", a.folder + "/train.csv", "--out", model, "--threads", str(a.threads), "--verbose", f"tree.num_leaves={a.leaves}", f"tree.num_iterations={a.trees}",
           f"tree.seed={a.seed + 1}", *(f"tree.{word}" for word in a.extra)]
    if a.sample < 1: fit += [f"tree.bagging_fraction={a.sample}", "tree.bagging_freq=1", f"tree.feature_fraction={a.sample}"]
    r = subprocess.run([sys.executable, "-c", PEAK, *fit], capture_output=True, text=True)
    if r.returncode: sys.exit(r.stderr)
    seconds = {k: float(v) for k, v in re.findall(r"(bins|train): ([0-9.]+) s", r.stderr)}
    t = subprocess.run([a.crank, "rank", "predict", model, a.folder + "/test.csv", "--out", a.folder + "/scores.txt", "--threads", "1", "--verbose"], capture_output=True, text=True)
    if t.returncode: sys.exit(t.stderr)
    return {**seconds, "score": float(re.search(r"scores: ([0-9.]+) s", t.stderr).group(1)), "peak": float(r.stdout.splitlines()[-1])}, np.loadtxt(a.folder + "/scores.txt")

def theirs(name, a):
    r = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--peer", name, "--folder", a.folder, "--seed", str(a.seed)], capture_output=True, text=True)
    if r.returncode: sys.exit(r.stderr)
    return json.loads(r.stdout.strip().splitlines()[-1])

def prepare(a):
    """The set's files in a.folder, made where they are not there yet -> labels and query sizes of the test part."""
    if not os.path.exists(a.folder + "/made"):
        train, test = load(a, a.seed)
        for k, v in zip(("x", "y", "g", "xt", "yt", "gt"), (*train, *test)): np.save(f"{a.folder}/{k}.npy", v)
        write_csv(a.folder + "/train.csv", *train); write_csv(a.folder + "/test.csv", *test)
        open(a.folder + "/made", "w").close()
    return [np.load(f"{a.folder}/{k}.npy") for k in ("y", "g", "yt", "gt")]

def turn(a, yt, gt):
    results = {"crank": None}
    results["crank"], s = ours(a); results["crank"]["ndcg"] = ndcg(yt, s, gt)
    for name in ("lightgbm", "xgboost"):
        results[name] = theirs(name, a); results[name]["ndcg"] = ndcg(yt, np.load(a.folder + "/scores.npy"), gt)
    for name, v in results.items():
        v["ratio"] = {k: v[k] / results["crank"][k] for k in ("bins", "train", "score")}
        print(f"  {name:9} bins {v['bins']:6.2f} s ({v['ratio']['bins']:.2f})  train {v['train']:6.2f} s ({v['ratio']['train']:.2f})  score {v['score'] / len(yt) * 1e6:6.2f} us/doc ({v['ratio']['score']:.2f})  "
              f"peak {v['peak']:6.0f} MiB  NDCG@10 {v['ndcg']:.4f}", flush=True)
    return results

def verdict(every, by_path):
    mean = {name: np.mean([e[name]["ndcg"] for e in every]) for name in every[0]}
    ratio = {(name, k): np.median([e[name]["ratio"][k] for e in every]) for name in every[0] for k in ("train", "score")}
    peer = max(("lightgbm", "xgboost"), key=mean.get); faster = min(ratio["lightgbm", "train"], ratio["xgboost", "train"]); peak = max(e["crank"]["peak"] for e in every)
    for what, good in ((f"NDCG@10 {mean['crank']:.4f}, bar {mean[peer] - .002:.4f} ({peer} {mean[peer]:.4f} less .002)", mean["crank"] >= mean[peer] - .002),
                       (f"training {faster:.2f} times as fast as the faster peer, bar 1.5", faster >= 1.5), (f"scoring {ratio['lightgbm', 'score']:.2f} times LightGBM's speed, bar 3", ratio["lightgbm", "score"] >= 3),
                       (f"scoring {ratio['xgboost', 'score']:.2f} times XGBoost's speed, bar 1.5", ratio["xgboost", "score"] >= 1.5), (f"memory {peak:.0f} MiB, bar {by_path:.0f} MiB (LightGBM reading the file)", peak <= by_path)):
        print(f"{'met   ' if good else 'MISSED'} {what}")

if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("crank"); p.add_argument("--set", choices=SETS, default="generated"); p.add_argument("--docs", type=int, default=300_000); p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seeds", type=int, default=5); p.add_argument("--repeat", type=int, default=1); p.add_argument("--data", default=os.environ.get("CRANK_DATA", "../shared/data")); p.add_argument("--cache")
    for key in ("trees", "leaves", "rows"): p.add_argument("--" + key, type=int)
    p.add_argument("--rate", type=float); p.add_argument("--extra", nargs="*", default=[], help="KEY=VALUE of trees for crank"); p.add_argument("--peer"); p.add_argument("--folder"); p.add_argument("--seed", type=int)
    a = p.parse_args()
    for key, value in SETS[a.set].items():
        if getattr(a, key) is None: setattr(a, key, value)
    a.sample = 1 if a.set == "generated" else .8
    if a.peer: sys.exit(peer(a.peer, a))
    every = []
    for a.seed in range(a.seeds):
        a.folder = f"{a.cache}/{a.set}" + (f"-{a.docs}-{a.seed}" if a.set == "generated" else "") if a.cache else tempfile.mkdtemp(prefix="crank-ltr-")
        os.makedirs(a.folder, exist_ok=True)
        try:
            y, g, yt, gt = prepare(a)
            print(f"{a.set}, seed {a.seed}: {len(y)} documents, {len(g)} queries, {a.trees} trees of {a.leaves} leaves, {a.threads} threads", flush=True)
            every += [turn(a, yt, gt) for _ in range(a.repeat)]
            if a.seed == 0: by_path = theirs("lightgbm-file", a)["peak"]; print(f"  lightgbm file: peak {by_path:.0f} MiB", flush=True)
        finally:
            if not a.cache: shutil.rmtree(a.folder, ignore_errors=True)
    for name in every[0]:
        v = [e[name] for e in every]
        ratio = ", ".join(f"{k} {np.median([e['ratio'][k] for e in v]):.2f} ({min(e['ratio'][k] for e in v):.2f} to {max(e['ratio'][k] for e in v):.2f})" for k in ("bins", "train", "score"))
        print(f"{name:9} NDCG@10 {np.mean([e['ndcg'] for e in v]):.4f} +- {np.std([e['ndcg'] for e in v]):.4f}; median ratios: {ratio}; peak {np.median([e['peak'] for e in v]):.0f} MiB")
    verdict(every, by_path)
