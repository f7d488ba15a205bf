"""sparse_ with a Key chooses each column's zeros uniformly, columns by themselves, without a look at the values.

Judged by stats.py at its ALPHA, 2e-10 a test and 10 tests here: a right generator fails one of them with a
probability of at most 2e-9. The samplers of the negative controls have one defect each, at the same size; each must be
flagged by the test that is meant to see it.
"""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import stats
import torch
from numpy.typing import NDArray

import fastinit
from fastinit import Key

pytestmark = pytest.mark.one_torch

SEED = 20_261_122
Values = NDArray[np.float64]
Sampler = Callable[[int, int, float], Values]  # rows, columns, sparsity


def sparse(rows: int, columns: int, sparsity: float) -> Values:
    return fastinit.sparse_(torch.empty(rows, columns), sparsity, 1.0, generator=Key(SEED)).double().numpy()


def _p(statistic: float, freedom: int) -> float:
    return float(min(1.0, 2 * min(stats.chdtr(freedom, statistic), stats.chdtrc(freedom, statistic))))


def subsets(sample: Sampler) -> dict[str, float]:
    """All subsets of a short column are equally likely."""
    zero = sample(6, 2**18, 0.5) == 0
    counts = np.bincount((zero * 2 ** np.arange(6)[:, None]).sum(0), minlength=64)
    equally = [counts[sum(2**i for i in chosen)] for chosen in combinations(range(6), 3)]
    assert sum(equally) == 2**18
    law = stats.Law(np.arange(20.0), np.full(20, 1 / 20), lambda x: (x + 1) / 20, discrete=True)
    return stats.chi_square(np.array(equally), law)


def neighbours(sample: Sampler) -> dict[str, float]:
    """How many zeros two columns have in common is hypergeometric, whether side by side or four apart."""
    zero = sample(6, 2**18, 0.5) == 0
    weights = np.array([1, 9, 9, 1]) / 20
    law = stats.Law(np.arange(4.0), weights, lambda x: np.cumsum(weights)[int(x)], discrete=True)
    result = {}
    for distance in (1, 4):
        pairs = (zero[:, : 2**17] & zero[:, distance : 2**17 + distance]).sum(0)[:: 2 * distance]
        result[f"common {distance}"] = stats.chi_square(np.bincount(pairs, minlength=4), law)["chi-square"]
    return result


def rows_alike(sample: Sampler) -> dict[str, float]:
    """Every row of a long column is zero equally often: a column's zeros add up, which costs one degree of freedom."""
    result = {}
    for sparsity in (0.1, 0.9):
        rows, columns = 2000, 4000
        count = (sample(rows, columns, sparsity) == 0).sum(1)
        variance = columns * sparsity * (1 - sparsity) * rows / (rows - 1)
        result[f"rows {sparsity}"] = _p(float(((count - columns * sparsity) ** 2).sum() / variance), rows - 1)
    return result


def values_alike(sample: Sampler) -> dict[str, float]:
    """The values that are left are normal."""
    values = sample(1500, 1500, 0.4)
    values = values[values != 0]
    law = stats.normal_law(0.0, 1.0)
    return stats.moments(values, law) | stats.kolmogorov_smirnov(values[: 10**6], law)


TESTS = [subsets, neighbours, rows_alike, values_alike]


@pytest.mark.parametrize("judge", TESTS)
def test_zeros_and_values(judge):
    flagged = {name: p for name, p in judge(sparse).items() if p < stats.ALPHA}
    assert not flagged


# --- Negative controls -------------------------------------------------------------------------------------
def _random(rows: int, columns: int) -> tuple[np.random.Generator, Values]:
    random = np.random.default_rng(SEED)
    return random, random.standard_normal((rows, columns))


def few_draws(rows: int, columns: int, sparsity: float) -> Values:
    """Of 4-bit draws: of equal ones, smaller rows are zero more often."""
    random, values = _random(rows, columns)
    order = np.argsort(random.integers(0, 16, (rows, columns)), axis=0, kind="stable")
    np.put_along_axis(values, order[: round(sparsity * rows)], 0, axis=0)
    return values


def one_choice_for_two_columns(rows: int, columns: int, sparsity: float) -> Values:
    random, values = _random(rows, columns)
    order = np.repeat(np.argsort(random.random((rows, columns // 2)), axis=0), 2, axis=1)
    np.put_along_axis(values, order[: round(sparsity * rows)], 0, axis=0)
    return values


def the_smallest_values(rows: int, columns: int, sparsity: float) -> Values:
    _, values = _random(rows, columns)
    np.put_along_axis(values, np.argsort(abs(values), axis=0)[: round(sparsity * rows)], 0, axis=0)
    return values


@pytest.mark.parametrize(
    ("sampler", "judge"),
    [
        (few_draws, subsets),
        (few_draws, rows_alike),
        (one_choice_for_two_columns, neighbours),
        (the_smallest_values, values_alike),
    ],
)
def test_defects_are_seen(sampler, judge):
    assert min(judge(sampler).values()) < stats.ALPHA
