"""From the arguments of a drop-in function and a shape to the law that is written: fans, bounds, standard deviations.

The arithmetic is torch.nn.init's, operation for operation.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch.nn.init import calculate_gain

_ARGUMENTS = {
    "constant": ("val",),
    "uniform": ("a", "b"),
    "normal": ("mean", "std"),
    "trunc_normal": ("mean", "std", "a", "b"),
    "eye": (),
    "dirac": ("groups",),
    "sparse": ("zeros", "std"),  # zeros in each column
    "orthogonal": ("gain",),
}
KINDS = {kind: code for code, kind in enumerate(_ARGUMENTS)}  # as csrc/laws.h numbers them
KEYLESS = frozenset(("constant", "eye", "dirac"))  # what they write is the same in every stream


class Law(NamedTuple):
    """A law by its name in KINDS, with the numbers that it has and zeros after them."""

    kind: str
    numbers: tuple[float, float, float, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, for reports and for a checkpoint's fastinit.json."""
        return {"kind": self.kind, "numbers": list(self.numbers)}

    def __str__(self) -> str:
        arguments = zip(_ARGUMENTS[self.kind], self.numbers, strict=False)
        return f"{self.kind}({', '.join(f'{name}={value:g}' for name, value in arguments)})"


def _law(kind: str, *numbers: float) -> Law:
    values = [_number(name, value) for name, value in zip(_ARGUMENTS[kind], numbers, strict=True)]
    first, second, third, fourth = values + [0.0] * (4 - len(values))
    return Law(kind, (first, second, third, fourth))


def _number(name: str, value: Any) -> float:
    if type(value) is float:
        return value
    try:
        if not isinstance(value, str):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise TypeError(f"{name} must be a number that float64 can hold, got {value!r}")


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
    return _law("constant", val)


def ones(shape: Sequence[int]) -> Law:
    return constant(shape, 1.0)


def zeros(shape: Sequence[int]) -> Law:
    return constant(shape, 0.0)


def uniform(shape: Sequence[int], a: float = 0.0, b: float = 1.0) -> Law:
    return _law("uniform", a, b)


def normal(shape: Sequence[int], mean: float = 0.0, std: float = 1.0) -> Law:
    return _law("normal", mean, std)


def trunc_normal(shape: Sequence[int], mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Law:
    return _law("trunc_normal", mean, std, a, b)


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


def _require_dimensions(shape: Sequence[int], allowed: Sequence[int], words: str) -> None:
    if len(shape) not in allowed:
        raise ValueError(f"Only tensors with {words} dimensions are supported")


def eye(shape: Sequence[int]) -> Law:
    _require_dimensions(shape, (2,), "2")
    return _law("eye")


def dirac(shape: Sequence[int], groups: int = 1) -> Law:
    _require_dimensions(shape, (3, 4, 5), "3, 4, or 5")
    if not isinstance(groups, int) or groups < 1:
        raise ValueError(f"groups must be at least 1, got {groups!r}")
    if shape[0] % groups != 0:
        raise ValueError("dim 0 must be divisible by groups")
    return _law("dirac", groups)


def sparse(shape: Sequence[int], sparsity: float, std: float = 0.01) -> Law:
    _require_dimensions(shape, (2,), "2")
    if not 0 <= _number("sparsity", sparsity) <= 1:
        raise ValueError(f"sparsity must be in [0, 1], got {sparsity}")
    return _law("sparse", math.ceil(sparsity * shape[0]), std)


def orthogonal(shape: Sequence[int], gain: float = 1) -> Law:
    if len(shape) < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    return _law("orthogonal", gain)
