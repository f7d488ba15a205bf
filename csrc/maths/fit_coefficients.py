"""Fits the coefficients in coefficients.h and writes that file; `--check` only compares with it.

Needs NumPy, SciPy and mpmath. float32 sets are minimax fits on a dense grid, each coefficient rounded
to float32 in turn while the rest are fitted again; float64 sets interpolate at Chebyshev points in 60 digits.
The error printed beside each set is that of the rounded coefficients in exact arithmetic; what float32 adds is
measured over all inputs by tests/test_accuracy.py.
"""

import pathlib
import sys

import mpmath as mp
import numpy as np
from scipy.optimize import linprog
from scipy.special import ndtri, ndtri_exp

HEADER = pathlib.Path(__file__).with_name("coefficients.h")
mp.mp.dps = 60


def chebyshev(a, b, n=800):
    return (a + b) / 2 + (b - a) / 2 * np.cos(np.pi * (np.arange(n) + 0.5) / n)


def minimax(columns, target, weight, equal=None):
    """Coefficients c that minimise max |weight (columns c - target)|, subject to equal = (row, value)."""
    scale = np.abs(columns).max(0)
    A = weight[:, None] * columns / scale
    n, unit = A.shape[1], 1e-6  # the error is of the order of 1e-7: the solver's tolerance is absolute
    ones = np.full((len(A), 1), unit)
    b = weight * target
    constraint = {}
    if equal is not None:
        constraint = {"A_eq": np.append(equal[0] / scale, 0)[None], "b_eq": [equal[1]]}
    result = linprog(
        np.append(np.zeros(n), 1),
        A_ub=np.block([[A, -ones], [-A, -ones]]),
        b_ub=np.concatenate([b, -b]),
        bounds=[(None, None)] * n + [(0, None)],
        method="highs-ds",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        **constraint,
    )
    if result.x is None:  # numerically degenerate: least squares is near enough for the remaining coefficients
        return np.linalg.lstsq(A, b, rcond=None)[0] / scale
    return result.x[:n] / scale


def fit_float32(columns, target, weight, order=None, equal=None):
    """Minimax coefficients rounded to float32 one after another (in `order`), and the error that remains."""
    n = columns.shape[1]
    order = list(order if order is not None else range(n))
    done, rest = np.zeros(n), target.copy()
    for i, k in enumerate(order):
        free = order[i:]
        side = None
        if equal is not None and len(free) > 1:
            side = (equal[0][free], equal[1] - equal[0] @ done)
        done[k] = np.float32(minimax(columns[:, free], rest, weight, side)[0])
        rest = rest - columns[:, k] * done[k]
    return done, np.max(np.abs(weight * rest))


def powers(x, exponents):
    return np.stack([x**k for k in exponents], 1)


def log_float32():
    """-2 ln(1 + d/2) = -2 ln 2 d + d P(d) on d in [-1, 0]; exact at d = -1, so that u = 1 gives 0."""
    d = chebyshev(-1, 0)
    d = d[d < -1e-7]
    target = -2 * np.log1p(d / 2) + 2 * np.log(2) * d
    weight = 1 / (2 * np.sqrt(-2 * np.log1p(d / 2)))  # error of the radius sqrt(-2 ln u) in the binade below 1
    c, _ = fit_float32(powers(d, range(1, 8)), target, weight, equal=((-1.0) ** np.arange(1, 8), 0.0))
    p = np.float32(c[6])
    for k in range(5, 0, -1):  # Horner at d = -1 in float32 rounds the constant term to make the sum vanish
        p = np.float32(np.float64(c[k]) - np.float64(p))
    c[0] = p
    return c, np.max(np.abs(weight * (target - powers(d, range(1, 8)) @ c)))


def sincos_float32():
    s = chebyshev(-1, 1)
    s = s[s > 0]
    one = np.ones_like(s)
    sine = fit_float32(powers(s, range(1, 11, 2)), np.sin(np.pi / 2 * s), one)
    cosine = fit_float32(powers(s, range(0, 10, 2)), np.cos(np.pi / 2 * s), one)
    return sine, cosine


def rational(x, target, weight, numerator, denominator):
    """Minimax N(x)/D(x), D(0) = 1, by Lawson's reweighted least squares on the linearised error.

    D is then rounded to float32 and N fitted again.
    """
    N, D = powers(x, range(numerator + 1)), powers(x, range(1, denominator + 1))
    A = np.hstack([N, -target[:, None] * D])
    scale = np.abs(A).max(0)
    previous, lawson, best = np.ones_like(x), np.ones_like(x), (np.inf, None)
    for step in range(400):
        row = np.sqrt(lawson) * weight / previous
        c = np.linalg.lstsq(row[:, None] * A / scale, row * target, rcond=None)[0] / scale
        previous = 1 + D @ c[numerator + 1 :]
        error = np.abs(weight * (target - N @ c[: numerator + 1] / previous))
        if error.max() < best[0]:
            best = (error.max(), c[numerator + 1 :])
        if step >= 10:  # the linearisation has settled
            lawson = lawson * error / np.sum(lawson * error)
    d = np.float32(best[1]).astype(float)
    n, error = fit_float32(N / (1 + D @ d)[:, None], target, weight, range(numerator, -1, -1))
    return n, np.append(1.0, d), error


def central_float32():
    """Z = (p - q) N(y)/D(y), y = sqrt(pq), for pq >= 0.00069; the error is that of z."""
    y = np.exp(chebyshev(np.log(np.sqrt(0.00069)), np.log(0.5)))
    root = np.sqrt(np.maximum(1 - 4 * y * y, 0))  # |p - q|
    z = -ndtri(2 * y * y / (1 + root))
    near = root < 1e-3
    ratio = np.where(near, np.sqrt(np.pi / 2) * (1 + np.pi / 12 * root**2), z / np.where(near, 1, root))
    return rational(y, ratio, np.maximum(root, 1e-3), 4, 4)


def tail_float32():
    """-z = r - N(r)/D(r), r = sqrt(-2 ln t), 12 standard deviations and the 2^-33 of the last draw beyond."""
    r = chebyshev(3.75, 14.1)
    return rational(r, r + ndtri_exp(-r * r / 2), np.ones_like(r), 3, 2)


def interpolate(f, a, b, n):
    """Coefficients (constant first, float64) of the polynomial through f at n Chebyshev points of [a, b]."""
    x = [(a + b) / 2 + (b - a) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * n)) for k in range(n)]
    c = mp.lu_solve(mp.matrix([[t**j for j in range(n)] for t in x]), mp.matrix([f(t) for t in x]))
    c = [float(v) for v in c]
    probe = [a + (b - a) * mp.mpf(i) / 997 for i in range(1, 998)]
    return c, float(max(abs(mp.polyval(c[::-1], t) - f(t)) for t in probe))


def float64_sets():
    zero = mp.mpf(10) ** -30
    square = (mp.sqrt(2) - 1) ** 4  # s^2 at m = sqrt(2), s = (m - 1)/(m + 1)
    log = interpolate(lambda t: (mp.log((1 + mp.sqrt(t)) / (1 - mp.sqrt(t))) / mp.sqrt(t) - 2) / t, zero, square, 8)
    half = mp.pi / 2
    sine = interpolate(lambda t: mp.sin(half * mp.sqrt(t)) / mp.sqrt(t), zero, mp.mpf(1), 10)
    cosine = interpolate(lambda t: mp.cos(half * mp.sqrt(t)), zero, mp.mpf(1), 11)
    return log, sine, cosine


def render():
    lines = [
        "// Coefficients, constant term first. Written by fit_coefficients.py: change them there, and know that every",
        '// change is a change of the numbers everyone gets (CHANGELOG, "Changes to generated numbers").',
        "// clang-format off",
        "#pragma once",
        "",
        "namespace fastinit::coefficients {",
    ]

    def put(name, c, note, suffix):
        values = [float(v).hex().replace("0000000p", "p") if suffix else float(v).hex() for v in c]
        kind = "float" if suffix else "double"
        lines.extend(["", f"// {note}", f"inline constexpr {kind} {name}[{len(c)}] = {{"])
        lines.extend("    " + ", ".join(v + suffix for v in values[i : i + 4]) + "," for i in range(0, len(c), 4))
        lines.append("};")

    c, e = log_float32()
    put("kLog", c, f"-2 ln(1 + d/2) + 2 ln 2 d = d P(d), -1 <= d <= 0; error of the radius {e:.2g}", "f")
    (s, es), (co, ec) = sincos_float32()
    put("kMinusSin", -s, f"-sin(pi/2 s) = s P(s^2), |s| <= 1; error {es:.2g}", "f")
    put("kCos", co, f"cos(pi/2 s) = P(s^2), |s| <= 1; error {ec:.2g}", "f")
    n, d, e = central_float32()
    put("kCentralN", n, f"z = (p - q) N(y)/D(y), y = sqrt(pq) >= sqrt(0.00069); error of z {e:.2g}", "f")
    put("kCentralD", d, "D(y) of the above", "f")
    n, d, e = tail_float32()
    put("kTailN", n, f"-z = r - N(r)/D(r), r = sqrt(-2 ln t) in [3.75, 14.1]; error of z {e:.2g}", "f")
    put("kTailD", d, "D(r) of the above", "f")
    (lo, el), (s, es), (co, ec) = float64_sets()
    put(
        "kLog64",
        lo,
        f"ln m = 2 s + s^3 P(s^2), s = (m - 1)/(m + 1), 1/sqrt(2) <= m <= sqrt(2); error of P {el:.2g}",
        "",
    )
    put("kMinusSin64", [-v for v in s], f"-sin(pi/2 s) = s P(s^2), |s| <= 1; error {es:.2g}", "")
    put("kCos64", co, f"cos(pi/2 s) = P(s^2), |s| <= 1; error {ec:.2g}", "")
    return "\n".join([*lines, "", "}  // namespace fastinit::coefficients", ""])


if __name__ == "__main__":
    text = render()
    if "--check" in sys.argv:
        sys.exit(0 if HEADER.read_text() == text else "coefficients.h differs from what this script writes")
    HEADER.write_text(text)
