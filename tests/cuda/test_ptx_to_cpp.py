"""The translator from PTX to C++: what it computes, what it reports while a kernel runs, and all that it refuses.

Every kernel here is written by hand. One program holds them all; a test runs one of them.
"""

import dataclasses
import struct
from pathlib import Path

import pytest
import toolkit
from ptx_instructions import OPERATIONS, WIDTHS, comparison
from ptx_to_cpp import RefusedError, cpp_of, translate

HEAD = ".version 9.0\n.target sm_90\n.address_size 64\n"
NAN, ONE, TWO, THREE = 0x7FC00000, 0x3F800000, 0x40000000, 0x40400000
MINUS_ZERO, TINY = 0x80000000, 0x00000001  # TINY is the smallest subnormal number


def d(x: float) -> int:
    return int.from_bytes(struct.pack("<d", x), "little")


def f(x: float) -> int:
    return int.from_bytes(struct.pack("<f", x), "little")


# opcode, operands, result: all as bits
VALUES: list[tuple[str, tuple[int, ...], int]] = [
    ("add.rn.f32", (ONE, f(2**-24)), ONE),  # a tie: to even
    ("add.rn.f32", (ONE, f(3 * 2**-25)), ONE + 1),
    ("add.rn.f32", (TINY, TINY), 2),  # subnormal numbers are kept
    ("sub.rn.f32", (ONE, ONE), 0),
    ("mul.rn.f32", (f(0.1), f(0.1)), 0x3C23D70B),
    ("mul.rn.f32", (f(2**-75), f(2**-74)), TINY),
    ("fma.rn.f32", (f(1 + 2**-12), f(1 + 2**-12), f(-1 - 2**-11)), f(2**-24)),  # one rounding
    ("div.rn.f32", (ONE, THREE), 0x3EAAAAAB),
    ("sqrt.rn.f32", (TWO,), 0x3FB504F3),
    ("rcp.rn.f32", (THREE,), 0x3EAAAAAB),
    ("neg.f32", (ONE,), 0xBF800000),
    ("neg.f32", (0,), MINUS_ZERO),
    ("abs.f32", (MINUS_ZERO,), 0),
    ("min.f32", (NAN, ONE), ONE),
    ("min.f32", (0, MINUS_ZERO), MINUS_ZERO),
    ("max.f32", (MINUS_ZERO, 0), 0),
    ("max.f32", (ONE, TWO), TWO),
    ("copysign.f32", (MINUS_ZERO, ONE), 0xBF800000),
    ("add.rn.f64", (d(1), d(2**-53)), d(1)),
    ("fma.rn.f64", (d(1 + 2**-27), d(1 + 2**-27), d(-1 - 2**-26)), d(2**-54)),
    ("div.rn.f64", (d(1), d(3)), 0x3FD5555555555555),
    ("sqrt.rn.f64", (d(2),), 0x3FF6A09E667F3BCD),
    ("min.f64", (d(2), d(3)), d(2)),
    ("min.bf16x2", (0x3F804000, 0x40003F80), 0x3F803F80),
    ("max.bf16x2", (0x3F804000, 0x40003F80), 0x40004000),
    ("max.f16x2", (0xBC003C00, 0x3C00BC00), 0x3C003C00),
    ("add.s32", (0x7FFFFFFF, 1), 0x80000000),
    ("add.u64", (2**64 - 1, 2), 1),
    ("sub.u16", (0, 1), 0xFFFF),
    ("mul.lo.u32", (0xFFFFFFFF, 3), 0xFFFFFFFD),
    ("mul.lo.u16", (0xFFFF, 0xFFFF), 1),
    ("mul.lo.s64", (2**63, 2), 0),
    ("mul.hi.u32", (0xFFFFFFFF, 0xFFFFFFFF), 0xFFFFFFFE),
    ("mul.hi.s32", (0xFFFFFFFF, 1), 0xFFFFFFFF),
    ("mul.hi.u64", (2**64 - 1, 2**64 - 1), 2**64 - 2),
    ("mul.hi.s64", (2**64 - 1, 1), 2**64 - 1),
    ("mul.wide.u32", (0xFFFFFFFF, 0xFFFFFFFF), 0xFFFFFFFE00000001),
    ("mul.wide.s32", (0xFFFFFFFF, 2), 2**64 - 2),
    ("mul.wide.u16", (0xFFFF, 0xFFFF), 0xFFFE0001),
    ("mad.lo.s32", (5, 7, 0xFFFFFFFF), 34),
    ("mad.wide.u32", (0xFFFFFFFF, 2, 3), 2 * 0xFFFFFFFF + 3),
    ("mad.wide.s32", (0xFFFFFFFF, 2, 3), 1),
    ("mad.hi.u32", (0x80000000, 4, 1), 3),
    ("div.s32", (2**32 - 7, 2), 2**32 - 3),
    ("rem.s32", (2**32 - 7, 2), 2**32 - 1),
    ("div.s32", (0x80000000, 2**32 - 1), 0x80000000),
    ("div.u64", (2**64 - 1, 10), (2**64 - 1) // 10),
    ("rem.u32", (10, 4), 2),
    ("min.s32", (2**32 - 1, 1), 2**32 - 1),
    ("min.u32", (2**32 - 1, 1), 1),
    ("max.s64", (2**64 - 1, 0), 0),
    ("neg.s32", (1,), 2**32 - 1),
    ("abs.s32", (2**32 - 5,), 5),
    ("popc.b32", (0xF0F0,), 8),
    ("clz.b64", (1,), 63),
    ("bfe.u32", (0xABCD1234, 8, 8), 0x12),
    ("bfe.u32", (0xABCD1234, 0, 32), 0xABCD1234),
    ("bfi.b32", (0xFF, 0, 8, 4), 0xF00),
    ("selp.b32", (1, 2, 1), 1),
    ("selp.f32", (1, 2, 0), 2),
    ("and.b32", (0xFF00FF00, 0x0FF00FF0), 0x0F000F00),
    ("xor.b64", (2**64 - 1, 1), 2**64 - 2),
    ("or.pred", (0, 1), 1),
    ("not.b32", (0,), 0xFFFFFFFF),
    ("not.pred", (1,), 0),
    ("shl.b32", (1, 31), 0x80000000),
    ("shl.b32", (1, 32), 0),
    ("shr.u32", (0x80000000, 31), 1),
    ("shr.s32", (0x80000000, 40), 0xFFFFFFFF),
    ("shr.b64", (2**63, 64), 0),
    ("shf.l.wrap.b32", (0x80000000, 0, 1), 1),  # low, high
    ("shf.r.wrap.b32", (0, 1, 33), 0x80000000),
    ("shf.l.clamp.b32", (0x12345678, 0, 40), 0x12345678),
    ("lop3.b32", (0xF0F0F0F0, 0xCCCCCCCC, 0xAAAAAAAA, 0x96), 0x96969696),
    ("lop3.b32", (0xF0F0F0F0, 0xCCCCCCCC, 0xAAAAAAAA, 0xE8), 0xE8E8E8E8),
    ("prmt.b32", (0x44332211, 0x88776655, 0x5410), 0x66552211),
    ("prmt.b32", (0x44332211, 0x88776655, 0xF07C), 0xFF118800),
    ("cvt.rn.f32.u32", (16777217,), f(16777216)),
    ("cvt.rn.f32.u32", (0xFFFFFFFF,), f(2**32)),
    ("cvt.rn.f32.s32", (0xFFFFFFFF,), f(-1)),
    ("cvt.rn.f32.u64", (2**40 + 2**16 + 1,), f(2**40 + 2**17)),
    ("cvt.rn.f64.u64", (2**64 - 1,), d(2**64)),
    ("cvt.rn.f64.s64", (2**64 - 3,), d(-3)),
    ("cvt.rzi.u32.f32", (f(-1.0),), 0),
    ("cvt.rzi.s32.f32", (f(-3.9),), 2**32 - 3),
    ("cvt.rzi.s32.f32", (f(1e20),), 0x7FFFFFFF),
    ("cvt.rzi.u32.f32", (NAN,), 0),
    ("cvt.f64.f32", (f(0.1),), d(struct.unpack("<f", struct.pack("<f", 0.1))[0])),
    ("cvt.rn.f32.f64", (d(1 + 2**-24),), ONE),
    ("cvt.u64.u32", (0xFFFFFFFF,), 0xFFFFFFFF),
    ("cvt.s64.s32", (0xFFFFFFFF,), 2**64 - 1),
    ("cvt.u32.u64", (0x123456789,), 0x23456789),
    ("cvt.u32.u16", (0xFFFF,), 0xFFFF),
    ("cvt.s32.s8", (0x1FF,), 0xFFFFFFFF),
    ("cvt.rn.bf16.f32", (0x3F808000,), 0x3F80),  # ties to even
    ("cvt.rn.bf16.f32", (0x3F818000,), 0x3F82),
    ("cvt.rn.bf16x2.f32", (ONE, TWO), 0x3F804000),  # the first one is the high half
    ("cvt.rn.f16x2.f32", (ONE, TWO), 0x3C004000),
    ("cvt.rn.f16.f32", (f(65504),), 0x7BFF),
    ("cvt.rn.f16.f32", (f(65519),), 0x7BFF),
    ("cvt.rn.f16.f32", (f(65520),), 0x7C00),
    ("cvt.rn.f16.f32", (f(-(2**-24)),), 0x8001),
    ("cvt.rn.f16.f32", (f(2**-25),), 0),
    ("cvt.rn.f16.f32", (f(1.5 * 2**-25),), 1),
    ("cvt.rn.f16.f32", (f(2047 * 2**-25),), 0x0400),  # up to the smallest normal number
    ("cvt.f32.f16", (0x0001,), f(2**-24)),
    ("cvt.f32.f16", (0xFC00,), 0xFF800000),
    ("cvt.f32.bf16", (0x3F80,), ONE),
]


def computing(name: str, opcode: str) -> str:
    """A kernel that loads the instruction's operands and stores its result, zero-extended."""
    operation = OPERATIONS[opcode]
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
    result = OPERATIONS[opcode].result
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


def entry(name: str, body: str, directives: str = "") -> str:
    return f"""
    .visible .entry {name}(.param .u64 .ptr .global .align 8 {name}_in, .param .u64 {name}_out)
    {directives}
    {{
        .reg .b64 %in, %out;
        ld.param.u64 %in, [{name}_in];
        ld.param.u64 %out, [{name}_out];
        cvta.to.global.u64 %in, %in;
        cvta.to.global.u64 %out, %out;
        {body}
        ret;
    }}
    """


@dataclasses.dataclass(frozen=True)
class Snippet:
    """A kernel, the inputs of its run, and the words that it writes: one for each thread, or what stops it."""

    body: str
    expected: list[int] | str
    inputs: tuple[int, ...] = ()
    threads: int = 1
    blocks: int = 1
    out_bytes: int = 0
    directives: str = ""

    @property
    def bytes(self) -> int:
        return self.out_bytes or 8 * len(self.expected)


# The number of the thread as %t, and the address of its word of the output as %mine.
MINE = """.reg .b32 %t, %b, %n; .reg .b64 %mine;
    mov.u32 %t, %tid.x; mov.u32 %b, %ctaid.x; mov.u32 %n, %ntid.x;
    mad.lo.s32 %n, %b, %n, %t; mul.wide.u32 %mine, %n, 8; add.s64 %mine, %out, %mine;"""
SHARED = ".shared .align 4 .b8 %s[256]; .reg .b64 %place; .reg .b32 %v; mul.wide.u32 %place, %t, 4;".replace(
    "%s", "memory"
)
NEIGHBOUR = f"""{MINE} {SHARED} .reg .b32 %w; .reg .b64 %base, %far;
    mov.u64 %base, memory; add.s64 %place, %base, %place;
    st.shared.u32 [%place], %t;
    BARRIER
    xor.b32 %w, %t, 63; mul.wide.u32 %far, %w, 4; add.s64 %far, %base, %far;
    ld.shared.u32 %v, [%far];
    cvt.u64.u32 %far, %v; st.global.u64 [%mine], %far;"""

SNIPPETS: dict[str, Snippet] = {
    "thread_numbers": Snippet(
        f"{MINE} .reg .b64 %v; cvt.u64.u32 %v, %n; st.global.u64 [%mine], %v;",
        list(range(96)),
        threads=32,
        blocks=3,
        directives=".maxntid 32, 1, 1\n.minnctapersm 2",
    ),
    "loop": Snippet(
        """.reg .b64 %sum, %i; .reg .pred %p; mov.b64 %sum, 0; mov.u64 %i, 10;
        $L_top: add.s64 %sum, %sum, %i; add.s64 %i, %i, -1; setp.gt.s64 %p, %i, 0; @%p bra $L_top;
        @!%p st.global.u64 [%out], %sum;
        @%p st.global.u64 [%out+8], %sum; // not reached
        """,
        [55],
    ),
    "packs": Snippet(
        """.reg .b32 %lo, %hi; .reg .b16 %a, %b; .reg .b64 %x;
        ld.global.u64 %x, [%in]; mov.b64 {%lo, %hi}, %x; mov.b64 %x, {%hi, %lo}; st.global.u64 [%out], %x;
        mov.b32 {%a, %b}, %lo; mov.b32 %hi, {%b, %a}; st.global.v2.u32 [%out+8], {%lo, %hi};
        mov.b64 {_, %lo}, %x; cvt.u64.u32 %x, %lo; st.global.u64 [%out+16], %x;""",
        [0x5566778811223344, 0x7788556655667788, 0x55667788],
        (0x1122334455667788,),
    ),
    "inline_assembly": Snippet(
        """.reg .b32 %lo, %hi; ld.global.u32 %lo, [%in];
        // begin inline asm
        {.reg .u64 t; mul.wide.u32 t, %lo, %lo; mov.b64 {%lo, %hi}, t;}
        // end inline asm
        {.reg .u64 t; mov.b64 t, {%lo, %hi}; st.global.u64 [%out], t;}""",
        [0xFFFFFFFF**2],
        (0xFFFFFFFF,),
    ),
    "vectors": Snippet(
        """.reg .b32 %a<4>; ld.global.v4.u32 {%a0, %a1, %a2, %a3}, [%in];
        st.global.v4.b32 [%out], {%a3, %a2, %a1, %a0};""",
        [0x4455667700112233, 0xCCDDEEFF8899AABB],
        (0x8899AABBCCDDEEFF, 0x0011223344556677),
    ),
    "narrow_memory": Snippet(
        """.reg .b32 %x, %y; .reg .b16 %h; .reg .b64 %z; ld.global.s8 %x, [%in]; ld.global.u8 %y, [%in];
        st.global.v2.u32 [%out], {%x, %y}; ld.global.s16 %z, [%in]; st.global.u64 [%out+8], %z;
        st.global.u8 [%out+16], %x; st.global.u16 [%out+18], %y; mov.u16 %h, 1; st.global.u8 [%out+17], %h;
        mov.b32 %x, 0; st.global.b32 [%out+20], %x;""",
        [0xFEFFFFFFFE, 0xFFFFFFFFFFFF80FE, 0xFE01FE],
        (0x80FE,),
    ),
    "booleans": Snippet(
        """.reg .pred %p, %q, %c; .reg .b32 %x, %y; .reg .b64 %z; ld.global.u32 %x, [%in];
        setp.eq.u32 %c, %x, 5; setp.lt.and.s32 %p|%q, %x, 9, !%c; selp.u32 %x, 1, 0, %p; selp.u32 %y, 1, 0, %q;
        st.global.v2.u32 [%out], {%x, %y};
        setp.gtu.f32 %p, 0f7FC00000, 0f3F800000; setp.gt.or.f32 %q, 0f7FC00000, 0f3F800000, %c;
        selp.u32 %x, 1, 0, %p; selp.u32 %y, 1, 0, %q; st.global.v2.u32 [%out+8], {%x, %y};
        setp.hi.u32 %p, -1, 1; and.pred %p, %p, %c; mov.pred %q, 1; and.pred %q, %q, !%p; xor.pred %q, %q, %c;
        selp.u32 %x, 1, 0, %q;
        cvt.u64.u32 %z, %x; st.global.u64 [%out+16], %z;""",
        [0, 1 + (1 << 32), 1],  # 5 < 9 and not (5 == 5); not (5 < 9) and not (5 == 5); unordered; ...
        (5,),
    ),
    "table_of_labels": Snippet(
        f"""{MINE} .reg .b64 %v; mov.u64 %v, 7;
        $L_table: .branchtargets $L_a, $L_b, $L_c;
        brx.idx %t, $L_table;
        $L_a: mov.u64 %v, 10; bra.uni $L_end;
        $L_b: mov.u64 %v, 20; bra.uni $L_end;
        $L_c: mov.u64 %v, 30;
        $L_end: st.global.u64 [%mine], %v;""",
        [10, 20, 30],
        threads=3,
    ),
    "neighbours": Snippet(NEIGHBOUR.replace("BARRIER", "bar.sync 0;"), list(range(63, -1, -1)), threads=64),
    "narrow_addresses": Snippet(  # below the variable, and back by the offset
        f"""{MINE} {SHARED} .reg .b32 %a; .reg .b64 %w; mov.u32 %a, memory; add.s32 %a, %a, -8;
        st.shared.u32 [%a+12], 77; ld.shared.u32 %v, [memory+4]; cvt.u64.u32 %w, %v; st.global.u64 [%mine], %w;""",
        [77],
    ),
    "atomics": Snippet(
        f"""{MINE} {SHARED} .reg .pred %first; .reg .b64 %w; setp.eq.u32 %first, %t, 0;
        @%first st.shared.u32 [memory], 100;
        barrier.sync 0;
        atom.shared.add.u32 %v, [memory], 2; red.shared.max.u32 [memory], 5;
        bar.sync 0;
        ld.shared.u32 %v, [memory]; cvt.u64.u32 %w, %v; st.global.u64 [%mine], %w;""",
        [228] * 64,
        threads=64,
    ),
    # What stops a run
    "unguarded": Snippet(NEIGHBOUR.replace("BARRIER", ""), "race: |nobody has written", threads=64, out_bytes=512),
    "overwritten": Snippet(
        f"{MINE} {SHARED} st.shared.u32 [memory], %t;", "race: shared memory that another", threads=2, out_bytes=8
    ),
    "read_then_written": Snippet(
        f"""{MINE} {SHARED} .reg .pred %p; setp.eq.u32 %p, %t, 0; @%p st.shared.u32 [memory], 1; bar.sync 0;
        ld.shared.u32 %v, [memory]; @%p st.shared.u32 [memory], 2;""",
        "race: ",
        threads=2,
        out_bytes=8,
    ),
    "atomic_and_plain": Snippet(
        f"""{MINE} {SHARED} .reg .pred %p; setp.eq.u32 %p, %t, 0; @%p st.shared.u32 [memory], 1; bar.sync 0;
        red.shared.add.u32 [memory], 1; @%p ld.shared.u32 %v, [memory];""",
        "race: ",
        threads=2,
        out_bytes=8,
    ),
    "noise": Snippet(f"{MINE} {SHARED} ld.shared.u32 %v, [memory];", "nobody has written", out_bytes=8),
    "beyond_shared": Snippet(f"{MINE} {SHARED} st.shared.u32 [memory+256], %t;", "beyond shared memory", out_bytes=8),
    "early_exit": Snippet(
        f"{MINE} .reg .pred %p; setp.gt.u32 %p, %t, 40; @%p ret; bar.sync 0;",
        "barrier that others never reach",
        threads=64,
        out_bytes=8,
    ),
    "two_barriers": Snippet(
        f"""{MINE} .reg .pred %p; setp.gt.u32 %p, %t, 40; @%p bra $L_other;
        bar.sync 0;
        bra $L_end;
        $L_other: bar.sync 0;
        $L_end:""",
        "different barriers",
        threads=64,
        out_bytes=8,
    ),
    "beyond": Snippet("st.global.u64 [%out+8], %out;", "global store", out_bytes=8),
    "before": Snippet("st.global.u64 [%out+-8], %out;", "global store", out_bytes=8),
    "across_the_end": Snippet(
        ".reg .b32 %x; mov.u32 %x, 0; st.global.v4.u32 [%out], {%x, %x, %x, %x};", "global store", out_bytes=8
    ),
    "misaligned": Snippet("st.global.u16 [%out+1], %out;", "misaligned", out_bytes=8),
    "misaligned_vector": Snippet(
        ".reg .b32 %x; mov.u32 %x, 0; st.global.v2.u32 [%out+4], {%x, %x};", "misaligned", out_bytes=16
    ),
    "load_beyond": Snippet("ld.global.u64 %in, [%in+8];", "global load", (1,), out_bytes=8),
    "parameters_beyond": Snippet("ld.param.u64 %in, [parameters_beyond_out+8];", "kernel's parameters", out_bytes=8),
    "divided_by_zero": Snippet(".reg .b32 %x; mov.u32 %x, 0; div.u32 %x, %x, %x;", "division by zero", out_bytes=8),
    "trapped": Snippet("trap;", "trap", out_bytes=8),
    "small_rsqrt": Snippet(
        ".reg .b32 %x; mov.b32 %x, 0f0CFFFFFF; rsqrt.approx.ftz.f32 %x, %x;", "outside the proven range", out_bytes=8
    ),
    "large_rcp": Snippet(
        ".reg .b32 %x; mov.b32 %x, 0f7E800001; rcp.approx.ftz.f32 %x, %x;", "outside the proven range", out_bytes=8
    ),
    "too_many_threads": Snippet("", "invalid argument", threads=64, out_bytes=8, directives=".maxntid 32"),
    "no_blocks": Snippet("", "invalid configuration", blocks=0, out_bytes=8),
    "large_block": Snippet("", "invalid configuration", threads=1025, out_bytes=8),
}
RESULTS = {name: s for name, s in SNIPPETS.items() if isinstance(s.expected, list)}
FAULTS = {name: s for name, s in SNIPPETS.items() if isinstance(s.expected, str)}
SEEDS = ("rsqrt.approx.ftz.f32", "rcp.approx.ftz.f32")


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
