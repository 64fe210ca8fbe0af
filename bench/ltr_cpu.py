"""Boosted trees on the CPU: crank, LightGBM and XGBoost side by side, on generated data of MSLR-WEB30K's shape.

usage: ltr_cpu.py CRANK [--docs 300000] [--threads 2] [--trees 100] [--seeds 1] [--repeat 1]

136 features of mixed distributions, about 120 documents a query, labels 0-4 in MSLR's proportions (--docs 2270000 is its size). Each
learner gets the same trees, leaves and bins and runs in a process of its own: training time is what the learner says of its boosting,
memory the process's peak. Ratios: above 1 crank is faster.
"""
import argparse, json, os, re, subprocess, sys, tempfile, time
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

def peer(name, folder, a):
    part = {k: np.load(f"{folder}/{k}.npy") for k in ("x", "y", "g", "xt")}
    if name == "lightgbm":
        import lightgbm as lgb
        p = {"objective": "lambdarank", "num_leaves": 255, "learning_rate": .1, "min_data_in_leaf": 50, "max_bin": 255, "num_threads": a.threads, "verbose": -1}
        t = time.perf_counter(); d = lgb.Dataset(part["x"], part["y"], group=part["g"], params=p).construct(); bins = time.perf_counter() - t
        t = time.perf_counter(); b = lgb.train(p, d, a.trees); train = time.perf_counter() - t
        t = time.perf_counter(); s = b.predict(part["xt"], num_threads=1); score = time.perf_counter() - t
    else:
        import xgboost as xgb
        t = time.perf_counter(); d = xgb.QuantileDMatrix(part["x"], part["y"], group=part["g"], nthread=a.threads, max_bin=256); bins = time.perf_counter() - t
        t = time.perf_counter(); b = xgb.train({"objective": "rank:ndcg", "tree_method": "hist", "grow_policy": "lossguide", "max_leaves": 255, "max_depth": 0, "eta": .1,
                                                "min_child_weight": 1e-3, "nthread": a.threads}, d, a.trees); train = time.perf_counter() - t
        b.set_param({"nthread": 1})
        t = time.perf_counter(); s = b.inplace_predict(part["xt"]); score = time.perf_counter() - t
    np.save(f"{folder}/scores.npy", np.asarray(s, np.float64))
    print(json.dumps({"bins": bins, "train": train, "score": score, "peak": peak()}))

def write_csv(path, x, y, g):
    np.savetxt(path, np.column_stack([y, x]), fmt="%.9g", delimiter=",")
    np.savetxt(path + ".query", g, fmt="%d")

def timed(command):
    t = time.perf_counter(); r = subprocess.run(command, capture_output=True, text=True)
    if r.returncode: sys.exit(r.stderr)
    return time.perf_counter() - t

def ours(a, folder):
    model = folder + "/model.txt"
    base = [a.crank, "rank", "fit", folder + "/train.csv", "--out", model, "--threads", str(a.threads), "--verbose", "tree.num_leaves=255", "tree.min_data_in_leaf=50"]
    r = subprocess.run(["/usr/bin/env", "python3", "-c", "import resource,subprocess,sys; p=subprocess.run(sys.argv[1:],capture_output=True,text=True); sys.stderr.write(p.stderr); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss/1024); sys.exit(p.returncode)",
                        *base, f"tree.num_iterations={a.trees}"], capture_output=True, text=True)
    if r.returncode: sys.exit(r.stderr)
    seconds = {k: float(v) for k, v in re.findall(r"(bins|train): ([0-9.]+) s", r.stderr)}
    t = subprocess.run([a.crank, "rank", "predict", model, folder + "/test.csv", "--out", folder + "/scores.txt", "--threads", "1", "--verbose"], capture_output=True, text=True)
    if t.returncode: sys.exit(t.stderr)
    return {**seconds, "score": float(re.search(r"scores: ([0-9.]+) s", t.stderr).group(1)), "peak": float(r.stdout)}, np.loadtxt(folder + "/scores.txt")

if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("crank"); p.add_argument("--docs", type=int, default=300_000); p.add_argument("--threads", type=int, default=2); p.add_argument("--trees", type=int, default=100)
    p.add_argument("--seeds", type=int, default=1); p.add_argument("--repeat", type=int, default=1); p.add_argument("--peer"); p.add_argument("--folder")
    a = p.parse_args()
    if a.peer: sys.exit(peer(a.peer, a.folder, a))
    for seed in range(a.seeds):
        with tempfile.TemporaryDirectory() as folder:
            x, y, g = generate(a.docs, 1 + 10 * seed); xt, yt, gt = generate(a.docs // 5, 2 + 10 * seed)
            for k, v in {"x": x, "y": y, "g": g, "xt": xt}.items(): np.save(f"{folder}/{k}.npy", v)
            write_csv(folder + "/train.csv", x, y, g); write_csv(folder + "/test.csv", xt, yt, gt)
            print(f"seed {seed}: {len(y)} documents, {len(g)} queries, {a.trees} trees, {a.threads} threads", flush=True)
            for turn in range(a.repeat):
                results = {"crank": None}
                results["crank"], s = ours(a, folder); results["crank"]["ndcg"] = ndcg(yt, s, gt)
                for name in ("lightgbm", "xgboost"):
                    r = subprocess.run([sys.executable, __file__, a.crank, "--peer", name, "--folder", folder, "--threads", str(a.threads), "--trees", str(a.trees)], capture_output=True, text=True)
                    if r.returncode: sys.exit(r.stderr)
                    results[name] = json.loads(r.stdout.strip().splitlines()[-1]); results[name]["ndcg"] = ndcg(yt, np.load(folder + "/scores.npy"), gt)
                for name, v in results.items():
                    ratio = {k: v[k] / results["crank"][k] for k in ("bins", "train", "score")}
                    print(f"  {name:9} bins {v['bins']:6.2f} s ({ratio['bins']:.2f})  train {v['train']:6.2f} s ({ratio['train']:.2f})  score {v['score'] / len(yt) * 1e6:6.2f} us/doc ({ratio['score']:.2f})  "
                          f"peak {v['peak']:6.0f} MiB  NDCG@10 {v['ndcg']:.4f}", flush=True)
