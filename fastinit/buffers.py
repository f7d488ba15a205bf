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
        with seeded(key.fold_in(first)), torch.inference_mode(False):  # inference tensors count no versions
            plan.made.update(_made(module, names, parents))


def _made(module: nn.Module, names: dict[str, str], parents: dict[int, nn.Module]) -> dict[str, Tensor]:
    made: dict[str, Tensor] = {}
    tried = []
    for way, run in _ways(module, parents):
        missing = {own: name for own, name in names.items() if name not in made}
        if not missing:
            break
        tried.append(way)
        twin = _twin(module)
        fresh = {}
        for own in missing:
            old = module._buffers[own]
            assert old is not None
            fresh[own] = twin._buffers[own] = torch.empty_strided(
                old.shape, old.stride(), dtype=old.dtype, device="cpu"
            )
        try:
            with torch.no_grad(), torch.device("cpu"):
                run(twin)
        except Exception as error:
            raise RecipeError(
                f"buffers='reset': {way} failed to make buffer {next(iter(missing.values()))!r}: {error}"
            ) from error
        for own, name in missing.items():
            now = twin._buffers.get(own)
            if now is not None and not now.is_meta and (now is not fresh[own] or now._version > 0):
                made[name] = _like(name, now, fresh[own], way)
    for own, name in names.items():
        if name not in made:
            raise RecipeError(
                f"buffers='reset': {type(module).__name__} has no way of its own to make buffer {name!r} (tried: "
                f"{', '.join(tried) or 'nothing, for it has none'}): give it a rule, Rule(..., buffers={own!r})"
            )
    return made


def _like(name: str, made: Tensor, old: Tensor, way: str) -> Tensor:
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


def _twin(module: nn.Module) -> nn.Module:
    """Return a module that behaves like this one, with parameters that hold nothing and buffers of its own."""
    twin: nn.Module = object.__new__(type(module))
    twin.__dict__.update(module.__dict__)
    twin.__dict__["_parameters"] = {
        name: one if one is None else Parameter(torch.empty_like(one, device="meta"), one.requires_grad)
        for name, one in module._parameters.items()
    }
    twin.__dict__["_buffers"] = {name: one if one is None else one.clone() for name, one in module._buffers.items()}
    twin.__dict__["_non_persistent_buffers_set"] = set(module._non_persistent_buffers_set)
    twin.__dict__["_modules"] = {name: one if one is None else _twin(one) for name, one in module._modules.items()}
    return twin
