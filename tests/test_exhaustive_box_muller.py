"""Every 2^24 values of each argument of torch's Box-Muller transformation: the script that goes through them passes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastinit

pytestmark = pytest.mark.slow


def test_every_value_of_each_argument() -> None:
    script = Path(__file__).with_name("exhaustive_box_muller.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    compared = [int(n) for n in re.findall(r"(\d+) compared, 0 differ", done.stdout)]
    assert len(compared) == 4 and min(compared) >= 2 * 2**24
    assert done.stdout.endswith(f"0 differ on {', '.join(fastinit._ops.available_isas())}\n")
