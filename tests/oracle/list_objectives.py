"""list_objectives.py OUT - float64 NumPy transcriptions of the list objectives, written as sums over pairs and places without any shortcut;
gradients by central differences of step 1e-6 with weights that depend on the ranking held fixed. OUT: one line a case: objective, options, then
the numerator, the denominator and d1 of each item, for tests/loss/test_objectives.c, whose lists are the same."""
import sys

import numpy as np

OFFSETS = [0, 4, 5, 11, 16]
SCORES = np.array([2, 1, 0, -1, 0.5, 0.25, -0.75, 1.5, 0.125, -2, 3, 0.625, 0.375, -0.5, 2.25, -1.25])
LABELS = np.array([0, 2, 1, 0, 3, 0, 1, 4, 1, 0, 2, 1, 0, 1, 3, 2], float)
WEIGHTS = np.array([1, 1, 1, 1, 2, 0.5, 1, 2, 1, 1, 1.5, 1, 1, 3, 0.25, 1])


def sp(x):
    return np.logaddexp(0, x)


def ranks(s):
    r = np.empty(len(s), int)
    r[np.argsort(-s, kind="stable")] = np.arange(1, len(s) + 1)
    return r


def pair_sum(s, y, w, delta, sigma=1.0):
    return sum(w[i] * w[j] * delta[i, j] * sp(-sigma * (s[i] - s[j])) for i in range(len(s)) for j in range(len(s)) if y[i] > y[j])


def lambda_delta(s, y, scheme, cut, both, ideal=True, log=np.log2, mu=10.0):
    n, r, g = len(s), ranks(s), 2.0**y - 1
    D = lambda k: 1 / log(1.0 + k)
    if ideal:
        top = np.sort(g)[::-1][: cut or n]
        g = g / (top * D(np.arange(1, len(top) + 1))).sum()
    out = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            inside = (r[i] <= cut and r[j] <= cut) if both else (r[i] <= cut or r[j] <= cut)
            if i == j or (cut and not inside):
                continue
            swap = abs(g[i] - g[j]) * abs(D(r[i]) - D(r[j]))
            m = abs(int(r[i]) - int(r[j]))
            near = abs(D(m) - D(m + 1)) * abs(g[i] - g[j])
            out[i, j] = {"lambdarank": swap, "ndcg1": g[i] * D(r[i]), "ndcg2": near, "ndcg2pp": mu * near + swap}[scheme]
    return out


def lambdarank(cut, normalize):
    def f(s0, y, w):
        delta, factor = lambda_delta(s0, y, "lambdarank", cut, False), 1.0
        if normalize:
            d = np.abs(s0[:, None] - s0[None, :])
            delta = delta / (0.01 + d) if s0.max() > s0.min() else delta
            total = sum(2 * w[i] * w[j] * delta[i, j] / (1 + np.exp(s0[i] - s0[j])) for i in range(len(y)) for j in range(len(y)) if y[i] > y[j])
            factor = np.log2(1 + total) / total if total > 0 else 1.0
        return lambda s: factor * pair_sum(s, y, w, delta), float(any(delta[i, j] > 0 and y[i] > y[j] for i in range(len(y)) for j in range(len(y))))
    return f


def lambda_loss(scheme, cut):
    def f(s0, y, w):
        delta = lambda_delta(s0, y, scheme, cut, True)
        any_pair = any(delta[i, j] > 0 and y[i] > y[j] for i in range(len(y)) for j in range(len(y)))
        return lambda s: pair_sum(s, y, w, delta) / np.log(2), float(any_pair)
    return f


def lipo(s0, y, w):
    delta = np.abs(2.0**y[:, None] - 2.0**y[None, :]) * np.abs(np.log(1.0 + ranks(s0))[:, None]**-1 - np.log(1.0 + ranks(s0))[None, :]**-1)
    return lambda s: pair_sum(s, y, w, delta), float(len(set(y)) > 1)


def hinge(power, margin):
    def f(s0, y, w):
        n = len(y)
        return (lambda s: sum(w[i] * w[j] * max(0, margin - (s[i] - s[j]))**power for i in range(n) for j in range(n) if y[i] > y[j])), float(len(set(y)) > 1)
    return f


def listnet(target):
    def f(s0, y, w):
        t = {"softmax": np.exp(y) / np.exp(y).sum(), "gain": 2**y - 1, "label": y}[target] * w
        if len(y) < 2 or t.sum() == 0:
            return lambda s: 0.0, 0.0
        if target != "label":
            t = t / t.sum()
        return lambda s: -(t * (s - np.log(np.exp(s).sum()))).sum(), 1.0
    return f


def listmle(places):
    def f(s0, y, w):
        n = len(y)
        if n < 2:
            return lambda s: 0.0, 0.0
        o = np.argsort(-y, kind="stable")
        k = np.arange(1, n + 1)
        a = w[o] * {"equal": np.ones(n), "exponential": 2.0**(n - k) - 1, "log": 1 / np.log2(1.0 + k)}[places]
        return lambda s: sum(a[i] * (np.log(np.exp(s[o[i:]]).sum()) - s[o[i]]) for i in range(n)), 1.0
    return f


def ideal(y):
    return (np.sort(2**y - 1)[::-1] / np.log2(np.arange(len(y)) + 2.0)).sum()


def approx(alpha):
    def f(s0, y, w):
        if len(y) < 2 or ideal(y) == 0:
            return lambda s: 0.0, 0.0
        def loss(s):
            q = 1 / (1 + np.exp(alpha * (s[:, None] - s[None, :])))
            pos = 1 + q.sum(1) - q.diagonal()
            return w.mean() * (1 - ((2**y - 1) / np.log2(1 + pos)).sum() / ideal(y))
        return loss, 1.0
    return f


def neural(rounds, transposed):
    def f(s0, y, w):
        n = len(y)
        if n < 2 or ideal(y) == 0:
            return lambda s: 0.0, 0.0
        def loss(s):
            B = np.abs(s[:, None] - s[None, :]).sum(1)
            A = (n + 1 - 2 * np.arange(1, n + 1))[:, None] * s[None, :] - B[None, :]
            P = np.exp(A - A.max(1, keepdims=True))
            P /= P.sum(1, keepdims=True)
            for _ in range(rounds):
                for axis in ((1, 0) if transposed else (0, 1)):
                    P = P / P.sum(axis, keepdims=True)
            return w.mean() * (1 - ((P @ (2**y - 1)) / np.log2(np.arange(n) + 2.0)).sum() / ideal(y))
        return loss, 1.0
    return f


def mse(s0, y, w):
    return lambda s: (w * (s - y)**2).sum(), w.sum()


def logistic(s0, y, w):
    t = (y > 1).astype(float)
    return lambda s: (w * (t * sp(-s) + (1 - t) * sp(s))).sum(), w.sum()


def ranknet(s0, y, w):
    return lambda s: pair_sum(s, y, w, np.ones((len(y), len(y)))), float(len(set(y)) > 1)


CASES = [
    ("pair_logistic", "-", ranknet),
    ("lambdarank", "normalize=false", lambdarank(30, False)),
    ("lambdarank", "truncation=2,normalize=false", lambdarank(2, False)),
    ("lambdarank", "-", lambdarank(30, True)),
    ("lambda_loss", "scheme=ndcg1", lambda_loss("ndcg1", 0)),
    ("lambda_loss", "scheme=ndcg2", lambda_loss("ndcg2", 0)),
    ("lambda_loss", "scheme=lambdarank,truncation=3", lambda_loss("lambdarank", 3)),
    ("lambda_loss", "-", lambda_loss("ndcg2pp", 0)),
    ("lipo_lambda", "-", lipo),
    ("pair_hinge", "margin=0.9", hinge(1, 0.9)),
    ("pair_hinge", "power=2,margin=0.7", hinge(2, 0.7)),
    ("listnet", "-", listnet("softmax")),
    ("listnet", "target=gain", listnet("gain")),
    ("listnet", "target=label", listnet("label")),
    ("listmle", "-", listmle("equal")),
    ("listmle", "places=exponential", listmle("exponential")),
    ("listmle", "places=log", listmle("log")),
    ("approx_ndcg", "-", approx(1.0)),
    ("approx_ndcg", "alpha=10", approx(10.0)),
    ("neural_ndcg", "rounds=0", neural(0, False)),
    ("neural_ndcg", "rounds=3,tolerance=0", neural(3, False)),
    ("neural_ndcg", "rounds=3,tolerance=0,transposed=true", neural(3, True)),
    ("point_mse", "-", mse),
    ("point_logistic", "binary=true,threshold=1", logistic),
]

if __name__ == "__main__":
    with open(sys.argv[1], "w") as out:
        for name, options, make in CASES:
            numerator = denominator = 0.0
            grad = np.zeros(len(SCORES))
            for a, b in zip(OFFSETS, OFFSETS[1:]):
                s = SCORES[a:b]
                loss, den = make(s.copy(), LABELS[a:b], WEIGHTS[a:b])
                numerator, denominator = numerator + loss(s), denominator + den
                for i in range(b - a):
                    up, down = s.copy(), s.copy()
                    up[i] += 1e-6
                    down[i] -= 1e-6
                    grad[a + i] = (loss(up) - loss(down)) / 2e-6
            print(name, options, *["%.12g" % x for x in (numerator, denominator, *grad)], file=out)
