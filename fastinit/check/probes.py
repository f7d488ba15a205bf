"""Whether values are of their law: a probe sees every element once, in order, and then says what is wrong."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fastinit.check.bounds import all_equal, binomial_limit, ks_limit, limits
from fastinit.check.distributions import Distribution, moments_of, nearest_in_window
from fastinit.check.measure import SAMPLE, Gather, Statistics, evenly, workable
from fastinit.laws import KEYLESS, Law

# What can be wrong by chance in one tensor: mean, std (on two sides), the farthest value, all values equal, the
# distribution function, and the number of zeros of sparse; of orthogonal, the sums of roundings.
TESTS = 7
_VECTORS = 256  # of an orthogonal matrix, whose products are looked at
_PRODUCTS = 2**22  # elements of those vectors


class Probe:
    """The base of all, and the probe where no law is known: nothing can be wrong."""

    ks: float | None = None

    def __init__(self, note: str = "") -> None:
        self.note = note

    def add(self, first: int, values: Tensor) -> None:
        """See the elements from number `first` on, in the type that the tensor has (float8: as float32)."""

    def faults(self, statistics: Statistics, alpha: float) -> Iterator[str]:
        """Yield what is wrong with finite values; `alpha` is the false-alarm rate of each test by chance."""
        return iter(())


class _Constant(Probe):
    def __init__(self, value: float, dtype: torch.dtype) -> None:
        super().__init__()
        self._value = workable(torch.tensor(value, dtype=dtype))
        self._different = 0

    def add(self, first: int, values: Tensor) -> None:
        different = values != self._value
        if self._value.isnan():
            different = ~values.isnan()
        self._different += int(different.sum())

    def faults(self, statistics: Statistics, alpha: float) -> Iterator[str]:
        if self._different:
            yield f"{self._different:,} elements are not {self._value.item():.6g}"


class _Ones(Probe):
    """Ones at given places and zeros elsewhere."""

    def __init__(self, places: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self._ones = Gather(places, dtype)
        self._nonzero = 0

    def add(self, first: int, values: Tensor) -> None:
        self._ones.add(first, values)
        self._nonzero += int(values.count_nonzero())

    def faults(self, statistics: Statistics, alpha: float) -> Iterator[str]:
        wrong = int((self._ones.values != 1).sum())
        if wrong:
            yield f"{wrong:,} of the {self._ones.values.numel():,} ones are not 1"
        # What is not 1 where a one belongs may be zero, or may not.
        elsewhere = self._nonzero - int(self._ones.values.count_nonzero())
        if elsewhere:
            yield f"{elsewhere:,} elements are not 0"


class _Independent(Probe):
    def __init__(self, law: Law, dtype: torch.dtype, count: int) -> None:
        super().__init__()
        self._law, self._dtype = law, dtype
        self._sample = Gather(evenly(count, SAMPLE), dtype)

    def add(self, first: int, values: Tensor) -> None:
        self._sample.add(first, values)

    def faults(self, statistics: Statistics, alpha: float) -> Iterator[str]:
        distribution = Distribution(self._law)
        yield from self._outside(statistics, distribution)
        yield from self._compared(statistics, distribution, self._sample.values, alpha)

    def _outside(self, statistics: Statistics, distribution: Distribution) -> Iterator[str]:
        ends = torch.tensor([distribution.low, distribution.high], dtype=torch.float64)
        # In the torch stream an end may be rounded to the type, and reached.
        low, high = ends.to(self._dtype).double().tolist()
        if statistics.min < min(low, distribution.low):
            yield f"min {statistics.min:.6g} is below {distribution.low:.6g}"
        if statistics.max > max(high, distribution.high):
            yield f"max {statistics.max:.6g} is above {distribution.high:.6g}"

    def _compared(
        self, statistics: Statistics, distribution: Distribution, sample: Tensor, alpha: float, uncertain: float = 0.0
    ) -> Iterator[str]:
        """Compare with the law; `uncertain`: the part of all values that may have gone from zero to its neighbours."""
        moments = moments_of(self._law, self._dtype)
        if moments is None:
            yield f"{self._dtype} has no numbers where the law has values"
            return
        limit = limits(distribution, moments, self._dtype, statistics.count, alpha)
        apart = abs(statistics.mean - moments.mean)
        if apart > limit.mean + uncertain * moments.std:
            yield f"mean {statistics.mean:.6g} is not within {moments.mean:.6g} ± {limit.mean:.2g}"
        wider = 1 + uncertain
        if statistics.rms(moments.mean) < limit.low / wider or statistics.std > limit.high * wider:
            yield f"std {statistics.std:.6g} is not within [{limit.low:.6g}, {limit.high:.6g}]"
        reach = max(distribution.loc - statistics.min, statistics.max - distribution.loc)
        if reach > limit.farthest:
            yield f"a value lies {reach / distribution.scale:.1f} std from the mean"
        value = statistics.min
        if value == statistics.max and all_equal(distribution, value, self._dtype, statistics.count) < alpha:
            yield f"all are {value:.6g}"
        if sample.numel():
            self.ks = distance(sample, distribution, self._dtype)
            most = ks_limit(distribution, self._dtype, sample.numel(), alpha) + uncertain
            if self.ks > most:
                yield f"KS distance {self.ks:.4f} is above {most:.4f}"


class _Sparse(_Independent):
    """In each column so many zeros, and normal values between them."""

    def __init__(self, law: Law, dtype: torch.dtype, shape: Sequence[int]) -> None:
        zeros, std, _, _ = law.numbers
        super().__init__(Law("normal", (0.0, std, 0.0, 0.0)), dtype, math.prod(shape))
        self._zeros, self._rows = int(zeros), shape[0]
        self._found = torch.zeros(shape[1], dtype=torch.int64)
        self._values = Statistics()

    def add(self, first: int, values: Tensor) -> None:
        super().add(first, values)
        zero = values == 0
        columns = (zero.nonzero().squeeze(1) + first) % self._found.numel()
        self._found += torch.bincount(columns, minlength=self._found.numel())
        self._values.add(values[~zero].double())

    def faults(self, statistics: Statistics, alpha: float) -> Iterator[str]:
        few = int((self._found < self._zeros).sum())
        if few:
            yield f"{few:,} columns have fewer than {self._zeros:,} zeros"
        more = int((self._found - self._zeros).clamp_(min=0).sum())
        drawn = (self._rows - self._zeros) * self._found.numel()
        distribution = Distribution(self._law) if self._law.numbers[1] else None
        # A drawn value may round to zero: the keyed stream moves it to its neighbour, torch leaves it.
        rounded = 1.0
        if distribution is not None:
            below, to = distribution.rounded_cdf(torch.zeros(1, dtype=torch.float64), self._dtype)
            rounded = (to - below).item()
        if more > binomial_limit(drawn, rounded, alpha):
            yield f"{more:,} zeros are there beyond {self._zeros:,} a column"
        if distribution is not None and self._values.count:
            sample = self._sample.values[self._sample.values != 0]
            # At most that part of the values is missing from the others, or stands beside zero.
            yield from self._compared(self._values, distribution, sample, alpha, rounded / max(1 - rounded, 1e-9))


class _Orthogonal(Probe):
    """Rows or columns, whichever are no more than the others, of length `gain` and at right angles."""

    def __init__(self, gain: float, dtype: torch.dtype, shape: Sequence[int]) -> None:
        super().__init__()
        self._gain, self._dtype = gain, dtype
        rows, columns = shape[0], math.prod(shape[1:])
        self._wide = rows <= columns
        self._vectors, self._length = (rows, columns) if self._wide else (columns, rows)
        chosen = evenly(self._vectors, max(2, min(_VECTORS, _PRODUCTS // max(1, self._length))))
        along = torch.arange(self._length)
        places = (
            chosen.unsqueeze(1) * columns + along if self._wide else along.unsqueeze(1) * columns + chosen
        )  # in order either way
        self._shape = places.shape
        self._gather = Gather(places.reshape(-1), dtype)
        if chosen.numel() < self._vectors:
            self.note = f"products of {chosen.numel()} of its {self._vectors:,} vectors"

    def add(self, first: int, values: Tensor) -> None:
        self._gather.add(first, values)

    def faults(self, statistics: Statistics, alpha: float) -> Iterator[str]:
        matrix = self._gather.values.reshape(self._shape).double()
        vectors = matrix if self._wide else matrix.mT
        square = self._gain**2
        off = (vectors @ vectors.mT - square * torch.eye(len(vectors), dtype=torch.float64)).abs()
        most = self._tolerance()
        limit = torch.full_like(off, most)
        # Between two different vectors, roundings up and down cancel as a sum of numbers that are independent and
        # bounded by half an eps of a product each (Hoeffding); of float8, that is much less than most.
        squares = vectors.square()
        spread = (squares @ squares.mT).mul_(2 * math.log(2 * off.numel() / alpha)).sqrt_()
        together = spread.mul_(torch.finfo(self._dtype).eps * 1.2).add_(self._computed())
        limit = torch.minimum(limit, together.fill_diagonal_(most))
        if (off > limit).any():
            yield f"|QᵀQ - gain²| reaches {off.max().item():.2g}, above {limit[off > limit].min().item():.2g}"
        total = statistics.count * statistics.rms(0.0) ** 2
        if abs(total - self._vectors * square) > self._vectors * most:
            yield f"the squares of all elements add up to {total:.6g}, not {self._vectors * square:.6g}"

    def _tolerance(self) -> float:
        # Of a product of two vectors of length `gain` whose elements are off by half an eps of themselves (Cauchy and
        # Schwarz).
        return 1.1 * self._gain**2 * torch.finfo(self._dtype).eps + self._computed()

    def _computed(self) -> float:
        # Of a factorisation in float32, or in float64 of float64, and of numbers so small that they round to multiples
        # of the smallest one.
        about = torch.finfo(self._dtype)
        eps = torch.finfo(torch.float64 if self._dtype is torch.float64 else torch.float32).eps
        root, gain = math.sqrt(self._length), abs(self._gain)
        return root * gain * (16 * eps * gain + about.smallest_normal * about.eps)


def probe_of(law: Law | None, dtype: torch.dtype, shape: Sequence[int], count: int) -> Probe:
    """Return the probe of a tensor of this shape, of which `count` elements are its own and others those of parts."""
    if law is None or not count:
        return Probe()
    if not dtype.is_floating_point and law.kind not in KEYLESS:
        return Probe(f"{law.kind} is not checked of {dtype}")
    first, second, low, high = law.numbers
    if law.kind in ("eye", "dirac", "sparse", "orthogonal"):
        if count < math.prod(shape):
            return Probe(f"{law.kind} is not checked: parts are written over it, or only some of it is here")
        return _structured(law, dtype, shape)
    if law.kind == "constant":
        return _Constant(first, dtype)
    if law.kind == "uniform":
        nearest = torch.tensor(first, dtype=dtype).item()
        return _Constant(first, dtype) if first == second or nearest >= second else _Independent(law, dtype, count)
    if law.kind == "normal" and second == 0:
        return _Constant(first, dtype)
    if law.kind == "trunc_normal" and (second == 0 or low == high):
        return _Constant(nearest_in_window(min(max(first, low), high), low, high, dtype), dtype)
    return _Independent(law, dtype, count)


def _structured(law: Law, dtype: torch.dtype, shape: Sequence[int]) -> Probe:
    if law.kind == "sparse":
        return _Sparse(law, dtype, shape)
    if law.kind == "orthogonal":
        return _Orthogonal(law.numbers[0], dtype, shape)
    if law.kind == "eye":
        return _Ones(torch.arange(min(shape)) * (shape[1] + 1), dtype)
    groups, taps = int(law.numbers[0]), math.prod(shape[2:])
    outputs = shape[0] // groups
    channel = torch.arange(min(outputs, shape[1]))
    centre = 0
    for size in shape[2:]:
        centre = centre * size + size // 2
    rows = torch.arange(groups).unsqueeze(1) * outputs + channel
    return _Ones((rows * shape[1] + channel).reshape(-1) * taps + centre, dtype)


def distance(sample: Tensor, distribution: Distribution, dtype: torch.dtype) -> float:
    """Return the largest distance between the sample's distribution function and the law's, rounded to `dtype`."""
    values, counts = torch.unique_consecutive(sample.sort().values, return_counts=True)
    values = values.double()
    to = counts.cumsum(0).double() / sample.numel()
    law_below, law_to = distribution.rounded_cdf(values, dtype)
    below = to - counts / sample.numel()
    largest: float = torch.maximum((to - law_to).abs(), (below - law_below).abs()).max().item()
    return largest
