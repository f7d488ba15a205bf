"""Where a self-check fails, torch's own code writes, and the numbers stay torch's. Each process finds that out anew."""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch_cases import LAWS, NUMBERS, STATES, small_tensors
from torch_stream import DTYPES, LAW, compare, settle, torch_calls

import fastinit
from fastinit import _C

# Everything that goes torch's different ways, compared in a process of its own. Prints what it found out.
COMPARING = """
import itertools, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from test_torch_stream_fallback import compare_some
    compare_some()
import fastinit
from fastinit import _C
verdicts = set(_C.torch_verdicts().values())
print(fastinit._ops.isa(), sorted(verdicts), sum(issubclass(w.category, RuntimeWarning) for w in caught))
"""


def compare_some() -> None:
    for name, dtype, numbers in itertools.product(LAWS, DTYPES, range(2)):
        for tensor, position in zip(small_tensors(dtype), STATES, strict=False):
            compare(name, tensor, *NUMBERS[name][numbers], state=STATES[position])
        compare(name, torch.empty(2**17 + 5, dtype=dtype), *NUMBERS[name][numbers], state=STATES["cached normal"])
    for dtype in DTYPES:
        compare("sparse_", torch.empty(33, 65, dtype=dtype), 0.3, state=STATES["cached normal"])


def run(**environment: str) -> list[str]:
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", COMPARING],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_process_without_vector_kernels_of_fastinit() -> None:
    """Every instruction set has its turn within one process; here it is chosen from outside."""
    assert run(FASTINIT_ISA="scalar") == ["scalar [True] 0"]


def test_a_process_without_vector_kernels_of_torch() -> None:
    """Its numbers are others there; fastinit warns once and gives those."""
    isa = fastinit._ops.isa()
    assert run(ATEN_CPU_CAPABILITY="default") == [f"{isa} [False] 1"]


@pytest.fixture
def verdicts_forgotten() -> Iterator[None]:
    _C.use_isa(_C.isa())
    yield
    _C.use_isa(_C.isa())


@pytest.mark.usefixtures("verdicts_forgotten")
@pytest.mark.parametrize("name", LAWS)
def test_a_failed_check_sends_that_law_and_type_to_torch_and_no_other(name: str) -> None:
    for dtype in DTYPES:
        settle(dtype)
    _C.torch_verdict(LAW[name], torch.float32, False)
    for other, dtype in itertools.product(LAWS, DTYPES):
        tensor = torch.empty(40, dtype=dtype)
        with torch_calls() as calls:
            getattr(fastinit, other)(tensor, generator=torch.Generator())
        assert bool(calls) == ((other, dtype) == (name, torch.float32))
        compare(other, tensor, state=STATES["one word left"])
