"""Every function, in warm memory: torch.nn.init, both streams and `fill_`, by type, size and number of threads."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from typing import Any

import pytest
import torch
from suites import FLOOR, contestants, fills, instruction_sets, layouts, other_arguments, scaling
from torch import Tensor
from turns import Case, contests, measure

import fastinit
from fastinit import _C, _ops

KEY = fastinit.Key(7)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    suite = metafunc.config.getoption("suite")
    if metafunc.function is test_fill:
        cases = chain(fills(suite), scaling(suite), layouts(suite), other_arguments(suite))
        given = contests(cases, contestants)
    else:
        given = contests(instruction_sets(suite), lambda _: ["torch.nn.init", *_keyed_by_instruction_set(), FLOOR])
    metafunc.parametrize(("case", "contestant", "turn"), given)


def test_fill(benchmark: Any, case: Case, contestant: str, turn: int) -> None:
    measure(benchmark, case, contestant, turn, filler(case, contestant, warm(case)))


def test_instruction_set(benchmark: Any, case: Case, contestant: str, turn: int) -> None:
    who, _, isa = contestant.partition(", ")
    with instruction_set(isa or _ops.isa()):
        measure(benchmark, case, contestant, turn, filler(case, who, warm(case)))


@contextmanager
def instruction_set(isa: str) -> Iterator[None]:
    chosen = _ops.isa()  # FASTINIT_ISA's, where that is set
    _C.use_isa(isa)
    yield
    _C.use_isa(chosen)


def _keyed_by_instruction_set() -> list[str]:
    return [f"keyed stream, {isa}" for isa in _ops.available_isas()]


def filler(case: Case, contestant: str, tensor: Tensor) -> Callable[[], object]:
    arguments = dict(case.arguments)
    if contestant == FLOOR:
        return lambda: tensor.fill_(0.3)
    if contestant == "keyed stream":
        arguments["generator"] = KEY
    function = getattr(torch.nn.init if contestant == "torch.nn.init" else fastinit, case.name)
    return lambda: function(tensor, **arguments)


def warm(case: Case) -> Tensor:
    """Return memory that was touched, the same for all contestants."""
    tensor = _touched(case.shape, case.torch_dtype)
    return tensor.t() if case.layout == "transposed" else tensor


@lru_cache(maxsize=1)  # one at a time: the largest take 2 GB
def _touched(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype).fill_(0.3)
