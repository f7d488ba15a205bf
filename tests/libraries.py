"""Other people's libraries for tests, skipped where they are not, and a comparison of their own initialisation."""

import importlib
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from recorded_init import Recorder, differences, record
from torch import nn

from fastinit import Recipe
from fastinit.plan import make_plan


def library(name: str) -> Any:
    """Import a module, or skip the test and say why."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision beside another torch than it was built for
        if os.environ.get("FASTINIT_REQUIRE_LIBRARIES"):
            raise
        pytest.skip(f"{name} cannot be imported beside torch {torch.__version__}: {error}")


def disagreements(build: Callable[[], nn.Module], recipe: Recipe) -> list[str]:
    """Build a model by its library's own code; return where the recipe says other laws. Every parameter is compared."""
    return disagreements_of(*record(build), recipe)


def disagreements_of(model: nn.Module, recorder: Recorder, recipe: Recipe) -> list[str]:
    entries = make_plan(model, recipe).entries
    compared = {id(entry.tensor) for entry in entries if not entry.buffer}
    assert compared == {id(parameter) for parameter in model.parameters()}
    return differences(recorder, entries)
