"""A job: one tensor that the ladder fills, and how run_jobs.cpp reads it."""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import torch

DTYPES = ("float32", "float64", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")


@dataclasses.dataclass(frozen=True)
class Job:
    """A tensor, which is the part of a tensor of shape `of` that begins at `start`, with any strides."""

    law: str  # of fastinit's functions, without the underscore
    numbers: tuple[float, ...]
    dtype: str
    shape: tuple[int, ...]
    key: tuple[int, int] = (0, 0)
    of: tuple[int, ...] = ()
    start: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    misaligned: int = 0  # bytes of the data behind a multiple of 64
    tail: int = 0  # if not 0: only the last elements have memory; along dimension 0, or of a contiguous tensor
    golden: str = ""  # the frozen bytes, as hex

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    @property
    def item(self) -> int:
        return self.torch_dtype.itemsize

    @property
    def elements(self) -> int:
        """That have memory."""
        return self.tail or math.prod(self.shape)

    @property
    def whole_shape(self) -> tuple[int, ...]:
        return self.of or self.shape

    @property
    def first(self) -> tuple[int, ...]:
        return self.start or (0,) * len(self.shape)


@dataclasses.dataclass(frozen=True)
class Plan:
    name: str
    jobs: tuple[Job, ...]
    last_blocks: int = 0  # of each launch, if not all


# --- Layouts -------------------------------------------------------------------------------------------------------
def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(shape[d + 1 :]) for d in range(len(shape)))


def transposed(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(shape[:d]) for d in range(len(shape)))


def every_second_column(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(2 * stride for stride in contiguous(shape))


def rows_with_gaps(shape: Sequence[int]) -> tuple[int, ...]:
    return contiguous((*shape[:-1], shape[-1] + 5))


def channels_last(shape: Sequence[int]) -> tuple[int, ...]:
    n, c, *space = shape
    strides = contiguous((n, *space, c))
    return (strides[0], 1, *strides[1:-1])


LAYOUTS = {
    "transposed": transposed,
    "every second column": every_second_column,
    "rows with gaps": rows_with_gaps,
}


# --- As jobs.cpp does ----------------------------------------------------------------------------------------------
def dims_of(job: Job) -> tuple[int, list[tuple[int, int, int]]]:
    """The index of the first element, and each dimension's size, stride in memory and stride of the index."""
    strides = job.strides or contiguous(job.shape)
    is_whole, is_contiguous = job.whole_shape == job.shape, strides == contiguous(job.shape)
    if is_whole and is_contiguous and (job.tail or job.law not in ("eye", "dirac")):
        return 0, [(math.prod(job.shape), 1, 1)]
    steps = contiguous(tuple(max(n, 1) for n in job.whole_shape))
    first = sum(s * step for s, step in zip(job.first, steps, strict=True))
    is_dense = sorted(strides) == sorted(contiguous(job.shape)) or strides == transposed(job.shape)
    if job.law in ("constant", "eye", "dirac") and is_whole and is_dense:
        steps = strides  # one dense run
    return first, list(zip(job.shape, strides, steps, strict=True))


def diagonal_of(job: Job, dims: list[tuple[int, int, int]]) -> list[int]:
    sizes, groups = job.whole_shape, int(job.numbers[0]) if job.numbers else 1
    one = int.from_bytes(bytes_of(1.0, job.torch_dtype), "little")
    steps = contiguous(sizes) if job.tail else [step for _, _, step in dims]  # with a tail it is one run
    rows = sizes[0] // groups
    first = sum(n // 2 * step for n, step in zip(sizes[2:], steps[2:], strict=True))
    return [one, first, max(1, steps[0] + steps[1]), min(rows, sizes[1]), max(1, rows * steps[0]), groups]


def bytes_of(value: float, dtype: torch.dtype) -> bytes:
    return torch.full((1,), value, dtype=torch.float64).to(dtype).view(torch.uint8).numpy().tobytes()


def line(job: Job) -> str:
    first, dims = dims_of(job)
    if job.law == "constant":
        law = ["constant", int.from_bytes(bytes_of(job.numbers[0], job.torch_dtype), "little")]
    elif job.law in ("eye", "dirac"):
        law = ["diagonal", *diagonal_of(job, dims)]
    elif job.law == "sparse":
        zeros, std = job.numbers
        law = ["sparse", *job.whole_shape, int(zeros), job.first[1], job.shape[1], std.hex()]
    else:
        law = [job.law, *(x.hex() for x in job.numbers)]
    place = [*job.key, first % 2**64, job.misaligned, job.tail, len(dims)]
    return " ".join(map(str, ["job", job.dtype, *place, *itertools.chain(*dims), *law]))


def lines(of: Sequence[Plan]) -> str:
    text = []
    for plan in of:
        text += [f"plan {plan.name} {plan.last_blocks}", *map(line, plan.jobs)]
    return "\n".join(text) + "\n"
