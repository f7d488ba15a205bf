"""Every function, in warm memory: torch.nn.init, both streams and `fill_`, by type, size and number of threads."""

from collections.abc import Callable, Iterator
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


def test_instruction_set(benchmark: Any, case: Case, contestant: str, turn: int, instruction_set: None) -> None:
    measure(benchmark, case, contestant, turn, filler(case, contestant.partition(",")[0], warm(case)))


@pytest.fixture
def instruction_set(contestant: str) -> Iterator[None]:
    if ", " in contestant:
        _C.use_isa(contestant.partition(", ")[2])
    yield
    _C.use_isa(_ops.available_isas()[0])


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
