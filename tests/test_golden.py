"""The keyed stream's frozen values (golden/keyed.json), recomputed on every instruction set here.

The instruction set is chosen when fastinit loads, by FASTINIT_ISA, so each runs in a process of its own, which says
what it used.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastinit._ops

pytestmark = pytest.mark.one_torch

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("isa", fastinit._ops.available_isas())
def test_golden(isa: str) -> None:
    command = [sys.executable, str(GOLDEN / "make_golden.py"), "--print"]
    run = subprocess.run(command, env={**os.environ, "FASTINIT_ISA": isa}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert result["isa"] == isa
    frozen = json.loads((GOLDEN / "keyed.json").read_text())
    differing = [new for new, old in zip(result["cases"], frozen, strict=True) if new != old]
    assert not differing


def test_golden_file_is_not_overwritten() -> None:
    before = (GOLDEN / "keyed.json").read_bytes()
    run = subprocess.run([sys.executable, str(GOLDEN / "make_golden.py")], capture_output=True, text=True)
    assert run.returncode == 1
    assert "--force" in run.stderr
    assert (GOLDEN / "keyed.json").read_bytes() == before
