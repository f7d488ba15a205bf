"""What check_model compares with: distributions of values after rounding, and how far right values may be off.

References are scipy's distributions, and for narrow types the type's numbers one by one.
"""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from reference import DTYPES, neighbour

import fastinit
from fastinit import Key, laws
from fastinit.check.bounds import all_equal, binomial_limit, ks_limit, limits
from fastinit.check.distributions import Distribution, moments_of, nearest_in_window
from fastinit.check.measure import Statistics, evenly
from fastinit.check.probes import distance

pytestmark = pytest.mark.one_torch

SHAPE = (1,)
CASES = {
    "uniform": (laws.uniform(SHAPE, -0.3, 0.5), scipy.stats.uniform(-0.3, 0.8)),
    "normal": (laws.normal(SHAPE, 0.1, 0.02), scipy.stats.norm(0.1, 0.02)),
    "two sided": (laws.trunc_normal(SHAPE, 0.3, 1.7, -1.4, 5.0), scipy.stats.truncnorm(-1.0, 4.7 / 1.7, 0.3, 1.7)),
    "very wide": (laws.trunc_normal(SHAPE, 0.0, 0.02), scipy.stats.truncnorm(-100, 100, 0, 0.02)),
    "upper tail": (laws.trunc_normal(SHAPE, 0.0, 1.0, 4.0, 5.0), scipy.stats.truncnorm(4, 5)),
    "lower tail": (laws.trunc_normal(SHAPE, 0.0, 2.0, -30.0, -20.0), scipy.stats.truncnorm(-15, -10, 0, 2)),
    "far upper tail": (laws.trunc_normal(SHAPE, 0.0, 1.0, 11.0, 40.0), scipy.stats.truncnorm(11, 40)),
}


@pytest.mark.parametrize("case", CASES)
def test_distribution_function_density_and_moments_are_scipys(case: str) -> None:
    law, expected = CASES[case]
    distribution = Distribution(law)
    p = np.array([1e-6, 0.001, 0.1, 0.5, 0.9, 0.999])
    x = torch.from_numpy(expected.ppf(p))
    assert np.allclose(distribution.cdf(x).numpy(), p, rtol=1e-9)
    assert np.allclose(distribution.density(x).numpy(), expected.pdf(x.numpy()), rtol=1e-9)
    low, high = expected.support()
    outside = torch.tensor([low - 0.1, high + 0.1]).nan_to_num(posinf=99.0, neginf=-99.0).double()
    assert distribution.cdf(outside).tolist() == pytest.approx([0.0, 1.0], abs=1e-15)
    if math.isfinite(low):
        assert distribution.density(outside).tolist() == [0.0, 0.0]
    moments = moments_of(law, torch.float64)
    assert moments is not None
    kurtosis = float(expected.stats("k")) + 3
    assert moments.mean == pytest.approx(expected.mean(), abs=1e-6 * expected.std())
    assert moments.std == pytest.approx(expected.std(), rel=1e-6)
    assert moments.fourth == pytest.approx(kurtosis * expected.std() ** 4, rel=1e-5)
    assert moments.farthest == pytest.approx(max(expected.mean() - low, high - expected.mean()), rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_rounded_value_stands_for_what_lies_nearest_to_it(dtype: torch.dtype) -> None:
    distribution = Distribution(laws.normal(SHAPE, 0.25, 0.5))
    expected = scipy.stats.norm(0.25, 0.5)
    numbers = [0.0, 0.25, 0.5, 1.0, -0.25, -1.0, 0.75, -0.375]
    below, to = distribution.rounded_cdf(torch.tensor(numbers, dtype=torch.float64), dtype)
    for number, first, last in zip(numbers, below.tolist(), to.tolist(), strict=True):
        down, up = neighbour(number, dtype, "<"), -neighbour(-number, dtype, "<")
        assert down < number < up
        assert first == pytest.approx(expected.cdf((down + number) / 2), rel=1e-12)
        assert last == pytest.approx(expected.cdf((number + up) / 2), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e5m2])
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (fastinit.uniform_, {"a": 0.0, "b": 1.0}),  # a last value that stands for all up to b
        (fastinit.uniform_, {"a": -0.05, "b": 0.03}),
        (fastinit.normal_, {"mean": 1.0, "std": 0.02}),  # bfloat16 has ten numbers within a std
        (fastinit.trunc_normal_, {"std": 1.0, "a": -2.0, "b": 1.97}),  # a window whose end is no number of the type
    ],
)
def test_moments_of_rounded_values_are_those_of_the_fill(function, arguments, dtype: torch.dtype) -> None:
    """Judged at 6 standard errors, two statistics of eight fills: a false alarm in 10^7."""
    values = function(torch.empty(2**22, dtype=dtype), **arguments, generator=Key(3)).double()
    moments = moments_of(getattr(laws, function.__name__[:-1])(SHAPE, **arguments), dtype)
    assert moments is not None
    assert abs(values.mean().item() - moments.mean) <= 6 * moments.std / 2**11
    squares = (values - moments.mean) ** 2
    error = math.sqrt((moments.fourth - moments.std**4) / 2**22)
    assert abs(squares.mean().item() - moments.std**2) <= 6 * error
    assert (values - moments.mean).abs().max().item() <= moments.farthest * (1 + 1e-12)


def test_a_single_point_is_rounded_into_its_window() -> None:
    for dtype in DTYPES:
        value = nearest_in_window(1.03, 1.03, 2.0, dtype)
        filled = fastinit.trunc_normal_(torch.empty(3, dtype=dtype), 0.0, 0.0, 1.03, 2.0, generator=Key(0))
        assert filled.double().tolist() == [value] * 3
        assert 1.03 <= value <= 1.25


ALPHA = 0.02
SAMPLES = 2000


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("count", [1, 7, 300])
@pytest.mark.parametrize("law", ["uniform", "normal", "truncated", "tail", "wide"])
def test_limits_hold_for_samples_of_any_size(law: str, count: int, dtype: torch.dtype) -> None:
    """Each limit is exceeded with a probability of at most ALPHA: of 2,000 samples 40, and 90 with one of 1e-11."""
    function, arguments = {
        "uniform": (fastinit.uniform_, {"a": -0.25, "b": 0.75}),
        "normal": (fastinit.normal_, {"mean": 0.25, "std": 0.5}),
        "truncated": (fastinit.trunc_normal_, {"std": 0.5, "a": -1.0, "b": 1.0}),
        "tail": (fastinit.trunc_normal_, {"std": 1.0, "a": 2.0, "b": 6.0}),
        "wide": (fastinit.trunc_normal_, {"std": 0.02}),
    }[law]
    samples = function(torch.empty(SAMPLES, count, dtype=dtype), **arguments, generator=Key(count))
    of = getattr(laws, function.__name__[:-1])(SHAPE, **arguments)
    distribution, moments = Distribution(of), moments_of(of, dtype)
    assert moments is not None
    limit = limits(distribution, moments, dtype, count, ALPHA)
    values = samples.double()
    rms = (values - moments.mean).square().mean(1).sqrt()
    exceeded = {
        "mean": (values.mean(1) - moments.mean).abs() > limit.mean,
        "low": rms < limit.low,
        "high": rms > limit.high,
        "farthest": (values - distribution.loc).abs().amax(1) > limit.farthest,
    }
    for name, hits in exceeded.items():
        assert int(hits.sum()) <= 90, name
    most = ks_limit(distribution, dtype, count, ALPHA)
    working = samples[:200].float() if dtype.itemsize == 1 else samples[:200]
    far = sum(distance(sample, distribution, dtype) > most for sample in working)
    assert far <= 25  # of 200: 4 expected at most, more than 25 with a probability below 1e-12
    if count > 100 and law != "tail":  # the limits are not so wide that they say nothing: twice the normal theory's
        error = moments.std / math.sqrt(count)
        assert limit.mean <= 2 * scipy.stats.norm.isf(ALPHA / 2) * error
        kurtosis = moments.fourth / moments.std**4
        assert limit.high**2 - moments.std**2 <= 3 * scipy.stats.norm.isf(ALPHA / 2) * moments.std * error * math.sqrt(
            kurtosis - 1
        )


def test_the_number_of_zeros_has_a_binomial_limit() -> None:
    for count, probability in ((10, 0.3), (1000, 0.001), (10**6, 1e-7), (10**6, 0.2)):
        for alpha in (0.05, 1e-9):
            limit = binomial_limit(count, probability, alpha)
            assert scipy.stats.binom.sf(math.floor(limit), count, probability) <= alpha
            assert limit <= 1 + 3 * scipy.stats.binom.isf(alpha, count, probability) + 2 * math.log(1 / alpha)


def test_equal_values_are_the_likelier_the_fewer_numbers_a_type_has() -> None:
    distribution = Distribution(laws.normal(SHAPE, 0.0, 1.0))
    assert all_equal(distribution, 0.5, torch.float32, 1) == 1.0
    assert all_equal(distribution, 0.0, torch.float32, 1) <= 1e-7
    assert all_equal(distribution, 0.5, torch.float32, 2) <= 1e-7
    share = scipy.stats.norm.cdf(0.5625) - scipy.stats.norm.cdf(0.46875)
    assert all_equal(distribution, 0.5, torch.float8_e5m2, 4) == pytest.approx(share**3)


def test_evenly_takes_one_of_each_stretch() -> None:
    for count, most in ((10, 10), (7, 10), (11, 10), (300, 256), (2**24, 2**10), (10**9 + 7, 1000)):
        places = evenly(count, most)
        assert len(places) == min(count, most)
        assert places[0] >= 0 and places[-1] < count
        assert (places.diff() > 0).all()
        assert (places.diff() <= 2 * -(-count // most)).all()
    # Not always the same columns of a matrix whose rows are a multiple of the stretch.
    assert len((evenly(2**24, 2**14) % 2**12).unique()) > 2**11


def test_statistics_in_pieces_are_those_of_the_whole() -> None:
    values = torch.randn(10_001, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 1e-3 + 1e6
    statistics = Statistics()
    for piece in values.clone().split(1000):
        statistics.add(piece)
    statistics.add(torch.tensor([math.nan, math.inf, -math.inf, math.nan], dtype=torch.float64))
    assert (statistics.count, statistics.nans, statistics.infinities) == (10_001, 2, 2)
    assert statistics.mean == pytest.approx(values.mean().item(), rel=1e-14)
    assert statistics.std == pytest.approx(values.std(correction=0).item(), rel=1e-6)
    assert statistics.rms(1e6 + 1) == pytest.approx((values - 1e6 - 1).square().mean().sqrt().item(), rel=1e-9)
    assert (statistics.min, statistics.max) == (values.min().item(), values.max().item())


def test_a_law_that_a_type_cannot_hold_has_no_moments() -> None:
    assert moments_of(laws.normal(SHAPE, 1000.0, 1e-3), torch.float8_e4m3fn) is None
