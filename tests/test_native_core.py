"""The parts that need no torch: under sanitizers here, and under an emulator for aarch64."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parent / "native"
AARCH64_CXX, QEMU = "aarch64-linux-gnu-g++", "qemu-aarch64"

pytestmark = [pytest.mark.slow, pytest.mark.native]


def need(found: bool, what: str) -> None:
    """Skip without `what`; fail where it was promised (in CI, which installs it)."""
    if not found:
        (pytest.fail if os.environ.get("FASTINIT_REQUIRE_NATIVE") == "1" else pytest.skip)(f"needs {what}")


def build_and_run(target: str) -> None:
    make = subprocess.run(["make", "-C", NATIVE, f"-j{os.cpu_count()}", target], capture_output=True, text=True)
    assert make.returncode == 0, make.stderr


def report(target: str, program: str) -> list[str]:
    """Return what `make target` had the program print."""
    return (NATIVE.parent.parent / "build" / "native" / target / f"{program}.txt").read_text().splitlines()


def digests_and_isas(target: str, program: str) -> tuple[list[str], set[str]]:
    """Return the program's digests, one a case, and the instruction sets that were checked."""
    *digests, checked = report(target, program)
    found = re.fullmatch(r"checked (\d+) elements:(.*)", checked)
    assert found
    assert int(found[1]) > 0
    return digests, set(found[2].split())


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> str:
    empty = tmp_path_factory.mktemp("sanitizers") / "empty.cpp"
    empty.write_text("int main() {}\n")
    compiler = os.environ.get("CXX", "c++")
    build = [*compiler.split(), "-fsanitize=address,undefined", "-o", empty.with_suffix(""), empty]
    need(subprocess.run(build, capture_output=True).returncode == 0, f"the sanitizers' libraries of {compiler}")
    build_and_run("native")
    return "native"


@pytest.fixture(scope="module")
def aarch64() -> str:
    for tool in (AARCH64_CXX, QEMU):
        need(shutil.which(tool) is not None, tool)
    build_and_run("aarch64")
    return "aarch64"


@pytest.mark.parametrize("program", ["core_check", "sparse_check", "stream_check"])
def test_every_instruction_set_here_is_clean_under_sanitizers(native: str, program: str) -> None:
    digests, isas = digests_and_isas(native, program)
    cpuinfo = Path("/proc/cpuinfo").read_text()
    expected = {isa for isa, flag in {"avx2": " avx2 ", "avx512": " avx512bw "}.items() if flag in cpuinfo}
    assert isas >= expected | {"scalar"}
    assert len(digests) == len(set(digests))


@pytest.mark.parametrize("program", ["core_check", "sparse_check", "stream_check"])
def test_neon_gives_the_same_bits(native: str, aarch64: str, program: str) -> None:
    digests, isas = digests_and_isas(aarch64, program)
    assert isas == {"neon", "scalar"}
    assert digests == digests_and_isas(native, program)[0]


def test_jumps_of_the_generator_are_clean_and_the_same_on_aarch64(native: str, aarch64: str) -> None:
    digests = report(native, "jump_check")
    assert len(set(digests)) == 3
    assert digests == report(aarch64, "jump_check")
