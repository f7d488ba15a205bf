"""Judges what run_jobs wrote by tests/reference.py, torch.nn.init and the golden vectors, which share no code
with csrc/."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import reference
import torch
from jobs import Job, Plan, contiguous


def indices(job: Job) -> np.ndarray:
    """The row-major position of each element in the whole tensor, modulo 2^64."""
    steps = contiguous(tuple(max(n, 1) for n in job.whole_shape))
    if job.tail:
        place = np.uint64(math.prod(job.shape) - job.tail) + np.arange(job.tail, dtype=np.uint64)
        if job.whole_shape == job.shape:
            return place
        return place * np.uint64(steps[0]) + np.uint64(sum(s * step for s, step in zip(job.first, steps, strict=True)))
    index = np.zeros((), np.uint64)
    for n, start, step in zip(job.shape, job.first, steps, strict=True):
        axis = np.arange(n, dtype=np.uint64) * np.uint64(step) + np.uint64(start * step % 2**64)
        index = index[..., None] + axis
    return index.reshape(-1)


def excess(values: torch.Tensor, exact: np.ndarray, std: float) -> float:
    """The largest error in tolerances: that of z, and one rounding to the type (tests/test_keyed_numbers.py).

    What is beyond the type's range, and infinity, count as its largest number; that they are right, the CPU says.
    """
    info = torch.finfo(values.dtype)
    exact = np.clip(exact, -info.max, info.max)
    z_error = 1e-13 if values.dtype == torch.float64 else 4e-6
    allowed = z_error * std + 0.51 * info.eps * (np.abs(exact) + z_error * std) + info.smallest_normal * info.eps
    return float((np.abs(np.clip(values.double().numpy(), -info.max, info.max) - exact) / allowed).max(initial=0.0))


def same_bytes(x: torch.Tensor, y: torch.Tensor) -> bool:
    return x.contiguous().view(torch.uint8).numpy().tobytes() == y.contiguous().view(torch.uint8).numpy().tobytes()


def of_whole(job: Job) -> torch.Tensor:
    """What torch.nn.init writes, or a tensor of the constant; the part that the job is."""
    if job.law == "constant":
        return torch.full((job.elements,), job.numbers[0], dtype=torch.float64).to(job.torch_dtype)
    if job.tail:
        row, column, *space = np.unravel_index(indices(job).astype(np.int64), job.shape)
        ones = row % (job.shape[0] // int(job.numbers[0] if job.numbers else 1)) == column
        for at, n in zip(space, job.shape[2:], strict=True):
            ones &= at == n // 2
        return torch.from_numpy(ones).to(job.torch_dtype)
    if math.prod(job.whole_shape) > 10**7:  # larger than memory: a matrix with ones where row and column are equal
        row, column = (torch.arange(s, s + n) for s, n in zip(job.first, job.shape, strict=True))
        return (row[:, None] == column).to(job.torch_dtype).flatten()
    whole = torch.empty(job.whole_shape, dtype=torch.float32)
    if job.law == "eye":
        torch.nn.init.eye_(whole)
    else:
        torch.nn.init.dirac_(whole, int(job.numbers[0]))
    part = whole[tuple(slice(s, s + n) for s, n in zip(job.first, job.shape, strict=True))]
    return part.to(job.torch_dtype).flatten()


def problem(job: Job, values: torch.Tensor) -> str | None:
    """What is wrong with the job's elements, in logical order."""
    dtype = job.torch_dtype
    if job.golden and values.view(torch.uint8).numpy().tobytes().hex() != job.golden:
        return "differs from the golden vector"
    if job.law in ("constant", "eye", "dirac"):
        return None if same_bytes(values, of_whole(job)) else "differs from torch.nn.init"
    index = indices(job)
    if job.law == "uniform":
        return None if same_values(values, reference.uniform(*job.key, index, *job.numbers, dtype)) else "not uniform"
    if job.law == "normal":
        mean, std = job.numbers
        error = excess(values, np.asarray(reference.normal(*job.key, index, mean, std, dtype)), std)
    elif job.law == "trunc_normal":
        return truncated_problem(job, values, index)
    else:
        return sparse_problem(job, values, index)
    return None if error <= 1 else f"{error} tolerances away from the law's definition"


def same_values(x: torch.Tensor, y: torch.Tensor) -> bool:
    """Bits, but for the sign of a zero: the definition does not say which bound's it is where both are zero."""
    zeros = x.double() == 0
    return bool(torch.equal(zeros, y.double() == 0)) and same_bytes(x[~zeros], y[~zeros])


def truncated_problem(job: Job, values: torch.Tensor, index: np.ndarray) -> str | None:
    _, std, a, b = job.numbers
    inside = bool(((values.double() >= a) & (values.double() <= b)).all())
    if not inside:
        return "a value outside the window"
    if a == b or b - a < 1e-4 * std:  # one point, or level
        return None
    error = excess(values, reference.trunc_normal(*job.key, index, *job.numbers, job.torch_dtype), std)
    return None if error <= 1 else f"{error} tolerances away from the law's definition"


def sparse_problem(job: Job, values: torch.Tensor, index: np.ndarray) -> str | None:
    zeros, std = job.numbers
    rows, columns = job.whole_shape
    if rows * columns < 10**7:
        mask = reference.sparse_zeros(*job.key, rows, columns, int(zeros))
        part = mask[tuple(slice(s, s + n) for s, n in zip(job.first, job.shape, strict=True))].flatten()
        if not np.array_equal(part, (values.double() == 0).numpy()):
            return "zeros at the wrong elements"
    else:
        part = (values.double() == 0).numpy()
    exact = np.asarray(reference.normal(*job.key, index, 0.0, std, job.torch_dtype))
    # A number that rounds to zero becomes the smallest one: a normal one where some processors flush others.
    info = torch.finfo(job.torch_dtype)
    step = info.smallest_normal * info.eps
    least = step if job.torch_dtype.itemsize == 1 or job.dtype == "float16" else info.smallest_normal
    is_least = (values.double() == least).numpy() & (np.abs(exact) <= 0.51 * step + 4e-6 * std)
    drawn = ~part & ~is_least
    error = excess(values[torch.from_numpy(drawn)], exact[drawn], std)
    return None if error <= 1 else f"{error} tolerances away from the law's definition"


def problems(plans: Sequence[Plan], written: bytes) -> Iterator[str]:
    """All that is wrong with the file that run_jobs wrote."""
    position = 0
    for plan in plans:
        for job in plan.jobs:
            size = job.elements * job.item
            values = torch.frombuffer(bytearray(written[position : position + size] or b"\0"), dtype=torch.uint8)
            position += size
            if size and (what := problem(job, values.view(job.torch_dtype))):
                yield f"{plan.name}: {what}: {job}"
    if position != len(written):
        yield f"{len(written)} bytes were written, not {position}"
