"""Statistical tests of a sample against a law that is known exactly. Each returns {name: p-value}.

A sample is flagged when any of its p-values is below ALPHA. With at most TESTS p-values in a run, the chance
that a perfect generator is flagged anywhere is below FAMILY (Bonferroni). Seeds are fixed, so a run that
passes keeps passing: FAMILY is the chance that a change to the numbers, right in itself, has to explain a
failure. ALPHA is 6.3 standard deviations; the negative controls show what that still catches.

A sample is the array of its values, or, where a law is discrete, its atoms and how often each occurs.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from reference import representable
from scipy.special import bdtr, bdtrc, chdtr, chdtrc, kolmogorov, ndtr

FAMILY = 1e-6
TESTS = 5000
ALPHA = FAMILY / TESTS


class Law(NamedTuple):
    """A distribution: E g(X) = sum(weights * g(points)), exact for the polynomials used here."""

    points: NDArray[np.float64]  # the atoms of a discrete law, the quadrature nodes of a continuous one
    weights: NDArray[np.float64]
    cdf: Callable[[NDArray], NDArray]  # P(X <= x)
    discrete: bool = False

    def expect(self, g: Callable[[NDArray], NDArray]) -> float:
        return float(np.sum(self.weights * g(self.points)))


def _continuous(density: Callable[[NDArray], NDArray], low: float, high: float, cdf: Callable) -> Law:
    nodes, weights = np.polynomial.legendre.leggauss(256)
    points = (low + high) / 2 + (high - low) / 2 * nodes
    weights = weights * density(points)
    return Law(points, weights / weights.sum(), cdf)


def uniform_law(a: float, b: float) -> Law:
    return _continuous(np.ones_like, a, b, lambda x: np.clip((x - a) / (b - a), 0, 1))


def normal_law(mean: float, std: float, a: float = -np.inf, b: float = np.inf) -> Law:
    """Normal on [a, b]; the probabilities of a window above the mean come from the upper tail."""
    low, high = (a - mean) / std, (b - mean) / std
    mass = ndtr(high) - ndtr(low) if low < 0 else ndtr(-low) - ndtr(-high)

    def cdf(x: NDArray) -> NDArray:
        z = np.clip((x - mean) / std, low, high)
        return (ndtr(z) - ndtr(low) if low < 0 else ndtr(-low) - ndtr(-z)) / mass

    ends = mean + std * max(low, -12.0), mean + std * min(high, 12.0)
    return _continuous(lambda x: np.exp(-(((x - mean) / std) ** 2) / 2), *ends, cdf)


def _atoms(points: NDArray, weights: NDArray) -> Law:
    total = np.concatenate([[0.0], np.cumsum(weights)])
    return Law(points, weights, lambda x: total[np.searchsorted(points, x, side="right")], discrete=True)


def rounded_law(law: Law, dtype: torch.dtype, low: float, high: float) -> Law:
    """`law` rounded to the nearest value of a narrow type, those outside [low, high] moved to its ends."""
    points = representable(dtype)
    points = points[(points >= low) & (points <= high)]
    weights = np.diff(law.cdf((points[1:] + points[:-1]) / 2), prepend=0.0, append=1.0)
    first, last = np.flatnonzero(weights)[[0, -1]]
    return _atoms(points[first : last + 1], weights[first : last + 1])


def counted_law(values: torch.Tensor) -> Law:
    """The law that draws one of `values`, each as often as it stands there."""
    points = representable(values.dtype)
    counts = tally(values, points)
    return _atoms(points[counts > 0], counts[counts > 0] / values.numel())


def tally(sample: torch.Tensor, points: NDArray) -> NDArray[np.int64]:
    """How often each of the sorted `points` occurs in a sample of a 16- or 8-bit type; -0 counts as 0."""
    bits = 8 * sample.dtype.itemsize
    counts = np.bincount(sample.view(torch.uint8 if bits == 8 else torch.uint16).numpy(), minlength=2**bits)
    patterns = np.arange(2**bits, dtype=f"uint{bits}").view(f"int{bits}")
    values = torch.from_numpy(patterns).view(sample.dtype).double().numpy()
    known = np.isin(values, points)
    result = np.zeros(len(points), np.int64)
    np.add.at(result, np.searchsorted(points, values[known]), counts[known])
    return result


def _two_sided(z: float) -> float:
    return float(2 * ndtr(-abs(z)))


def _binomial(count: int, n: int, p: float) -> float:
    return float(min(1.0, 2 * min(bdtr(count, n, p), bdtrc(count - 1, n, p) if count else 1.0)))


def moments(x: NDArray, law: Law, counts: NDArray | None = None) -> dict[str, float]:
    """Means of y, y^2, y^3, y^4, standardised, each with its exact standard error."""
    n = x.size if counts is None else counts.sum()
    mean = law.expect(lambda v: v)
    std = law.expect(lambda v: (v - mean) ** 2) ** 0.5
    y, power, result = (x - mean) / std, np.ones_like(x), {}
    for k in range(1, 5):
        power *= y
        expected, square = (law.expect(lambda v, j=j: ((v - mean) / std) ** j) for j in (k, 2 * k))
        error = ((square - expected**2) / n) ** 0.5
        result[f"moment {k}"] = _two_sided((np.average(power, weights=counts) - expected) / error)
    return result


def kolmogorov_smirnov(x: NDArray, law: Law, counts: NDArray | None = None) -> dict[str, float]:
    """Largest distance between the distribution functions; of a discrete law the p-value is a bound."""
    if counts is None:
        n, u = x.size, law.cdf(np.sort(x))
        steps = np.arange(n + 1) / n
        distance = max((u - steps[:-1]).max(), (steps[1:] - u).max())
    else:
        n = counts.sum()
        distance = np.abs(np.cumsum(counts) / n - law.cdf(x)).max()
    return {"ks": float(kolmogorov(distance * n**0.5))}


def tails(x: NDArray, law: Law, thresholds: Sequence[float], counts: NDArray | None = None) -> dict[str, float]:
    """How many values lie at or below each threshold, against the binomial law; the rarer side is tested."""
    n = x.size if counts is None else counts.sum()
    result = {}
    for t in thresholds:
        below = np.count_nonzero(x <= t) if counts is None else counts[x <= t].sum()
        p = float(law.cdf(np.float64(t)))
        count, p = (below, p) if p < 0.5 else (n - below, 1 - p)
        result[f"tail {t:.6g}"] = _binomial(int(count), int(n), p)
    return result


def serial(x: NDArray, law: Law, lags: Sequence[int] = (1, 2, 3, 4, 8, 1024)) -> dict[str, float]:
    """Correlation of a sequence with itself, and of its squares with themselves, some places further on."""
    mean = law.expect(lambda v: v)
    variance = law.expect(lambda v: (v - mean) ** 2)
    y = x - mean
    y /= variance**0.5
    fourth = law.expect(lambda v: (v - mean) ** 4) / variance**2
    squares = y * y
    squares -= 1
    result = {}
    for name, series, scale in (("values", y, 1.0), ("squares", squares, fourth - 1)):
        if scale < 1e-9:  # a law on two points: its squares are constant
            continue
        for lag in lags:
            z = series[lag:] @ series[:-lag] / scale / (x.size - lag) ** 0.5
            result[f"serial {name} {lag}"] = _two_sided(z)
    return result


def cross(streams: Sequence[NDArray], law: Law, shifts: Sequence[int] = (0, 1, 2, 3, 4, 8)) -> dict[str, float]:
    """Correlation between each two streams, aligned and shifted either way."""
    mean = law.expect(lambda v: v)
    std = law.expect(lambda v: (v - mean) ** 2) ** 0.5
    y, result = [(x - mean) / std for x in streams], {}
    for i, first in enumerate(y):
        for j, second in enumerate(y):
            for shift in shifts if i != j else ():
                if i < j or shift:
                    z = first[shift:] @ second[: second.size - shift] / (first.size - shift) ** 0.5
                    result[f"cross {i} {j} {shift}"] = _two_sided(z)
    return result


def fair_bits(integers: NDArray, bits: Sequence[int]) -> dict[str, float]:
    """Each bit is set in half of the values."""
    n, one = integers.size, integers.dtype.type(1)
    ones = {bit: int(np.count_nonzero(integers & (one << integers.dtype.type(bit)))) for bit in bits}
    return {f"bit {bit}": _two_sided((count - n / 2) / (n / 4) ** 0.5) for bit, count in ones.items()}


def distinct(counts: NDArray, law: Law) -> dict[str, float]:
    """How many of the atoms occur: a sum of negatively associated indicators, so Chernoff's bound holds."""
    n = counts.sum()
    absent = np.exp(n * np.log1p(-np.minimum(law.weights, 1 - 1e-16)))
    result = {}
    for name, expected, seen in (
        ("absent", absent.sum(), np.count_nonzero(counts == 0)),
        ("present", (1 - absent).sum(), np.count_nonzero(counts)),
    ):
        exponent = seen - expected - (seen * np.log(seen / expected) if seen else 0.0)
        result[f"distinct {name}"] = float(min(1.0, 2 * np.exp(exponent)))
    return result


def chi_square(counts: NDArray, law: Law, least: float = 50.0) -> dict[str, float]:
    """Pearson's test, two-sided; neighbouring atoms are merged until a cell expects `least`."""
    n, groups = counts.sum(), np.zeros(len(law.weights), np.int64)
    group, filled = 0, 0.0
    for i, expected in enumerate(n * law.weights):
        groups[i] = group
        filled += expected
        if filled >= least:
            group, filled = group + 1, 0.0
    groups = np.minimum(groups, max(group - 1, 0))  # what is left at the end joins the last full cell
    expected = np.bincount(groups, n * law.weights)
    observed = np.bincount(groups, counts)
    freedom, statistic = len(expected) - 1, float(np.sum((observed - expected) ** 2 / expected))
    p = 1.0 if freedom == 0 else 2 * min(chdtr(freedom, statistic), chdtrc(freedom, statistic))
    return {"chi-square": float(min(1.0, p))}
