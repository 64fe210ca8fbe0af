"""Coefficients of src/base/philox.h: minimax polynomials for the inverse normal cdf (Remez exchange, 40 digits).

With x = 1 - t (t the two-sided tail) and w = -log2(1 - x^2): z = x R(w). Prints R in w - 4 for w < 8, R in sqrt(w) - 4.1875
for 8 <= w <= 31, and log2(1 + f) / f for 1 + f in [sqrt(1/2), sqrt(2)). Needs mpmath and numpy.
"""
import mpmath as mp
import numpy as np

mp.mp.dps = 40


def inverse_tail(t):
    """z with erfc(z / sqrt 2) = t, by Newton steps on the logarithm"""
    z = mp.sqrt(-2 * mp.log(t)) if t < 0.1 else (1 - t) * mp.sqrt(mp.pi / 2)
    for _ in range(60):
        tail = mp.erfc(z / mp.sqrt(2))
        step = (mp.log(tail) - mp.log(t)) * tail / (-mp.sqrt(2 / mp.pi) * mp.exp(-z * z / 2))
        z -= step
        if abs(step) < mp.mpf(10) ** -32 * abs(z) + mp.mpf(10) ** -36:
            break
    return z


def ratio(w):
    """R(w) = z / x"""
    if w == 0:
        return mp.sqrt(mp.pi / 2)
    y = mp.mpf(2) ** (-w)
    x = mp.sqrt(1 - y)
    return inverse_tail(y / (1 + x)) / x


def alternating_extrema(error, wanted):
    found = []
    for i, e in enumerate(error):
        left = error[i - 1] if i else 0
        right = error[i + 1] if i + 1 < len(error) else 0
        if abs(e) < abs(left) or abs(e) < abs(right):
            continue
        if found and (error[found[-1]] > 0) == (e > 0):
            if abs(e) > abs(error[found[-1]]):
                found[-1] = i
        else:
            found.append(i)
    while len(found) > wanted:
        found.pop(0 if abs(error[found[0]]) < abs(error[found[-1]]) else -1)
    return found


def remez(f, a, b, degree, weight, centre):
    """Coefficients in powers of v - centre, lowest first, and the largest weighted error on [a, b]"""
    n = degree + 2
    points = [(a + b) / 2 - (b - a) / 2 * mp.cos(mp.pi * i / (n - 1)) for i in range(n)]
    grid = [a + (b - a) * mp.mpf(i) / 1500 for i in range(1501)]
    values = [f(g) for g in grid]
    for _ in range(6):
        A, y = mp.matrix(n, n), mp.matrix(n, 1)
        for i, p in enumerate(points):
            y[i] = f(p)
            for j in range(degree + 1):
                A[i, j] = (p - (a + b) / 2) ** j
            A[i, degree + 1] = (-1) ** i / weight(y[i])
        c = mp.lu_solve(A, y)
        c = [c[j] for j in range(degree + 1)]
        error = [(mp.polyval(c[::-1], g - (a + b) / 2) - v) * weight(v) for g, v in zip(grid, values)]
        extrema = alternating_extrema(error, n)
        if len(extrema) < n:
            break
        points = [grid[i] for i in extrema]
    shift = centre - (a + b) / 2
    moved = [sum(c[j] * mp.binomial(j, k) * shift ** (j - k) for j in range(k, degree + 1)) for k in range(degree + 1)]
    return moved, max(abs(e) for e in error)


def show(name, result):
    coefficients, error = result
    print(name, "error", mp.nstr(error, 3))
    for c in coefficients:
        print("   ", np.float32(float(c)))


show("R, w < 8", remez(ratio, mp.mpf(0), mp.mpf(8), 9, lambda v: 1 / v, mp.mpf(4)))
show("R, w >= 8", remez(lambda v: ratio(v * v), mp.sqrt(8), mp.sqrt(31), 9, lambda v: 1 / v, mp.mpf("4.1875")))
log_ratio = lambda f: mp.log(1 + f, 2) / f if abs(f) > mp.mpf(10) ** -25 else 1 / mp.log(2)
show("log2(1 + f) / f", remez(log_ratio, mp.sqrt(mp.mpf(1) / 2) - 1, mp.sqrt(2) - 1, 8, lambda v: mp.mpf(1), mp.mpf(0)))
