"""Recipes: which rule each parameter of a model gets. Nothing here writes to a tensor."""

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from fastinit.rule import Rule
from fastinit.selection import FirstMatch, RecipeError

if TYPE_CHECKING:
    from fastinit.report import InitReport


class Recipe:
    """Rules in order: the first that matches a parameter takes it. `one + other` has the rules of both.

    Args:
        rules: each a `Rule`; anything else is a RecipeError

    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        for rule in self.rules:
            if not isinstance(rule, Rule):
                raise RecipeError(f"rules: each must be a fastinit.Rule, got {rule!r}")
        self.match = FirstMatch(self.rules).match

    def explain(self, model: nn.Module) -> "InitReport":
        """Return the report that initialising `model` would give, with what no rule takes, and write nothing.

        What a rule is refused for is a RecipeError, as it is of `init_model_`.
        """
        from fastinit.plan import make_plan
        from fastinit.report import InitReport

        plan = make_plan(model, self, strict=False)
        return InitReport(self, plan.report_rows(), [], 0.0, model, shardings=plan.shardings)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe in plain types, for JSON or TOML: a table a rule, `{"init": "normal_", "std": 0.02, ...}`.

        Classes are written as globs over their full names, functions that are not ours as "module:name"; one that
        cannot be found again under its name is a RecipeError.
        """
        from fastinit.recipe_text import dict_of

        return dict_of(self.rules)

    @staticmethod
    def from_dict(given: Mapping[str, Any]) -> "Recipe":
        """Return the recipe that `to_dict` or someone's hand wrote. Imports the functions that it names.

        Args:
            given: {"rules": [a table a rule]}; what cannot be a recipe is a RecipeError

        """
        from fastinit.recipe_text import rules_of

        return Recipe(rules_of(given))

    def to_toml(self, path: str | os.PathLike[str]) -> None:
        """Write `to_dict()` as TOML to the file at `path`; an ImportError without tomli_w."""
        from fastinit.recipe_text import write_toml

        write_toml(self.to_dict(), path)

    @staticmethod
    def from_toml(path: str | os.PathLike[str]) -> "Recipe":
        """Read a recipe from the TOML file at `path`: one `[[rules]]` table a rule, with what `to_dict` has in it."""
        from fastinit.recipe_text import read_toml

        return Recipe.from_dict(read_toml(path))

    def __add__(self, other: "Recipe") -> "Recipe":
        return Recipe(self.rules + other.rules) if isinstance(other, Recipe) else NotImplemented

    def __repr__(self) -> str:
        return "Recipe([" + "".join(f"\n    {rule!r}," for rule in self.rules) + "\n])"

    def __reduce__(self) -> "tuple[type[Recipe], tuple[tuple[Rule, ...]]]":
        return type(self), (self.rules,)  # without the cache
