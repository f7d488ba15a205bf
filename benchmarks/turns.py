"""The one way in which the suite measures: contestants do the same thing, taking turns, in one process.

A case is one piece of work. In each of its turns every contestant has its go, forwards and then backwards; each go is
one test of pytest-benchmark, in the group of the case. What lies next to each other in time is compared, and
`fastinit.bench.figures` pools the turns.
"""

from collections.abc import Callable, Iterable, Sequence
from math import inf
from time import perf_counter
from typing import Any, NamedTuple

import pytest
import torch

TURNS = 3
HUGE = {"fill": 2**28, "model": 2**32}  # elements from which on there is one turn: torch takes up to a minute for it
SECONDS = 0.02  # of one contestant in one turn, where that is more than one pass
SLOW = 0.25  # seconds of a pass from which on there is one a turn, and none before it
_pace: dict[tuple[str, ...], float] = {}  # seconds an element, of the last case


class Case(NamedTuple):
    """What is done. The report compares contestants whose cases are equal."""

    kind: str  # "fill", "model" or "competitor": a chapter of the report
    name: str  # a function of torch.nn.init, or a model
    dtype: str
    elements: int
    threads: int
    shape: tuple[int, ...] = ()
    arguments: tuple[tuple[str, Any], ...] = ()
    memory: str = "warm"
    layout: str = "contiguous"

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    def __str__(self) -> str:
        given = ", ".join(f"{key}={value}" for key, value in self.arguments)
        about = [self.dtype, f"{self.elements:,} elements", f"{self.threads} threads", self.memory]
        return ", ".join([f"{self.name}({given})", *about, *([self.layout] if self.layout != "contiguous" else [])])


def contests(cases: Iterable[Case], contestants: Callable[[Case], Sequence[str]]) -> list[Any]:
    """Return what `parametrize("case, contestant, turn", ...)` takes."""
    given = []
    for case in cases:
        order = contestants(case)
        for turn in range(1 if case.elements >= HUGE.get(case.kind, inf) else TURNS):
            for who in order if turn % 2 == 0 else reversed(order):
                words = [case.name, *(value for _, value in case.arguments), case.dtype, case.elements, case.memory]
                words += [case.layout, f"{case.threads}threads", who, turn]
                given.append(pytest.param(case, who, turn, id="-".join(map(str, words))))
    return given


def measure(
    benchmark: Any,
    case: Case,
    contestant: str,
    turn: int,
    run: Callable[..., object],
    before: Callable[[], object] | None = None,
    **about: Any,
) -> None:
    """Time `run`, with the number of threads of the case and torch's generator seeded alike.

    before: runs before each pass, off the clock; what it returns is given to `run`. about: more for the report.
    """
    benchmark.group = str(case)
    benchmark.extra_info.update(case._asdict(), dtype=case.dtype, contestant=contestant, turn=turn, **about)
    torch.set_num_threads(case.threads)
    torch.manual_seed(7)
    pace = (case.kind, case.name, str(case.arguments), case.dtype, case.memory, case.layout, contestant)
    if before is not None:
        rounds = 1 if _pace.get(pace, 0) * case.elements > SLOW or case.kind == "model" else 3
        benchmark.pedantic(run, setup=lambda: ((before(),), {}), rounds=rounds)
    elif case.kind == "model" or _pace.get(pace, 0) * case.elements > SLOW:
        benchmark.pedantic(run, rounds=1)
    else:
        started = perf_counter()
        run()
        warm = perf_counter()
        run()
        seconds = max(min(warm - started, perf_counter() - warm), 1e-7)
        iterations = max(1, int(1e-3 / seconds))
        benchmark.pedantic(run, iterations=iterations, rounds=min(50, max(1, int(SECONDS / (seconds * iterations)))))
    if benchmark.stats is not None:  # none with --benchmark-disable
        _pace[pace] = benchmark.stats.stats.min / case.elements
