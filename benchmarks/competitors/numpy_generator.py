"""NumPy's Generator: its numbers are standard ones, so they are scaled in place, a chunk at a time.

It has no truncated normal law: values outside the window are drawn again until none is left.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from turns import Case

from competitors.parts import chunks, redraw, split, together, touched

NAME = "NumPy"
PACKAGE = "numpy"
BIT_GENERATOR = "SFC64"
MODE = f"Generator({BIT_GENERATOR}), out=, one a thread"


def offers(case: Case) -> bool:
    return case.name in _LAWS and case.dtype in ("float32", "float64")


def filler(case: Case) -> Callable[[], Any] | None:
    if not offers(case):
        return None
    from numpy import random

    array = touched(case)
    parts = split(array, case.threads)
    seeds = random.SeedSequence(7).spawn(len(parts))
    generators = [random.Generator(getattr(random, BIT_GENERATOR)(seed)) for seed in seeds]
    law = partial(_LAWS[case.name], **dict(case.arguments))
    return together([partial(law, generator, part) for generator, part in zip(generators, parts, strict=True)], array)


def _uniform(generator: Any, part: Any, a: float, b: float) -> None:
    for chunk in chunks(part):
        generator.random(out=chunk, dtype=chunk.dtype)
        chunk *= b - a
        chunk += a


def _normal(generator: Any, part: Any, std: float) -> None:
    for chunk in chunks(part):
        generator.standard_normal(out=chunk, dtype=chunk.dtype)
        chunk *= std


def _trunc_normal(generator: Any, part: Any, a: float, b: float) -> None:
    for chunk in chunks(part):
        generator.standard_normal(out=chunk, dtype=chunk.dtype)
        redraw(chunk, a, b, partial(generator.standard_normal, dtype=chunk.dtype))


_LAWS = {"uniform_": _uniform, "normal_": _normal, "trunc_normal_": _trunc_normal}
