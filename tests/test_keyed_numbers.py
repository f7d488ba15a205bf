"""Every value of the keyed stream is the one that reference.py defines.

Uniform values bit for bit; normal and truncated normal ones within 4e-6 standard deviations (float64: 1e-13)
before the rounding to their type; narrow types are the float32 values rounded once, bit for bit. Keys,
offsets, sizes, parts of a tensor, and element indices beyond 2^34, where blocks and indices wrap 32 bits.
"""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import reference
import torch

import fastinit

# (global shape, start, shape of the part)
Part = tuple[Sequence[int], Sequence[int], Sequence[int]]
WHOLE: list[Part] = [((n,), (0,), (n,)) for n in (0, 1, 2, 3, 5, 64, 1027)] + [((), (), ())]
PARTS: list[Part] = [
    ((3, 5, 7), (0, 0, 0), (3, 5, 7)),
    ((3, 5, 7), (1, 2, 3), (2, 3, 4)),
    ((2**32 + 50,), (2**32 - 9,), (33,)),
    ((2**34 + 50,), (2**34 - 9,), (33,)),
    ((2**17 + 3, 2**17), (2**17, 2**17 - 5), (3, 5)),  # every row starts beyond 2^34
    ((2**40,), (2**40 - 7,), (7,)),
]
KEYS = [
    (0, 0),
    (1, 0),
    (20111115, 3),
    (2**63, 2**32 - 2),
    (2**64 - 1, 2**64 - 2),
    (0x0123456789ABCDEF, 2**63 - 1),
]

UNIFORM = [(0.0, 1.0), (-1.0, 1.0), (-0.05, 0.05), (0.1, 0.7), (-400.0, 1e-3), (2.5, 2.5), (0.1, 0.1)]
UNIFORM += [
    (1.0, 1.001),
    (1.001, 1.002),
    (1.005, 1.006),
    (-1.006, -1.005),
]  # narrower than some types can tell
NORMAL = [(0.0, 1.0), (0.0, 0.02), (1.0, 0.02), (-3.0, 0.5), (2.1, 0.0)]
TRUNC_NORMAL = [
    (0.0, 1.0, -2.0, 2.0),
    (0.0, 0.02, -2.0, 2.0),
    (0.0, 0.02, -0.03, 0.04),
    (1.0, 2.0, 0.0, 100.0),
    (-1.0, 0.5, -20.0, -0.7),
    (0.0, 1.0, -0.001, 0.001),
    (0.0, 1.0, -1.0, 7.0),
    (0.0, 1.0, 4.0, 5.0),
    (0.0, 1.0, -9.0, -8.0),
    (0.0, 1.0, 10.0, 12.0),
]
# Elements of Key(0) whose words are among the six smallest or six largest; found by a search.
EXTREMES = [1117418819, 1453024970, 2043226799, 2765528729, 3088108365, 3304761632, 3603732188, 4501494404]
EXTREMES += [4656400586, 5424419053, 5992377491]

dtypes = pytest.mark.parametrize("dtype", reference.DTYPES, ids=lambda d: str(d).removeprefix("torch."))


def indices(part: Part) -> np.ndarray:
    """Row-major positions in the global tensor, counted by Python's integers."""
    of, start, shape = part
    strides = [math.prod(of[d + 1 :]) for d in range(len(of))]
    places = [
        sum((s + i) * stride for s, i, stride in zip(start, place, strides, strict=True))
        for place in np.ndindex(*shape)
    ]
    return np.array(places, np.uint64)


def draw(law: str, numbers: Sequence[float], key: tuple[int, int], part: Part, dtype: torch.dtype) -> torch.Tensor:
    of, start, shape = part
    whole = tuple(of) == tuple(shape)
    generator = fastinit.Key(*key) if whole else fastinit.Key(*key).shard(tuple(of), tuple(start))
    return getattr(fastinit, law)(torch.empty(shape, dtype=dtype), *numbers, generator=generator).flatten()


def same_bits(x: torch.Tensor, y: torch.Tensor) -> bool:
    integer = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[x.dtype.itemsize]
    return x.dtype == y.dtype and torch.equal(x.view(integer), y.view(integer))


def excess(values: torch.Tensor, exact: np.ndarray, std: float) -> float:
    """The largest error in tolerances: that of z, and one rounding to the type."""
    info = torch.finfo(values.dtype)
    z_error = 1e-13 if values.dtype == torch.float64 else 4e-6
    allowed = z_error * std + 0.51 * info.eps * (np.abs(exact) + z_error * std) + info.smallest_normal * info.eps
    return float((np.abs(values.double().numpy() - exact) / allowed).max(initial=0.0))


# --- Philox and keys ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("key", "counter", "words"),  # Random123's kat_vectors
    [
        ("00000000 00000000", "00000000 00000000 00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff", "ffffffff ffffffff ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("a4093822 299f31d0", "243f6a88 85a308d3 13198a2e 03707344", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_reference_knows_random123(key: str, counter: str, words: str) -> None:
    k, c = ([int(word, 16) for word in text.split()] for text in (key, counter))
    result = reference.philox4x32_10(k[0] | k[1] << 32, c[0] | c[1] << 32, c[2], c[3])[0]
    assert " ".join(f"{word:08x}" for word in result) == words


def test_project_knows_random123() -> None:
    """Words of the zero key and counter, whole in a child key and by their low 24 bits in uniform values."""
    child = fastinit.Key(0).fold_in(0)
    assert (child.seed, child.offset) == (0xE169C58D_6627E8D5, 0x9B00DBD8_BC57AC4C)
    values = fastinit.uniform_(torch.empty(4), generator=fastinit.Key(0))
    assert (values.double() * 2**24).tolist() == [0x27E8D5, 0x69C58D, 0x57AC4C, 0x00DBD8]


def test_standard_library_engine() -> None:
    """The 10,000th output of a default C++26 std::philox4x32, whose seed is 20111115."""
    assert reference.words32(20111115, 0, [9999])[0] == 1955073260
    assert fastinit.Key(20111115).fold_in(2499).offset >> 32 == 1955073260


@pytest.mark.parametrize("key", KEYS)
def test_derived_keys(key: tuple[int, int]) -> None:
    parent = fastinit.Key(*key)
    for data in (0, 1, 2**32, 2**63, 2**64 - 1, "", "weight", "model.layers.0.mlp.weight", "größe"):
        child = parent.fold_in(data)
        assert (child.seed, child.offset) == reference.fold_in(*key, data)
    assert [(k.seed, k.offset) for k in parent.split(5)] == reference.split(*key, 5)


# --- Values ------------------------------------------------------------------------------------------------
@dtypes
@pytest.mark.parametrize(("a", "b"), UNIFORM)
def test_uniform(a: float, b: float, dtype: torch.dtype) -> None:
    for key in KEYS:
        for part in WHOLE + PARTS:
            expected = reference.uniform(*key, indices(part), a, b, dtype)
            assert same_bits(draw("uniform_", (a, b), key, part, dtype), expected), (key, part)


@dtypes
@pytest.mark.parametrize(("mean", "std"), NORMAL)
def test_normal(mean: float, std: float, dtype: torch.dtype) -> None:
    for key in KEYS:
        for part in WHOLE + PARTS:
            values = draw("normal_", (mean, std), key, part, dtype)
            assert excess(values, reference.normal(*key, indices(part), mean, std, dtype), std) <= 1, (
                key,
                part,
            )
            if dtype.itemsize <= 2:
                assert same_bits(values, draw("normal_", (mean, std), key, part, torch.float32).to(dtype))


@dtypes
@pytest.mark.parametrize("numbers", TRUNC_NORMAL, ids=str)
def test_trunc_normal(numbers: tuple[float, float, float, float], dtype: torch.dtype) -> None:
    _, std, a, b = numbers
    low, high = reference.neighbour(a, dtype, ">="), reference.neighbour(b, dtype, "<=")
    for key in KEYS:
        for part in WHOLE + PARTS:
            values = draw("trunc_normal_", numbers, key, part, dtype)
            assert excess(values, reference.trunc_normal(*key, indices(part), *numbers, dtype), std) <= 1
            assert ((values.double() >= a) & (values.double() <= b)).all()
            if dtype.itemsize <= 2:
                single = draw("trunc_normal_", numbers, key, part, torch.float32)
                assert same_bits(values, single.clamp(low, high).to(dtype))


@pytest.mark.parametrize("element", EXTREMES)
def test_extreme_words(element: int) -> None:
    """The ends of every law: the smallest and largest words give finite, exact tails."""
    part = ((2**40,), (element & ~3,), (4,))
    word = int(reference.words32(0, 0, [element])[0])
    assert min(word, 2**32 - 1 - word) < 6
    for mean, std in NORMAL:
        values = draw("normal_", (mean, std), (0, 0), part, torch.float32)
        assert excess(values, reference.normal(0, 0, indices(part), mean, std, torch.float32), std) <= 1
    for numbers in TRUNC_NORMAL:
        values = draw("trunc_normal_", numbers, (0, 0), part, torch.float32)
        assert excess(values, reference.trunc_normal(0, 0, indices(part), *numbers, torch.float32), numbers[1]) <= 1


@dtypes
def test_many_values(dtype: torch.dtype) -> None:
    """A hundred thousand values of each law, for errors that few arguments show."""
    part, key = ((100_003,), (0,), (100_003,)), (7, 11)
    index = np.arange(100_003)
    assert same_bits(draw("uniform_", (0.0, 1.0), key, part, dtype), reference.uniform(*key, index, 0.0, 1.0, dtype))
    values = draw("normal_", (0.0, 1.0), key, part, dtype)
    assert excess(values, reference.normal(*key, index, 0.0, 1.0, dtype), 1.0) <= 1
    for numbers in TRUNC_NORMAL:
        values = draw("trunc_normal_", numbers, key, part, dtype)
        assert excess(values, reference.trunc_normal(*key, index, *numbers, dtype), numbers[1]) <= 1
