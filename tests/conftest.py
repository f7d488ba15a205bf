"""What every test may use: subprocesses under a chosen instruction set, and a header that says what runs."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

PythonRun = Callable[..., subprocess.CompletedProcess[str]]


def pytest_report_header() -> str:
    import fastinit._ops

    return f"torch {torch.__version__}, {torch.get_num_threads()} threads, {fastinit._ops.isa()} kernels"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture
def isa_env() -> Callable[[str], dict[str, str]]:
    """The environment of a subprocess that must use one instruction set: it is chosen when fastinit loads."""
    return lambda isa: {**os.environ, "FASTINIT_ISA": isa}


@pytest.fixture
def run_python(isa_env: Callable[[str], dict[str, str]]) -> PythonRun:
    """`run_python(code, isa="avx2")`: the finished process, its output as text."""

    def run(code: str, isa: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code], env=isa_env(isa), capture_output=True, text=True)

    return run
