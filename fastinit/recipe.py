"""Recipes: which initialiser each parameter of a model gets. Nothing here writes to a tensor."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from fnmatch import translate
from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T")


class RecipeError(ValueError):
    """A rule that cannot be, a parameter that no rule takes, or a model that cannot be filled as it is."""


def keep(tensor: Tensor) -> Tensor:
    """As a rule's initialiser: leave the parameter as it is."""
    return tensor


class Rule:
    """An initialiser with its keyword arguments, and the parameters that it is for.

    `types` selects by the class of the module that holds the parameter, `params` by glob over the parameter's
    name in that module, `names` by glob over its full dotted name (the first, of tied parameters). All that are
    given must match; a tuple matches if one of its entries does. The initialiser is any of fastinit's, or any of
    yours that is called as initialiser(tensor, **kwargs) and writes in place.
    """

    __slots__ = ("initialiser", "kwargs", "names", "params", "types")

    def __init__(
        self,
        initialiser: Callable[..., object],
        *,
        types: type | tuple[type, ...] | None = None,
        params: str | tuple[str, ...] | None = None,
        names: str | tuple[str, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        _check_initialiser(initialiser, kwargs)
        self.initialiser = initialiser
        self.types = _one_or_more("types", types, type, "a class or a non-empty tuple of classes")
        self.params = _one_or_more("params", params, str, "a glob or a non-empty tuple of globs")
        self.names = _one_or_more("names", names, str, "a glob or a non-empty tuple of globs")
        self.kwargs = kwargs

    def __repr__(self) -> str:
        selectors = (("types", self.types), ("params", self.params), ("names", self.names))
        given = [f"{name}={_show(entries)}" for name, entries in selectors if entries is not None]
        given += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"Rule({', '.join([name_of(self.initialiser), *given])})"


class Recipe:
    """Rules in order: the first that matches a parameter takes it."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        for rule in self.rules:
            if not isinstance(rule, Rule):
                raise RecipeError(f"rules: each must be a fastinit.Rule, got {rule!r}")
        self._params = [_compiled(rule.params) for rule in self.rules]
        self._names = [_compiled(rule.names) for rule in self.rules]
        # Most rules look at the module's class and the parameter's own name only, and a model has few such
        # pairs: for each, the rules still possible, up to the first that asks for no full name.
        self._possible: dict[tuple[type, str], tuple[tuple[int, re.Pattern[str] | None], ...]] = {}

    def match(self, module: type, param: str, name: str) -> int | None:
        """Return the index of the rule for parameter `param` of a module of this class, in full `name`."""
        possible = self._possible.get((module, param))
        if possible is None:
            possible = self._possible[module, param] = tuple(self._find(module, param))
        for index, names in possible:
            if names is None or names.match(name):
                return index
        return None

    def _find(self, module: type, param: str) -> Iterator[tuple[int, re.Pattern[str] | None]]:
        for index, (rule, params, names) in enumerate(zip(self.rules, self._params, self._names, strict=True)):
            if (rule.types is None or issubclass(module, rule.types)) and (params is None or params.match(param)):
                yield index, names
                if names is None:
                    return

    def __repr__(self) -> str:
        return "Recipe([" + "".join(f"\n    {rule!r}," for rule in self.rules) + "\n])"

    def __reduce__(self) -> "tuple[type[Recipe], tuple[tuple[Rule, ...]]]":
        return type(self), (self.rules,)  # without the cache


def name_of(initialiser: Callable[..., object]) -> str:
    return getattr(initialiser, "__name__", None) or repr(initialiser)


def _check_initialiser(initialiser: Callable[..., object], kwargs: dict[str, Any]) -> None:
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
            f"its keyword arguments are: {allowed or 'none'}; a rule's own: types, params, names"
        ) from None


def _one_or_more(argument: str, given: T | tuple[T, ...] | None, kind: type, allowed: str) -> tuple[T, ...] | None:
    if given is None:
        return None
    entries = given if isinstance(given, tuple) else (given,)
    if not entries or not all(isinstance(entry, kind) for entry in entries):
        raise RecipeError(f"{argument} must be {allowed}, got {given!r}")
    return entries


def _show(entries: tuple[object, ...]) -> str:
    shown = [entry.__name__ if isinstance(entry, type) else repr(entry) for entry in entries]
    return shown[0] if len(shown) == 1 else f"({', '.join(shown)})"


def _compiled(globs: tuple[str, ...] | None) -> re.Pattern[str] | None:
    """Return one pattern that matches what fnmatch.fnmatchcase matches for any of the globs."""
    return None if globs is None else re.compile("|".join(map(translate, globs)))
