"""Whether a filler does what its case says: one that does less, or something else, must not be timed."""

from collections.abc import Callable, Iterator
from math import erf, exp, pi, sqrt
from typing import Any, NamedTuple

from turns import Case

from competitors.parts import chunks

SIGMAS = 6.0  # of chance that are let pass, for each of three figures of each fill
# In standard deviations. JAX makes bfloat16 of seven bits cut off: its means lie up to 0.02 too low.
ROUNDING = {"float64": 1e-9, "float32": 1e-5, "bfloat16": 2.0**-5}


class Wrong(Exception):
    """What a filler wrote is not what its case asks for."""


class Law(NamedTuple):
    mean: float
    std: float
    low: float
    high: float
    within: float  # the probability of being less than one std from the mean: it tells laws of equal std apart


def law(case: Case) -> Law:
    given = dict(case.arguments)
    if case.name == "uniform_":
        a, b = given["a"], given["b"]
        return Law((a + b) / 2, (b - a) / sqrt(12), a, b, 1 / sqrt(3))
    if case.name == "normal_":
        return Law(0.0, given["std"], float("-inf"), float("inf"), erf(1 / sqrt(2)))
    if case.name == "trunc_normal_" and given["a"] == -given["b"]:
        cut = given["b"]
        mass = erf(cut / sqrt(2))
        std = sqrt(1 - 2 * cut * exp(-cut * cut / 2) / sqrt(2 * pi) / mass)
        return Law(0.0, std, -cut, cut, erf(std / sqrt(2)) / mass)
    raise NotImplementedError(case)


def checked(case: Case, run: Callable[[], Any]) -> Callable[[], Any]:
    """Return `run` if two of its fills in a row are of the case's law, and not alike.

    Raises:
        Wrong: where they are not

    """
    import numpy as np

    first = np.array(run())
    second = np.asarray(run())
    for filled in (first, second):
        if filled.shape != (case.elements,) or str(filled.dtype) != case.dtype:
            raise Wrong(f"{case}: {filled.dtype} of shape {filled.shape}")
        if faults := [*_moments(case, filled), *_repeats(case, filled)]:
            raise Wrong(f"{case}: {'; '.join(faults)}")
    if _alike(first, second):
        raise Wrong(f"{case}: the second fill has the numbers of the first")
    if case.dtype != "bfloat16" and (first[[0, -1]] == second[[0, -1]]).any():  # whose few numbers repeat by chance
        raise Wrong(f"{case}: an end of the memory was left as it was")
    return run


def _moments(case: Case, filled: Any) -> Iterator[str]:
    import numpy as np

    expected, count, rounding = law(case), case.elements, ROUNDING[case.dtype]
    total = squares = within = 0.0
    low, high = float("inf"), float("-inf")
    for chunk in chunks(filled):
        values = (chunk.astype(np.float64) - expected.mean) / expected.std
        total += values.sum()
        squares += values @ values
        within += np.count_nonzero(np.abs(values) < 1)
        low, high = min(low, chunk.min()), max(high, chunk.max())
    chance = SIGMAS / sqrt(count)
    for name, value, meant, allowed in (
        ("mean, in std", total / count, 0.0, chance),
        ("std, of what it should be", sqrt(squares / count), 1.0, chance / sqrt(2)),
        ("share within one std", within / count, expected.within, chance / 2),
    ):
        if not abs(value - meant) <= allowed + rounding:  # so that NaN is refused
            yield f"{name} {value:.6g}, not {meant:.6g}"
    slack = expected.std * rounding
    if not (expected.low - slack <= low and high <= expected.high + slack):
        yield f"from {low:.6g} to {high:.6g}, not within [{expected.low:g}, {expected.high:g}]"
    if low == high:
        yield f"every element is {low:g}"


def _repeats(case: Case, filled: Any) -> Iterator[str]:
    length = case.elements // case.threads
    for thread in range(1, case.threads if length >= 16 else 1):  # fewer may be alike by chance
        if _alike(filled[:length], filled[thread * length : (thread + 1) * length]):
            yield f"part {thread} of {case.threads} has the numbers of the first"


def _alike(one: Any, other: Any) -> bool:
    return bool((one == other).mean() > 0.5)
