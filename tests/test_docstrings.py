"""What help() says of the public names is enough to call them: parameters, errors, bits and sources; examples run.

Mechanical: whether it is true is for the other tests, and whether it can be understood for a reader.
"""

import doctest
import inspect
import re
import sys
from types import FunctionType

import pytest
import torch

import fastinit
from fastinit.function_laws import NAMES
from fastinit.tables import Tabular

TORCH_S_OWN = ("calculate_gain", "constant_", "ones_", "zeros_")
DROP_IN = [name for name in NAMES if name not in TORCH_S_OWN]
DEPRECATED = [name for name in torch.nn.init.__all__ if name + "_" in NAMES]
RECIPES = [f"recipes.{name}" for name in fastinit.recipes.__all__]
NAMED = [name for name in fastinit.__all__ if name not in (*TORCH_S_OWN, *DEPRECATED, "recipes")] + RECIPES
SOURCE = re.compile(r"\b[A-Z][a-z]+\b[^.]*\(?\b(19|20)\d\d\)?")  # a name, and a year in the same sentence


def public(name):
    found = fastinit
    for part in name.split("."):
        found = getattr(found, part)
    return found


def parts(thing):
    """Yield (name, object, signature) of a function, or of a class and its public methods and properties."""
    if not isinstance(thing, type):
        yield thing.__name__, thing, inspect.signature(thing)
        return
    yield thing.__name__, thing, None if issubclass(thing, Exception) else inspect.signature(thing)
    for owner in thing.__mro__:
        if owner.__module__ in sys.stdlib_module_names:
            continue
        for name, member in vars(owner).items():
            found = getattr(thing, name)
            if name.startswith("_") or not isinstance(member, FunctionType | staticmethod | property):
                continue
            signature = None if isinstance(member, property) else inspect.signature(found)
            yield f"{thing.__name__}.{name}", found if signature else member, signature


def complaints(thing):
    """Return what the docstrings of a public function or class do not say."""
    found = []
    for name, part, signature in parts(thing):
        text = inspect.getdoc(part) if "." in name else part.__doc__
        if not text:
            found.append(f"{name}: no docstring")
            continue
        names = [one for one in (signature.parameters if signature else ()) if one != "self"]
        found += [f"{name}: {one} is not named" for one in names if not re.search(rf"\b{one}\b", text)]
    return found


def drop_in_complaints(function):
    text = function.__doc__ or ""
    said = {
        "Raises": "\n    Raises:\n        ValueError: " in text,
        "bits": re.search(r"\bbits\b", text),
        "shape": re.search(r"tensor: of (any )?shape|tensor: of two or more dimensions", text),
        "source": SOURCE.search(text) or function is fastinit.dirac_,  # which nobody proposed in a paper
    }
    return [word for word, there in said.items() if not there]


def examples(thing):
    finder = doctest.DocTestFinder(recurse=False)
    return [one for name, part, _ in parts(thing) for one in finder.find(part, name, globs={}) if one.examples]


def failures(thing):
    runner = doctest.DocTestRunner(verbose=False)
    return sum(runner.run(one, out=lambda text: None).failed for one in examples(thing))


@pytest.mark.parametrize("name", NAMED)
def test_every_parameter_is_named(name):
    assert complaints(public(name)) == []


@pytest.mark.parametrize("name", DROP_IN)
def test_drop_in_functions_say_shape_errors_bits_and_source(name):
    assert drop_in_complaints(public(name)) == []


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_name_their_source(name):
    assert "Source: " in public(name).__doc__


@pytest.mark.parametrize("name", NAMED)
def test_examples_run(name):
    assert failures(public(name)) == 0


def test_there_are_examples():
    assert sum(len(examples(public(name))) for name in NAMED) >= len(DROP_IN) - 2  # eye_ and dirac_ need none


def test_what_is_not_looked_at_is_torch_s_or_an_alias():
    for name in TORCH_S_OWN:
        assert getattr(fastinit, name) is getattr(torch.nn.init, name)
    for name in DEPRECATED:
        assert f"`{name}_`" in getattr(fastinit, name).__doc__


def silent(tensor): ...


def unnamed(tensor, std):
    """Fill `tensor`."""


class Half(Tabular):
    """A report.

    Args:
        rows: of it
    """

    def __init__(self, rows): ...
    def plotted(self, path):
        """Draw it."""

    @property
    def ok(self):
        return True


def wrong(tensor):
    """Fill `tensor`.

    >>> 1 + 1
    3
    """


def test_negative_controls():
    assert complaints(silent) == ["silent: no docstring"]
    assert complaints(unnamed) == ["unnamed: std is not named"]
    assert complaints(Half) == ["Half.plotted: path is not named", "Half.ok: no docstring"]
    assert drop_in_complaints(unnamed) == ["Raises", "bits", "shape", "source"]
    assert drop_in_complaints(torch.nn.init.uniform_) == ["Raises", "bits", "shape", "source"]
    assert failures(wrong) == 1
