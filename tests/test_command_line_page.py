"""docs/api/command-line.md names the commands of `python -m fastinit` and their options: all of them, and no others."""

import argparse
import re

import pytest
from markdown_pages import ROOT

from fastinit.__main__ import _parser

PAGE = (ROOT / "docs" / "api" / "command-line.md").read_text(encoding="utf-8")


def commands(parser: argparse.ArgumentParser) -> dict[str, set[str]]:
    """Return the options of each command."""
    (choices,) = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    return {
        name: {option for action in one._actions for option in action.option_strings} - {"-h", "--help"}
        for name, one in choices.items()
    }


def sections(page: str) -> dict[str, set[str]]:
    parts = re.split(r"^## (\w+)\n", page, flags=re.MULTILINE)[1:]
    return {name: set(re.findall(r"`(--[\w-]+)", text)) for name, text in zip(parts[::2], parts[1::2], strict=True)}


def test_the_page_has_every_command_and_option():
    assert sections(PAGE) == commands(_parser())


@pytest.mark.parametrize("change", ["## info\n", "| `--key KEY`", "`--repeat`"])
def test_what_is_left_out_is_seen(change):
    assert PAGE.count(change) == 1
    assert sections(PAGE.replace(change, "")) != commands(_parser())
