"""Vectors for the instructions of ptx_instructions.py: operands and results as bits, from the PTX ISA by hand."""

import struct

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
    ("cvt.rzi.s64.f32", (NAN,), 2**63),
    ("cvt.rzi.s32.f64", (d(float("nan")),), 2**31),
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
