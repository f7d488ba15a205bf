"""The keyed stream has the distribution that each function names: every law, every type, judged by stats.py.

Samples have 2^23 values (Kolmogorov-Smirnov: 10^6). The negative controls at the end are samplers with one
small defect each, at the same size; each must be flagged, and by the test that is meant to see it.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import stats
import torch
from reference import DTYPES, neighbour, rounded

import fastinit

pytestmark = pytest.mark.one_torch

N = 2**23
KS = 10**6
SEED = 20_260_701


class Case(NamedTuple):
    fill: Callable[..., torch.Tensor]  # a drop-in function
    arguments: dict[str, float]
    law: stats.Law  # in float64, before rounding
    low: float  # no value may lie outside [low, high]
    high: float
    tails: list[float]


def uniform(a: float, b: float) -> Case:
    tails = [a + (b - a) * t for k in range(1, 6) for t in (10.0**-k, 1 - 10.0**-k)]
    return Case(fastinit.uniform_, {"a": a, "b": b}, stats.uniform_law(a, b), a, b, tails)


def normal(mean: float, std: float) -> Case:
    tails = [mean + std * t for k in (1, 2, 3, 4, 5) for t in (-k, k)]
    law = stats.normal_law(mean, std)
    return Case(fastinit.normal_, {"mean": mean, "std": std}, law, -np.inf, np.inf, tails)


def trunc_normal(mean: float, std: float, a: float, b: float) -> Case:
    low, high = max(a, mean - 5 * std), min(b, mean + 5 * std)
    tails = [low + (high - low) * t for t in (0.0, 0.001, 0.01, 0.1, 0.2, 0.8, 0.9, 0.99, 0.999, 1.0)]
    tails = [t for t in tails if a < t < b]
    arguments = {"mean": mean, "std": std, "a": a, "b": b}
    return Case(fastinit.trunc_normal_, arguments, stats.normal_law(mean, std, a, b), a, b, tails)


CASES = {
    "uniform [0, 1)": uniform(0.0, 1.0),
    "uniform 0.05": uniform(-0.05, 0.05),
    "normal": normal(0.0, 1.0),
    "normal 0.02": normal(0.0, 0.02),
    "truncated 2 sigma": trunc_normal(0.0, 1.0, -2.0, 2.0),
    "truncated 100 sigma": trunc_normal(0.0, 0.02, -2.0, 2.0),
    "truncated on one side": trunc_normal(1.0, 2.0, 0.0, 1000.0),
    "truncated to the tail": trunc_normal(0.0, 1.0, 4.0, 5.0),
}


def draw(case: Case, dtype: torch.dtype, key: fastinit.Key, n: int = N) -> torch.Tensor:
    return case.fill(torch.empty(n, dtype=dtype), **case.arguments, generator=key)


def bounds(case: Case, dtype: torch.dtype) -> tuple[float, float]:
    """A uniform value may be the lower bound rounded down, never the upper one; truncation keeps to both."""
    if case.fill is fastinit.uniform_:
        return rounded(case.low, dtype).double().item(), neighbour(case.high, dtype, "<")
    return case.low, case.high


@functools.cache
def enumerated_law(dtype: torch.dtype) -> stats.Law:
    """Uniform on [0, 1) from all 2^24 words: narrow types resolve the grid of its small values."""
    grid = torch.arange(2**24, dtype=torch.int32) * 2.0**-24
    return stats.counted_law(grid.clamp(max=neighbour(1.0, dtype, "<")).to(dtype))


def narrow_law(case: Case, dtype: torch.dtype) -> stats.Law:
    if case is CASES["uniform [0, 1)"]:
        return enumerated_law(dtype)
    return stats.rounded_law(case.law, dtype, *bounds(case, dtype))


def p_values(case: Case, sample: torch.Tensor) -> dict[str, float]:
    narrow = sample.dtype.itemsize <= 2
    law = narrow_law(case, sample.dtype) if narrow else case.law
    series = sample.double().numpy()
    low, high = bounds(case, sample.dtype)
    least, most = series.min(), series.max()
    inside = low <= least and most <= high and np.isfinite([least, most]).all()
    result = {"range": 1.0 if inside else 0.0} | stats.serial(series, law)
    if narrow:
        x, counts, part = law.points, stats.tally(sample, law.points), stats.tally(sample[:KS], law.points)
        result["possible"] = 1.0 if counts.sum() == N else 0.0
        result |= stats.kolmogorov_smirnov(x, law, part)
        result |= stats.chi_square(counts, law) | stats.distinct(counts, law)
    else:
        x, counts = series, None
        result |= stats.kolmogorov_smirnov(x[:KS], law)
        if case is CASES["uniform [0, 1)"]:  # the word's own bits
            bits = 24 if sample.dtype == torch.float32 else 53
            result |= stats.fair_bits((x[:KS] * 2.0**bits).astype(np.int64), range(bits))
        elif case.arguments.get("std") == 1:
            # Bits of the significand, low enough for a level density; with another std or mean, the rounding
            # of fma(z, std, mean) in float32 alone sets them unevenly.
            single = sample.dtype == torch.float32
            patterns = sample.view(torch.int32 if single else torch.int64).numpy()
            result |= stats.fair_bits(patterns, range(2, 8) if single else (20, 24, 28, 32, 36))
    return result | stats.moments(x, law, counts) | stats.tails(x, law, case.tails, counts)


def flagged(p: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in p.items() if not value >= stats.ALPHA}


TESTS_MADE: list[int] = []


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
@pytest.mark.parametrize("name", CASES)
def test_distribution(name: str, dtype: torch.dtype) -> None:
    p = p_values(CASES[name], draw(CASES[name], dtype, fastinit.Key(SEED)))
    TESTS_MADE.append(len(p))
    assert not flagged(p)


def streams(name: str, n: int = 2**20) -> list[np.ndarray]:
    """Under keys that are near each other, or related by derivation."""
    key = fastinit.Key(SEED)
    keys = [key, fastinit.Key(SEED + 1), fastinit.Key(SEED, 2**32), fastinit.Key(SEED + 2**32), *key.split(2)]
    keys += [key.fold_in("weight"), key.fold_in("weight").fold_in("bias")]
    return [draw(CASES[name], torch.float32, key, n).double().numpy() for key in keys]


@pytest.mark.parametrize("name", ["uniform [0, 1)", "normal"])
def test_keys_are_independent(name: str) -> None:
    p = stats.cross(streams(name), CASES[name].law)
    TESTS_MADE.append(len(p))
    assert not flagged(p)


def test_false_alarm_rate() -> None:
    """The number of p-values is the one that the stated rate allows for."""
    if len(TESTS_MADE) < len(CASES):
        pytest.skip("only when the whole file runs")
    assert sum(TESTS_MADE) <= stats.TESTS


# --- Negative controls -------------------------------------------------------------------------------------
def bit_stuck(x: torch.Tensor) -> torch.Tensor:
    return ((x * 2**24).int() | 1) * 2.0**-24


def tail_cut(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x.abs() > 4, x / 4, x)


def serially_correlated(x: torch.Tensor) -> torch.Tensor:
    return (x + 0.003 * x.roll(1)) / (1 + 0.003**2) ** 0.5


def magnitudes_shared(x: torch.Tensor) -> torch.Tensor:
    x[1::256] = x[0::256].abs().copysign(x[1::256])
    return x


def few_values(x: torch.Tensor) -> torch.Tensor:
    return ((x * 256).floor() / 256).bfloat16()  # torch's own stateless bfloat16 uniform has these


CONTROLS = {
    "scaled by 1.003": ("normal", torch.float32, lambda x: x * 1.003, "moment 2"),
    "mean shifted by 0.003 sigma": ("normal", torch.float32, lambda x: x + 0.003, "moment 1"),
    "one bit stuck": ("uniform [0, 1)", torch.float32, bit_stuck, "bit 0"),
    "tail cut at 4 sigma": ("normal", torch.float32, tail_cut, "tail 4"),
    "upper tail cut": ("truncated 100 sigma", torch.float32, lambda x: x.clamp(max=0.08), "tail 0.08"),
    "serially correlated": ("normal", torch.float32, serially_correlated, "serial values 1"),
    "magnitudes shared": ("normal", torch.float32, magnitudes_shared, "serial squares 1"),
    "float32 through bfloat16": ("normal", torch.float32, lambda x: x.bfloat16().float(), "bit 2"),
    "bfloat16 through float16": ("normal", torch.float32, lambda x: x.half().bfloat16(), "chi-square"),
    "float16 through bfloat16": ("normal", torch.float32, lambda x: x.bfloat16().half(), "distinct"),
    "256 values": ("uniform [0, 1)", torch.float32, few_values, "distinct"),
    "1.0 drawn from [0, 1)": ("uniform [0, 1)", torch.float32, lambda x: x.bfloat16(), "range"),
    "window 1% wide of its bound": ("truncated 2 sigma", torch.float64, lambda x: x * 1.005, "range"),
    "folded at the mean": ("normal", torch.float16, torch.abs, "ks"),
}


@pytest.mark.parametrize("control", CONTROLS)
def test_control_is_flagged(control: str) -> None:
    name, dtype, broken, test = CONTROLS[control]
    found = flagged(p_values(CASES[name], broken(draw(CASES[name], dtype, fastinit.Key(SEED)))))
    assert any(hit.startswith(test) for hit in found), found


@pytest.mark.parametrize("shift", [0, 4])
def test_shared_stream_is_flagged(shift: int) -> None:
    """Two keys that give one stream, in step or one block apart."""
    x = streams("normal")[:3]
    x[2] = np.roll(x[0], shift)
    found = flagged(stats.cross(x, CASES["normal"].law))
    assert len(found) == 1
    assert next(iter(found)).endswith(f" {shift}")
