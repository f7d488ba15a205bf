"""randompack: uniform and normal numbers in one pass, scaled as they are drawn.

It has no truncated normal law: values outside the window are drawn again until none is left.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from turns import Case

from competitors.parts import chunks, redraw, split, together, touched

NAME = "randompack"
PACKAGE = "randompack"
ENGINE = "sfc64simd"
MODE = f"Rng({ENGINE}), out=, one a thread"


def offers(case: Case) -> bool:
    return case.name in _LAWS and case.dtype in ("float32", "float64")


def filler(case: Case) -> Callable[[], Any] | None:
    if not offers(case):
        return None
    import randompack

    array = touched(case)
    law = partial(_LAWS[case.name], **dict(case.arguments))
    fills = []
    for number, part in enumerate(split(array, case.threads)):
        generator = randompack.Rng(ENGINE)
        generator.seed(7, spawn_key=[number])
        fills.append(partial(law, generator, part))
    return together(fills, array)


def _uniform(generator: Any, part: Any, a: float, b: float) -> None:
    generator.unif(a=a, b=b, out=part)


def _normal(generator: Any, part: Any, std: float) -> None:
    generator.normal(sigma=std, out=part)


def _trunc_normal(generator: Any, part: Any, a: float, b: float) -> None:
    for chunk in chunks(part):
        generator.normal(out=chunk)
        redraw(chunk, a, b, lambda count, dtype=chunk.dtype: generator.normal(count, dtype=dtype))


_LAWS = {"uniform_": _uniform, "normal_": _normal, "trunc_normal_": _trunc_normal}
