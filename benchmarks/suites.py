"""What the suites measure: `quick` in under two minutes, `full` everything, from 10 elements to 2^28."""

from collections.abc import Iterator
from math import isqrt, prod
from typing import Any

import torch
from turns import Case

SHAPES: dict[int, tuple[int, int]] = {
    10: (2, 5),
    100: (10, 10),
    1_000: (20, 50),
    10_000: (100, 100),
    100_000: (250, 400),
    **{4**n: (2**n, 2**n) for n in (10, 11, 12, 13, 14)},
}
RANDOM: dict[str, dict[str, Any]] = {
    "uniform_": {},
    "normal_": {},
    "trunc_normal_": {},  # [-2, 2] of N(0, 1)
    "xavier_uniform_": {},
    "xavier_normal_": {},
    "kaiming_uniform_": {},
    "kaiming_normal_": {},
    "sparse_": {"sparsity": 0.5},
    "orthogonal_": {},
}
WITHOUT_NUMBERS: dict[str, dict[str, Any]] = {
    "eye_": {},
    "dirac_": {},
    "constant_": {"val": 0.3},
    "ones_": {},
    "zeros_": {},
}
FUNCTIONS = RANDOM | WITHOUT_NUMBERS
OF_TORCH = ("float32", "bfloat16", "float16", "float64")
DTYPES = (*OF_TORCH, "float8_e4m3fn", "float8_e5m2")
# Work grows as elements^1.5: 2^26 would take torch 15 s a pass, and 2^28 two minutes.
LARGEST_ORTHOGONAL = 2**24
ALL = torch.get_num_threads()  # as many as torch takes: its own choice, or that of OMP_NUM_THREADS
FLOOR = "fill_"


def contestants(case: Case) -> list[str]:
    torch_has_it = case.dtype in OF_TORCH and not (case.name == "orthogonal_" and case.dtype in ("bfloat16", "float16"))
    streams = (["torch stream"] if case.dtype in OF_TORCH else []) + (["keyed stream"] if case.name in RANDOM else [])
    return [*(["torch.nn.init"] if torch_has_it else []), *streams, FLOOR]


def fills(suite: str) -> Iterator[Case]:
    for name in FUNCTIONS:
        for dtype in DTYPES if suite == "full" else ("float32", "bfloat16"):
            if name in WITHOUT_NUMBERS and dtype not in OF_TORCH:
                continue  # torch's own code writes these types
            if suite == "quick" and (name in ("ones_", "zeros_") or (dtype != "float32" and name not in BASE)):
                continue
            for elements in SHAPES if suite == "full" else QUICK_SIZES:
                if name == "orthogonal_" and elements > (LARGEST_ORTHOGONAL if suite == "full" else 2**20):
                    continue
                for threads in sorted({1, ALL}) if suite == "full" else [ALL]:
                    yield fill(name, dtype, elements, threads)


BASE = ("uniform_", "normal_", "trunc_normal_")
QUICK_SIZES = (10, 1_000, 100_000, 2**20, 2**24)
LARGE = 2**26


def scaling(suite: str) -> Iterator[Case]:
    """Yield the numbers of threads that `fills` leaves out."""
    between = [2**n for n in range(1, ALL.bit_length()) if 2**n < ALL]
    for name in BASE:
        if suite == "full":  # 2^24 too, which the quick suite has
            yield from (fill(name, "float32", elements, threads) for elements in (2**24, LARGE) for threads in between)
        else:
            yield from (fill(name, "float32", 2**24, threads) for threads in [*([1] if ALL > 1 else []), *between])


def layouts(suite: str) -> Iterator[Case]:
    for name in BASE[: 3 if suite == "full" else 1]:
        yield fill(name, "float32", 2**24, ALL)._replace(layout="transposed")


def other_arguments(suite: str) -> Iterator[Case]:
    """Yield what takes another time for its arguments, as a window of 100 standard deviations (std=0.02 alone) does."""
    yield fill("trunc_normal_", "float32", 2**24, ALL, {"std": 0.02})
    if suite == "full":
        yield fill("trunc_normal_", "bfloat16", 2**24, ALL, {"std": 0.02})
        yield from (fill("sparse_", "float32", 2**24, ALL, {"sparsity": sparsity}) for sparsity in (0.1, 0.9))


def instruction_sets(suite: str) -> Iterator[Case]:
    for name in BASE if suite == "full" else BASE[:2]:
        for dtype in ("float32", "bfloat16")[: 2 if suite == "full" else 1]:
            for elements in (2**24, LARGE)[: 2 if suite == "full" else 1]:
                yield fill(name, dtype, elements, ALL)._replace(kind="instruction set")


def fresh(suite: str) -> Iterator[Case]:
    for name in BASE:
        for elements in (2**24, 2**26, 2**28) if suite == "full" else (2**24,):  # less may come from the heap, touched
            for threads in sorted({1, ALL}) if suite == "full" else [ALL]:
                yield fill(name, "float32", elements, threads)._replace(memory="fresh")


def fill(name: str, dtype: str, elements: int, threads: int, arguments: dict[str, Any] | None = None) -> Case:
    shape: tuple[int, ...] = SHAPES[elements]
    if name == "dirac_":  # a convolution of 3 × 3, as near as a square number of channels comes
        shape = (max(1, isqrt(elements // 9)),) * 2 + (3, 3)
    given = tuple((FUNCTIONS[name] if arguments is None else arguments).items())
    return Case("fill", name, dtype, prod(shape), threads, shape, given)
