"""The translator from PTX to C++: what it computes, and what it reports while a kernel runs.

Every kernel here is written by hand. One program holds them all; a test runs one of them.
"""

import struct
from pathlib import Path

import pytest
import toolkit
from ptx_instructions import OPERATIONS, SEEDS, WIDTHS, Operation, comparison
from ptx_snippets import HEAD, SNIPPETS, Snippet, entry
from ptx_to_cpp import cpp_of, translate
from ptx_values import VALUES, f


def computing(name: str, opcode: str) -> str:
    """A kernel that loads the instruction's operands and stores its result, zero-extended."""
    operation = OPERATIONS.get(opcode) or Operation("pred", (opcode.split(".")[-1],) * 2, "")  # setp
    registers, loads, operands = [], [], []
    for i, kind in enumerate((operation.result, *operation.operands)):
        width = max(WIDTHS[kind], 16) if kind != "pred" else 1
        registers.append(f".reg .{'pred' if kind == 'pred' else f'b{width}'} %x{i};")
        operands.append(f"%x{i}")
        if i and kind == "pred":
            loads += [f"ld.global.u32 %t, [%in+{8 * i - 8}];", f"setp.ne.u32 %x{i}, %t, 0;"]
        elif i:
            loads.append(f"ld.global.u{width} %x{i}, [%in+{8 * i - 8}];")
    lut = "lop3" in opcode  # whose table is a constant
    result = operation.result
    if lut:
        operands[-1] = "LUT"
    store = {
        "pred": "selp.b32 %t, 1, 0, %x0; cvt.u64.u32 %out64, %t;",
        1: "",
    }.get("pred" if result == "pred" else 0, "")
    if not store:
        width = max(WIDTHS[result], 16)
        store = "mov.b64 %out64, %x0;" if width == 64 else f"cvt.u64.u{width} %out64, %x0;"
    return entry(
        name,
        f"""{" ".join(registers)}
        .reg .b32 %t; .reg .b64 %out64;
        {" ".join(loads)}
        {opcode} {", ".join(operands)};
        {store}
        st.global.u64 [%out], %out64;""",
    )


RESULTS = {name: s for name, s in SNIPPETS.items() if isinstance(s.expected, list)}
FAULTS = {name: s for name, s in SNIPPETS.items() if isinstance(s.expected, str)}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("snippets")
    kernels = [entry(name, s.body, s.directives) for name, s in SNIPPETS.items()]
    for i, (opcode, operands, _) in enumerate(VALUES):
        kernels.append(computing(f"value_{i}", opcode).replace("LUT", str(operands[-1])))
    kernels += [computing(opcode.split(".")[0], opcode) for opcode in SEEDS]
    translations = translate(HEAD + "".join(kernels))
    names = [f'    {{"{name}", {name}}},' for name in translations]
    struct_text = "struct Named { const char* name; void (*kernel)(const void*); };"
    table = [struct_text, "extern const Named snippets[];", "const Named snippets[] = {", *names, "};"]
    source = folder / "snippets.cpp"
    source.write_text(cpp_of(list(translations.values())) + "\n".join(table) + "\n")
    out = folder / "run_snippets"
    include = toolkit.toolkit().include
    files = [source, toolkit.HERE / "run_snippets.cpp", toolkit.HERE / "emulator.cpp"]
    toolkit.run([*toolkit.host_compiler(), *toolkit.HOST_FLAGS, "-O0", f"-I{toolkit.HERE}", f"-isystem{include}",
                 *files, "-o", out])  # fmt: skip
    return out


def run(program: Path, name: str, order: str, snippet: Snippet) -> list[int]:
    numbers = [snippet.blocks, snippet.threads, snippet.bytes]
    inputs = [f"{word:x}" for word in snippet.inputs]
    once, *words = toolkit.run([program, name, order, *map(str, numbers), *inputs]).split()
    assert int(once) == snippet.bytes, "bytes stored exactly once"
    return [int(word, 16) for word in words]


pytestmark = pytest.mark.cuda_ladder


@pytest.mark.parametrize("number", range(len(VALUES)), ids=lambda i: f"{VALUES[i][0]}-{i}")
def test_values(program: Path, number: int) -> None:
    _, operands, result = VALUES[number]
    snippet = Snippet("", [result], operands)
    assert [hex(x) for x in run(program, f"value_{number}", "forward", snippet)] == [hex(result)]


@pytest.mark.parametrize("order", ["forward", "reverse", "7"])
@pytest.mark.parametrize("name", RESULTS)
def test_kernels(program: Path, name: str, order: str) -> None:
    assert run(program, name, order, SNIPPETS[name]) == SNIPPETS[name].expected


@pytest.mark.parametrize("order", ["forward", "reverse", "7"])
@pytest.mark.parametrize("name", FAULTS)
def test_faults(program: Path, name: str, order: str) -> None:
    with pytest.raises(toolkit.CommandError, match=str(SNIPPETS[name].expected)):
        run(program, name, order, SNIPPETS[name])


@pytest.mark.parametrize(("name", "operand", "exact", "tolerance"), [
    ("rsqrt", 3.0, 3.0**-0.5, 3.0**-0.5 * 2**-22.9),
    ("rcp", 3.0, 1 / 3, 2**-25),
])  # fmt: skip
def test_seeds_are_anything_within_the_documented_error(
    program: Path, name: str, operand: float, exact: float, tolerance: float
) -> None:
    seen = set()
    for seed in range(40):
        bits = run(program, name, str(seed), Snippet("", [0], (f(operand),)))[0]
        seen.add(struct.unpack("<f", bits.to_bytes(4, "little"))[0])
    assert max(abs(y - exact) for y in seen) <= tolerance
    assert len(seen) >= 2


def test_nothing_inexact_is_in_the_table() -> None:
    for opcode, operation in OPERATIONS.items():
        parts = opcode.split(".")
        assert opcode in SEEDS or not {"approx", "ftz", "full", "sat", "rz", "rm", "rp"} & set(parts), opcode
        if parts[0] in ("add", "sub", "mul", "fma", "div", "sqrt", "rcp") and operation.result in ("f32", "f64"):
            assert parts[1] == "rn" or opcode in SEEDS, opcode


def test_signed_comparisons_are_not_unsigned_ones() -> None:
    assert comparison("lo", "u32") == comparison("lt", "u32")
    assert comparison("lo", "s32") is None
    assert comparison("lt", "b32") is None
