"""The one way in which these benchmarks compare: everything in one process, taking turns."""

import time
from collections.abc import Callable


def fastest(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the least seconds of each, all taking turns, forwards and backwards.

    A slow one on one thread lets the other threads fall asleep, and who comes next wakes them.
    """
    best = dict.fromkeys(runs, float("inf"))
    order = list(runs.items())
    for turn in range(rounds):
        for name, run in order if turn % 2 == 0 else reversed(order):
            started = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def against(ratio: float, target: float | None, bound: str) -> str:
    """Return the ratio with what it was meant to be: `bound` is "at least" or "at most"."""
    return f"{ratio:.2f}" if target is None else f"{ratio:.2f} ({bound} {target:g})"
