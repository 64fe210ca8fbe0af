"""Writes src/device/cpu/piecewise_tables.h: cubics of 32 pieces for the activations of bf16 tensors.

For a >= 0, piece j serves |a - j w| <= w / 2 and is c0 + c1 r + c2 r^2 + c3 r^3, r = a - j w, minimax in relative error (where a function
crosses zero: relative to an eighth of its largest value in the piece), by Lawson's reweighting.

    sigmoid       1 / (1 + e^a)                                  w = 1/2
    normal        Phi(-a)                                        w = 5/32     (Phi: normal distribution)
    gelu_slope    Phi(-a) - a phi(a)                             w = 5/32
    tanh_gate     1 / (1 + e^u),  u = sqrt(8 / pi) (a + 0.044715 a^3)          w = 5/32
    tanh_slope    s - a u' s (1 - s),  s = tanh_gate             w = 5/32

usage: python3 piecewise_activations.py > src/device/cpu/piecewise_tables.h        (needs numpy, scipy)
"""
import numpy as np
from scipy.special import erfc, expit

PIECES, DEGREE = 32, 3
ROOT = np.sqrt(8 / np.pi)


def fit(x, y, weight):
    """Coefficients, lowest first, that minimise max |p(x) - y| * weight."""
    h = x.max()
    basis = np.vander(x / h, DEGREE + 1, increasing=True)
    w = np.ones_like(x)
    for _ in range(400):
        root = np.sqrt(w) * weight
        c = np.linalg.lstsq(basis * root[:, None], y * root, rcond=None)[0]
        error = np.abs(basis @ c - y) * weight
        w *= error
        w /= w.sum()
    return c / h ** np.arange(DEGREE + 1), error.max()


def tanh_gate(a):
    return expit(-ROOT * (a + 0.044715 * a**3))


def tanh_slope(a):
    s = tanh_gate(a)
    return s - a * ROOT * (1 + 3 * 0.044715 * a**2) * s * (1 - s)


def gelu_slope(a):
    return 0.5 * erfc(a / np.sqrt(2)) - a * np.exp(-a * a / 2) / np.sqrt(2 * np.pi)


FUNCTIONS = [("sigmoid", 0.5, lambda a: expit(-a)), ("normal", 0.15625, lambda a: 0.5 * erfc(a / np.sqrt(2))),
             ("gelu_slope", 0.15625, gelu_slope), ("tanh_gate", 0.15625, tanh_gate), ("tanh_slope", 0.15625, tanh_slope)]

print("/* piecewise_tables.h - the cubics of piecewise_simd.h; tests/oracle/piecewise_activations.py writes this file. */")
print("#ifndef CRANK_DEVICE_CPU_PIECEWISE_TABLES_H\n#define CRANK_DEVICE_CPU_PIECEWISE_TABLES_H\n")
print("/* c[k][j]: the coefficient of r^k in piece j */")
print("typedef struct piecewise_table {\n    _Alignas(64) float c[4][32];\n    float width;\n} piecewise_table;\n")
for name, width, f in FUNCTIONS:
    table, worst = [], 0
    for j in range(PIECES):
        r = np.cos(np.linspace(0, np.pi, 401)) * width / 2
        y = f(j * width + r)
        c, error = fit(r, y, 1 / np.maximum(np.abs(y), np.abs(y).max() / 8))
        table.append(c)
        worst = max(worst, error)
    print(f"/* relative error below 2^{np.ceil(np.log2(worst) * 10) / 10:g} */")
    print(f"static const piecewise_table table_{name} = {{\n    .width = {width:g}f,\n    .c = {{")
    for k in range(DEGREE + 1):
        numbers = ["%.9gf" % np.float32(c[k]) if "." in "%.9g" % np.float32(c[k]) or "e" in "%.9g" % np.float32(c[k]) else "%.9g.0f" % np.float32(c[k]) for c in table]
        lines = [", ".join(numbers[i : i + 8]) for i in range(0, PIECES, 8)]
        print("        {" + ",\n         ".join(lines) + "},")
    print("    },\n};\n")
print("#endif")
