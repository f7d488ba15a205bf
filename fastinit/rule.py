"""Rules: an initialiser with its keyword arguments, what it is for, and the parts that are filled apart."""

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fastinit.function_laws import law_of, takes_fans
from fastinit.laws import Law
from fastinit.selection import RecipeError, Selector
from fastinit.sharding import Index as Index

_FanAxes = tuple[int | tuple[int, ...], ...]


def keep(tensor: Tensor) -> Tensor:
    """As a rule's initialiser: leave the parameter, `tensor`, as it is."""
    return tensor


class Source(ABC):
    """As a rule's initialiser: tensors that are read from elsewhere, by the parameter's name."""

    @abstractmethod
    def check(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> None:
        """Raise what is wrong with the tensor for the parameter of this name, shape and type."""

    @abstractmethod
    def read(self, name: str, out: Tensor, first: int) -> None:
        """Write elements `first` to `first + len(out)` of the tensor, in row-major order, into dense `out`."""

    def __call__(self, tensor: Tensor) -> Tensor:
        raise TypeError(f"{self!r} goes by the parameter's name: use it as a rule's initialiser")


@dataclass(frozen=True)
class chunk:  # in lower case as torch.chunk is: it is called for what it returns
    """As a part's `at`: the piece number `index` of `count` equal ones along dimension `dim`.

    An LSTM's forget gate is `chunk(1, 4)` of its weights and biases. A dimension that `count` does not divide is a
    RecipeError when a model is looked at.

    Args:
        index: from 0 to count - 1
        count: how many pieces
        dim: the dimension, counted from the end if negative

    Raises:
        RecipeError: numbers that are not whole, an index outside of [0, count)

    """

    index: int
    count: int
    dim: int = 0

    def __post_init__(self) -> None:
        if not all(type(number) is int for number in (self.index, self.count, self.dim)):
            raise RecipeError(f"chunk: index, count and dim must be whole numbers, got {self}")
        if not 0 <= self.index < self.count:
            raise RecipeError(f"chunk: index must be in [0, count), got index={self.index}, count={self.count}")

    def __call__(self, module: nn.Module, name: str, parameter: Tensor) -> Index:
        if not -parameter.dim() <= self.dim < parameter.dim():
            raise ValueError(f"{self} of a tensor of {parameter.dim()} dimensions")
        size, rest = divmod(parameter.shape[self.dim], self.count)
        if rest:
            raise ValueError(f"{self}: dimension {self.dim} has {parameter.shape[self.dim]} entries")
        begin = self.index * size
        return (*[slice(None)] * (self.dim % parameter.dim()), slice(begin, begin + size))


def padding_row(module: nn.Module, name: str, parameter: Tensor) -> int | None:
    """As a part's `at`: the row of an embedding's weight that stands for padding, where it has one.

    Called as every such function is, with the `module`, the full `name` and the `parameter`; of these, it looks at the
    module's padding_idx.
    """
    row: int | None = getattr(module, "padding_idx", None)
    return row


class Initialiser:
    """A callable(tensor, **kwargs) that writes in place; keyword arguments that are functions are called first.

    As value(module, name, parameter), once a parameter, which may be on the meta device.
    """

    def __init__(self, initialiser: Callable[..., object], kwargs: dict[str, Any], own: str) -> None:
        _check_initialiser(initialiser, kwargs, own)
        self.initialiser = initialiser
        self.kwargs = kwargs
        self.computed = tuple(name for name, value in kwargs.items() if callable(value) and not isinstance(value, type))

    def arguments(self, module: nn.Module, name: str, parameter: Tensor) -> dict[str, Any]:
        """Return the keyword arguments for this `parameter` of this `module`, called `name` in full."""
        if not self.computed:
            return self.kwargs
        return self.kwargs | {given: self.kwargs[given](module, name, parameter) for given in self.computed}

    def _shown(self) -> list[str]:
        return [
            f"{name}={_name(value) if name in self.computed else repr(value)}" for name, value in self.kwargs.items()
        ]


class Part(Initialiser):
    """A part of a parameter, filled as a tensor of its own: fans of its shape, the key of its name `name[index]`.

    Args:
        initialiser: as a rule's
        at: an index that makes a view (an int, a slice, or a tuple of them), or a function at(module, name, parameter)
            that returns one, or None where this module has no such part. `chunk` and `padding_row` make some
        kwargs: the initialiser's keyword arguments, as a rule's

    Raises:
        RecipeError: an initialiser that cannot be called so, an `at` of another kind

    """

    def __init__(self, initialiser: Callable[..., object], at: Any, **kwargs: Any) -> None:
        super().__init__(initialiser, kwargs, "at")
        if not callable(at):
            _entries(at)
        self.at = at

    def index(self, module: nn.Module, name: str, parameter: Tensor) -> Index | None:
        """Return the part's index in `parameter`, called `name`, with every bound written out.

        None where this `module` has no such part.
        """
        at = self.at(module, name, parameter) if callable(self.at) else self.at
        return None if at is None else _written_out(_entries(at), parameter.shape)

    def law(self, shape: Sequence[int], kwargs: dict[str, Any]) -> Law | None:
        """Return the law of a part of this `shape` by these `kwargs`; None for a callable without one."""
        return law_of(self.initialiser, shape, kwargs)

    def __repr__(self) -> str:
        at = _name(self.at) if callable(self.at) else repr(self.at)
        return f"Part({', '.join([name_of(self.initialiser), f'at={at}', *self._shown()])})"


class Rule(Selector, Initialiser):
    """An initialiser with its keyword arguments, and the parameters that it is for.

    `types`, `params` or `buffers`, `names` and `inside` say which. All that are given must match; a tuple matches if
    one of its entries does.

    Args:
        initialiser: any of fastinit's or torch.nn.init's, `keep`, `from_checkpoint`, or any of yours that is called as
            `initialiser(tensor, **kwargs)` and writes in place
        types: the class of the module that holds the parameter or any base of it: a class, or a glob over class names
            (`"Conv*"`; with a dot in it, over module.qualname)
        params: a glob over the parameter's name in that module
        names: a glob over its full dotted name (the first, of tied parameters)
        buffers: selects buffers instead, by glob over their names in their modules
        inside: the class, as in `types`, of any module that the holder stands in
        fused: how many matrices stand one after another in the out dimension, as the three of a qkv projection: the
            fan-out is that of one
        fan_axes: which dimensions of the parameter are `(out, in, *kernel)` for the fans of `xavier_*` and `kaiming_*`;
            an entry may be a tuple of dimensions, and those left out, such as a batch of experts, do not count. (0, 1,
            2, ...) if not given
        parts: what to fill apart, after the rest: a padding row, a forget gate's bias. With `keep` as the initialiser
            they alone are written
        kwargs: the initialiser's keyword arguments. One that is a function is called as value(module, name, parameter)
            for the value, once a parameter, which may be on the meta device (one of yours that wants a function itself
            gets it by functools.partial)

    Raises:
        RecipeError: an initialiser that cannot be called so, a selector or an argument of another kind, fans where the
            law has none

    Examples:
        >>> import fastinit
        >>> from torch import nn
        >>> fastinit.Rule(fastinit.normal_, types=nn.Linear, params="weight", std=0.02)
        Rule(normal_, types=Linear, params='weight', std=0.02)

    """

    def __init__(
        self,
        initialiser: Callable[..., object],
        *,
        types: type | str | tuple[type | str, ...] | None = None,
        params: str | tuple[str, ...] | None = None,
        names: str | tuple[str, ...] | None = None,
        buffers: str | tuple[str, ...] | None = None,
        inside: type | str | tuple[type | str, ...] | None = None,
        fused: int = 1,
        fan_axes: Sequence[int | Sequence[int]] | None = None,
        parts: Part | Sequence[Part] = (),
        **kwargs: Any,
    ) -> None:
        Initialiser.__init__(self, initialiser, kwargs, "types, params, names, buffers, inside, fused, fan_axes, parts")
        Selector.__init__(self, types, params, names, buffers, inside)
        self.parts = tuple(parts) if isinstance(parts, list | tuple) else (parts,)
        for part in self.parts:
            if not isinstance(part, Part):
                raise RecipeError(f"parts: each must be a fastinit.Part, got {part!r}")
        self.fused = fused
        self.fan_axes: _FanAxes | None = None
        if not isinstance(fused, int) or fused < 1:
            raise RecipeError(f"fused must be a whole number of at least 1, got {fused!r}")
        if fan_axes is not None:
            self.fan_axes = _axes(fan_axes)
        if (fused != 1 or fan_axes is not None) and not takes_fans(initialiser):
            raise RecipeError(
                f"fused and fan_axes are for the xavier_* and kaiming_* functions, not {name_of(initialiser)}"
            )

    def law(self, shape: Sequence[int], kwargs: dict[str, Any]) -> Law | None:
        """Return the law of a parameter of this `shape` by these `kwargs`; None for `keep` or what has none."""
        return law_of(self.initialiser, self._fan_shape(shape), kwargs)

    def _fan_shape(self, shape: Sequence[int]) -> Sequence[int]:
        if self.fused == 1 and self.fan_axes is None:
            return shape
        axes = range(len(shape)) if self.fan_axes is None else self.fan_axes
        try:
            sizes = [math.prod(shape[i] for i in ((axis,) if isinstance(axis, int) else axis)) for axis in axes]
        except IndexError:
            raise ValueError(f"fan_axes {self.fan_axes} for a tensor of {len(shape)} dimensions") from None
        if sizes and sizes[0] % self.fused:
            raise ValueError(f"fused={self.fused} does not divide the {sizes[0]} outputs")
        return [sizes[0] // self.fused, *sizes[1:]] if sizes else shape

    def __repr__(self) -> str:
        given = [f"fused={self.fused}"] if self.fused != 1 else []
        given += [] if self.fan_axes is None else [f"fan_axes={self.fan_axes}"]
        given += [f"parts=[{', '.join(map(repr, self.parts))}]"] if self.parts else []
        return f"Rule({', '.join([name_of(self.initialiser), *self.shown(), *self._shown(), *given])})"


def name_of(initialiser: Callable[..., object]) -> str:
    return getattr(initialiser, "__name__", None) or repr(initialiser)


def _name(function: Callable[..., object]) -> str:
    return repr(function) if isinstance(function, chunk) else name_of(function)


def _check_initialiser(initialiser: Callable[..., object], kwargs: dict[str, Any], own: str) -> None:
    if not callable(initialiser):
        raise RecipeError(f"initialiser must be a callable(tensor, **kwargs), got {initialiser!r}")
    if "generator" in kwargs:
        raise RecipeError("generator is not a rule's to give: each parameter has the key of its name")
    try:
        signature = inspect.signature(initialiser)
    except ValueError:  # some builtins have none to read
        return
    try:
        signature.bind(None, **kwargs)
    except TypeError as error:
        allowed = ", ".join(str(p) for p in list(signature.parameters.values())[1:] if p.name != "generator")
        given = ", ".join(f"{name}={value!r}" for name, value in kwargs.items())
        raise RecipeError(
            f"{name_of(initialiser)} cannot be called with (tensor{', ' if given else ''}{given}): {error}; "
            f"its keyword arguments are: {allowed or 'none'}; a rule's own: {own}"
        ) from None


def _axes(given: Any) -> _FanAxes:
    try:
        axes = tuple(axis if type(axis) is int else tuple(axis) for axis in given)
        if len(axes) >= 2 and all(type(one) is int for axis in axes if type(axis) is tuple for one in axis):
            return axes
    except TypeError:
        pass
    raise RecipeError(
        "fan_axes must name the dimensions (out, in, *kernel), two or more, each an int or a tuple of them, "
        f"got {given!r}"
    )


def _entries(at: Any) -> Index:
    entries = at if isinstance(at, tuple) else (at,)
    if not entries or not all(isinstance(entry, int | slice) and not isinstance(entry, bool) for entry in entries):
        raise RecipeError(
            f"at must be an int, a slice, a non-empty tuple of them, or a function that returns one, got {at!r}"
        )
    return entries


def _written_out(entries: Index, shape: Sequence[int]) -> Index:
    if len(entries) > len(shape):
        raise ValueError(f"a part at {entries} of a tensor of {len(shape)} dimensions")
    index: list[int | slice] = []
    for dim, (entry, size) in enumerate(zip(entries, shape, strict=False)):
        if isinstance(entry, slice):
            begin, end, step = entry.indices(size)
            if step < 1:
                raise ValueError(f"a part's slices must have a step of at least 1, got {entry}")
            index.append(slice(begin, max(begin, end), step))
        elif -size <= entry < size:
            index.append(entry % size)
        else:
            raise ValueError(f"a part at {entry} of dimension {dim}, which has {size} entries")
    return tuple(index)
