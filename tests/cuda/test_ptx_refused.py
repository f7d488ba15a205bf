"""What the translator from PTX to C++ refuses, and that it says which line and why."""

import pytest
from ptx_snippets import HEAD, entry
from ptx_syntax import RefusedError
from ptx_to_cpp import translate

pytestmark = pytest.mark.cuda_ladder

REFUSED = [
    ("ex2.approx.ftz.f32 %f, %f;", "an approximate instruction"),
    ("rsqrt.approx.f32 %f, %f;", "an approximate instruction"),
    ("sqrt.approx.f32 %f, %f;", "an approximate instruction"),
    ("div.full.f32 %f, %f, %f;", "an approximate instruction"),
    ("rcp.approx.ftz.f64 %d, %d;", "an approximate instruction"),
    ("add.rn.ftz.f32 %f, %f, %f;", "flushes subnormal"),
    ("min.ftz.f32 %f, %f, %f;", "flushes subnormal"),
    ("setp.lt.ftz.f32 %p, %f, %f;", "flushes subnormal"),
    ("cvt.ftz.f64.f32 %d, %f;", "flushes subnormal"),
    ("add.f32 %f, %f, %f;", "without rounding"),
    ("mul.f32 %f, %f, %f;", "without rounding"),
    ("sub.f64 %d, %d, %d;", "without rounding"),
    ("fma.f32 %f, %f, %f, %f;", "without rounding"),
    ("mad.f32 %f, %f, %f, %f;", "without rounding"),
    ("div.f32 %f, %f, %f;", "without rounding"),
    ("sqrt.f32 %f, %f;", "without rounding"),
    ("add.rp.f32 %f, %f, %f;", "rounding other than"),
    ("add.rz.f32 %f, %f, %f;", "rounding other than"),
    ("cvt.rz.f32.f64 %f, %d;", "rounding other than"),
    ("add.sat.f32 %f, %f, %f;", "without rounding"),
    ("add.rn.sat.f32 %f, %f, %f;", "not in the table"),
    (".local .align 4 .b8 depot[64];", "local memory"),
    ("st.local.u32 [%d], %f;", "local memory"),
    ("ld.local.v2.u32 {%f, %f}, [%d];", "local memory"),
    ("call.uni (%f), sinf, (%f);", "a call"),
    ("{ .param .b32 retval0; }", "a directive"),
    ("sin.f32 %f, %f;", "not in the table"),
    ("ld.u32 %f, [%d];", "not in the table"),
    ("st.u32 [%d], %f;", "not in the table"),
    ("ld.global.b128 %d, [%d];", "not in the table"),
    ("ld.volatile.global.u32 %f, [%d];", "not in the table"),
    ("atom.global.add.u32 %f, [%d], 1;", "not in the table"),
    ("atom.shared.add.f32 %f, [%d], %f;", "not in the table"),
    ("bar.sync 1;", "a barrier other than"),
    ("bar.sync 0, 32;", "a barrier other than"),
    ("shfl.sync.bfly.b32 %f, %f, 1, 31, -1;", "not in the table"),
    ("add.s32 %f, %f;", "operands"),
    ("add.s32 %nowhere, %f, 1;", "no register"),
    ("add.u64 %f, %d, 1;", "too narrow"),
    ("mov.u32 %f, %clock;", "no register"),
    ("setp.lo.s32 %p, %f, 1;", "not in the table"),
    ("mov.u32 %f, 1", "no register"),
]


@pytest.mark.parametrize(("line", "why"), REFUSED, ids=[line.split(";")[0] for line, _ in REFUSED])
def test_refused(line: str, why: str) -> None:
    body = f".reg .pred %p; .reg .b32 %f; .reg .b64 %d;\n// the next line\n{line}"
    with pytest.raises(RefusedError, match=why) as error:
        translate(HEAD + entry("refused", body))
    number = next(i for i, each in enumerate((HEAD + entry("refused", body)).splitlines(), 1) if line in each)
    assert f"refused, line {number}:" in str(error.value)


@pytest.mark.parametrize(("text", "why"), [
    (".global .align 4 .b8 numbers[64];", "a variable"),
    (".const .align 4 .b8 numbers[64];", "a variable"),
    (".visible .func (.param .b32 out) helper(.param .b32 in) { ret; }", "a function that is no kernel"),
    (".extern .func helper;", "a function that is no kernel"),
])  # fmt: skip
def test_refused_outside_of_kernels(text: str, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        translate(HEAD + text + entry("kernel", ""))


def test_no_kernel_is_refused() -> None:
    with pytest.raises(RefusedError, match="no kernel"):
        translate(HEAD)
