"""How far statistics of right values may lie from their law: bounds with a given false-alarm rate, for any sample size.

None is an approximation for large samples. The distance of Kolmogorov and Smirnov has the inequality of Dvoretzky,
Kiefer, Wolfowitz and Massart, which holds for rounded values too (the distance is then that at fewer points). Sums have
Bernstein's inequality where the values are bounded, Chernoff's for normal ones and sums of their squares (Laurent and
Massart), and for truncated ones, which are normal values moved closer together (Caffarelli), that of Gaussian
concentration; the smallest that holds is taken.
"""

import math
from typing import NamedTuple

import torch

from fastinit.check.distributions import Distribution, Moments


class Limits(NamedTuple):
    mean: float  # largest distance of the mean from the law's
    low: float  # of the root of the mean square distance from the law's mean
    high: float
    farthest: float  # of one value from the mean of a normal law before truncation


def ks_limit(distribution: Distribution, dtype: torch.dtype, sample: int, alpha: float) -> float:
    """Return the distance that a sample of right values exceeds with probability `alpha` at most."""
    return math.sqrt(math.log(2 / alpha) / (2 * sample)) + _lattice(distribution, dtype)


def limits(distribution: Distribution, moments: Moments, dtype: torch.dtype, count: int, alpha: float) -> Limits:
    """Return what `count` right values exceed with probability `alpha` at most, each limit by itself."""
    x = math.log(2 / alpha)
    eps = torch.finfo(dtype).eps
    normal = distribution.normal
    # Rounding moves a value by half an eps of itself, so it adds no more to a deviation.
    rounding = eps / 2 * (distribution.scale + abs(distribution.loc))
    scale = distribution.scale + rounding if normal else moments.std
    mean = scale * math.sqrt(2 * x / count)
    variance = moments.std**2
    below = _bernstein(x / count, moments.fourth - variance**2, variance)
    above = math.inf
    if moments.farthest < math.inf:
        mean = min(mean, _bernstein(x / count, variance, moments.farthest))
        above = variance + _bernstein(x / count, moments.fourth - variance**2, moments.farthest**2)
    if normal:
        above = min(above, (moments.std + scale * math.sqrt(2 * x / count)) ** 2)
        if math.isclose(distribution.low + distribution.high, 2 * distribution.loc) or moments.farthest == math.inf:
            # Truncated alike on both sides, a value is no farther from the mean than the normal one it was made of.
            above = min(above, scale**2 * (1 + 2 * math.sqrt(x / count) + 2 * x / count))
    # A wide type's rounding is in no moment: it moves each value by half an eps of the largest ones, and so the mean
    # and the root of the mean square by no more. Nor is torch's grid of narrow uniform values.
    moved = _lattice(distribution, dtype) * distribution.scale
    if dtype.itemsize > 2:
        moved = eps / 2 * (abs(moments.mean) + 8 * moments.std)
    central = normal and distribution.low < distribution.loc < distribution.high
    return Limits(
        mean + moved,
        max(0.0, math.sqrt(max(variance - below, 0.0)) - moved),
        math.sqrt(above) + moved,
        _farthest(scale, count, alpha) + rounding if central else math.inf,
    )


def all_equal(distribution: Distribution, value: float, dtype: torch.dtype, count: int) -> float:
    """Return a bound on the probability that `count` right values are all one number, as likely as `value` or less."""
    below, to = distribution.rounded_cdf(torch.tensor([value], dtype=torch.float64), dtype)
    # Draws lie on a grid of their own.
    likely = max((to - below).item(), 2.0**-24, _lattice(distribution, dtype))
    return math.exp(math.log(likely) * (count - (value != 0)))  # zero is looked for whatever the values are


def binomial_limit(count: int, probability: float, alpha: float) -> float:
    """Return what the number of hits in `count` tries exceeds with probability `alpha` at most."""
    x = math.log(1 / alpha)
    expected = count * probability
    return expected + x / 3 + math.sqrt((x / 3) ** 2 + 2 * expected * x)


def _bernstein(x: float, variance: float, largest: float) -> float:
    """Bound a mean's deviation from its expectation, for values that exceed theirs by `largest` at most."""
    linear = largest * x / 3
    return linear + math.sqrt(linear**2 + 2 * max(variance, 0.0) * x)


def _farthest(scale: float, count: int, alpha: float) -> float:
    # A window that reaches from the mean to here holds half of the normal law's mass or nearly, hence a factor of two
    # and a bit; a smaller one lets nothing come here. The other factor of two is for both sides.
    tail: float = torch.special.ndtri(torch.tensor(alpha / (8 * count), dtype=torch.float64)).item()
    return -scale * tail


def _lattice(distribution: Distribution, dtype: torch.dtype) -> float:
    """Return the step of the grid on which torch.nn.init.uniform_ draws for 16-bit types, on [0, 1)."""
    return torch.finfo(dtype).eps / 2 if not distribution.normal and dtype.itemsize == 2 else 0.0
