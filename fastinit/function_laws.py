"""Which law each function of torch.nn.init writes, ours and torch's own under every name."""

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from torch.nn import init as torch_init

from fastinit import init, laws
from fastinit.laws import Law

_LAWS: dict[Any, Callable[..., Law]] = {
    init.constant_: laws.constant,
    init.ones_: laws.ones,
    init.zeros_: laws.zeros,
    init.uniform_: laws.uniform,
    init.normal_: laws.normal,
    init.trunc_normal_: laws.trunc_normal,
    init.xavier_uniform_: laws.xavier_uniform,
    init.xavier_normal_: laws.xavier_normal,
    init.kaiming_uniform_: laws.kaiming_uniform,
    init.kaiming_normal_: laws.kaiming_normal,
    init.eye_: laws.eye,
    init.dirac_: laws.dirac,
    init.sparse_: laws.sparse,
    init.orthogonal_: laws.orthogonal,
}
NAMES = [function.__name__ for function in _LAWS]
# Under torch's own names and the deprecated ones too.
_LAWS |= {getattr(torch_init, name): law for name, law in zip(NAMES, [*_LAWS.values()], strict=True)}
_LAWS |= {getattr(init, name[:-1]): _LAWS[getattr(init, name)] for name in NAMES if name[:-1] in init.__all__}

_FANS = (laws.xavier_uniform, laws.xavier_normal, laws.kaiming_uniform, laws.kaiming_normal)
_CONSTANTS = (laws.constant, laws.ones, laws.zeros)


def takes_fans(initialiser: Callable[..., Any]) -> bool:
    """Say whether the law that it writes follows from the tensor's fans."""
    return _maker(initialiser) in _FANS


def writes_constant(initialiser: Callable[..., Any]) -> bool:
    """Say whether it writes one value to every element."""
    return _maker(initialiser) in _CONSTANTS


def _maker(initialiser: Callable[..., Any]) -> Callable[..., Law] | None:
    while isinstance(initialiser, functools.partial):
        initialiser = initialiser.func
    return _LAWS.get(initialiser) if isinstance(initialiser, Hashable) else None


def law_of(initialiser: Callable[..., Any], shape: Sequence[int], kwargs: dict[str, Any]) -> Law | None:
    """Return the law that a drop-in function called with `kwargs` writes into a tensor of this (global) shape.

    torch.nn.init's functions count as ours, and so does a functools.partial that gives keyword arguments. None where
    the function writes no law of ours.
    """
    function: Any = initialiser
    while isinstance(function, functools.partial) and not function.args:
        function, kwargs = function.func, {**function.keywords, **kwargs}
    make_law = _LAWS.get(function) if isinstance(function, Hashable) else None
    return None if make_law is None else make_law(shape, **kwargs)
