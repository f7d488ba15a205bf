"""Which of a model's tensors a rule or a group is for: selectors, and the first of many that takes a tensor."""

import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase, translate
from types import UnionType
from typing import TypeVar

T = TypeVar("T")


class RecipeError(ValueError):
    """A rule that cannot be, a parameter that no rule takes, or a model that cannot be filled as it is."""


class Selector:
    """By the class of the module that holds a tensor, by its own name there, and by its full dotted name.

    `types` takes classes and globs over class names (with a dot in it: over module.qualname), and a class counts under
    each of its bases too; `inside` takes the same, for the modules that the holder stands in. All that are given must
    match; of a tuple, one entry.
    """

    def __init__(
        self,
        types: type | str | tuple[type | str, ...] | None,
        params: str | tuple[str, ...] | None,
        names: str | tuple[str, ...] | None,
        buffers: str | tuple[str, ...] | None = None,
        inside: type | str | tuple[type | str, ...] | None = None,
    ) -> None:
        classes = "a class, a glob over class names, or"
        self.types: tuple[type | str, ...] | None = _one_or_more("types", types, type | str, classes)
        self.inside: tuple[type | str, ...] | None = _one_or_more("inside", inside, type | str, classes)
        self.params = _one_or_more("params", params, str, "a glob, or")
        self.names = _one_or_more("names", names, str, "a glob, or")
        self.buffers = _one_or_more("buffers", buffers, str, "a glob, or")
        if params is not None and buffers is not None:
            raise RecipeError(f"params={params!r} and buffers={buffers!r}: nothing is both a parameter and a buffer")

    def takes_class(self, kind: type) -> bool:
        """Say whether it is for what modules of the class `kind` hold."""
        return self.types is None or any(_is_of(kind, entry) for entry in self.types)

    def takes_place(self, around: Iterable[type]) -> bool:
        """Say whether it is for what stands inside modules of these classes, those `around`."""
        return self.inside is None or any(_is_of(kind, entry) for kind in around for entry in self.inside)

    def shown(self) -> list[str]:
        """Return what was given, as the arguments of a call."""
        selectors = (
            ("types", self.types),
            ("params", self.params),
            ("names", self.names),
            ("buffers", self.buffers),
            ("inside", self.inside),
        )
        return [f"{name}={_show(entries)}" for name, entries in selectors if entries is not None]


class FirstMatch:
    """Selectors in order: the first that matches takes a tensor."""

    def __init__(self, selectors: Sequence[Selector]) -> None:
        self._selectors = selectors
        self._own = [_compiled(one.params if one.buffers is None else one.buffers) for one in selectors]
        self._names = [_compiled(one.names) for one in selectors]
        # Most selectors look at the module's class and the tensor's own name only, and a model has few such
        # pairs: for each, the selectors still possible, up to the first that asks for no full name and no place.
        self._possible: dict[tuple[type, str, bool], tuple[tuple[int, re.Pattern[str] | None], ...]] = {}

    def match(self, module: type, own: str, name: str, buffer: bool = False, around: Sequence[type] = ()) -> int | None:
        """Return the index of the selector for a tensor called `own` in a module of this class, in full `name`.

        A selector with `buffers` is for buffers alone, one without for parameters alone. `around`: the classes of the
        modules that the module stands in.
        """
        possible = self._possible.get((module, own, buffer))
        if possible is None:
            possible = self._possible[module, own, buffer] = tuple(self._find(module, own, buffer))
        for index, names in possible:
            if (names is None or names.match(name)) and self._selectors[index].takes_place(around):
                return index
        return None

    def _find(self, module: type, own: str, buffer: bool) -> Iterator[tuple[int, re.Pattern[str] | None]]:
        for index, (one, owns, names) in enumerate(zip(self._selectors, self._own, self._names, strict=True)):
            if (one.buffers is not None) is not buffer or not one.takes_class(module):
                continue
            if owns is None or owns.match(own):
                yield index, names
                if names is None and one.inside is None:
                    return


def _is_of(kind: type, entry: type | str) -> bool:
    if isinstance(entry, type):
        return issubclass(kind, entry)
    named = [f"{one.__module__}.{one.__qualname__}" if "." in entry else one.__name__ for one in kind.__mro__]
    return any(fnmatchcase(name, entry) for name in named)


def _one_or_more(
    argument: str, given: T | tuple[T, ...] | None, kinds: type | UnionType, allowed: str
) -> tuple[T, ...] | None:
    if given is None:
        return None
    entries = given if isinstance(given, tuple) else (given,)
    if not entries or not all(isinstance(entry, kinds) for entry in entries):
        raise RecipeError(f"{argument} must be {allowed} a non-empty tuple of them, got {given!r}")
    return entries


def _show(entries: tuple[object, ...]) -> str:
    shown = [entry.__name__ if isinstance(entry, type) else repr(entry) for entry in entries]
    return shown[0] if len(shown) == 1 else f"({', '.join(shown)})"


def _compiled(globs: tuple[str, ...] | None) -> re.Pattern[str] | None:
    """Return one pattern that matches what fnmatch.fnmatchcase matches for any of the globs."""
    return None if globs is None else re.compile("|".join(map(translate, globs)))
