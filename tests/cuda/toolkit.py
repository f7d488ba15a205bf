"""Where nvcc and its companions are, and what every kernel is compiled with.

nvcc comes from PyPI, pinned in requirements/ (nvidia-cuda-nvcc, -crt, nvidia-nvvm, nvidia-cuda-runtime, -cccl),
and lies in site-packages/nvidia/cu13; so do cuobjdump and nvdisasm. Without those packages the folder that
CUDA_HOME names is taken.
"""

import dataclasses
import functools
import importlib.util
import os
import shlex
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
BUILD = ROOT / "build" / "cuda"

# The numbers are a promise on the device too. setup.py has the same flags; test_ladder_compile.py compares them.
KERNEL_FLAGS = ["-std=c++20", "-O3", "--fmad=false", "-ftz=false", "-prec-div=true", "-prec-sqrt=true"]
WARNINGS_ARE_ERRORS = ["-Werror=all-warnings", "-Xptxas=-warn-spills,-warn-lmem-usage,-Werror"]
ARCHITECTURES = (80, 90, 100, 120)

# The host side of the ladder: the numbers' own flags of setup.py.
HOST_FLAGS = ["-std=c++20", "-ffp-contract=off", "-fno-math-errno"]


class MissingToolError(RuntimeError):
    """A part of the CUDA toolkit is not there; the message says which, and how to get it."""


@dataclasses.dataclass(frozen=True)
class Toolkit:
    home: Path

    @property
    def nvcc(self) -> Path:
        return self.home / "bin" / "nvcc"

    @property
    def cuobjdump(self) -> Path:
        return self.home / "bin" / "cuobjdump"

    @property
    def include(self) -> Path:
        return self.home / "include"

    def missing(self) -> list[str]:
        needed = {
            self.nvcc: "nvidia-cuda-nvcc",
            self.include / "crt" / "host_defines.h": "nvidia-cuda-crt",
            self.home / "nvvm" / "bin" / "cicc": "nvidia-nvvm",
            self.include / "cuda_runtime_api.h": "nvidia-cuda-runtime",
            self.cuobjdump: "nvidia-cuda-cuobjdump",
            self.home / "bin" / "nvdisasm": "nvidia-cuda-nvdisasm",
        }
        return [f"{path.relative_to(self.home)} ({package})" for path, package in needed.items() if not path.exists()]


def _homes() -> list[Path]:
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(folder, "cu13") for folder in (spec.submodule_search_locations or [] if spec else [])]
    if named := os.environ.get("CUDA_HOME"):
        folders.append(Path(named))
    return [folder for folder in folders if (folder / "bin" / "nvcc").exists()]


@functools.cache
def toolkit() -> Toolkit:
    """The toolkit of this environment; MissingToolError says what it lacks."""
    homes = _homes()
    if not homes:
        raise MissingToolError(
            "no nvcc: this Python has no package nvidia-cuda-nvcc (site-packages/nvidia/cu13/bin/nvcc), and CUDA_HOME "
            f"names no toolkit (it is {os.environ.get('CUDA_HOME')!r}). `make test-cuda` makes an environment with it."
        )
    found = Toolkit(homes[0])
    if missing := found.missing():
        raise MissingToolError(f"the CUDA toolkit in {found.home} lacks {', '.join(missing)}: install those packages")
    return found


def host_compiler() -> list[str]:
    command = shlex.split(os.environ.get("CXX", "c++"))
    if shutil.which(command[0]) is None:
        raise MissingToolError(f"no C++ compiler {shlex.join(command)!r}: install g++, or name one in CXX")
    return command


def run(command: list[str | Path], seconds: float = 600) -> str:
    """Run the command and return its output; its errors are in the exception's message."""
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise CommandError(command, -1, f"it did not end within {seconds:g} seconds") from None
    if done.returncode != 0:
        raise CommandError(command, done.returncode, done.stdout + done.stderr)
    return done.stdout


class CommandError(RuntimeError):
    def __init__(self, command: list[str | Path], status: int, output: str) -> None:
        super().__init__(f"{shlex.join(map(str, command))}\nended with status {status}:\n{output[-6000:]}")
        self.output = output
