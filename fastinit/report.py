"""What an initialisation did: one row a parameter, and how long each group of them took."""

import json
import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch

from fastinit.laws import Law
from fastinit.plan import Row, RowTuple
from fastinit.recipe import Recipe
from fastinit.rule import name_of


class Group(NamedTuple):
    rule: int
    parameters: int
    elements: int
    seconds: float


class InitReport:
    """`rows` in the model's order, `groups` in the order of filling, `seconds` in all, planning included."""

    def __init__(self, recipe: Recipe, rows: list[RowTuple], groups: list[Group], seconds: float) -> None:
        self.recipe = recipe
        self._rows = rows
        self.groups = groups
        self.seconds = seconds

    @cached_property
    def rows(self) -> list[Row]:
        return [Row(*row) for row in self._rows]

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, as `to_json` writes them."""
        return {
            "seconds": self.seconds,
            "rules": [repr(rule) for rule in self.recipe.rules],
            "groups": [group._asdict() for group in self.groups],
            "rows": [
                {
                    "name": row.name,
                    "tied": list(row.tied),
                    "shape": list(row.shape),
                    "dtype": _short(row.dtype),
                    "rule": row.rule,
                    "law": _plain(row.law),
                    "parts": [{"name": part.name, "law": _plain(part.law)} for part in row.parts],
                    "buffer": row.buffer,
                }
                for row in self.rows
            ],
        }

    def to_json(self, path: str | os.PathLike[str]) -> None:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.to_dict(), file, indent=1)

    def __str__(self) -> str:
        rows = [
            (
                row.name + "".join(f" = {name}" for name in row.tied),
                "×".join(map(str, row.shape)) or "scalar",
                _short(row.dtype),
                "-" if row.rule is None else str(row.rule),
                self._wrote(row),
            )
            for row in self.rows
        ]
        groups = [
            (str(group.rule), str(group.parameters), f"{group.elements:,}", f"{group.seconds:.3f}",
             repr(self.recipe.rules[group.rule]))
            for group in self.groups
        ]  # fmt: skip
        elements = sum(group.elements for group in self.groups)
        return "\n".join((
            *_aligned(("parameter", "shape", "type", "rule", "values"), rows, "<><><"),
            "",
            *_aligned(("rule", "parameters", "elements", "seconds", ""), groups, ">>>><"),
            "",
            f"{elements:,} elements in {self.seconds:.3f} s",
        ))  # fmt: skip

    def __repr__(self) -> str:
        return f"<InitReport: {len(self._rows)} parameters, {self.seconds:.3f} s>"

    def _wrote(self, row: Row) -> str:
        if row.rule is None:
            return "made by its module" if row.reset else "left alone: no rule"
        whole = name_of(self.recipe.rules[row.rule].initialiser) if row.law is None else str(row.law)
        parts = [f"{one.name.removeprefix(row.name)} {one.law or name_of(one.initialiser)}" for one in row.parts]
        return "; ".join([whole, *parts])


def _plain(law: Law | None) -> dict[str, Any] | None:
    return None if law is None else {"kind": law.kind, "numbers": list(law.numbers)}


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _aligned(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], sides: str) -> list[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
