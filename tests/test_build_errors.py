"""What a build or an import that cannot work says: one paragraph that names the remedy, and no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
