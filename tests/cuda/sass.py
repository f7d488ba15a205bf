"""Machine code (SASS) as cuobjdump shows it: an audit against the PTX it was made from, and what an element
costs.

The audit counts. What ptxas makes of a kernel must have exactly the float additions, multiplications, fused
multiply-adds, minima, maxima and conversions that nvcc's PTX has, none with a rounding of its own: one less was
dropped or contracted, one more is not what was executed on the CPU.
MUFU, the unit for approximations, may give the seeds that the PTX asks for, and those of whole divisions. In float64
div.rn and sqrt.rn become sequences of their own; how long these are is measured on kernels that have one and two of
them. No spills, no local memory, no flushing to zero, and no float64 arithmetic in a kernel of float32.
"""

import collections
import dataclasses
import functools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import ptx_to_cpp
from toolkit import run, toolkit

import build


@dataclasses.dataclass(frozen=True)
class Instruction:
    address: int
    guard: str
    opcode: str
    operands: str

    @property
    def name(self) -> str:
        return self.opcode.split(".")[0]

    @property
    def target(self) -> int | None:
        """Where a branch goes."""
        match = re.search(r"0x([0-9a-f]+)$", self.operands)
        return int(match[1], 16) if self.name == "BRA" and match else None


@functools.cache
def kernels(device_object: Path) -> dict[str, list[Instruction]]:
    text = run([toolkit().cuobjdump, "--dump-sass", device_object])
    found = {}
    for function in re.finditer(r"Function : (\S+)\n(.*?)(?=\n\s*Function :|\Z)", text, re.S):
        lines = re.findall(r"/\*([0-9a-f]{4,5})\*/\s+(@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)\s*(.*?)\s*;\s+/\*", function[2])
        found[function[1]] = [Instruction(int(a, 16), guard.strip(), op, rest) for a, guard, op, rest in lines]
    if not found or not all(found.values()):
        raise RuntimeError(f"no kernels in what {toolkit().cuobjdump} says of {device_object}")
    return found


@functools.cache
def resources(device_object: Path) -> dict[str, dict[str, int]]:
    """Of each kernel: registers (REG), bytes of STACK, SHARED and LOCAL memory."""
    text = run([toolkit().cuobjdump, "--dump-resource-usage", device_object])
    pairs = re.findall(r"Function (\S+):\s*\n\s*(REG:.*)", text)
    return {name: {key: int(n) for key, n in re.findall(r"([A-Z]+):(\d+)", usage)} for name, usage in pairs}


# --- The audit -----------------------------------------------------------------------------------------------------
FLOAT32 = {"add": "FADD", "sub": "FADD", "mul": "FMUL", "fma": "FFMA"}
FLOAT64 = {"add": "DADD", "sub": "DADD", "mul": "DMUL", "fma": "DFMA"}
EXPANDED = ("div.rn.f64", "sqrt.rn.f64")  # sequences of instructions
_WIDE = ("DADD", "DMUL", "DFMA")


def asked_for(counts: dict[str, int]) -> Counter[str]:
    """The SASS that a kernel's PTX instructions become one for one."""
    wanted: Counter[str] = collections.Counter()
    for opcode, n in counts.items():
        parts = opcode.split(".")
        if parts[0] in FLOAT32 and parts[1:] == ["rn", "f32"]:
            wanted[FLOAT32[parts[0]]] += n
        elif parts[0] in FLOAT64 and parts[1:] == ["rn", "f64"]:
            wanted[FLOAT64[parts[0]]] += n
        elif opcode == "rsqrt.approx.ftz.f32":
            wanted["MUFU.RSQ"] += n
        elif opcode == "rcp.approx.ftz.f32":
            wanted["MUFU.RCP"] += n
        elif re.fullmatch(r"cvt\.rn\.f32\.[us]\d+", opcode):
            wanted["integer to float32"] += n
        elif re.fullmatch(r"cvt\.rn\.f64\.[us]\d+", opcode):
            wanted["integer to float64"] += n
        elif match := re.fullmatch(r"cvt\.rn\.(b?f16)x2\.f32", opcode):
            wanted[f"float32 to pairs of {match[1]}"] += n
        elif opcode in ("min.f32", "max.f32"):
            wanted["smaller or larger float32"] += n
    return wanted


def has(instructions: list[Instruction]) -> Counter[str]:
    """What a kernel's SASS has of that, less the seeds and conversions of divisions of whole numbers."""
    found: Counter[str] = collections.Counter()
    for i in instructions:
        if i.name in ("FADD", "FMUL", "FFMA", *_WIDE):
            found[i.opcode] += 1  # in full: FADD.RZ is no FADD
        elif i.opcode in ("MUFU.RSQ", "MUFU.RCP"):
            found[i.opcode] += 1
        elif re.match(r"I2F\.(U32|U64)\.RP", i.opcode):  # a division of whole numbers: rounded up, which no PTX here is
            found["MUFU.RCP"] -= 1
        elif re.search(r"\.R[PMZ]\b", i.opcode):
            found[i.opcode] += 1
        elif i.name == "I2FP" or i.name == "I2F":
            found["integer to float64" if "F64" in i.opcode else "integer to float32"] += 1
        elif i.name == "F2FP":
            found[f"float32 to pairs of {'bf16' if '.BF16' in i.opcode else 'f16'}"] += 1
        elif i.name in ("FMNMX", "FMNMX3"):  # of two numbers or of three
            found["smaller or larger float32"] += 2 if i.name == "FMNMX3" else 1
    return found


def forbidden(i: Instruction, is_double: bool) -> bool:
    """Whether no kernel, or none of this type, may have the instruction."""
    if i.name in ("LDL", "STL"):
        return True  # local memory
    if i.name == "MUFU":
        return i.opcode not in ("MUFU.RSQ", "MUFU.RCP") and not (
            is_double and i.opcode in ("MUFU.RSQ64H", "MUFU.RCP64H")
        )
    if i.name in ("HFMA2", "HADD2", "HMUL2"):  # a way to write a constant into a register, if it multiplies zeros
        return re.search(r", -RZ, RZ, ", i.operands) is None
    if re.fullmatch(r"F2I\.(FTZ\.)?U(32|64)\.TRUNC(\.NTZ)?", i.opcode):  # of divisions of whole numbers
        return False
    if not is_double and (i.name in (*_WIDE, "DSETP", "DMNMX", "F2F") or ".F64" in i.opcode):
        return True
    return ".FTZ" in i.opcode or i.name in ("F2F", "F2I", "FRND", "FCHK")


_CALIBRATION = """
extern "C" __global__ void div1(double* x) { x[0] = x[1] / x[2]; }
extern "C" __global__ void div2(double* x) { x[0] = x[1] / x[2]; x[3] = x[4] / x[5]; }
extern "C" __global__ void sqrt1(double* x) { x[0] = sqrt(x[1]); }
extern "C" __global__ void sqrt2(double* x) { x[0] = sqrt(x[1]); x[3] = sqrt(x[4]); }
"""


@functools.cache
def expansion(architecture: int) -> dict[str, tuple[Counter[str], Counter[str]]]:
    """What each div.rn.f64 and sqrt.rn.f64 becomes, and what a kernel with any has once: a slow path."""
    source = build.made("calibration.cu", build.digest(_CALIBRATION), lambda out: out.write_text(_CALIBRATION) and None)
    all_kernels = kernels(build.device_object(source, build.HERE, architecture, []))

    each = {}
    for opcode, name in zip(EXPANDED, ("div", "sqrt"), strict=True):
        one, two = has(all_kernels[f"{name}1"]), has(all_kernels[f"{name}2"])
        each[opcode] = (two - one, one - (two - one))
    return each


def audit(ptx: Path, device_object: Path, architecture: int) -> list[str]:
    """All that is wrong with the machine code, as seen from the PTX."""
    wrong = []
    translations = ptx_to_cpp.translate(ptx.read_text())
    code, usage = kernels(device_object), resources(device_object)
    if code.keys() != translations.keys() or usage.keys() != code.keys():
        wrong.append(f"kernels {sorted(code)} in the SASS, {sorted(translations)} in the PTX")
    for name in sorted(code.keys() & translations.keys() & usage.keys()):
        counts = translations[name].counts
        is_double = any(opcode.endswith(".f64") for opcode in counts)
        wanted, found = asked_for(counts), has(code[name])
        for opcode, (each, once) in expansion(architecture).items():
            n = counts.get(opcode, 0)
            for op in each.keys() | once.keys():
                wanted[op] += n * each[op] + (once[op] if n else 0)
        for op in sorted(wanted.keys() | found.keys()):
            if wanted[op] != found[op]:
                wrong.append(f"sm_{architecture} {name}: {found[op]} of {op}, and the PTX asks for {wanted[op]}")
        for i in code[name]:
            if forbidden(i, is_double):
                wrong.append(f"sm_{architecture} {name}: {i.opcode} {i.operands} at {i.address:#x}")
        for memory in ("STACK", "LOCAL"):
            if usage[name][memory]:
                wrong.append(f"sm_{architecture} {name}: {usage[name][memory]} bytes of {memory.lower()} memory")
        if is_double != name.endswith("float64"):
            wrong.append(f"{name} {'has' if is_double else 'lacks'} float64 arithmetic")
    return wrong


# --- What an element costs -----------------------------------------------------------------------------------------
class UncountedError(AssertionError):
    """Machine code whose cost an element cannot be read off."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of the hot path of a kernel: instructions that a warp issues and 16-byte stores, a turn of the loop."""

    issued: int
    stores: int
    skipped: int  # instructions that branches forward skip, taken for rare
    registers: int
    classes: dict[str, int]

    def slots(self, item: int) -> float:
        """Issue slots an element of so many bytes."""
        return self.issued / (self.stores * 16 / item)


def _class(i: Instruction) -> str:
    if i.name in ("FADD", "FMUL", "FFMA"):
        return "float32"
    if i.name.startswith("D") and i.name in (*_WIDE, "DSETP"):
        return "float64"
    if i.name == "IMAD":
        return "wide products" if ".WIDE" in i.opcode or ".HI" in i.opcode else "integer products and moves"
    if i.name == "MUFU":
        return "seeds"
    if i.name in ("LDC", "ULDC", "LDCU", "STG"):
        return "memory"
    return "control" if i.name in ("BRA", "BSSY", "BSYNC", "NOP") else "integer and logic"


def _is_store(i: Instruction) -> bool:
    return i.name == "STG" and ".128" in i.opcode


def hot_loop(instructions: list[Instruction]) -> tuple[int, int] | None:
    """Where the smallest loop around a 16-byte store begins and ends."""
    stores = [i.address for i in instructions if _is_store(i)]
    loops = [(i.target, i.address) for i in instructions if i.target is not None and i.target < i.address]
    around = [(end - begin, begin, end) for begin, end in loops if any(begin <= s <= end for s in stores)]
    return min(around)[1:] if around else None


def _path(instructions: list[Instruction], begin: int, end: int) -> Iterator[Instruction]:
    """What a turn of the loop issues. Rare work, which branches forward skip, is skipped; no store ever is."""
    body = [i for i in instructions if begin <= i.address <= end]
    place = {i.address: k for k, i in enumerate(body)}
    k = 0
    while k < len(body):
        i = body[k]
        yield i
        forward = i.target is not None and i.target > i.address and i.target in place
        k = place[i.target] if forward and not any(map(_is_store, body[k + 1 : place[i.target]])) else k + 1  # type: ignore[index]


def cost(device_object: Path, kernel: str) -> Cost:
    instructions = kernels(device_object)[kernel]
    loop = hot_loop(instructions)
    if loop is None:
        raise UncountedError(f"{kernel} has no loop around a 16-byte store")
    body = [i for i in instructions if loop[0] <= i.address <= loop[1]]
    for i in body[:-1]:
        if i.target is not None and i.target <= i.address:
            raise UncountedError(f"{kernel} has a loop within its loop of 16-byte stores, at {i.address:#x}")
    path = list(_path(instructions, *loop))
    stores = sum(map(_is_store, path))
    classes = Counter(map(_class, path))
    return Cost(
        len(path), stores, len(body) - len(path), resources(device_object)[kernel]["REG"], dict(sorted(classes.items()))
    )
