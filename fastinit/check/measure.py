"""Statistics of one tensor in one pass over its elements, in pieces: what stays in memory does not grow with it."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product

import torch
from torch import Tensor

PIECE = 2**20  # elements looked at together: 8 MiB as float64, a few times over
SAMPLE = 2**20  # elements whose distribution function is looked at
_GOLDEN = (math.sqrt(5) - 1) / 2

# What a part takes of a tensor: an entry, a slice or chosen entries of each of its first dimensions, all of the others.
At = tuple[int | slice | Tensor, ...]

# read((i, j), start, stop): the view [i, j, start:stop] of a tensor, or a copy of it on the CPU.
Read = Callable[[tuple[int, ...], int, int], Tensor]


class Statistics:
    """Count, mean, spread and extremes of the finite elements, and how many are not finite."""

    def __init__(self) -> None:
        self.count = self.nans = self.infinities = 0
        self.mean = self._squares = 0.0  # sum of the squared distances from the mean
        self.min, self.max = math.inf, -math.inf

    def add(self, values: Tensor) -> None:
        """Take account of more elements; `values` is float64, and its content is lost."""
        if not math.isfinite(values.sum().item()):
            nans, infinities = int(values.isnan().sum()), int(values.isinf().sum())
            self.nans += nans
            self.infinities += infinities
            values = values[values.isfinite()]
        count = values.numel()
        if not count:
            return
        low, high = values.aminmax()
        self.min, self.max = min(self.min, low.item()), max(self.max, high.item())
        # Chan, Golub and LeVeque: exact to rounding however far the mean lies from zero.
        mean = values.mean().item()
        values -= mean
        apart, total = mean - self.mean, self.count + count
        self._squares += torch.dot(values, values).item() + apart * apart * self.count * count / total
        self.mean += apart * count / total
        self.count = total

    @property
    def std(self) -> float:
        return self.rms(self.mean)

    def rms(self, centre: float) -> float:
        """Return the root of the mean square distance from `centre`."""
        return math.sqrt(self._squares / self.count + (self.mean - centre) ** 2) if self.count else 0.0


class Gather:
    """The elements at chosen places, which are numbers in order of the elements as they come."""

    def __init__(self, places: Tensor, dtype: torch.dtype) -> None:
        self.places = places
        self.values = workable(torch.empty(places.numel(), dtype=dtype))

    def add(self, first: int, values: Tensor) -> None:
        begin, end = torch.searchsorted(self.places, torch.tensor([first, first + values.numel()])).tolist()
        self.values[begin:end] = values[self.places[begin:end] - first]


def evenly(count: int, most: int) -> Tensor:
    """Return the places of one element in each of `most` equal stretches of `count`, or of all where there are fewer.

    Where in its stretch moves on by the golden section: places of one distance could all lie in the same few columns.
    """
    if count <= most:
        return torch.arange(count)
    # What count is larger than its multiples of `most` by goes to the last stretches, one each.
    length, longer = divmod(count, most)
    stretch = torch.arange(most)
    begin = stretch * length + (stretch - (most - longer)).clamp_(min=0)
    within = (stretch * _GOLDEN).frac_()
    return begin + (within * length).long()


def workable(values: Tensor) -> Tensor:
    """Return float8 values as float32, which are the same: torch neither sorts nor counts the narrow ones."""
    return values.float() if values.is_floating_point() and values.itemsize == 1 else values


def reader(tensor: Tensor) -> Read:
    whole = tensor.detach().reshape(1) if tensor.dim() == 0 else tensor.detach()
    return lambda prefix, start, stop: whole[prefix][start:stop].cpu().resolve_conj()


def pieces(shape: Sequence[int]) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Cut a tensor of one dimension or more, in order, into pieces [*prefix, start:stop] of PIECE elements or fewer."""
    dim = next(dim for dim in range(len(shape)) if math.prod(shape[dim + 1 :]) <= PIECE)
    step = max(1, PIECE // max(1, math.prod(shape[dim + 1 :])))
    for prefix in product(*map(range, shape[:dim])):
        for start in range(0, shape[dim], step):
            yield prefix, start, min(start + step, shape[dim])


def taken_along(part: At, shape: Sequence[int]) -> list[Tensor]:
    """Return for each dimension which of its entries the part has."""
    along = [torch.zeros(size, dtype=torch.bool) for size in shape]
    for taken, entry in zip(along, (*part, *[slice(None)] * (len(shape) - len(part))), strict=True):
        taken[entry] = True
    return along


class Places:
    """Which elements of a tensor a part takes: along each dimension, the entries that it has."""

    def __init__(self, index: At, shape: Sequence[int]) -> None:
        self._taken = taken_along(index, shape)

    def within(self, prefix: tuple[int, ...], start: int, stop: int) -> Tensor | None:
        """Return where in a piece its elements are; None where it has none."""
        if not all(taken[entry] for taken, entry in zip(self._taken, prefix, strict=False)):
            return None
        mask = self._taken[len(prefix)][start:stop]
        if not mask.any():
            return None
        for taken in self._taken[len(prefix) + 1 :]:
            mask = mask.unsqueeze(-1) & taken  # of the piece's shape
        return mask

    def hold(self, places: Sequence[Tensor]) -> Tensor:
        """Return which of the elements at these places, given dimension by dimension, are the part's."""
        held = torch.ones(len(places[0]), dtype=torch.bool)
        for taken, entries in zip(self._taken, places, strict=True):
            held &= taken[entries]
        return held


class Division:
    """A tensor's elements, each with the last of its parts that takes it, or with what no part takes."""

    def __init__(self, shape: Sequence[int], parts: Sequence[At]) -> None:
        self.shape = tuple(shape) or (1,)
        self._parts = [Places(index, self.shape) for index in parts]
        self.counts = [0] * (len(parts) + 1)
        if not parts:
            self.counts[0] = math.prod(self.shape)
            return
        for piece in pieces(self.shape):
            for which, mask in self._masks(piece):
                prefix, start, stop = piece
                whole = (stop - start) * math.prod(self.shape[len(prefix) + 1 :])
                self.counts[which] += whole if mask is None else int(mask.sum())

    def split(self, read: Read) -> Iterator[tuple[int, Tensor]]:
        """Yield the elements in order: what no part takes with 0, the rest with the number of its part, from 1."""
        for piece in pieces(self.shape):
            values = read(*piece)
            for which, mask in self._masks(piece):
                yield which, values.reshape(-1) if mask is None else values[mask]

    def _masks(self, piece: tuple[tuple[int, ...], int, int]) -> Iterator[tuple[int, Tensor | None]]:
        """Yield what has elements in a piece, with where they are: None for everywhere."""
        free: Tensor | None = None
        for which in range(len(self._parts), 0, -1):
            mask = self._parts[which - 1].within(*piece)
            if mask is None:
                continue
            mine = mask if free is None else mask & free
            free = ~mask if free is None else free & ~mask
            if mine.all():
                yield which, None
                return
            yield which, mine
            if not free.any():
                return
        yield 0, free
