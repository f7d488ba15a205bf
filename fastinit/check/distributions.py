"""The laws whose elements are drawn one by one, as distributions: of the values as they stand after rounding to a type.

A rounded value v stands for all that lies nearer to it than to its neighbours, so the distribution function of rounded
values is known exactly from that of the law, and nothing here has to allow for rounding.
"""

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from fastinit.laws import Law

_CELLS = 2**14  # of the grid on which the moments of a wide type are summed: their error is 1e-7 of the law's std
_REACH = 9.0  # standard deviations beyond which a normal law has no mass that float64 sums could see
_NARROW = 1e-4  # a window of fewer standard deviations has a level density (and is filled as if it had)


class Moments(NamedTuple):
    mean: float
    std: float
    fourth: float  # fourth central moment
    farthest: float  # largest distance of a value from the mean; may be infinite


class Distribution:
    """Uniform on [low, high), or normal with mean `loc` and standard deviation `scale`, truncated to [low, high]."""

    def __init__(self, law: Law) -> None:
        first, second, low, high = law.numbers
        self.normal = law.kind != "uniform"
        self.low, self.high = (-math.inf, math.inf) if law.kind == "normal" else (first, second)
        self.open = law.kind == "uniform"  # high is no value of its own
        if law.kind == "trunc_normal":
            self.low, self.high = low, high
            self.normal = high - low >= _NARROW * second
        self.loc, self.scale = (first, second) if self.normal else (self.low, self.high - self.low)
        # In units of the scale, from the mean of the normal law or the begin of the uniform one.
        self._low, self._high = (self.low - self.loc) / self.scale, (self.high - self.loc) / self.scale
        # The difference of two numbers near 1 keeps no digits: a window above the mean is mirrored to lie below it.
        self._mirrored = self.normal and self._low > 0
        if self._mirrored:
            self._low, self._high = -self._high, -self._low
        self._below = _normal_cdf(self._low) if self.normal else 0.0
        self._mass = _normal_cdf(self._high) - self._below if self.normal else 1.0

    def cdf(self, x: Tensor, more: Tensor | float = 0.0) -> Tensor:
        """Return P(value <= x + more), for float64 x; `more` may be smaller than float64 tells x apart by."""
        z = ((x - self.loc) + more) / self.scale
        if not self.normal:
            return z.clamp(0.0, 1.0)
        z = (-z if self._mirrored else z).clamp_(self._low, self._high)
        below: Tensor = torch.special.erfc(z.mul_(-math.sqrt(0.5))).mul_(0.5).sub_(self._below).div_(self._mass)
        return 1 - below if self._mirrored else below

    def density(self, x: Tensor) -> Tensor:
        if not self.normal:
            level = torch.full_like(x, 1 / self.scale)
        else:
            z = (x - self.loc) / self.scale
            level = torch.exp(-0.5 * z * z) / (math.sqrt(2 * math.pi) * self.scale * self._mass)
        return level.where((x >= self.low) & (x <= self.high), torch.zeros(()))

    def rounded_cdf(self, values: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return P(value < v) and P(value <= v) after rounding to `dtype`, for float64 `values` of that type."""
        down, up = _gaps(values, dtype)
        below, to = self.cdf(values, -0.5 * down), self.cdf(values, 0.5 * up)
        # What would be rounded out of the window is the last value in it. A uniform law's begin is rounded itself.
        below.masked_fill_(self._beyond(values), 1.0)
        to.masked_fill_(self._beyond(values + up), 1.0)
        if not self.open:
            below.masked_fill_(values - down < self.low, 0.0)
            to.masked_fill_(values < self.low, 0.0)
        return below, to

    def _beyond(self, values: Tensor) -> Tensor:
        return values >= self.high if self.open else values > self.high

    def grid(self) -> tuple[Tensor, Tensor]:
        """Return the middles of fine cells over all of the law's mass, and the cells' probabilities."""
        low, high = self._low, self._high
        if self.normal:  # a window below the mean: the density falls by exp(-40) within 40 / |high| of its end
            low = max(low, -_REACH if high > -1 else high + 40 / high)
            high = min(high, _REACH)
        edges = torch.linspace(low, high, _CELLS + 1, dtype=torch.float64)
        below = torch.special.erfc(edges * -math.sqrt(0.5)) if self.normal else edges
        middles = (edges[1:] + edges[:-1]) / 2
        return -middles if self._mirrored else middles, below.diff()


@functools.lru_cache(maxsize=1024)  # a model has few laws, and those of narrow types cost a sum over all their numbers
def moments_of(law: Law, dtype: torch.dtype) -> Moments | None:
    """Return the moments of the law's values after rounding to `dtype`; None if its numbers reach none of them."""
    about = Distribution(law)
    if dtype.itemsize <= 2:
        values = _all_values(dtype)
        below, to = about.rounded_cdf(values, dtype)
        z, weights = (values - about.loc) / about.scale, to - below
    else:
        z, weights = about.grid()
    if not weights.sum() > 0:
        return None
    weights = weights / weights.sum()
    mean = (z * weights).sum()
    squares = (z - mean).square_()
    variance, fourth = (squares * weights).sum(), (squares.square() * weights).sum()
    values = about.loc + about.scale * z[weights > 0]
    ends = (about.low, about.high) if dtype.itemsize > 2 else (values.min().item(), values.max().item())
    # What the sum leaves of a mean of zero is rounding, and would be told as the law's mean.
    centre = about.loc + about.scale * (mean.item() if abs(mean) > 1e-12 else 0.0)
    return Moments(
        centre,
        about.scale * math.sqrt(variance.item()),
        about.scale**4 * fourth.item(),
        math.inf if about.low == -math.inf else max(centre - ends[0], ends[1] - centre),
    )


def nearest_in_window(value: float, low: float, high: float, dtype: torch.dtype) -> float:
    """Return the number of the type that `value` becomes where it must stay within [low, high]."""
    rounded = torch.tensor([value], dtype=dtype).double()
    down, up = _gaps(rounded, dtype)
    if rounded < low:
        rounded += up
    elif rounded > high:
        rounded -= down
    number: float = rounded.item()
    return number


def _normal_cdf(z: float) -> float:
    return 0.5 * math.erfc(-z * math.sqrt(0.5))


def _gaps(values: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return how far below and above each value its neighbour of the type lies."""
    about = torch.finfo(dtype)
    size = values.abs()
    power = torch.ldexp(torch.ones_like(size), torch.frexp(size).exponent - 1)
    power = power.masked_fill_(size == 0, 0.0).clamp_(min=about.smallest_normal)
    outer = power * about.eps
    inner = outer.where((size != power) | (size == about.smallest_normal), outer / 2)
    negative = values < 0
    return outer.where(negative | (values == 0), inner), inner.where(negative, outer)


@functools.cache
def _all_values(dtype: torch.dtype) -> Tensor:
    """Return every finite number of an 8-bit or 16-bit type, in order, as float64."""
    bits = 8 * dtype.itemsize
    patterns = torch.arange(2**bits).to(torch.uint8 if bits == 8 else torch.uint16)
    values = patterns.view(dtype).double()
    distinct: Tensor = torch.unique_consecutive(values[values.isfinite()].sort().values)
    return distinct
