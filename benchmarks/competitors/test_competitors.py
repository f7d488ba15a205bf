"""Other fillers, torch.nn.init, both streams and `fill_`, by law, type, size and number of threads."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import pytest
from suites import ALL, FLOOR, fill
from test_fills import filler, warm
from turns import Case, contests, measure

from competitors import LIBRARIES, version
from competitors.check import checked

LAWS: dict[str, dict[str, Any]] = {
    "uniform_": {"a": -0.1, "b": 0.1},
    "normal_": {"std": 0.02},
    "trunc_normal_": {"a": -2.0, "b": 2.0},
}
SIZES = (10, 1_000, 100_000, 2**20, 2**24, 2**26)
INSTALLED = [name for name, library in LIBRARIES.items() if version(library) is not None]


def cases(suite: str) -> Iterator[Case]:
    for name, arguments in LAWS.items():
        if suite == "quick":
            yield case_of(name, "float32", 2**24, ALL, arguments)
            continue
        for threads in sorted({1, ALL}):
            yield from (case_of(name, "float32", elements, threads, arguments) for elements in SIZES)
            yield from (case_of(name, dtype, 2**24, threads, arguments) for dtype in ("bfloat16", "float64"))


def case_of(name: str, dtype: str, elements: int, threads: int, arguments: dict[str, Any]) -> Case:
    return fill(name, dtype, elements, threads, arguments)._replace(kind="competitor")


def contestants(case: Case) -> list[str]:
    others = [name for name in INSTALLED if LIBRARIES[name].offers(case)]
    return ["torch.nn.init", "torch stream", "keyed stream", *others, FLOOR] if others else []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.function is test_competitor:
        given = contests(cases(metafunc.config.getoption("suite")), contestants)
        metafunc.parametrize(("case", "contestant", "turn"), given)


@pytest.mark.parametrize("name", LIBRARIES)
def test_installed(name: str) -> None:
    if name not in INSTALLED:
        pytest.skip(f"{name} is not installed: pip install -r benchmarks/competitors/requirements.txt")


def test_competitor(benchmark: Any, case: Case, contestant: str, turn: int) -> None:
    if contestant in LIBRARIES:
        library = LIBRARIES[contestant]
        about = {"version": version(library), "mode": library.MODE}
        measure(benchmark, case, contestant, turn, other(case, contestant), **about)
    else:
        measure(benchmark, case, contestant, turn, filler(case, contestant, warm(case)))


@lru_cache(maxsize=len(LIBRARIES))  # those of one case: each has memory of its own
def other(case: Case, name: str) -> Callable[[], Any]:
    return checked(case, LIBRARIES[name].filler(case))
