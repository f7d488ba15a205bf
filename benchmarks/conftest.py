"""Options of the suite, and what every figure of it needs to be known by: the machine and the versions."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest
import torch

from fastinit import machine

LIBRARIES = ("numpy", "transformers", "pytest-benchmark", "jax", "mkl", "randompack")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--suite", choices=("quick", "full"), default="quick", help="how much is measured")


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info["fastinit"] = machine.describe()
    machine_info["libraries"] = dict(_versions())


def _versions() -> Iterator[tuple[str, str]]:
    for name in LIBRARIES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue
