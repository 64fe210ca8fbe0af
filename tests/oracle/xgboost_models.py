"""XGBoost's models and their scores, for tests/tree.

usage: xgboost_models.py OUT_FOLDER        trains small models with missing and categorical values; writes models and float32 scores:
                                           xgboost.json (regression, margins of 10,000 rows, pred_contribs of 200), xgboost-binary.ubj (probabilities of 2,000),
                                           xgboost-vector.json (three classes, a vector in each leaf: probabilities of 2,000),
                                           xgboost-multiclass.json (three classes, a tree for each: probabilities of 2,000)
       xgboost_models.py --score MODEL OUT [ROWS]  XGBoost reads a model that crank wrote: its scores of ROWS (2000) rows;
                                           so exported.scores was made from exported.json (crank rank export lightgbm.txt)
Rows are those of gbdt.py.
"""
import sys
import numpy as np
import xgboost as xgb
from gbdt import classes, rows

TYPES = ["float"] * 5 + ["c"] + ["float"] * 2

def matrix(x, y=None):
    return xgb.DMatrix(x, y, feature_types=TYPES, enable_categorical=True)

if sys.argv[1] == "--score":
    n = int(sys.argv[4]) if len(sys.argv) > 4 else 2000
    model = xgb.Booster(model_file=sys.argv[2])
    model.predict(xgb.DMatrix(rows(n, 2), feature_types=model.feature_types or None, enable_categorical=True, feature_names=model.feature_names)).astype(np.float32).tofile(sys.argv[3])
    sys.exit()
out = sys.argv[1] + "/xgboost"
x = rows(4000, 1)
noise = np.random.default_rng(1).standard_normal(len(x))
y = x[:, 0] + np.where(np.isnan(x[:, 3]), .7, x[:, 3] ** 2) + np.sin(np.nan_to_num(x[:, 5], nan=7) * 2.1) + .2 * (x[:, 1] == 0) + .1 * noise
common = {"tree_method": "hist", "max_bin": 64, "nthread": 1, "eta": .3}
model = xgb.train({**common, "objective": "reg:squarederror", "max_depth": 4}, matrix(x, y), 15)
model.save_model(out + ".json")
model.predict(matrix(rows(10000, 2)), output_margin=True).astype(np.float32).tofile(out + ".scores")
model.predict(matrix(rows(200, 2)), pred_contribs=True).astype(np.float32).tofile(out + ".shap")
model = xgb.train({**common, "objective": "binary:logistic", "grow_policy": "lossguide", "max_leaves": 20, "max_depth": 0, "max_cat_to_onehot": 30}, matrix(x, y > .5), 8)
model.save_model(out + "-binary.ubj")
model.predict(matrix(rows(2000, 2))).astype(np.float32).tofile(out + "-binary.scores")
model = xgb.train({**common, "objective": "multi:softprob", "num_class": 3, "max_depth": 3, "multi_strategy": "multi_output_tree"}, xgb.DMatrix(np.where(np.arange(8) == 5, 0, x), np.digitize(y, [0, .8])), 4)
model.save_model(out + "-vector.json")
model.predict(xgb.DMatrix(np.where(np.arange(8) == 5, 0, rows(2000, 2)))).astype(np.float32).tofile(out + "-vector.scores")
model = xgb.train({**common, "objective": "multi:softprob", "num_class": 3, "max_depth": 3}, matrix(x, classes(x)), 4)
model.save_model(out + "-multiclass.json")
model.predict(matrix(rows(2000, 2))).astype(np.float32).tofile(out + "-multiclass.scores")
