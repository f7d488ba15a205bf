"""The errors that the documentation states, measured: every radius of the normal law, its angles, windows of the
truncated normal from the centre out to 12 standard deviations, the host's distribution function."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BOUNDS = {
    "normal_radius": 5.5e-7,
    "normal_z": 1.4e-6,
    "normal64_z": 4e-15,
    "trunc_normal_z": 2e-6,
    "trunc_normal_tail_z": 2e-6,
    "trunc_normal64_z": 1e-14,
    "normal_cdf_relative": 2e-14,
}

pytestmark = pytest.mark.native


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    program = tmp_path_factory.mktemp("accuracy") / "accuracy"
    sources = [ROOT / "tests/native/accuracy.cpp", ROOT / "csrc/laws.cpp"]
    flags = ["-O2", "-std=c++20", "-ffp-contract=off"]
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    subprocess.run([*compiler, *flags, *sources, "-o", program], check=True)
    lines = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
    return {name: float(error) for name, error in map(str.split, lines)}


@pytest.mark.parametrize("quantity", BOUNDS)
def test_error_is_within_its_bound(errors, quantity):
    assert BOUNDS[quantity] / 4 < errors[quantity] <= BOUNDS[quantity], "a bound that is far too wide says nothing"


def test_every_error_has_a_bound(errors):
    assert errors.keys() == BOUNDS.keys()
