"""All of fastinit as on a device: tests/test_gpu.py on an emulated one, from Python through the module to the kernels.

torch_device.cpp stands in for the CUDA runtime, and the kernels are the .cu files through the shim: whether nvcc's
output does the same is for the other rungs.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastinit._build_info import CUDA

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FLAGS = ["-std=c++20", "-O2", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-Wno-unknown-pragmas"]
# The emulator's own two, for torch_device.cpp to put others in front of.
RENAMED = ["-DcudaLaunchKernel=emulated_launch", "-DcudaGetLastError=emulated_last_error"]

pytestmark = [
    pytest.mark.cuda_ladder,
    pytest.mark.skipif(not CUDA and os.environ.get("FASTINIT_CUDA") != "1", reason="built without CUDA kernels"),
]


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library to preload; it goes by libcuda's name, which torch opens."""
    from toolkit import host_compiler, toolkit

    folder = tmp_path_factory.mktemp("device")
    include = [f"-I{HERE}", f"-isystem{toolkit().include}"]
    sources = [*sorted((ROOT / "csrc" / "cuda").glob("*.cu")), HERE / "emulator.cpp", HERE / "shim_memory.cpp"]
    running, objects = [], []
    for source in [*sources, HERE / "torch_device.cpp"]:
        objects.append(folder / f"{source.name}.o")
        renamed = RENAMED if source.stem == "emulator" else []
        command = [*host_compiler(), *FLAGS, *renamed, *include, "-x", "c++", "-c", source, "-o", objects[-1]]
        running.append(subprocess.Popen(command))
    assert [process.wait() for process in running] == [0] * len(running)
    library = folder / "libcuda.so.1"
    link = [*host_compiler(), "-shared", f"-Wl,-soname,{library.name}", *objects, "-o", library, "-ldl"]
    subprocess.run(link, check=True)
    return library


def run_there(device: Path, tests: Path) -> dict[str, int]:
    """Run tests where torch finds the emulated device; return how many passed, failed and so on."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=native", "-p", "no:cacheprovider", "-m", "", tests]
    environment = {**os.environ, "LD_PRELOAD": str(device), "FASTINIT_EMULATED_DEVICE": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-10_000:] + result.stderr[-10_000:]
    return {what: int(number) for number, what in re.findall(r"(\d+) (\w+)", result.stdout.splitlines()[-1])}


def test_the_tests_of_a_device_pass_on_the_emulated_one(device: Path) -> None:
    counts = run_there(device, ROOT / "tests" / "test_gpu.py")
    assert counts["passed"] > 300
    assert counts["skipped"] < 30  # what needs kernels of torch's own


def test_launches(device: Path) -> None:
    assert "skipped" not in run_there(device, HERE / "emulated_launches.py")
