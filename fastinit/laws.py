"""From the arguments of a drop-in function and a shape to the law that is written: fans, bounds, standard deviations.

The arithmetic is torch.nn.init's, operation for operation.
"""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from torch.nn.init import calculate_gain

KINDS = {"constant": 0, "uniform": 1, "normal": 2, "trunc_normal": 3}  # as csrc/ops.cpp numbers them
_ARGUMENTS = {
    "constant": ("val",),
    "uniform": ("a", "b"),
    "normal": ("mean", "std"),
    "trunc_normal": ("mean", "std", "a", "b"),
}


class Law(NamedTuple):
    """A law with its numbers: constant (val), uniform (a, b), normal (mean, std) or trunc_normal (mean, std, a, b)."""

    kind: str
    numbers: tuple[float, float, float, float]

    def __str__(self) -> str:
        arguments = zip(_ARGUMENTS[self.kind], self.numbers, strict=False)
        return f"{self.kind}({', '.join(f'{name}={value:g}' for name, value in arguments)})"


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """Fan-in and fan-out of a weight of this shape (out, in, *kernel)."""
    if len(shape) < 2:
        raise ValueError("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions")
    receptive_field = math.prod(shape[2:])
    return shape[1] * receptive_field, shape[0] * receptive_field


def _fan(shape: Sequence[int], mode: str) -> int:
    mode = mode.lower()
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    return fans(shape)[mode == "fan_out"]


def constant(shape: Sequence[int], val: float) -> Law:
    return Law("constant", (float(val), 0.0, 0.0, 0.0))


def ones(shape: Sequence[int]) -> Law:
    return constant(shape, 1.0)


def zeros(shape: Sequence[int]) -> Law:
    return constant(shape, 0.0)


def uniform(shape: Sequence[int], a: float = 0.0, b: float = 1.0) -> Law:
    return Law("uniform", (float(a), float(b), 0.0, 0.0))


def normal(shape: Sequence[int], mean: float = 0.0, std: float = 1.0) -> Law:
    return Law("normal", (float(mean), float(std), 0.0, 0.0))


def trunc_normal(shape: Sequence[int], mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Law:
    return Law("trunc_normal", (float(mean), float(std), float(a), float(b)))


def _xavier_std(shape: Sequence[int], gain: float) -> float:
    fan_in, fan_out = fans(shape)
    return gain * math.sqrt(2.0 / float(fan_in + fan_out))


def xavier_uniform(shape: Sequence[int], gain: float = 1.0) -> Law:
    a = math.sqrt(3.0) * _xavier_std(shape, gain)
    return uniform(shape, -a, a)


def xavier_normal(shape: Sequence[int], gain: float = 1.0) -> Law:
    return normal(shape, 0.0, _xavier_std(shape, gain))


def _is_empty(shape: Sequence[int]) -> bool:
    """Say whether nothing is to be written, and no fan there to divide by; warn of it, as torch does."""
    empty = 0 in shape
    if empty:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=5)
    return empty


def _kaiming_std(shape: Sequence[int], a: float, mode: str, nonlinearity: str) -> float:
    fan = _fan(shape, mode)
    gain = calculate_gain(nonlinearity, a)  # type: ignore[arg-type]
    return gain / math.sqrt(fan)


def kaiming_uniform(shape: Sequence[int], a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Law:
    if _is_empty(shape):
        return uniform(shape)
    bound = math.sqrt(3.0) * _kaiming_std(shape, a, mode, nonlinearity)
    return uniform(shape, -bound, bound)


def kaiming_normal(shape: Sequence[int], a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Law:
    if _is_empty(shape):
        return normal(shape)
    return normal(shape, 0.0, _kaiming_std(shape, a, mode, nonlinearity))
