"""LightGBM's models and their scores, for tests/tree.

usage: gbdt.py OUT_FOLDER              trains a small model with missing and categorical values; writes model, scores of 10,000 rows, and
                               pred_contrib of the first 200 (lightgbm.shap); and multiclass models of three classes (lightgbm-multiclass.txt
                               and lightgbm-multiclassova.txt), each with its probabilities of 2,000 rows (.scores)
       gbdt.py --check MODEL SCORES    LightGBM reads a model that crank wrote: its scores of the same rows against crank's
Rows come from a linear congruential generator that the C test runs as well: 8 columns, column 3 missing in one row of five, column 5
categorical (0 to 19, at times unseen 25 or missing).
"""
import sys
import numpy as np

def rows(n, seed):
    x = np.empty((n, 8), np.float32)
    state = seed
    def draw():
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2 ** 64
        return state >> 40
    for i in range(n):
        for j in range(8):
            u = draw()
            x[i, j] = np.float32(u) / np.float32(1 << 23) - np.float32(1)
            if j == 1 and u % 3 == 0: x[i, j] = 0
            if j == 3 and u % 5 == 0: x[i, j] = np.nan
            if j == 5: x[i, j] = np.nan if u % 31 == 0 else 25 if u % 29 == 0 else u % 20
    return x

def classes(x):
    """Three classes from exact comparisons, so that the C test makes the same."""
    return (x[:, 0] > 0).astype(int) + ((x[:, 2] + x[:, 4] > np.float32(.3)) | (x[:, 6] > np.float32(.7)))

def main():
    import lightgbm as lgb
    if sys.argv[1] == "--check":
        ours = np.fromfile(sys.argv[3])
        theirs = lgb.Booster(model_file=sys.argv[2]).predict(rows(len(ours), 2).astype(np.float64), raw_score=True)
        difference = np.abs(ours - theirs).max()
        print(f"{len(ours)} rows, largest difference {difference:.3g}")
        sys.exit(difference > 1e-6)
    x = rows(4000, 1).astype(np.float64)
    noise = np.random.default_rng(1).standard_normal(len(x))
    category = np.nan_to_num(x[:, 5], nan=7)
    y = x[:, 0] + np.where(np.isnan(x[:, 3]), .7, x[:, 3] ** 2) + np.sin(category * 2.1) + .2 * (x[:, 1] == 0) + .1 * noise
    data = lgb.Dataset(x, y, categorical_feature=[5], params={"verbose": -1, "min_data_per_group": 20})
    model = lgb.train({"objective": "regression", "num_leaves": 15, "verbose": -1, "min_data_per_group": 20, "deterministic": True, "num_threads": 1}, data, 20)
    model.save_model(sys.argv[1] + "/lightgbm.txt")
    model.predict(rows(10000, 2).astype(np.float64)).tofile(sys.argv[1] + "/lightgbm.scores")
    model.predict(rows(200, 2).astype(np.float64), pred_contrib=True).tofile(sys.argv[1] + "/lightgbm.shap")

    for objective in ("multiclass", "multiclassova"):
        model = lgb.train({"objective": objective, "num_class": 3, "num_leaves": 7, "verbose": -1, "deterministic": True, "num_threads": 1}, lgb.Dataset(x, classes(rows(4000, 1)), params={"verbose": -1}), 5)
        model.save_model(sys.argv[1] + f"/lightgbm-{objective}.txt")
        model.predict(rows(2000, 2).astype(np.float64)).astype(np.float32).tofile(sys.argv[1] + f"/lightgbm-{objective}.scores")

if __name__ == "__main__": main()
