"""Golden file of sparse spectral training: tests/golden/optim/sst.safetensors.

A transcription of the method's equations in NumPy float64: 50 steps on matrices [m, n] with given gradients; iterations of 6 steps,
warm-up 3, rank 2. Drawn pairs are those of the engine's counter-based generator, which is transcribed in subspaces.py.

usage: python sst.py (in tests/oracle, with numpy and safetensors)
"""
import os

import numpy as np
from safetensors.numpy import save_file

from subspaces import OUT, STEPS, draw_bits, rate_of, svd

SEED, RANK, T3, WARMUP = 11, 2, 6, 3


def uniform(number, i):
    return (draw_bits(SEED, 6, number, i) >> 8) / 2.0 ** 24


def draw(S, r, number):
    k = len(S)
    p = 0.5 * (1.0 / k + S / S.sum())
    chosen = []
    for n in range(r):
        left = np.array([0 if i in chosen else p[i] for i in range(k)])
        u, passed, pick = uniform(number, n) * left.sum(), 0.0, None
        for i in range(k):
            if passed > u:
                break
            if left[i] > 0:
                pick, passed = i, passed + left[i]
        chosen.append(pick)
    return sorted(chosen)


def sst(w, g, lr=0.02, b1=0.9, b2=0.999, eps=1e-8, enhanced=True, decay=0.0):
    U, S, Vt = svd(w.astype(np.float64))
    U = U.T.copy()  # pairs in rows
    V = Vt.copy()
    k = len(S)
    rounds = -(-k // RANK)
    W = w.astype(np.float64)
    for t in range(1, STEPS + 1):
        t3, number = (t - 1) % T3, (t - 1) // T3
        if t3 == 0:
            if number > 0 and number % rounds == 0:
                Un, S, V = svd((U.T * S) @ V)
                U = Un.T.copy()
            index = draw(S, RANK, number)
            mS, vS = np.zeros(k), np.zeros(k)
            mU, vU = np.zeros((RANK, U.shape[1])), np.zeros((RANK, U.shape[1]))
            mV, vV = np.zeros((RANK, V.shape[1])), np.zeros((RANK, V.shape[1]))
        G = g[t - 1].astype(np.float64)
        rate = rate_of(lr, t) * min(1, (t3 + 1) / WARMUP)
        dS = ((U @ G) * V).sum(1)
        dU, dV = V[index] @ G.T, U[index] @ G
        if not enhanced:
            dU, dV = dU * S[index][:, None], dV * S[index][:, None]

        def adam(m, v, d):
            m[:] = b1 * m + (1 - b1) * d
            v[:] = b2 * v + (1 - b2) * d * d
            return rate * (m / (1 - b1 ** (t3 + 1))) / (np.sqrt(v / (1 - b2 ** (t3 + 1))) + eps)

        S = np.maximum(S * (1 - rate * decay) - adam(mS, vS, dS), 0)
        U[index] -= adam(mU, vU, dU)
        V[index] -= adam(mV, vV, dV)
        U[index] /= np.linalg.norm(U[index], axis=1, keepdims=True)
        V[index] /= np.linalg.norm(V[index], axis=1, keepdims=True)
        W = (U.T * S) @ V
    return W


def main():
    draws = np.random.default_rng(9)
    files = {}
    for name, (m, n) in {"wide": (5, 9), "tall": (9, 5), "square": (6, 6)}.items():
        w0 = (draws.normal(size=(m, n)) / np.sqrt(n)).astype(np.float32)
        g = draws.normal(size=(STEPS, m, n)).astype(np.float32)
        files[name + ".w0"], files[name + ".g"] = w0, g
        files[name + ".sst"] = sst(w0, g)
        files[name + ".sst_plain"] = sst(w0, g, enhanced=False, decay=0.1)
    save_file({k: np.ascontiguousarray(v) for k, v in files.items()}, os.path.join(OUT, "sst.safetensors"))


if __name__ == "__main__":
    main()
