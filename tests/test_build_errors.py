"""What a build or an import that cannot work says: one paragraph that names the remedy, and no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.one_torch
ROOT = Path(__file__).parent.parent


def build(tmp_path: Path, sitecustomize: str = "", **environment: str) -> str:
    """What a build that must fail prints. `sitecustomize` is run by Python before anything else."""
    (tmp_path / "sitecustomize.py").write_text(sitecustomize)
    result = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", tmp_path],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path), **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    message = result.stderr.strip().splitlines()[-1]
    assert message.startswith("fastinit: cannot build")
    return message


def compiler(tmp_path: Path, macros: str) -> str:
    """A stand-in for a C++ compiler that only prints its macros."""
    script = tmp_path / "c++"
    script.write_text(f"#!/bin/sh\necho '{macros}'\n")
    script.chmod(0o755)
    return str(script)


def nvcc(folder: Path, script: str) -> None:
    """A stand-in for an nvcc in the folder, as CUDA_HOME would have it."""
    program = folder / "bin" / "nvcc"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def torch_for(cuda: str | None) -> str:
    """What makes torch a build for a version of CUDA that no machine has, or for none."""
    return f"import torch; torch.version.cuda = {cuda!r}"


def without_nvcc(tmp_path: Path) -> dict[str, str]:
    """An environment with no nvcc but that in `tmp_path`, and a C++ compiler good enough for the first look."""
    return {
        "PATH": os.defpath,
        "CUDA_HOME": str(tmp_path),
        "CUDA_PATH": "",
        "CXX": compiler(tmp_path, "#define __GNUC__ 12"),
        "FASTINIT_CUDA": "1",
    }


def test_without_torch(tmp_path: Path) -> None:
    message = build(tmp_path, "import sys; sys.modules['torch'] = None")
    assert "no module 'torch'" in message
    assert "pip install torch" in message
    assert "--no-build-isolation" in message


def test_without_compiler(tmp_path: Path) -> None:
    message = build(tmp_path, CXX="/nonexistent")
    assert "'/nonexistent': there is no such C++ compiler" in message
    assert "apt-get install g++" in message


@pytest.mark.parametrize(
    ("macros", "name"), [("#define __GNUC__ 10", "GCC 10"), ("#define __clang_major__ 13", "Clang 13")]
)
def test_old_compiler(tmp_path: Path, macros: str, name: str) -> None:
    message = build(tmp_path, CXX=compiler(tmp_path, macros))
    assert f"{name} is too old for C++20" in message
    assert "GCC 11 or Clang 14" in message


def test_something_else_as_compiler(tmp_path: Path) -> None:
    assert "neither GCC nor Clang" in build(tmp_path, CXX=compiler(tmp_path, "hello"))


def test_without_python_headers(tmp_path: Path) -> None:
    message = build(tmp_path, f"import sysconfig; sysconfig.get_path = lambda *_: '{tmp_path}'")
    assert f"{tmp_path}/Python.h is not there" in message
    assert "apt-get install python3-dev" in message


def test_something_else_as_choice_of_cuda(tmp_path: Path) -> None:
    assert "FASTINIT_CUDA must be auto, 0 or 1, and is 'yes'" in build(tmp_path, FASTINIT_CUDA="yes")


def test_cuda_without_a_cuda_build_of_torch(tmp_path: Path) -> None:
    message = build(tmp_path, torch_for(None), FASTINIT_CUDA="1")
    assert "FASTINIT_CUDA=1" in message
    assert "is no CUDA build: install one" in message


def test_cuda_without_nvcc(tmp_path: Path) -> None:
    message = build(tmp_path, torch_for("99.1"), **without_nvcc(tmp_path))
    assert "no nvcc of CUDA 99, for which torch is built" in message
    assert f"there is no {tmp_path}/bin/nvcc" in message
    for package in ("nvcc", "crt", "runtime", "cccl"):
        assert f"nvidia-cuda-{package}==99.1.*" in message
    assert "nvidia-nvvm==99.1.*" in message


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo 'Cuda compilation tools, release 12.4, V12.4.99'", "is of CUDA 12.4.99"),
        ("echo hello", "is no nvcc"),
        (
            'test "$1" = --version && echo V99.1.5 || { echo cicc: not found; exit 1; }',
            "cannot compile an empty kernel (cicc: not found)",
        ),
    ],
)
def test_cuda_with_an_nvcc_that_will_not_do(tmp_path: Path, script: str, problem: str) -> None:
    nvcc(tmp_path, script)
    assert f"{tmp_path}/bin/nvcc {problem}" in build(tmp_path, torch_for("99.1"), **without_nvcc(tmp_path))


def test_cuda_with_an_nvcc_that_does_not_run(tmp_path: Path) -> None:
    nvcc(tmp_path, "")
    (tmp_path / "bin" / "nvcc").write_bytes(b"\x7fELF of another processor")
    message = build(tmp_path, torch_for("99.1"), **without_nvcc(tmp_path))
    assert f"{tmp_path}/bin/nvcc does not run (Exec format error)" in message


@pytest.mark.parametrize(("choice", "lines"), [("auto", 1), ("0", 0)])
def test_without_cuda_unless_asked_for(tmp_path: Path, choice: str, lines: int) -> None:
    """Only what is decided: a build that succeeds takes minutes."""
    decide = "import runpy, setuptools; setuptools.setup = lambda **_: None; "
    decide += "assert runpy.run_path('setup.py')['find_cuda']() is None"
    (tmp_path / "sitecustomize.py").write_text(torch_for("99.1"))
    environment = {**os.environ, **without_nvcc(tmp_path), "FASTINIT_CUDA": choice, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", decide], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    said = result.stdout.splitlines()
    assert len(said) == lines
    assert all(line.startswith("fastinit: building without CUDA kernels: there is no nvcc") for line in said)


def test_make_without_venv(tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\ncase "$2" in *venv*) exit 1;; esac\n')
    python.chmod(0o755)
    result = subprocess.run(
        ["make", "test", f"PYTHON={python}", f"VENV={tmp_path}/venv"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0
    assert "apt-get install python3-venv" in result.stdout


def test_import_under_another_torch(tmp_path: Path) -> None:
    """The check comes before the library is loaded: the copy here has none."""
    package = tmp_path / "fastinit"
    package.mkdir()
    for source in (ROOT / "fastinit").glob("*.py"):
        (package / source.name).write_text(source.read_text())
    (package / "_build_info.py").write_text('TORCH_VERSION = "1.2.3"\nCOMPILER = ""\nFLAGS = ""\n')
    result = subprocess.run(
        [sys.executable, "-c", "import fastinit"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    error = result.stderr.strip().splitlines()[-1]
    assert error.startswith("ImportError: fastinit was compiled against torch 1.2.3, but torch ")
    assert "pip install --no-build-isolation --force-reinstall" in error
