"""The instructions of PTX that ptx_to_cpp.py knows: one entry for each opcode in full, and nothing for any
other.

An entry says the types of an instruction's operands and its value as a C++ expression, {0} {1} {2} being the
operands converted to their types, {line} the line in the PTX. Instructions that do more than compute a value
(memory, control flow, barriers, moves of vectors) are in ptx_to_cpp.py. The meanings are those of the PTX ISA's
chapter "Instruction Set"; the section is named above each group.
"""

import dataclasses
import itertools
import re

C_TYPES = {
    **{f"u{bits}": f"uint{bits}_t" for bits in (8, 16, 32, 64)},
    **{f"b{bits}": f"uint{bits}_t" for bits in (8, 16, 32, 64)},
    **{f"s{bits}": f"int{bits}_t" for bits in (8, 16, 32, 64)},
    "f32": "float",
    "f64": "double",
    "pred": "bool",
    # in registers as their bits
    "f16": "uint16_t",
    "bf16": "uint16_t",
    "f16x2": "uint32_t",
    "bf16x2": "uint32_t",
}
WIDTHS = {"pred": 1, "f16": 16, "bf16": 16, "f16x2": 32, "bf16x2": 32} | {
    f"{kind}{bits}": bits for kind, bits in itertools.product("ubsf", (8, 16, 32, 64))
}
INTEGERS = [f"{kind}{bits}" for kind, bits in itertools.product("us", (16, 32, 64))]
FLOATS = ["f32", "f64"]


@dataclasses.dataclass(frozen=True)
class Operation:
    result: str
    operands: tuple[str, ...]
    value: str


def _table() -> dict[str, Operation]:
    table: dict[str, Operation] = {}

    def add(opcode: str, result: str, operands: str, value: str) -> None:
        assert opcode not in table
        table[opcode] = Operation(result, tuple(operands.split()), value)

    # --- Floating-point instructions: each one rounding to nearest even, subnormal numbers kept
    for t in FLOATS:
        for name, sign in (("add", "+"), ("sub", "-"), ("mul", "*"), ("div", "/")):
            add(f"{name}.rn.{t}", t, f"{t} {t}", f"{{0}} {sign} {{1}}")
        add(f"fma.rn.{t}", t, f"{t} {t} {t}", "std::fma({0}, {1}, {2})")
        add(f"sqrt.rn.{t}", t, t, "std::sqrt({0})")
        add(f"rcp.rn.{t}", t, t, "1 / {0}")
        add(f"neg.{t}", t, t, "-{0}")
        add(f"abs.{t}", t, t, "std::abs({0})")
        add(f"min.{t}", t, f"{t} {t}", "ptx::least({0}, {1})")
        add(f"max.{t}", t, f"{t} {t}", "ptx::most({0}, {1})")
        add(f"copysign.{t}", t, f"{t} {t}", "std::copysign({1}, {0})")
    # The only approximate ones: csrc/cuda must not depend on which number within their error they give.
    add("rsqrt.approx.ftz.f32", "f32", "f32", "ptx::rsqrt_approx({0}, {line})")
    add("rcp.approx.ftz.f32", "f32", "f32", "ptx::rcp_approx({0}, {line})")

    # --- Half precision instructions
    for t in ("f16", "bf16"):
        for name, function in (("min", "least"), ("max", "most")):
            add(f"{name}.{t}", "b16", "b16 b16", f"ptx::{function}_{t}({{0}}, {{1}})")
            add(f"{name}.{t}x2", "b32", "b32 b32", f"ptx::of_halves({{0}}, {{1}}, ptx::{function}_{t})")

    # --- Integer arithmetic instructions: modulo 2^width, so in unsigned types, where the sign does not matter
    for t in INTEGERS:
        width = WIDTHS[t]
        u = f"u{width}"
        for name, sign in (("add", "+"), ("sub", "-")):
            add(f"{name}.{t}", u, f"{u} {u}", f"{{0}} {sign} {{1}}")
        product = "uint32_t{{{0}}} * {1}" if width == 16 else "{0} * {1}"
        add(f"mul.lo.{t}", u, f"{u} {u}", product)
        add(f"mad.lo.{t}", u, f"{u} {u} {u}", f"{product} + {{2}}")
        if width < 64:
            wide = f"{t[0]}{2 * width}"
            c = C_TYPES[wide]
            add(f"mul.wide.{t}", wide, f"{t} {t}", f"{c}{{{{{{0}}}}}} * {{1}}")
            add(f"mad.wide.{t}", f"u{2 * width}", f"{t} {t} u{2 * width}",
                f"{C_TYPES[f'u{2 * width}']}({c}{{{{{{0}}}}}} * {{1}}) + {{2}}")  # fmt: skip
        if width > 16:
            add(f"mul.hi.{t}", u, f"{t} {t}", "ptx::high_product({0}, {1})")
            add(f"mad.hi.{t}", u, f"{t} {t} {u}", "ptx::high_product({0}, {1}) + {2}")
        add(f"div.{t}", t, f"{t} {t}", "ptx::divided({0}, {1}, {line})")
        add(f"rem.{t}", t, f"{t} {t}", "ptx::remainder({0}, {1}, {line})")
        add(f"min.{t}", t, f"{t} {t}", "std::min({0}, {1})")
        add(f"max.{t}", t, f"{t} {t}", "std::max({0}, {1})")
        if t[0] == "s":
            add(f"neg.{t}", u, u, "0 - {0}")
            add(f"abs.{t}", u, t, f"{{0}} < 0 ? {C_TYPES[u]}(0 - {C_TYPES[u]}({{0}})) : {C_TYPES[u]}({{0}})")
    for width in (32, 64):
        b, u = f"b{width}", f"u{width}"
        add(f"popc.{b}", "u32", b, "std::popcount({0})")
        add(f"clz.{b}", "u32", b, "std::countl_zero({0})")
        add(f"bfe.{u}", u, f"{u} u32 u32", "ptx::extracted_bits({0}, {1}, {2})")
        add(f"bfi.{b}", b, f"{b} {b} u32 u32", "ptx::inserted_bits({0}, {1}, {2}, {3})")

    # --- Comparison and selection instructions (setp: see comparison() below)
    for t in [*INTEGERS, *FLOATS, "b16", "b32", "b64"]:
        b = f"b{WIDTHS[t]}"
        add(f"selp.{t}", b, f"{b} {b} pred", "{2} ? {0} : {1}")

    # --- Logic and shift instructions
    for t in ("pred", "b16", "b32", "b64"):
        for name, sign in (("and", "&"), ("or", "|"), ("xor", "^")):
            add(f"{name}.{t}", t, f"{t} {t}", f"{{0}} {sign} {{1}}")
        add(f"not.{t}", t, t, "!{0}" if t == "pred" else "~{0}")
    for t in ("b16", "b32", "b64"):
        add(f"shl.{t}", t, f"{t} u32", "ptx::shifted_left({0}, {1})")
    for t in [*INTEGERS, "b16", "b32", "b64"]:
        add(f"shr.{t}", t, f"{t} u32", "ptx::shifted_right({0}, {1})")
    for side, name in (("l", "left"), ("r", "right")):
        for mode, amount in (("wrap", "{2} & 31u"), ("clamp", "std::min<uint32_t>({2}, 32u)")):
            add(f"shf.{side}.{mode}.b32", "b32", "b32 b32 u32", f"ptx::funnel_{name}({{0}}, {{1}}, {amount})")
    add("lop3.b32", "b32", "b32 b32 b32 u32", "ptx::lop3({0}, {1}, {2}, {3})")
    add("prmt.b32", "b32", "b32 b32 u32", "ptx::permuted({0}, {1}, {2})")

    # --- Data movement and conversion instructions: cvt
    whole = ["u8", "s8", *INTEGERS]
    for to, source in itertools.product(whole, whole):
        if to != source:
            add(f"cvt.{to}.{source}", to, source, f"({C_TYPES[to]}){{0}}")
    for to, source in itertools.product(FLOATS, whole):
        exact = WIDTHS[source] < (24 if to == "f32" else 53)
        add(f"cvt.rn.{to}.{source}", to, source, f"({C_TYPES[to]}){{0}}" + ("" if not exact else "  /* exact */"))
    for to, source in itertools.product(INTEGERS, FLOATS):
        add(f"cvt.rzi.{to}.{source}", to, source, f"ptx::to_integer<{C_TYPES[to]}>({{0}})")
    add("cvt.f64.f32", "f64", "f32", "(double){0}")
    add("cvt.rn.f32.f64", "f32", "f64", "(float){0}")
    for t in ("f16", "bf16"):
        add(f"cvt.rn.{t}.f32", "b16", "f32", f"ptx::to_{t}({{0}})")
        add(f"cvt.f32.{t}", "f32", "b16", f"ptx::from_{t}({{0}})")
        add(f"cvt.rn.{t}x2.f32", "b32", "f32 f32", f"ptx::to_{t}x2({{0}}, {{1}})")  # the first one is the high half
    return table


OPERATIONS = _table()
SEEDS = ("rsqrt.approx.ftz.f32", "rcp.approx.ftz.f32")

# setp.CMP.TYPE p, a, b and setp.CMP.BOOL.TYPE p|q, a, b, c. Comparisons that hold with NaN end in u, or are ne's.
_ORDERED = {"eq": "==", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_UNSIGNED = {"lo": "<", "ls": "<=", "hi": ">", "hs": ">="}
BOOLEAN = {"and": "&&", "or": "||", "xor": "!="}


def comparison(name: str, kind: str) -> str | None:
    """The condition of setp.name.kind as an expression, or None if there is no such instruction."""
    if kind in FLOATS:
        if name in _ORDERED:
            return f"{{0}} {_ORDERED[name]} {{1}}"  # false with NaN, as in C++
        if name == "ne":
            return "({0} < {1} || {0} > {1})"
        if name == "neu":
            return "{0} != {1}"
        if name in ("equ", "ltu", "leu", "gtu", "geu"):
            return f"(std::isnan({{0}}) || std::isnan({{1}}) || {{0}} {_ORDERED[name[:-1]]} {{1}})"
        if name == "num":
            return "(!std::isnan({0}) && !std::isnan({1}))"
        return "(std::isnan({0}) || std::isnan({1}))" if name == "nan" else None
    if kind not in INTEGERS and kind not in ("b16", "b32", "b64"):
        return None
    if name in ("eq", "ne"):
        return f"{{0}} {'==' if name == 'eq' else '!='} {{1}}"
    if kind[0] == "b":
        return None
    if name in _ORDERED:
        return f"{{0}} {_ORDERED[name]} {{1}}"
    return f"{{0}} {_UNSIGNED[name]} {{1}}" if kind[0] == "u" and name in _UNSIGNED else None


def reason(opcode: str) -> str:
    """Why an opcode that is not known is refused, in words."""
    parts = opcode.split(".")
    if parts[0] == "call":
        return "a call"
    if "local" in parts:
        return "local memory"
    if "approx" in parts or "full" in parts:
        return "an approximate instruction"
    if "ftz" in parts:
        return "an instruction that flushes subnormal numbers to zero"
    if re.fullmatch(r"(add|sub|mul|fma|mad|div|sqrt|rcp)(\.sat)?\.(f16|bf16|f32|f64)(x2)?", opcode):
        return "a float operation without rounding (.rn), which ptxas may contract"
    if {"rz", "rm", "rp"} & set(parts):
        return "a rounding other than to nearest even"
    return "an instruction that is not in the table of ptx_instructions.py"
