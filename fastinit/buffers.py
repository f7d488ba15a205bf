"""Buffers by `buffers="reset"`: each module's own way of making them, tried on a copy of it."""

import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter

from fastinit.fill import seeded
from fastinit.key import Key
from fastinit.plan import Plan
from fastinit.selection import RecipeError

# Methods of a module without arguments, in the order in which they are tried: what torch, timm and others call them.
_OWN_WAYS = ("reset_buffers", "init_non_persistent_buffers", "reset_running_stats")
_LAST_WAYS = ("reset_parameters", "_reset_parameters")


def make_buffers(model: nn.Module, plan: Plan, key: Key) -> None:
    """Make the buffers that are to be reset, into `plan.made`; a RecipeError names one that no way of its module sets.

    torch's default generator is, for each module, that of the key of its first buffer, and put back afterwards.
    """
    wanted: dict[int, tuple[nn.Module, dict[str, str]]] = {}  # of each module, the names by own name
    for (name, *_, reset), (_, module, own) in zip(plan.rows, plan.tensors, strict=True):
        if reset:
            wanted.setdefault(id(module), (module, {}))[1][own] = name
    parents = {id(child): module for module in model.modules() for child in module._modules.values()} if wanted else {}
    for module, names in wanted.values():
        first = next(iter(names.values()))
        with seeded(key.fold_in(first)), torch.inference_mode(False):  # for buffers that may be trained with
            plan.made.update(_made(module, names, parents))


def _made(module: nn.Module, names: dict[str, str], parents: dict[int, nn.Module]) -> dict[str, Tensor]:
    made: dict[str, Tensor] = {}
    tried = []
    for way, run in _ways(module, parents):
        missing = {own: name for own, name in names.items() if name not in made}
        if not missing:
            break
        tried.append(way)
        # Twice, with different bytes there before: what the way does not set, in whole, is never taken for made.
        first, second = (_attempt(way, run, module, missing, byte) for byte in (0, 1))
        for own, name in missing.items():
            if not first[own].is_meta:
                like = _like(name, first[own], module._buffers[own], way)
                if _all_set(like, second[own]):
                    made[name] = like
    for own, name in names.items():
        if name not in made:
            raise RecipeError(
                f"buffers='reset': {type(module).__name__} has no way of its own to make buffer {name!r} (tried: "
                f"{', '.join(tried) or 'nothing, for it has none'}): give it a rule, Rule(..., buffers={own!r})"
            )
    return made


def _attempt(
    way: str, run: Callable[[Any], object], module: nn.Module, missing: dict[str, str], byte: int
) -> dict[str, Tensor]:
    """Return the buffers that the way leaves in a twin of the module, where all their bytes were `byte`."""
    twin = _twin(module)
    found: dict[str, Tensor] = {}
    for own in missing:
        old = module._buffers[own]
        assert old is not None
        found[own] = twin._buffers[own] = torch.empty_strided(old.shape, old.stride(), dtype=old.dtype, device="cpu")
        memory: Any = found[own].untyped_storage()
        memory.fill_(byte)
    try:
        with torch.no_grad(), torch.device("cpu"):
            run(twin)
    except Exception as error:
        raise RecipeError(
            f"buffers='reset': {way} failed to make buffer {next(iter(missing.values()))!r}: {error}"
        ) from error
    return found | {own: now for own, now in twin._buffers.items() if own in found and now is not None}


def _all_set(first: Tensor, second: Tensor) -> bool:
    """Say whether no element is as it was before each attempt, its bytes 0 and then 1."""
    if second.shape != first.shape or second.dtype != first.dtype or second.is_meta:
        return False
    zero, one = (tensor.reshape(-1, 1).view(torch.uint8) == byte for tensor, byte in ((first, 0), (second, 1)))
    return not (zero.all(1) & one.all(1)).any()


def _like(name: str, made: Tensor, old: Tensor | None, way: str) -> Tensor:
    assert old is not None
    if made.shape != old.shape or made.dtype != old.dtype:
        raise RecipeError(
            f"buffers='reset': {way} makes buffer {name!r} {made.dtype} of shape {list(made.shape)}, where the model "
            f"has {old.dtype} of shape {list(old.shape)}"
        )
    return made.detach()


def _ways(module: nn.Module, parents: dict[int, nn.Module]) -> Iterator[tuple[str, Callable[[Any], object]]]:
    """Yield, by name, what may set the buffers of a module when called with a twin of it."""
    yield from _methods(module, _OWN_WAYS)
    # transformers' and timm's: a method of the module above that knows how to initialise those in it.
    above: nn.Module | None = module
    while above is not None:
        if callable(initialise := getattr(above, "_init_weights", None)):
            yield f"{type(above).__name__}._init_weights", initialise
            break
        above = parents.get(id(above))
    yield from _methods(module, _LAST_WAYS)


def _methods(module: nn.Module, names: tuple[str, ...]) -> Iterator[tuple[str, Callable[[Any], object]]]:
    for name in names:
        if callable(getattr(module, name, None)):
            yield f"{type(module).__name__}.{name}", operator.methodcaller(name)


def _copy(buffer: Tensor) -> Tensor:
    """Return a copy on CPU, where modules make their buffers, or on the meta device."""
    return buffer.clone() if buffer.is_meta else buffer.to("cpu", copy=True)


def _twin(module: nn.Module) -> nn.Module:
    """Return a module that behaves like this one, with parameters that hold nothing and buffers of its own."""
    twin: nn.Module = object.__new__(type(module))
    twin.__dict__.update(module.__dict__)
    twin.__dict__["_parameters"] = {
        name: one if one is None else Parameter(torch.empty_like(one, device="meta"), one.requires_grad)
        for name, one in module._parameters.items()
    }
    twin.__dict__["_buffers"] = {name: one if one is None else _copy(one) for name, one in module._buffers.items()}
    twin.__dict__["_non_persistent_buffers_set"] = set(module._non_persistent_buffers_set)
    twin.__dict__["_modules"] = {name: one if one is None else _twin(one) for name, one in module._modules.items()}
    return twin
