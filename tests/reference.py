"""What the keyed stream is, in plain NumPy: every other implementation is judged by this file.

It shares no code and no constant with csrc/. Uniform values are exact, bit for bit: float32 and float64
arithmetic with one rounding for each fused multiply-add. Normal and truncated normal values are the real
numbers that the definition names, in float64 and unrounded, to be compared within a tolerance.

`index` is always the row-major position in the global tensor, as any array of integers below 2^64.
"""

import functools
import hashlib

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)

# --- Philox4x32-10 (Salmon and others: Parallel random numbers, as easy as 1, 2, 3; SC'11) ----------------
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)


def _u64(values: ArrayLike) -> NDArray[np.uint64]:
    """Integers, Python's or NumPy's, as an array of uint64, modulo 2^64."""
    if isinstance(values, int):
        values = values % 2**64
    return np.asarray(values).astype(np.uint64)


def philox4x32_10(seed: int, block: ArrayLike, word2: int = 0, word3: int = 0) -> NDArray[np.uint32]:
    """Four words a block: the key is (seed low, seed high), the counter (block low, high, word2, word3)."""
    block = np.atleast_1d(_u64(block))
    c0, c1 = block & _LOW, block >> _32
    c2, c3 = np.full_like(block, word2), np.full_like(block, word3)
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF
    for _ in range(10):
        p0, p1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = p1 >> _32 ^ c1 ^ np.uint64(k0), p1 & _LOW, p0 >> _32 ^ c3 ^ np.uint64(k1), p0 & _LOW
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def fold_in(seed: int, offset: int, data: int | str) -> tuple[int, int]:
    """The (seed, offset) of a child key."""
    if isinstance(data, str):
        data = int.from_bytes(hashlib.blake2b(data.encode("utf-8"), digest_size=8).digest(), "little")
    r = [int(word) for word in philox4x32_10(seed, offset + data)[0]]
    return r[0] | r[1] << 32, r[2] | r[3] << 32


def split(seed: int, offset: int, n: int) -> list[tuple[int, int]]:
    return [fold_in(seed, offset, j) for j in range(n)]


# --- From element to word ----------------------------------------------------------------------------------
def words32(seed: int, offset: int, index: ArrayLike, stream: int = 0) -> NDArray[np.uint32]:
    """One 32-bit word an element: four elements share a block."""
    index = _u64(index)
    four = philox4x32_10(seed, _u64(offset) + index // np.uint64(4), word2=stream)
    return four[np.arange(index.size), index % np.uint64(4)]


def words64(seed: int, offset: int, index: ArrayLike) -> NDArray[np.uint64]:
    """Two words an element, first << 32 | second: two elements share a block."""
    index = _u64(index)
    four = philox4x32_10(seed, _u64(offset) + index // np.uint64(2)).astype(np.uint64)
    rows, first = np.arange(index.size), index % np.uint64(2) * np.uint64(2)
    return four[rows, first] << _32 | four[rows, first + np.uint64(1)]


def words53(seed: int, offset: int, index: ArrayLike) -> NDArray[np.uint64]:
    return words64(seed, offset, index) & np.uint64(2**53 - 1)


def pairs(seed: int, offset: int, index: ArrayLike, wide: bool) -> tuple[NDArray, NDArray]:
    """The words of each element's pair (2m, 2m + 1): one gives the radius, the other the angle."""
    words, even = words64 if wide else words32, _u64(index) & np.uint64(2**64 - 2)
    return words(seed, offset, even), words(seed, offset, even + np.uint64(1))


# --- Arithmetic and types ----------------------------------------------------------------------------------
def _two_sum(x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    """x + y as a rounded sum and its exact error (Knuth)."""
    s = x + y
    t = s - x
    return s, (x - (s - t)) + (y - t)


def _sum_to_odd(x: NDArray, y: NDArray) -> NDArray:
    """x + y in float64 rounded to odd, so that a later rounding to a narrower type is the only one."""
    s, error = _two_sum(x, y)
    even = np.atleast_1d(s).view(np.uint64).reshape(np.shape(s)) & np.uint64(1) == 0
    return np.where((error != 0) & even, np.nextafter(s, np.copysign(np.inf, error)), s)


def fma32(x: NDArray, y: ArrayLike, z: ArrayLike) -> NDArray[np.float32]:
    """x * y + z of float32 numbers, rounded once: float64 holds the product exactly."""
    x, y, z = (np.float32(v).astype(np.float64) for v in (x, y, z))
    return _sum_to_odd(x * y, z).astype(np.float32)


def fma64(x: NDArray, y: float, z: float) -> NDArray[np.float64]:
    """x * y + z of float64 numbers, rounded once (Boldo and Melquiond, 2008); products within 2^±900."""
    x = x.astype(np.float64)

    def halves(v: ArrayLike) -> tuple[ArrayLike, ArrayLike]:
        high = v * 134217729.0 - (v * 134217729.0 - v)
        return high, v - high

    product = x * y
    (xh, xl), (yh, yl) = halves(x), halves(y)
    error = xl * yl - (((product - xh * yh) - xl * yh) - xh * yl)
    th, tl = _two_sum(z, error)
    vh, vl = _two_sum(product, th)
    return vh + _sum_to_odd(tl, vl)


@functools.cache
def representable(dtype: torch.dtype) -> NDArray[np.float64]:
    """Every finite value of a 16- or 8-bit type, in order, zero once."""
    bits = 8 * dtype.itemsize
    patterns = np.arange(2**bits, dtype=f"uint{bits}")
    values = torch.from_numpy(patterns.view(f"int{bits}")).view(dtype).double().numpy()
    return np.unique(values[np.isfinite(values)])


def neighbour(x: float, dtype: torch.dtype, side: str) -> float:
    """The value of `dtype` nearest to x on one side: "<", "<=" or ">="."""
    if dtype.itemsize <= 2:
        values = representable(dtype)
        at = np.searchsorted(values, x, side="right" if side == "<=" else "left")
        return float(values[at if side == ">=" else at - 1])
    wide = np.float64 if dtype == torch.float64 else np.float32
    y = wide(x)
    wrong = {"<": float(y) >= x, "<=": float(y) > x, ">=": float(y) < x}[side]
    return float(np.nextafter(y, wide(np.inf if side == ">=" else -np.inf)) if wrong else y)


def rounded(x: ArrayLike, dtype: torch.dtype) -> torch.Tensor:
    """x in `dtype`, by way of float32 unless that is float64."""
    wide = np.float64 if dtype == torch.float64 else np.float32
    return torch.from_numpy(np.atleast_1d(np.asarray(x).astype(wide))).to(dtype)


# --- From word to value ------------------------------------------------------------------------------------
def uniform_of(words: NDArray, a: float, b: float, dtype: torch.dtype) -> torch.Tensor:
    """Uniform values of given words: exact."""
    if dtype == torch.float64:
        value = fma64(words.astype(np.float64) * 2.0**-53, b - a, a)
    else:
        value = fma32((words & np.uint32(0xFFFFFF)) * np.float32(2.0**-24), b - a, a)
    high = rounded(a, dtype).double().item()
    if a < b:
        high = max(high, neighbour(b, dtype, "<"))
    return rounded(np.minimum(value, high), dtype)


def uniform(seed: int, offset: int, index: ArrayLike, a: float, b: float, dtype: torch.dtype) -> torch.Tensor:
    words = words53 if dtype == torch.float64 else words32
    return uniform_of(words(seed, offset, index), a, b, dtype)


def normal_of(
    radius: NDArray, angle: NDArray, odd: NDArray, mean: float, std: float, dtype: torch.dtype
) -> NDArray[np.float64]:
    """Normal values of given pairs of words: cosine for even elements, sine for odd ones."""
    if dtype == torch.float64:
        u, turn = fma64(radius, 2.0**-64, 2.0**-65), fma64(angle, 2.0**-64, 2.0**-65)
    else:
        u, turn = fma32(radius, 2.0**-32, 2.0**-33).astype(np.float64), (angle + 0.5) * 2.0**-32
    wave = np.where(odd, np.sin(2 * np.pi * turn), np.cos(2 * np.pi * turn))
    return mean + std * np.sqrt(-2 * np.log(u)) * wave


def normal(seed: int, offset: int, index: ArrayLike, mean: float, std: float, dtype: torch.dtype) -> NDArray:
    odd = (_u64(index) & np.uint64(1)).astype(bool)
    return normal_of(*pairs(seed, offset, index, dtype == torch.float64), odd, mean, std, dtype)


def trunc_normal_of(words: NDArray, mean: float, std: float, a: float, b: float, dtype: torch.dtype) -> NDArray:
    """Truncated normal values of given words: the inverse CDF, taken from the tail that is nearer."""
    bits = 53 if dtype == torch.float64 else 32
    below = (words.astype(np.float64) + 0.5) * 2.0**-bits
    above = ((2**bits - 1 - words.astype(np.uint64)).astype(np.float64) + 0.5) * 2.0**-bits
    low, high = (a - mean) / std, (b - mean) / std
    mass = ndtr(high) - ndtr(low) if low < 0 else ndtr(-low) - ndtr(-high)
    p, q = ndtr(low) + below * mass, ndtr(-high) + above * mass
    z = np.where(p < q, ndtri(p), -ndtri(q))
    return np.clip(mean + std * z, neighbour(a, dtype, ">="), neighbour(b, dtype, "<="))


def trunc_normal(
    seed: int, offset: int, index: ArrayLike, mean: float, std: float, a: float, b: float, dtype: torch.dtype
) -> NDArray:
    words = words53 if dtype == torch.float64 else words32
    return trunc_normal_of(words(seed, offset, index), mean, std, a, b, dtype)


def sparse_zeros(seed: int, offset: int, rows: int, columns: int, zeros: int) -> NDArray[np.bool_]:
    """Where a sparse matrix is zero: in each column at the smallest draws of the second stream, the first of equals."""
    draws = words32(seed, offset, np.arange(rows * columns), stream=1).reshape(rows, columns) >> np.uint32(1)
    ranks = np.argsort(np.argsort(draws, axis=0, kind="stable"), axis=0, kind="stable")
    return ranks < zeros
