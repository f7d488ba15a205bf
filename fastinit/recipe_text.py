"""Recipes as plain types and as TOML. What names a function imports its module when it is read."""

import functools
import importlib
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastinit import init
from fastinit.checkpoint.source import from_checkpoint
from fastinit.function_laws import NAMES
from fastinit.rule import Part, Rule, chunk, keep, padding_row
from fastinit.selection import RecipeError

_INITIALISERS: dict[str, Callable[..., object]] = {name: getattr(init, name) for name in NAMES} | {"keep": keep}
_SELECTORS = ("types", "params", "names", "buffers", "inside")
_OWN = {"init", "fused", "fan_axes", "parts", "at", *_SELECTORS}


def dict_of(rules: Iterable[Rule]) -> dict[str, Any]:
    return {"rules": [_rule(rule) for rule in rules]}


def rules_of(given: Mapping[str, Any]) -> list[Rule]:
    if not isinstance(given, Mapping) or set(given) != {"rules"} or not isinstance(given["rules"], list):
        raise RecipeError(f'a recipe is {{"rules": [a table a rule]}}, got {given!r}')
    return [_read_rule(entry) for entry in given["rules"]]


def write_toml(plain: dict[str, Any], path: str | os.PathLike[str]) -> None:
    try:
        import tomli_w
    except ImportError as error:
        raise ImportError("writing TOML needs tomli_w: pip install 'torch-fastinit[models]'") from error
    try:
        text = tomli_w.dumps(plain)
    except TypeError as error:
        raise RecipeError(f"TOML cannot hold this recipe: {error}") from error
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    with open(path, "rb") as file:
        try:
            return tomllib.load(file)
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"{os.fspath(path)} is not TOML: {error}") from error


def _rule(rule: Rule) -> dict[str, Any]:
    try:
        plain = _call(rule)
        for name in _SELECTORS:
            entries = getattr(rule, name)
            if entries is not None:
                shown = [_full_name(entry) if isinstance(entry, type) else entry for entry in entries]
                plain[name] = shown[0] if len(shown) == 1 else shown
        if rule.fused != 1:
            plain["fused"] = rule.fused
        if rule.fan_axes is not None:
            plain["fan_axes"] = [axis if isinstance(axis, int) else list(axis) for axis in rule.fan_axes]
        if rule.parts:
            plain["parts"] = [_call(part) | {"at": _at(part.at)} for part in rule.parts]
    except RecipeError as error:
        raise RecipeError(f"{rule!r} cannot be written as plain types: {error}") from None
    return plain


def _call(call: Rule | Part) -> dict[str, Any]:
    initialiser: Any = call.initialiser
    kwargs = call.kwargs
    while isinstance(initialiser, functools.partial) and not initialiser.args:
        initialiser, kwargs = initialiser.func, {**initialiser.keywords, **kwargs}
    if clash := _OWN & set(kwargs):
        raise RecipeError(f"its initialiser has a keyword argument {min(clash)!r}, as a rule has")
    return {"init": _initialiser(initialiser)} | {name: _plain(name, value) for name, value in kwargs.items()}


def _initialiser(initialiser: Callable[..., object]) -> str | dict[str, str]:
    if isinstance(initialiser, from_checkpoint):
        return {"from_checkpoint": initialiser.path} | ({"prefix": initialiser.prefix} if initialiser.prefix else {})
    known = [name for name, function in _INITIALISERS.items() if function is initialiser]
    return known[0] if known else _function(initialiser)


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(name, entry) for entry in value]
    if callable(value):
        return {"function": _function(value)}
    raise RecipeError(f"{name}={value!r} is neither a number, a text, a list of them, nor a function")


def _at(at: Any) -> Any:
    if isinstance(at, chunk):
        return {"chunk": [at.index, at.count, at.dim]}
    if at is padding_row:
        return "padding_row"
    if callable(at):
        return {"function": _function(at)}
    entries = [
        _slice_text(entry) if isinstance(entry, slice) else entry for entry in (at if isinstance(at, tuple) else (at,))
    ]
    return entries if isinstance(at, tuple) else entries[0]


def _slice_text(entry: slice) -> str:
    bounds = [entry.start, entry.stop] + ([] if entry.step is None else [entry.step])
    return ":".join("" if bound is None else str(bound) for bound in bounds)


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _function(function: Callable[..., object]) -> str:
    name = f"{getattr(function, '__module__', None)}:{getattr(function, '__qualname__', None)}"
    try:
        found = _imported(name)
    except RecipeError:
        found = None
    if found is not function:
        raise RecipeError(f"{function!r} cannot be found again under a name of its own")
    return name


def _imported(name: str) -> Any:
    module, colon, path = name.partition(":")
    try:
        if not colon:
            raise ImportError("a function is named 'module:name'")
        return functools.reduce(getattr, path.split("."), importlib.import_module(module))
    except (ImportError, AttributeError, ValueError) as error:
        raise RecipeError(f"{name!r} names no function: {error}") from None


def _read_rule(entry: Any) -> Rule:
    if not isinstance(entry, Mapping) or "init" not in entry:
        raise RecipeError(f'a rule is a table with "init" in it, got {entry!r}')
    given = dict(entry)
    parts = given.pop("parts", [])
    if not isinstance(parts, list):
        raise RecipeError(f"parts must be a list of tables, got {parts!r}")
    parts = [_read_part(part) for part in parts]
    fixed = {name: given.pop(name) for name in ("fused", "fan_axes") if name in given}
    selectors = {name: _tuple(given.pop(name)) for name in _SELECTORS if name in given}
    initialiser = _read_initialiser(given.pop("init"))
    return Rule(initialiser, **selectors, **fixed, parts=parts, **_read_kwargs(given))


def _read_part(entry: Any) -> Part:
    if not isinstance(entry, Mapping) or not {"init", "at"} <= set(entry):
        raise RecipeError(f'a part is a table with "init" and "at" in it, got {entry!r}')
    given = dict(entry)
    initialiser, at = _read_initialiser(given.pop("init")), _read_at(given.pop("at"))
    return Part(initialiser, at, **_read_kwargs(given))


def _read_initialiser(given: Any) -> Callable[..., object]:
    is_table = isinstance(given, Mapping) and {"from_checkpoint"} <= set(given) <= {"from_checkpoint", "prefix"}
    if is_table and all(isinstance(text, str) for text in given.values()):
        return from_checkpoint(given["from_checkpoint"], given.get("prefix", ""))
    if not isinstance(given, str):
        raise RecipeError(
            f'init must be a name, "module:name" or {{from_checkpoint = path, prefix = text}}, got {given!r}'
        )
    if given in _INITIALISERS:
        return _INITIALISERS[given]
    if ":" not in given:
        raise RecipeError(f'init must be one of {", ".join(_INITIALISERS)}, or "module:name", got {given!r}')
    found: Callable[..., object] = _imported(given)
    return found


def _read_kwargs(given: dict[str, Any]) -> dict[str, Any]:
    return {name: _read_value(value) for name, value in given.items()}


def _read_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        if set(value) != {"function"} or not isinstance(value["function"], str):
            raise RecipeError(f'a table among the arguments must be {{function = "module:name"}}, got {value!r}')
        return _imported(value["function"])
    return value


def _read_at(at: Any) -> Any:
    if isinstance(at, Mapping):
        if set(at) == {"chunk"}:
            if not isinstance(at["chunk"], list) or len(at["chunk"]) not in (2, 3):
                raise RecipeError(f"a chunk is [index, count] or [index, count, dim], got {at['chunk']!r}")
            return chunk(*at["chunk"])
        return _read_value(at)
    if at == "padding_row":
        return padding_row
    if isinstance(at, list):
        return tuple(_read_entry(entry) for entry in at)
    return _read_entry(at)


def _read_entry(entry: Any) -> int | slice:
    if isinstance(entry, str):
        bounds = entry.split(":")
        try:
            if len(bounds) not in (2, 3):
                raise ValueError
            return slice(*[int(bound) if bound else None for bound in bounds])
        except ValueError:
            raise RecipeError(f'at must be made of ints and slices such as "0:20", got {entry!r}') from None
    number: int = entry
    return number


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
