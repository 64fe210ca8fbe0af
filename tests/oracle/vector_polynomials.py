"""Coefficients of the polynomials in src/device/cpu/simd_math.h: minimax in relative error, by Lawson's reweighting.

    log(1 + f)            = f - f^2/2 + f^3 P(f)                      1 + f in [sqrt(1/2), sqrt(2)]
    tanh(x)               = x + x^3 T(x^2)                            |x| <= 0.625
    e^(x^2/2) Phi(-x)     = G(t), t = 1 / (1 + 0.35 x)                0 <= x <= 14      (Phi: normal distribution)

usage: python3 vector_polynomials.py        (needs numpy, scipy, mpmath)
"""
import numpy as np
from scipy.special import erfcx


def fit(x, y, weight, degree):
    """Coefficients, lowest first, that minimise max |p(x) - y| * weight."""
    z = 2 * (x - x.min()) / (x.max() - x.min()) - 1
    basis = np.polynomial.chebyshev.chebvander(z, degree)
    w = np.ones_like(x)
    for _ in range(400):
        root = np.sqrt(w) * weight
        c = np.linalg.lstsq(basis * root[:, None], y * root, rcond=None)[0]
        error = np.abs(basis @ c - y) * weight
        w = w * error
        w /= w.sum()
    poly = np.polynomial.chebyshev.cheb2poly(c)
    shift = np.poly1d([2 / (x.max() - x.min()), -2 * x.min() / (x.max() - x.min()) - 1])
    full = np.poly1d([0.0])
    for a in poly[::-1]:
        full = full * shift + a
    return full.coeffs[::-1], error.max()


def show(name, result):
    coefficients, error = result
    print(name, "error %.2g" % error)
    for c in coefficients[::-1]:
        print("    %.9gf" % np.float32(c))


n = np.cos(np.linspace(0, np.pi, 4001))
f = (n + 1) / 2 * (np.sqrt(2) - np.sqrt(0.5)) + np.sqrt(0.5) - 1
f = f[np.abs(f) > 1e-3]
show("log", fit(f, (np.log1p(f) - f + f * f / 2) / f**3, np.abs(f**3 / np.log1p(f)), 8))
x = (n + 1) / 2 * 0.625
x = x[x > 1e-2]
show("tanh", fit(x * x, (np.tanh(x) - x) / x**3, x**3 / np.tanh(x), 4))
for c, degree in ((0.35, 9),):
    x = np.concatenate([(n + 1) / 2 * 14, np.linspace(0, 14, 4001)])
    x.sort()
    y = 0.5 * erfcx(x / np.sqrt(2))
    show("normal tail, c = %g" % c, fit(1 / (1 + c * x), y, 1 / y, degree))
