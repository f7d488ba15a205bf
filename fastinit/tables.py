"""Tables for a terminal: plain text by itself, or by rich where that is installed."""

import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from rich.console import Group


class Table(NamedTuple):
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    sides: str  # of each column: "<" or ">"
    styles: Sequence[str] = ()  # of each row, as rich names them

    def lines(self) -> list[str]:
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        return [
            "  ".join(
                f"{cell:{side}{width}}" for cell, side, width in zip(row, self.sides, widths, strict=True)
            ).rstrip()
            for row in (self.head, *self.rows)
        ]


class Tabular(ABC):
    """A report of tables, with a few lines under them."""

    @abstractmethod
    def tables(self) -> list[Table]:
        """Return the tables, rows of text."""

    @abstractmethod
    def under(self) -> list[str]:
        """Return the lines under the tables."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain types only, as `to_json` writes them."""

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write `to_dict()` to the file at `path`."""
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.to_dict(), file, indent=1)

    def show(self) -> None:
        """Print it, by rich where that is installed and the output is a terminal."""
        if sys.stdout.isatty():
            try:
                from rich.console import Console
            except ImportError:
                pass
            else:
                Console().print(self)
                return
        print(self)

    def __str__(self) -> str:
        lines = [line for table in self.tables() for line in (*table.lines(), "")]
        return "\n".join((*lines, *self.under()))

    def __rich__(self) -> "Group":
        from rich import box
        from rich.console import Group
        from rich.table import Table as RichTable
        from rich.text import Text

        drawn = []
        for table in self.tables():
            one = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
            for name, side in zip(table.head, table.sides, strict=True):
                # Words are folded where the terminal is narrow, numbers last, and nothing is cut off.
                number = side == ">"
                one.add_column(name, justify="right" if number else "left", no_wrap=number, overflow="fold")
            for row, style in zip(table.rows, table.styles or [""] * len(table.rows), strict=True):
                one.add_row(*map(Text, row), style=style)
            drawn.append(one)
        return Group(*drawn, Text("\n".join(self.under())))


def shape_text(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "scalar"


def dtype_text(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
