"""Kernels written by hand in PTX, with what each must write or what must stop it: run by test_ptx_to_cpp.py."""

import dataclasses

HEAD = ".version 9.0\n.target sm_90\n.address_size 64\n"


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
