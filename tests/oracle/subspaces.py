"""Golden files of optimisers on subspaces and of what they are compared with: tests/golden/optim/subspaces.safetensors.

Transcriptions of the methods' equations in NumPy float64: 50 steps on matrices [m, n] with given gradients (f32 values); the
rate of step t is rate * (0.5 + 0.5 * cos(t / 50)). Each case gives the weight after the last step.

usage: python subspaces.py (in tests/oracle, with numpy and safetensors)
"""
import math
import os

import numpy as np
from safetensors.numpy import save_file

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "optim")
STEPS = 50


def rate_of(rate, t):
    return rate * (0.5 + 0.5 * math.cos(t / STEPS))


def svd(G, side="left"):
    """Signs: the entry of largest magnitude of each left (right) vector is positive."""
    U, s, Vt = np.linalg.svd(G.astype(np.float64), full_matrices=False)
    k = np.arange(len(s))
    sign = np.sign(Vt[k, np.abs(Vt).argmax(1)] if side == "right" else U[np.abs(U).argmax(0), k])
    return U * sign, s, Vt * sign[:, None]


class Adam:
    def __init__(self, shape, b1=0.9, b2=0.999, eps=1e-8, hf=False):
        self.m, self.v, self.t = np.zeros(shape), np.zeros(shape), 0
        self.b1, self.b2, self.eps, self.hf = b1, b2, eps, hf

    def direction(self, g):
        self.t += 1
        self.m = self.b1 * self.m + (1 - self.b1) * g
        self.v = self.b2 * self.v + (1 - self.b2) * g * g
        c1, c2 = 1 - self.b1 ** self.t, 1 - self.b2 ** self.t
        if self.hf:
            return self.m / (np.sqrt(self.v) + self.eps) * math.sqrt(c2) / c1
        return (self.m / c1) / (np.sqrt(self.v / c2) + self.eps)


class Adafactor:
    def __init__(self, shape, decay_rate=-0.8, eps=1e-30, clip=1.0, b1=0.0):
        self.row, self.col = np.zeros((shape[0], 1)), np.zeros((1, shape[1]))
        self.m, self.t = np.zeros(shape), 0
        self.decay_rate, self.eps, self.clip, self.b1 = decay_rate, eps, clip, b1

    def step(self, g, lr):
        self.t += 1
        b2t = 1 - self.t ** self.decay_rate
        u = g * g + self.eps
        self.row = b2t * self.row + (1 - b2t) * u.mean(1, keepdims=True)
        self.col = b2t * self.col + (1 - b2t) * u.mean(0, keepdims=True)
        U = g / np.sqrt(self.row / self.row.mean()) / np.sqrt(self.col)
        U /= max(1, math.sqrt((U * U).mean()) / self.clip)
        U *= lr
        if self.b1:
            self.m = self.b1 * self.m + (1 - self.b1) * U
            U = self.m
        return U


def side_of(side, m, n):
    if side == "std":
        return "left" if m < n else "right"
    if side == "reverse":
        return "right" if m < n else "left"
    return side


class Projector:
    def __init__(self, side, r):
        self.side, self.r = side, r

    def refresh(self, G):
        U, _, Vt = svd(G, self.side)
        self.P, self.Q = U[:, :self.r], Vt[:self.r]

    def down(self, G):
        R = self.P.T @ G if self.side != "right" else G
        return R @ self.Q.T if self.side != "left" else R

    def up(self, N):
        S = self.P @ N if self.side != "right" else N
        return S @ self.Q if self.side != "left" else S


def galore(w, g, side="std", r=3, T=7, alpha=0.25, inner="adam", lr=0.05, decay=0.0, mode="keep", **options):
    w = w.astype(np.float64)
    m, n = w.shape
    space, opt = Projector(side_of(side, m, n), min(r, m, n)), None
    for t in range(1, STEPS + 1):
        G, rate = g[t - 1].astype(np.float64), rate_of(lr, t)
        if (t - 1) % T == 0:
            old = (space.P, space.Q) if t > 1 else None
            space.refresh(G)
            if mode == "reset":
                opt = None
            if mode == "rotate" and old:
                C = space.P.T @ old[0] if space.side == "left" else None
                D = space.Q @ old[1].T if space.side == "right" else None
                if C is not None:
                    opt.m, opt.v = C @ opt.m, (C * C) @ opt.v
                else:
                    opt.m, opt.v = opt.m @ D.T, opt.v @ (D * D).T
        R = space.down(G)
        if opt is None:
            opt = Adafactor(R.shape, **options) if inner == "adafactor" else Adam(R.shape, **options)
        step = opt.step(R, rate) if inner == "adafactor" else rate * opt.direction(R)
        w -= alpha * space.up(step)
        w -= rate * decay * w
    return w


def fira(w, g, mode="official", scaling="column", moments="adam", gamma=1.01, r=3, T=7, alpha=0.25, b1=0.9, b2=0.999, eps=1e-6,
         lr=0.05, decay=0.0):
    w = w.astype(np.float64)
    m, n = w.shape
    space = Projector(side_of("std", m, n), min(r, m, n))
    axis = 0 if space.side == "left" else 1
    M = V = 0.0
    s_prev = None
    for t in range(1, STEPS + 1):
        G, rate = g[t - 1].astype(np.float64), rate_of(lr, t)
        if (t - 1) % T == 0:
            space.refresh(G)
        R = space.down(G)
        bc = 1.0
        if moments == "rmsprop":
            V = b2 * V + (1 - b2) * R * R
            N = R / (np.sqrt(V) + eps)
        else:
            M = b1 * M + (1 - b1) * R
            V = b2 * V + (1 - b2) * R * R
            bc = math.sqrt(1 - b2 ** t) / (1 - b1 ** t)
            if mode == "official":
                N = M / (np.sqrt(V) + eps)
            else:
                N = (M / (1 - b1 ** t)) / (np.sqrt(V / (1 - b2 ** t)) + eps)
        if scaling == "none":
            phi = 1.0
        elif scaling == "matrix":
            phi = np.linalg.norm(N) / (np.linalg.norm(R) + 1e-8)
        else:
            phi = np.linalg.norm(N, axis=axis, keepdims=True) / (np.linalg.norm(R, axis=axis, keepdims=True) + 1e-8)
        S = (G - (alpha if mode == "official" else 1) * space.up(R)) * phi
        nS = np.linalg.norm(S)
        if s_prev and gamma:
            limit = max(nS / (s_prev + 1e-8), gamma) / gamma
            S, nS = S / limit, nS / limit
        s_prev = nS
        if mode == "official":
            w -= rate * bc * (alpha * space.up(N) + S)
        else:
            w -= rate * alpha * (space.up(N) + S)
        w -= rate * decay * w
    return w


MASK = 0xFFFFFFFF


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(b >> 32) ^ c[1] ^ k[0], b & MASK, (a >> 32) ^ c[3] ^ k[1], a & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def draw_bits(seed, purpose, index, i):
    return philox((i // 4 & MASK, i // 4 >> 32, purpose, index), (seed & MASK, seed >> 32))[i % 4]


def draw_below(seed, purpose, index, i, bound):
    word = draw_bits(seed, purpose, index, 2 * i) | draw_bits(seed, purpose, index, 2 * i + 1) << 32
    return bound * word >> 64


def choose(seed, period, n, count):
    """count of n indices, ascending, by selection sampling; the engine's draws of purpose METHOD."""
    out = []
    for i in range(n):
        if len(out) < count and draw_below(seed, 6, period, i, n - i) < count - len(out):
            out.append(i)
    return out


def frugal(w, g, select="columns", rho=0.5, K=7, s_p=1.0, s_f=1.0, rule="sign", reset=True, lr=0.02, decay=0.1, seed=3):
    w = w.astype(np.float64)
    m, n = w.shape
    opt = None
    kept = {}  # moments by index, where they are carried
    for t in range(1, STEPS + 1):
        G, rate = g[t - 1].astype(np.float64), rate_of(lr, t)
        period = (t - 1) // K
        if (t - 1) % K == 0:
            if select == "svd":
                space = Projector(side_of("std", m, n), int(rho * min(m, n) + 0.5))
                space.refresh(G)
            else:
                total = {"columns": n, "rows": m, "entries": m * n}[select]
                index = choose(seed, period, total, int(rho * total))
            if reset or opt is None:
                old, opt = opt, None
        if select == "svd":
            down, up = space.down, space.up
        elif select == "columns":
            down = lambda x: x[:, index]
            def up(x):
                full = np.zeros((m, n)); full[:, index] = x
                return full
        elif select == "rows":
            down = lambda x: x[index]
            def up(x):
                full = np.zeros((m, n)); full[index] = x
                return full
        else:
            down = lambda x: x.reshape(-1)[index]
            def up(x):
                full = np.zeros(m * n); full[index] = x
                return full.reshape(m, n)
        R = down(G)
        if opt is None:
            opt = Adam(R.shape)
        elif not reset and (t - 1) % K == 0:
            # columns that stay keep their moments, new ones start from zero
            zero = np.zeros(m)
            opt.m = np.stack([kept.get(i, (zero, zero))[0] for i in index], 1)
            opt.v = np.stack([kept.get(i, (zero, zero))[1] for i in index], 1)
        w *= 1 - rate * decay
        w -= rate * s_p * up(opt.direction(R))
        if not reset:
            kept = {i: (opt.m[:, k], opt.v[:, k]) for k, i in enumerate(index)}
        h = G - up(R)
        if rule == "sign":
            if select != "svd":
                h = h * (1 - up(np.ones_like(R)))
            w -= rate * s_p * s_f * np.sign(h)
        elif rule == "sgd":
            w -= rate * s_p * s_f * h
    return w


def muon(w, g, lr=0.02, mu=0.95, decay=0.1):
    w, buf = w.astype(np.float64), np.zeros(w.shape)
    for t in range(1, STEPS + 1):
        G, rate = g[t - 1].astype(np.float64), rate_of(lr, t)
        buf += (1 - mu) * (G - buf)
        X = G + mu * (buf - G)
        tall = X.shape[0] > X.shape[1]
        X = X.T if tall else X
        X = X / (np.linalg.norm(X) + 1e-7)
        for _ in range(5):
            A = X @ X.T
            X = 3.4445 * X + (-4.7750 * A + 2.0315 * A @ A) @ X
        X = X.T if tall else X
        w *= 1 - rate * decay
        w -= rate * math.sqrt(max(1, w.shape[0] / w.shape[1])) * X
    return w


def adafactor(w, g, lr=0.02, decay=0.1, **options):
    w, opt = w.astype(np.float64), Adafactor(w.shape, **options)
    for t in range(1, STEPS + 1):
        rate = rate_of(lr, t)
        U = opt.step(g[t - 1].astype(np.float64), rate)
        w -= rate * decay * w
        w -= U
    return w


def main():
    draw = np.random.default_rng(7)
    files = {}
    for name, (m, n) in {"wide": (5, 9), "tall": (9, 5), "square": (6, 6)}.items():
        # gradients with a decaying spectrum whose subspace drifts
        U, _ = np.linalg.qr(draw.normal(size=(m, m)))
        V, _ = np.linalg.qr(draw.normal(size=(n, n)))
        k = min(m, n)
        g = []
        for _ in range(STEPS):
            core = np.diag(2.0 ** -np.arange(k)) + 0.1 * draw.normal(size=(k, k))
            g.append(U[:, :k] @ core @ V[:, :k].T)
        files[name + ".w0"] = draw.normal(size=(m, n)).astype(np.float32)
        files[name + ".g"] = np.array(g).astype(np.float32)
    data = {s: (files[s + ".w0"], files[s + ".g"]) for s in ("wide", "tall", "square")}
    for s, (w0, g) in data.items():
        files[s + ".galore"] = galore(w0, g)
        files[s + ".galore_decay"] = galore(w0, g, decay=0.5)
        files[s + ".galore_official"] = galore(w0, g, hf=True, eps=1e-6)
        files[s + ".galore_reverse"] = galore(w0, g, side="reverse")
        files[s + ".galore_full"] = galore(w0, g, side="full", eps=1e-3)
        files[s + ".galore_reset"] = galore(w0, g, mode="reset")
        files[s + ".galore_rotate"] = galore(w0, g, mode="rotate")
        files[s + ".galore_adafactor"] = galore(w0, g, inner="adafactor")
        files[s + ".galore_whole"] = galore(w0, g, r=100)
        files[s + ".fira_official"] = fira(w0, g)
        files[s + ".fira_paper"] = fira(w0, g, mode="paper", decay=0.1)
        files[s + ".fira_matrix"] = fira(w0, g, scaling="matrix")
        files[s + ".fira_unscaled"] = fira(w0, g, scaling="none", mode="paper")
        files[s + ".fira_unlimited"] = fira(w0, g, gamma=0, mode="paper")
        files[s + ".fira_rmsprop"] = fira(w0, g, moments="rmsprop", b2=0.9)
        files[s + ".frugal_columns"] = frugal(w0, g)
        files[s + ".frugal_rows"] = frugal(w0, g, select="rows", s_p=0.5, s_f=0.25)
        files[s + ".frugal_entries"] = frugal(w0, g, select="entries", rho=0.3, rule="sgd")
        files[s + ".frugal_carried"] = frugal(w0, g, reset=False)
        files[s + ".frugal_svd"] = frugal(w0, g, select="svd", rule="sgd")
        files[s + ".frugal_none"] = frugal(w0, g, select="svd", rule="none")
        files[s + ".muon"] = muon(w0, g)
        files[s + ".adafactor"] = adafactor(w0, g)
        files[s + ".adafactor_momentum"] = adafactor(w0, g, b1=0.9)
    save_file({k: np.ascontiguousarray(v) for k, v in files.items()}, os.path.join(OUT, "subspaces.safetensors"))


if __name__ == "__main__":
    main()
