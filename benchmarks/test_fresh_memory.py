"""Tensors that nobody has touched: the kernel zeroes each page when it is first written, whoever writes it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fresh import at_hand
from suites import contestants, fresh
from test_fills import filler
from turns import Case, contests, measure


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    cases = fresh(metafunc.config.getoption("suite"))
    metafunc.parametrize(("case", "contestant", "turn"), contests(cases, contestants))


def test_fresh(benchmark: Any, case: Case, contestant: str, turn: int) -> None:
    measure(
        benchmark, case, contestant, turn, made_and_filled(case, contestant), before=lambda: at_hand(4 * case.elements)
    )


def made_and_filled(case: Case, contestant: str) -> Callable[[object], torch.Tensor]:
    def run(_: object) -> torch.Tensor:
        tensor = torch.empty(case.shape, dtype=case.torch_dtype)
        filler(case, contestant, tensor)()
        return tensor  # freed off the clock

    return run
