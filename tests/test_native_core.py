"""The kernel core without torch: under sanitizers here, and under an emulator for the NEON kernels."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parent / "native"
AARCH64_CXX, QEMU = "aarch64-linux-gnu-g++", "qemu-aarch64"

pytestmark = pytest.mark.slow


def need(found: bool, what: str) -> None:
    """Skip without `what`; fail where it was promised (in CI, which installs it)."""
    if not found:
        (pytest.fail if os.environ.get("FASTINIT_REQUIRE_NATIVE") == "1" else pytest.skip)(f"needs {what}")


def core_check(target: str) -> tuple[list[str], set[str]]:
    """Build and run the check; its digests, one a law and type, and the instruction sets that it checked."""
    make = subprocess.run(["make", "-C", NATIVE, f"-j{os.cpu_count()}", target], capture_output=True, text=True)
    assert make.returncode == 0, make.stderr
    report = NATIVE.parent.parent / "build" / "native" / f"{target}.txt"
    digests, checked = report.read_text().splitlines()[:-1], report.read_text().splitlines()[-1]
    found = re.fullmatch(r"checked (\d+) elements:(.*)", checked)
    assert found
    assert int(found[1]) > 0
    return digests, set(found[2].split())


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], set[str]]:
    empty = tmp_path_factory.mktemp("sanitizers") / "empty.cpp"
    empty.write_text("int main() {}\n")
    compiler = os.environ.get("CXX", "c++")
    build = [*compiler.split(), "-fsanitize=address,undefined", "-o", empty.with_suffix(""), empty]
    need(subprocess.run(build, capture_output=True).returncode == 0, f"the sanitizers' libraries of {compiler}")
    return core_check("native")


def test_every_instruction_set_here_is_clean_under_sanitizers(native: tuple[list[str], set[str]]) -> None:
    digests, isas = native
    cpuinfo = Path("/proc/cpuinfo").read_text()
    expected = {isa for isa, flag in {"avx2": " avx2 ", "avx512": " avx512bw "}.items() if flag in cpuinfo}
    assert isas >= expected | {"scalar"}
    assert len(digests) == len(set(digests))


def test_neon_gives_the_same_bits(native: tuple[list[str], set[str]]) -> None:
    for tool in (AARCH64_CXX, QEMU):
        need(shutil.which(tool) is not None, tool)
    digests, isas = core_check("aarch64")
    assert isas == {"neon", "scalar"}
    assert digests == native[0]
