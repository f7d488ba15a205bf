"""The one way in which these benchmarks compare: everything in one process, taking turns."""

import time
from collections.abc import Callable


def fastest(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the least seconds of each, all taking turns."""
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def against(ratio: float, target: float | None, bound: str) -> str:
    """Return the ratio with what it was meant to be: `bound` is "at least" or "at most"."""
    return f"{ratio:.2f}" if target is None else f"{ratio:.2f} ({bound} {target:g})"
