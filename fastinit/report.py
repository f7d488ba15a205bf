"""What an initialisation did: one row a parameter, and how long each group of them took."""

import os
import weakref
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

from torch import Tensor, nn

from fastinit.parameters import owned_buffers, owned_parameters
from fastinit.plan import Row, RowTuple
from fastinit.prefix import Prefix
from fastinit.recipe import Recipe
from fastinit.rule import name_of
from fastinit.sharding import Sharding
from fastinit.tables import Table, Tabular, dtype_text, shape_text


class Timing(NamedTuple):
    rule: int
    parameters: int
    elements: int
    seconds: float


class InitReport(Tabular):
    """`rows` in the model's order, `groups` in the order of filling, `seconds` in all, planning included.

    `print` shows it as plain text, `show` and rich's own print as a table, `plot` as pictures of the model's values.
    `init_model_` makes it of these.

    Args:
        recipe: what was followed
        rows: plainly, as the plan has them
        groups: the rule, parameters, elements and seconds of each
        seconds: in all
        model: kept weakly, for `plot`
        shardings: of DTensors, by name
        prefix: as given to `init_model_`

    """

    def __init__(
        self,
        recipe: Recipe,
        rows: list[RowTuple],
        groups: list[Timing],
        seconds: float,
        model: nn.Module | None = None,
        *,
        shardings: Mapping[str, Sharding] | None = None,
        prefix: Prefix = "",
    ) -> None:
        self.recipe = recipe
        self._rows = rows
        self.groups = groups
        self.seconds = seconds
        self._shardings = shardings or {}
        self._prefix = prefix
        # Weak: a report that is kept does not keep the weights.
        self._model = None if model is None else weakref.ref(model)

    @cached_property
    def rows(self) -> list[Row]:
        """One of each tensor, with its names, shape, type, rule, law, parts and sharding."""
        return [Row(*row, self._shardings.get(row[0])) for row in self._rows]

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
                    "dtype": dtype_text(row.dtype),
                    "rule": row.rule,
                    "law": row.law and row.law.to_dict(),
                    "parts": [{"name": part.name, "law": part.law and part.law.to_dict()} for part in row.parts],
                    "buffer": row.buffer,
                    "sharding": row.sharding and row.sharding.to_dict(),
                }
                for row in self.rows
            ],
        }

    def plot(self, path: str | os.PathLike[str]) -> list[str]:
        """Draw the values that the model holds now, by matplotlib, and return the paths of the files written.

        A histogram of each law with its density over it, then small histograms layer by layer. All are pages of one
        file if the path ends in .pdf; of the other types that matplotlib writes, each page is a file: the first at
        `path`, the others with "-2" and so on, and those by layer with "-layers", before the suffix. Of tensors of more
        than 2^18 elements so many are drawn, taken evenly. Of a DTensor, those that this process holds.
        """
        from fastinit.plot import plot

        return plot(self.rows, self._tensors(), path)

    def _tensors(self) -> dict[str, Tensor]:
        model = None if self._model is None else self._model()
        if model is None:
            raise RuntimeError("the model of this report is gone: keep a reference to it until the report is plotted")
        owned = owned_parameters(model, self._prefix)[0] | owned_buffers(model, self._prefix)[0]
        return {name: tensor for name, (tensor, _, _) in owned.items()}

    def tables(self) -> list[Table]:
        rows = [
            (
                row.name + "".join(f" = {name}" for name in row.tied),
                shape_text(row.shape),
                dtype_text(row.dtype),
                "-" if row.rule is None else str(row.rule),
                self._wrote(row),
            )
            for row in self.rows
        ]
        groups = [
            (
                str(group.rule),
                str(group.parameters),
                f"{group.elements:,}",
                f"{group.seconds:.3f}",
                repr(self.recipe.rules[group.rule]),
            )
            for group in self.groups
        ]
        tables = [Table(("parameter", "shape", "type", "rule", "values"), rows, "<><><")]
        sharded = [(row.name, *row.sharding.texts()) for row in self.rows if row.sharding]
        if sharded:
            tables.append(Table(("sharded", "mesh", "placements", "here", "made"), sharded, "<<<><"))
        if groups:
            tables.append(Table(("rule", "parameters", "elements", "seconds", ""), groups, ">>>><"))
        return tables

    def under(self) -> list[str]:
        taken = [row.shape.numel() for row in self.rows if row.rule is not None]
        filled = [group.elements for group in self.groups] or taken  # by this process
        wrote = f"{sum(filled):,} elements"
        return [f"{wrote} in {self.seconds:.3f} s" if self.seconds else f"{wrote}, nothing written"]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_model": None}  # a copy in another process has no model to look at

    def __repr__(self) -> str:
        return f"<InitReport: {len(self._rows)} parameters, {self.seconds:.3f} s>"

    def _wrote(self, row: Row) -> str:
        if row.rule is None:
            return "made by its module" if row.reset else "left alone: no rule"
        whole = name_of(self.recipe.rules[row.rule].initialiser) if row.law is None else str(row.law)
        parts = [f"{one.name.removeprefix(row.name)} {one.law or name_of(one.initialiser)}" for one in row.parts]
        return "; ".join([whole, *parts])
