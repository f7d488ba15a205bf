"""Square root and division of csrc/cuda/arithmetic.h round as IEEE-754 says.

The division does so whatever seed the hardware's reciprocal gives within its documented error: all arguments that a law
has are enumerated. The square root does but for two seeds of 51 million, and those the hardware does not give: its
own sqrt.rn, which is correctly rounded by definition, consists of the same operations.
"""

import platform
import re
from pathlib import Path

import pytest
from toolkit import ARCHITECTURES, KERNEL_FLAGS, ROOT, host_compiler, run, toolkit

HERE = Path(__file__).parent

KERNELS = """
#include "csrc/cuda/arithmetic.h"
using namespace fastinit::cuda;
extern "C" __global__ void root(float* x) { *x = square_root(*x); }
extern "C" __global__ void root_by_definition(float* x) { *x = __fsqrt_rn(*x); }
extern "C" __global__ void quotient(float* x) { *x = divide(*x, x[1]); }
extern "C" __global__ void quotient_by_definition(float* x) { *x = __fdiv_rn(*x, x[1]); }
"""


@pytest.mark.native
@pytest.mark.slow
def test_every_seed(tmp_path: Path) -> None:
    program = tmp_path / "rounding_check"
    fma = ["-mfma"] if platform.machine() == "x86_64" else []  # a library's takes a hundred times as long
    source = HERE / "rounding_check.cpp"
    run([*host_compiler(), "-std=c++20", "-O3", "-ffp-contract=off", *fma, "-o", program, source])
    assert run([program]).splitlines() == [
        "square root: 16777216 arguments, 50859330 with their seeds, 2 not rounded correctly",
        "central quotient: 36265799 arguments, 72531602 with their seeds, 0 not rounded correctly",
        "tail quotient: 17301505 arguments, 34603012 with their seeds, 0 not rounded correctly",
    ]


def stored_value(sass: str) -> str:
    """Return what a kernel's first store stores, as an expression in what its loads load.

    Branches are not taken: ptxas puts what is outside the usual range into a subroutine behind the kernel's end.
    """
    values: dict[str, str] = {}

    def value(operand: str) -> str:
        operand = operand.removesuffix(".reuse")
        sign = "-" if operand.startswith("-") else ""
        return sign + values.get(operand.lstrip("-"), operand.lstrip("-"))

    loads = 0
    for line in re.findall(r"/\*[0-9a-f]{4}\*/\s+(.*?)\s*;", sass):
        op, _, rest = line.partition(" ")
        if op.startswith("@"):  # branches, and what only the subroutine does
            continue
        operands = [operand.strip() for operand in rest.split(",")]
        name = op.split(".")[0]
        if name == "LDG":
            values[operands[0]] = f"x{'1' if '+0x4' in rest else '0'}"
            loads += 1
        elif name == "MUFU":
            values[operands[0]] = f"{op.split('.')[1]}({value(operands[1])})"
        elif name == "FMUL" or (name == "FFMA" and operands[3] == "RZ"):
            values[operands[0]] = f"({' * '.join(sorted(map(value, operands[1:3])))})"
        elif name == "FFMA":
            product = " * ".join(sorted(map(value, operands[1:3])))
            values[operands[0]] = f"({product} + {value(operands[3])})"
        elif name == "STG":
            assert loads
            return value(operands[-1])
    raise AssertionError("nothing is stored")


@pytest.mark.cuda_ladder
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_same_operations_as_by_definition(architecture: int, tmp_path: Path) -> None:
    source, cubin = tmp_path / "kernels.cu", tmp_path / "kernels.cubin"
    source.write_text(KERNELS)
    nvcc = [toolkit().nvcc, *KERNEL_FLAGS, f"-arch=sm_{architecture}", "-cubin", f"-I{ROOT}"]
    run([*nvcc, "-o", cubin, source])
    listing = run([toolkit().cuobjdump, "--dump-sass", cubin])
    sass = dict(re.findall(r"Function : (\w+)\n(.*?)(?=Function :|\Z)", listing, re.DOTALL))
    for name, ours in (("root", "RSQ(x0)"), ("quotient", "RCP(x1)")):
        assert ours in stored_value(sass[name])
        assert stored_value(sass[name]) == stored_value(sass[f"{name}_by_definition"])
