"""Translates the PTX that nvcc made to C++, one function a kernel, so that the device code itself runs on this
processor.

    python ptx_to_cpp.py KERNELS.ptx OUT.cpp

Each kernel becomes `extern "C" void NAME(const void* table)`, which runs one thread on the emulator
(emulator.h) with the memory of ptx_runtime.h, and a registration of what the launch must respect: bytes of
parameters, .maxntid, shared memory.

What is meant is the PTX ISA: its syntax is read by ptx_syntax.py; of the chapter "Instruction Set" what computes
a value is in ptx_instructions.py, and here are Data Movement and Conversion Instructions (mov, ld, st, cvta),
Control Flow Instructions (@, bra, brx.idx, ret, exit, trap), Parallel Synchronization and Communication
Instructions (bar, atom, red). A register is an unsigned integer of its width; a branch is a goto.

It fails closed. An instruction without an entry, any .approx but rsqrt.approx.ftz.f32 and rcp.approx.ftz.f32,
any other .ftz, a float operation without .rn (ptxas may contract it), local memory, a call or a function other
than a kernel: each stops the translation with the kernel's name, the line and the reason. Comments and the
directives in _IGNORED alone are passed over.
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

from ptx_instructions import BOOLEAN, C_TYPES, OPERATIONS, WIDTHS, comparison, reason
from ptx_syntax import (
    Kernel,
    RefusedError,
    add_shared,
    bytes_of,
    kernels_of,
    line_of,
    statements_of,
    without_comments,
)

_IGNORED = (".pragma", ".loc", ".file")  # directives without a meaning for what is computed
_ATOMICS = {"add": "old + value", "min": "std::min(old, value)", "max": "std::max(old, value)",
            "and": "old & value", "or": "old | value", "xor": "old ^ value", "exch": "value"}  # fmt: skip
_SPECIAL = {f"%{ptx}.{axis}": f"emulator::{name}.{axis}"
            for ptx, name in (("tid", "thread_index"), ("ctaid", "block_index"),
                              ("ntid", "block_size"), ("nctaid", "grid_size")) for axis in "xyz"}  # fmt: skip


# --- One kernel ----------------------------------------------------------------------------------------------------
class Translation:
    """The C++ function of one kernel."""

    def __init__(self, kernel: Kernel, shared: dict[str, tuple[int, int]]) -> None:
        self.kernel = kernel
        self.shared = dict(shared)  # name: address, bytes
        self.widths: dict[str, int] = {}  # of registers
        self.declared: list[str] = []
        self.lines: list[str] = []
        self.tables: dict[str, list[str]] = {}  # of brx.idx
        self.depth = 0
        self.line = kernel.line  # in the file; runtime messages count from the kernel's start, to be the same elsewhere
        self.counts: dict[str, int] = {}
        statements = list(statements_of(kernel.body))
        for i, (text, _) in enumerate(statements):  # a table of labels may stand before or after the jump
            if text.startswith(".branchtargets"):
                label = statements[i - 1][0].rstrip(":")
                self.tables[label] = [name.strip() for name in text.split(maxsplit=1)[1].split(",")]
        for text, line in statements:
            self.line = kernel.line + line - 1
            self.statement(text)

    @property
    def at(self) -> int:
        return self.line - self.kernel.line + 1

    def refuse(self, why: str) -> RefusedError:
        return RefusedError(f"{self.kernel.name}, line {self.line}: {why}")

    @property
    def shared_bytes(self) -> int:
        return max((address + size for address, size in self.shared.values()), default=0)

    def code(self) -> str:
        k = self.kernel
        facts = f'{{"{k.name}", {k.parameter_bytes}, {k.max_threads}, {self.shared_bytes}}}'
        return "\n".join(
            [
                f'extern "C" void {k.name}(const void* table) {{',
                f"  const ptx::Parameters parameters{{static_cast<const unsigned char*>(table), {k.parameter_bytes}}};",
                "  static_cast<void>(parameters);",
                *self.declared,
                *self.lines,
                "}",
                f"static const emulator::Registration registration_{k.name}(&{k.name}, {facts});",
                "",
            ]
        )

    # --- statements
    def statement(self, text: str) -> None:
        if text in ("{", "}"):
            self.depth += 1 if text == "{" else -1
            self.lines.append(text)
        elif text.endswith(":"):
            label = text[:-1]
            self.lines.append(f"{_identifier(label)}:;" if label not in self.tables else "")
        elif text.split()[:1] and text.split()[0] in (".branchtargets", *_IGNORED):
            pass
        elif text.startswith(".reg"):
            self.registers(text)
        elif text.startswith(".shared"):
            add_shared(self.shared, text, self.refuse)
        elif text.startswith("."):
            raise self.refuse(f"{'local memory' if text.startswith('.local') else 'a directive'}: {text}")
        elif text:
            self.instruction(text)

    def registers(self, text: str) -> None:
        match = re.fullmatch(r"\.reg \.(\w+) (.*)", text)
        if match is None or match[1] not in WIDTHS:
            raise self.refuse(f"registers: {text}")
        kind = "bool" if match[1] == "pred" else f"uint{WIDTHS[match[1]]}_t"
        names = []
        for name in match[2].split(","):
            many = re.fullmatch(r"(%?[\w$]+)<(\d+)>", name.strip())
            names += [f"{many[1]}{i}" for i in range(int(many[2]))] if many else [name.strip()]
        for name in names:
            if self.widths.setdefault(name, WIDTHS[match[1]]) != WIDTHS[match[1]]:
                raise self.refuse(f"register {name} with two widths")
        # Not zero: what a register holds that nothing has written is anyone's guess.
        noise = "true" if kind == "bool" else f"static_cast<{kind}>(0xA5A5C3C35A5A3C3Cull)"
        declaration = f"  {kind} {', '.join(f'{_identifier(name)} = {noise}' for name in names)};"
        (self.lines if self.depth else self.declared).append(declaration)

    def instruction(self, text: str) -> None:
        guard = ""
        if match := re.match(r"@(!?)(%?[\w$]+) (.*)", text):
            guard, text = f"if ({match[1]}{self.register(match[2])}) ", match[3]
        opcode, _, rest = text.partition(" ")
        self.counts[opcode] = self.counts.get(opcode, 0) + 1
        operands = [part.strip() for part in re.findall(r"(?:\{[^}]*\}|\[[^\]]*\]|[^,\[{])+", rest)]
        self.lines.append(f"  {guard}{{ {self.translate(opcode, operands)} }}")

    def translate(self, opcode: str, operands: list[str]) -> str:
        if operation := OPERATIONS.get(opcode):
            return self.computation(operation.result, operation.operands, operation.value, operands)
        for pattern, method in _STATEMENTS:
            if match := re.fullmatch(pattern, opcode):
                return method(self, match, operands)
        raise self.refuse(f"{reason(opcode)}: {opcode} {', '.join(operands)}")

    def computation(self, result: str, kinds: tuple[str, ...], value: str, operands: list[str]) -> str:
        if len(operands) != 1 + len(kinds):
            raise self.refuse(f"{len(operands)} operands, not {1 + len(kinds)}")
        typed = [self.value(operand, kind) for operand, kind in zip(operands[1:], kinds, strict=True)]
        return self.assign(operands[0], result, value.format(*typed, line=self.at))

    # --- operands
    def register(self, name: str) -> str:
        if name not in self.widths:
            raise self.refuse(f"operand {name} is no register")
        return _identifier(name)

    def value(self, operand: str, kind: str) -> str:
        """An operand as a C++ value of its type."""
        if kind == "pred":
            if re.fullmatch(r"-?[01]", operand):
                return "true" if operand != "0" else "false"
            negated = operand.startswith("!")
            return ("!" if negated else "") + self.register(operand.lstrip("!"))
        bits = self.bits(operand)
        return f"ptx::{kind}({bits})" if kind in ("f32", "f64") else f"({C_TYPES[kind]})({bits})"

    def bits(self, operand: str) -> str:
        """A register, constant, special register or address as an unsigned integer."""
        if match := re.fullmatch(r"0[fF]([0-9a-fA-F]{8})", operand):
            return f"0x{match[1]}u"
        if match := re.fullmatch(r"0[dD]([0-9a-fA-F]{16})", operand):
            return f"0x{match[1]}ull"
        if re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)U?", operand):
            number = int(operand.rstrip("U"), 0) % 2**64
            return f"{number:#x}ull"
        if operand in _SPECIAL:
            return _SPECIAL[operand]
        if operand in self.shared:
            return f"{self.shared[operand][0]}ull"
        for name, offset, _ in self.kernel.parameters:
            if operand == name:
                return f"{offset}ull"
        return self.register(operand)

    def assign(self, destination: str, kind: str, value: str) -> str:
        if destination == "_":
            raise self.refuse("a result that goes nowhere")
        register, width = self.register(destination), self.widths[destination]
        if kind == "pred" or width == 1:
            if not (kind == "pred" and width == 1):
                raise self.refuse(f"{destination} is not of type {kind}")
            return f"{register} = {value};"
        if width < WIDTHS[kind]:
            raise self.refuse(f"{destination} is too narrow for type {kind}")
        if kind in ("f32", "f64"):
            return f"{register} = ptx::bits(({C_TYPES[kind]})({value}));"
        return f"{register} = ({C_TYPES[kind]})({value});"  # a signed value is extended to the register's width

    def address(self, operand: str) -> str:
        match = re.fullmatch(r"\[\s*([%\w$]+)\s*(?:\+\s*(-?\w+))?\s*\]", operand)
        if match is None:
            raise self.refuse(f"address {operand}")
        narrow = self.widths.get(match[1]) == 32  # the sum wraps in the register's width
        return (
            f"({'uint32_t' if narrow else 'uint64_t'})({self.bits(match[1])} + (uint64_t)({int(match[2] or '0', 0)}ll))"
        )

    def elements(self, operand: str, count: int) -> list[str]:
        parts = [part.strip() for part in operand.strip("{}").split(",")]
        if len(parts) != count or (count > 1) != operand.startswith("{"):
            raise self.refuse(f"{operand} is not {count} operands")
        return parts

    # --- data movement
    def move(self, match: re.Match[str], operands: list[str]) -> str:
        kind, (to, source) = match[1], operands
        if to.startswith("{"):
            parts = [part.strip() for part in to.strip("{}").split(",")]
            width = WIDTHS[kind] // len(parts)
            unpack = [
                self.assign(part, f"b{width}", f"all >> {i * width}") for i, part in enumerate(parts) if part != "_"
            ]
            return f"const {C_TYPES[kind]} all = {self.value(source, 'b' + kind[1:])}; {' '.join(unpack)}"
        if source.startswith("{"):
            parts = [part.strip() for part in source.strip("{}").split(",")]
            width = WIDTHS[kind] // len(parts)
            packed = " | ".join(
                f"(uint64_t){self.value(part, f'b{width}')} << {i * width}" for i, part in enumerate(parts)
            )
            return self.assign(to, kind, packed)
        return self.assign(to, kind if kind == "pred" else f"b{WIDTHS[kind]}", self.value(source, _raw(kind)))

    def to_global(self, match: re.Match[str], operands: list[str]) -> str:
        return self.assign(operands[0], "b64", self.value(operands[1], "b64"))  # generic addresses are global ones here

    def load(self, match: re.Match[str], operands: list[str]) -> str:
        space, count, kind = match["space"], int(match["count"] or 1), match["type"]
        size = bytes_of(kind)
        c_type = C_TYPES[kind if kind[0] == "s" else f"u{WIDTHS[kind]}"]
        code = [f"const uint64_t address = {self.address(operands[1])};"]
        if space == "global":
            code.append(f"ptx::global_memory.load(address, {count * size}, {self.at});")
        for i, register in enumerate(self.elements(operands[0], count)):
            at = f"address + {i * size}"
            # A vector is aligned to its size, which is checked at its start: then its parts are aligned too.
            whole = f"{size if i else count * size}, {self.at}"
            value = {
                "param": f"parameters.load<{c_type}>({at}, {whole})",
                "shared": f"ptx::shared_memory.load<{c_type}>({at}, {whole})",
                "global": f"ptx::load_global<{c_type}>({at})",
            }[space]
            code.append(self.assign_loaded(register, kind, value))
        return " ".join(code)

    def assign_loaded(self, register: str, kind: str, value: str) -> str:
        return self.assign(register, kind if kind[0] == "s" else f"b{WIDTHS[kind]}", value)

    def store(self, match: re.Match[str], operands: list[str]) -> str:
        space, count, kind = match["space"], int(match["count"] or 1), match["type"]
        size, raw = bytes_of(kind), f"b{WIDTHS[kind]}"
        code = [f"const uint64_t address = {self.address(operands[0])};"]
        if space == "global":
            code.append(f"ptx::global_memory.store(address, {count * size}, {self.at});")
        for i, register in enumerate(self.elements(operands[1], count)):
            value = self.value(register, raw)
            if space == "global":
                code.append(f"ptx::store_global<{C_TYPES[raw]}>(address + {i * size}, {value});")
            else:
                whole = f"{size if i else count * size}, {self.at}"
                code.append(f"ptx::shared_memory.store<{C_TYPES[raw]}>(address + {i * size}, {value}, {whole});")
        return " ".join(code)

    # --- comparison, control flow, synchronisation
    def compare(self, match: re.Match[str], operands: list[str]) -> str:
        name, boolean, kind = match["compare"], match["boolean"], match["type"]
        condition = comparison(name, kind)
        if condition is None or len(operands) != (4 if boolean else 3):
            raise self.refuse(f"an instruction that is not in the table of ptx_instructions.py: {match[0]}")
        true, _, false = operands[0].partition("|")
        holds = condition.format(*(self.value(operand, kind) for operand in operands[1:3]))
        other = self.value(operands[3], "pred") if boolean else "false"
        code = [f"const bool holds = {holds}, other = {other};"]  # read before either result is written
        also = f" {BOOLEAN[boolean]} other" if boolean else ""
        if true != "_":
            code.append(self.assign(true.strip(), "pred", f"holds{also}"))
        if false:
            code.append(self.assign(false.strip(), "pred", f"!holds{also}"))
        return " ".join(code)

    def branch(self, match: re.Match[str], operands: list[str]) -> str:
        return f"goto {_identifier(operands[0])};"

    def indexed_branch(self, match: re.Match[str], operands: list[str]) -> str:
        labels = self.tables.get(operands[1])
        if labels is None:
            raise self.refuse(f"no table of labels {operands[1]}")
        cases = " ".join(f"case {i}: goto {_identifier(label)};" for i, label in enumerate(labels))
        outside = f'default: emulator::die("brx.idx beyond its table", {self.at});'
        return f"switch ({self.value(operands[0], 'u32')}) {{ {cases} {outside} }}"

    def leave(self, match: re.Match[str], operands: list[str]) -> str:
        return "return;"

    def trap(self, match: re.Match[str], operands: list[str]) -> str:
        return f'emulator::die("trap", {self.at});'

    def barrier(self, match: re.Match[str], operands: list[str]) -> str:
        if operands != ["0"]:
            raise self.refuse("a barrier other than that of the whole block")
        return f"emulator::barrier({self.at});"

    def atomic(self, match: re.Match[str], operands: list[str]) -> str:
        kind = match["type"]
        unsigned = kind if match["what"] in ("min", "max") else f"u{WIDTHS[kind]}"
        c_type, value = C_TYPES[unsigned], self.value(operands[-1], unsigned)
        change = f"[value = {value}]({c_type} old) {{ return ({c_type})({_ATOMICS[match['what']]}); }}"
        if match["what"] == "exch":
            change = change.replace(f"{c_type} old", c_type)
        address = self.address(operands[-2])
        old = f"ptx::shared_memory.atomic<{c_type}>({address}, {self.at}, {change})"
        return f"{old};" if match["name"] == "red" else self.assign(operands[0], f"b{WIDTHS[kind]}", old)


def _raw(kind: str) -> str:
    return kind if kind == "pred" else f"b{WIDTHS[kind]}"


def _identifier(name: str) -> str:
    return "r_" + name[1:] if name.startswith("%") else "v_" + name.replace("$", "_")


_TYPE = r"(?P<type>[bus](?:8|16|32|64)|f(?:32|64))"
_STATEMENTS: list[tuple[str, Callable[[Translation, re.Match[str], list[str]], str]]] = [
    (r"mov\.(pred|[bus](?:16|32|64)|f32|f64)", Translation.move),
    (r"cvta\.to\.global\.u64", Translation.to_global),
    (rf"ld\.(?P<space>param|shared|global)(?:\.nc)?(?:\.v(?P<count>[24]))?\.{_TYPE}", Translation.load),
    (rf"st\.(?P<space>shared|global)(?:\.v(?P<count>[24]))?\.{_TYPE}", Translation.store),
    (r"setp\.(?P<compare>\w+)(?:\.(?P<boolean>and|or|xor))?\.(?P<type>\w+)", Translation.compare),
    (r"bra(?:\.uni)?", Translation.branch),
    (r"brx\.idx(?:\.uni)?", Translation.indexed_branch),
    (r"ret(?:\.uni)?|exit", Translation.leave),
    (r"trap", Translation.trap),
    (r"bar\.sync|barrier\.sync(?:\.aligned)?", Translation.barrier),
    (r"(?P<name>atom|red)\.shared\.(?P<what>add|min|max)\.(?P<type>[us](?:32|64))", Translation.atomic),
    (r"(?P<name>atom|red)\.shared\.(?P<what>and|or|xor|exch)\.(?P<type>b(?:32|64))", Translation.atomic),
]

_PREAMBLE = """// Written by ptx_to_cpp.py from nvcc's PTX.
#include "ptx_runtime.h"

"""


# --- A file --------------------------------------------------------------------------------------------------------
def translate(text: str) -> dict[str, Translation]:
    """Each kernel's translation by its name."""
    text = without_comments(text)
    if match := re.search(r"\.func\b", text):
        raise RefusedError(f"line {line_of(text, match.start())}: a function that is no kernel")
    kernels, outside = kernels_of(text)
    shared: dict[str, tuple[int, int]] = {}
    for s in outside:
        name = s.text.split()[0] if s.text else ""
        where = f"line {s.line}"
        if name == ".shared":
            add_shared(shared, s.text, lambda why, where=where: RefusedError(f"{where}: {why}"))
        elif name not in ("", ".version", ".target", ".address_size", *_IGNORED):
            raise RefusedError(f"{where}: a variable: {s.text}")
    if not kernels:
        raise RefusedError("no kernel (.entry) in the PTX")
    return {kernel.name: Translation(kernel, shared) for kernel in kernels}


def cpp_of(translations: list[Translation]) -> str:
    return _PREAMBLE + "\n".join(each.code() for each in translations)


def main() -> None:
    parser = argparse.ArgumentParser(description="Translates nvcc's PTX to C++ that runs one thread of a kernel.")
    parser.add_argument("ptx", type=Path)
    parser.add_argument("cpp", type=Path)
    arguments = parser.parse_args()
    try:
        translations = translate(arguments.ptx.read_text())
    except RefusedError as error:
        sys.exit(f"{arguments.ptx}: {error}")
    arguments.cpp.write_text(cpp_of(list(translations.values())))


if __name__ == "__main__":
    main()
