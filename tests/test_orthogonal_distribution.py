"""orthogonal_ with a Key is distributed by Haar's measure, and is the matrix that its definition names.

The law of many small matrices is judged by statistics whose law under Haar's measure is known: each is flagged below
ALPHA, which makes the chance that a right sampler is flagged anywhere in a run at most FAMILY. The controls at the end
have one defect each, in as many matrices; the test that is meant to see it must flag it. That larger matrices, panels
and types follow the same law is shown by the definition, written down in NumPy from the same numbers.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import betainc, betaincinv, chdtrc, kolmogorov, ndtr

import fastinit
from fastinit import Key, _ops, laws

pytestmark = pytest.mark.one_torch

FAMILY = 1e-6
TESTS = 400
ALPHA = FAMILY / TESTS
KEY = Key(20_261_122)
MANY = 20_000
SQUARE = 12  # large enough for the first moments of the trace to be those of a normal number
NEAR = 0.0277  # of the gaps between neighbours; 0.02771(7) by 980,000 of NumPy's rotations, 0.285 of independent angles

Matrices = NDArray[np.float64]


def drawn(rows: int, columns: int, key: Key = KEY, many: int = MANY) -> Matrices:
    tensors = list(torch.empty(many, rows, columns).unbind())
    _ops.fill_(tensors, [laws.orthogonal((rows, columns))] * many, key.split(many))
    return torch.stack(tensors).double().numpy()


# ---- The definition


def by_definition(x: Matrices) -> Matrices:
    """Q from the numbers of the whole matrix: each column, from its diagonal on, is a Householder vector's x."""
    if x.shape[0] < x.shape[1]:
        return by_definition(x.T).T
    rows, columns = x.shape
    q = np.eye(rows, columns)
    for k in reversed(range(columns)):
        v = x[k:, k].copy()
        sign = -1.0 if v[0] < 0 else 1.0
        v[0] += sign * np.linalg.norm(v)
        q[k, k] = -sign
        q[k:, k:] -= np.outer(v, 2 / (v @ v) * (v @ q[k:, k:]))
    return q


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "shape",
    [(1, 1), (1, 6), (6, 1), (9, 9), (60, 40), (40, 60), (160, 160), (161, 161), (300, 257), (130, 270)],
    ids=str,
)
def test_the_definition(shape: tuple[int, int], dtype: torch.dtype) -> None:
    for key in (KEY, Key(7, 2**63)):
        x = fastinit.normal_(torch.empty(shape, dtype=dtype), generator=key).double().numpy()
        found = fastinit.orthogonal_(torch.empty(shape, dtype=dtype), generator=key).double().numpy()
        assert abs(found - by_definition(x)).max() < (3e-6 if dtype == torch.float32 else 6e-15)


def test_the_definition_is_the_q_of_a_factorisation() -> None:
    """Independent of by_definition's own loop: Q'X is upper triangular with a positive diagonal for X = Q R."""
    generator = np.random.default_rng(1)
    x = generator.standard_normal((7, 5))
    q = by_definition(x)
    # The matrix whose k-th column is what becomes x[k:, k] once the earlier reflections are applied to it.
    full = np.zeros_like(x)
    for k in reversed(range(5)):
        column = np.concatenate([generator.standard_normal(k), x[k:, k]])
        for j in reversed(range(k)):
            v = x[j:, j].copy()
            v[0] += (-1.0 if v[0] < 0 else 1.0) * np.linalg.norm(v)
            column[j:] -= v * (2 / (v @ v) * (v @ column[j:]))
        full[:, k] = column
    expected, r = np.linalg.qr(full)
    assert abs(q - expected * np.sign(np.diag(r))).max() < 1e-14


# ---- The law


def _mean(values: NDArray, expected: float, variance: float) -> float:
    """Two-sided p-value of the mean of many values with this mean and variance."""
    error = (variance / values.size) ** 0.5
    return float(2 * ndtr(-abs(values.mean() - expected) / max(error, 1e-300)))


def _estimated(values: NDArray, expected: float) -> float:
    """The same where the variance is taken from the sample, which is large."""
    return _mean(values, expected, float(values.var()))


def _ks(u: NDArray) -> float:
    """Kolmogorov and Smirnov: are these uniform on [0, 1]?"""
    u, n = np.sort(u), u.size
    steps = np.arange(n + 1) / n
    return float(kolmogorov(max((u - steps[:-1]).max(), (steps[1:] - u).max()) * n**0.5))


def sphere(x: NDArray, n: int) -> NDArray:
    """The distribution function of one coordinate of a uniform point on the unit sphere in n dimensions."""
    return 0.5 + np.sign(x) * betainc(0.5, (n - 1) / 2, np.minimum(x * x, 1)) / 2


def entries(q: Matrices) -> dict[str, float]:
    """Single elements, and products of those in a row, in a column and in neither."""
    _, rows, columns = q.shape
    n = max(rows, columns)  # the long side, along which a vector is uniform on the sphere
    result = {}
    places = [(0, 0), (0, columns - 1), (rows - 1, 0), (rows - 1, columns - 1), (rows // 2, columns // 2)]
    for i, j in dict.fromkeys(places):
        x = q[:, i, j]
        result[f"mean {i},{j}"] = _mean(x, 0.0, 1 / n)
        result[f"square {i},{j}"] = _estimated(x**2, 1 / n)
        result[f"fourth {i},{j}"] = _estimated(x**4, 3 / (n * (n + 2)))
        result[f"coordinate {i},{j}"] = _ks(sphere(x, n))
    for name, one, other in (
        ("row", (0, 0), (0, -1)),
        ("column", (0, 0), (-1, 0)),
        ("diagonal", (0, 0), (-1, -1)),
        ("last", (-1, -1), (-2, -2)),
    ):
        x, y = q[:, *one], q[:, *other]
        result[f"product {name}"] = _mean(x * y, 0.0, float((x**2 * y**2).mean()))
    if rows == columns:  # Weingarten's formulas
        squares = q[:, 0, 0] ** 2
        result["squares row"] = _estimated(squares * q[:, 0, -1] ** 2, 1 / (n * (n + 2)))
        result["squares column"] = _estimated(squares * q[:, -1, 0] ** 2, 1 / (n * (n + 2)))
        result["squares diagonal"] = _estimated(squares * q[:, -1, -1] ** 2, (n + 1) / (n * (n - 1) * (n + 2)))
        loop = q[:, 0, 0] * q[:, 0, 1] * q[:, 1, 0] * q[:, 1, 1]
        result["loop"] = _estimated(loop, -1 / (n * (n - 1) * (n + 2)))
    return result


def spectrum(q: Matrices) -> dict[str, float]:
    """Of square matrices: the determinant's sign, traces of powers (Diaconis and Shahshahani, 1994), eigen-angles."""
    _, n, _ = q.shape
    signs = np.sign(np.linalg.det(q))
    result = {"determinant": _mean(signs, 0.0, 1.0)}
    power = np.eye(n)
    for k in (1, 2, 3):  # E tr Q^k is 1 for even k and else 0, its variance k, while 2k is at most n
        power = power @ q
        trace = np.trace(power, axis1=1, axis2=2)
        result[f"trace of power {k}"] = _mean(trace, float(k % 2 == 0), k)
        result[f"variance of trace {k}"] = _estimated((trace - (k % 2 == 0)) ** 2, k)
    trace = np.trace(q, axis1=1, axis2=2)
    result["fourth power of trace"] = _estimated(trace**4, 3)
    # Of rotations, n even, the n / 2 eigen-angles in (0, pi) repel one another: near neighbours are rare.
    angles = np.sort(np.abs(np.angle(np.linalg.eigvals(q[signs > 0][:4000]))), axis=1)[:, ::2]
    near = np.diff(angles, axis=1) * (n - 1) / (2 * math.pi) < 0.3
    result["repulsion"] = _mean(near, NEAR, NEAR * (1 - NEAR))
    return result


def invariance(q: Matrices) -> dict[str, float]:
    """The same after multiplication by a fixed orthogonal matrix on either side, seen in what is not invariant else."""
    _, rows, columns = q.shape
    generator = np.random.default_rng(2)
    left, right = (np.linalg.qr(generator.standard_normal((n, n)))[0] for n in (rows, columns))
    turned = left @ q @ right
    result = {f"turned {name}": p for name, p in entries(turned).items()}
    if rows == columns:
        result |= {f"turned {name}": p for name, p in spectrum(turned).items()}
    return result


def first_vectors(q: Matrices) -> dict[str, float]:
    """The first vector of the long side's dimension is uniform on its sphere: its direction, octant by octant."""
    many, rows, columns = q.shape
    vectors = q[:, :, 0] if rows >= columns else q[:, 0, :]
    octants = (vectors[:, :3] > 0) @ np.array([1, 2, 4])
    counts = np.bincount(octants, minlength=8)
    statistic = ((counts - many / 8) ** 2 / (many / 8)).sum()
    return {
        "octants": float(chdtrc(7, statistic)),
        "sum": _ks(sphere(vectors.sum(1) / vectors.shape[1] ** 0.5, vectors.shape[1])),
    }


def p_values(q: Matrices) -> dict[str, float]:
    result = entries(q) | first_vectors(q) | invariance(q)
    return result | spectrum(q) if q.shape[1] == q.shape[2] else result


def flagged(p: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in p.items() if not value >= ALPHA}


TESTS_MADE: list[int] = []


@pytest.mark.parametrize("shape", [(SQUARE, SQUARE), (9, 4), (4, 9)], ids=str)
def test_haar(shape: tuple[int, int]) -> None:
    p = p_values(drawn(*shape))
    TESTS_MADE.append(len(p))
    assert not flagged(p)


def test_matrices_of_one_number_are_signs() -> None:
    signs = drawn(1, 1).reshape(-1)
    assert set(signs) == {-1.0, 1.0}
    TESTS_MADE.append(1)
    assert _mean(signs, 0.0, 1.0) >= ALPHA


def test_rotations_and_reflections_of_the_plane_are_uniform() -> None:
    q = drawn(2, 2)
    angles = (np.arctan2(q[:, 1, 0], q[:, 0, 0]) / (2 * math.pi)) % 1
    for rotation in (True, False):
        chosen = angles[(np.linalg.det(q) > 0) == rotation]
        TESTS_MADE.append(2)
        assert _ks(chosen) >= ALPHA
        assert abs(chosen.size - MANY / 2) < 5.6 * (MANY / 4) ** 0.5


def test_matrices_of_near_keys_are_independent() -> None:
    one, other = drawn(5, 5, Key(1)), drawn(5, 5, Key(2))
    products = np.trace(one @ other.transpose(0, 2, 1), axis1=1, axis2=2)  # of Haar's law again
    p = {"trace": _mean(products, 0.0, 1.0), "square": _estimated(products**2, 1.0)}
    shifted = np.trace(one[1:] @ one[:-1].transpose(0, 2, 1), axis1=1, axis2=2)
    p |= {"shifted": _mean(shifted, 0.0, 1.0), "shifted square": _estimated(shifted**2, 1.0)}
    TESTS_MADE.append(len(p))
    assert not flagged(p)


def test_false_alarm_rate() -> None:
    if len(TESTS_MADE) < 7:
        pytest.skip("only when the whole file runs")
    assert sum(TESTS_MADE) <= TESTS


# ---- Negative controls


def reflected(x: Matrices, sign_fix: bool = True, last: bool = True, dense: bool = True) -> Matrices:
    """`by_definition` for many matrices at once, with some of it left out."""
    _, n, _ = x.shape
    q = np.broadcast_to(np.eye(n), x.shape).copy()
    for k in reversed(range(n if last else n - 1)):
        v = x[:, k:, k].copy() if dense else np.sign(x[:, k:, k])
        sign = np.where(v[:, 0] < 0, -1.0, 1.0)
        v[:, 0] += sign * np.linalg.norm(v, axis=1)
        if sign_fix:
            q[:, :, k] *= -sign[:, None]
        w = np.einsum("bi,bij->bj", v, q[:, k:, k:]) * (2 / (v * v).sum(1))[:, None]
        q[:, k:, k:] -= v[:, :, None] * w[:, None, :]
    return q


def square_normal() -> Matrices:
    return np.random.default_rng(3).standard_normal((MANY, SQUARE, SQUARE))


def orthogonalised_uniform() -> Matrices:
    q, r = np.linalg.qr(np.random.default_rng(4).random((MANY, SQUARE, SQUARE)))
    return q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]


def exponentials() -> Matrices:
    """Rotations by Cayley's transformation of small skew matrices: near the identity."""
    x = square_normal() * 0.5
    skew = x - x.transpose(0, 2, 1)
    return np.linalg.solve(np.eye(SQUARE) + skew, np.eye(SQUARE) - skew)


def independent_angles() -> Matrices:
    """Rotations of independent planes, in a uniform basis: right but for the eigen-angles."""
    generator, basis = np.random.default_rng(5), drawn(SQUARE, SQUARE)
    angles = generator.uniform(-math.pi, math.pi, (MANY, SQUARE // 2))
    q = np.zeros((MANY, SQUARE, SQUARE))
    for k in range(SQUARE // 2):
        c, s = np.cos(angles[:, k]), np.sin(angles[:, k])
        q[:, 2 * k, 2 * k], q[:, 2 * k, 2 * k + 1], q[:, 2 * k + 1, 2 * k], q[:, 2 * k + 1, 2 * k + 1] = c, -s, s, c
    return basis @ q @ basis.transpose(0, 2, 1)


CONTROLS: dict[str, tuple[Callable[[], Matrices], str]] = {
    "no sign fix": (lambda: reflected(square_normal(), sign_fix=False), "determinant"),
    "no sign fix, seen in the elements": (lambda: reflected(square_normal(), sign_fix=False), "mean 0,0"),
    "no sign fix, seen in the angles": (lambda: reflected(square_normal(), sign_fix=False), "trace of power 1"),
    "the last sign left out": (lambda: reflected(square_normal(), last=False), f"mean {SQUARE - 1},{SQUARE - 1}"),
    "vectors of signs": (lambda: reflected(square_normal(), dense=False), "coordinate 0,0"),
    "uniform in place of normal numbers": (orthogonalised_uniform, "mean 0,0"),
    "near the identity": (exponentials, "trace of power 1"),
    "independent angles": (independent_angles, "repulsion"),
    "scaled by 1.03": (lambda: drawn(SQUARE, SQUARE) * 1.03, "square 0,0"),
    "rows in order": (lambda: np.sort(drawn(SQUARE, SQUARE), axis=1), "product column"),
}


@pytest.mark.parametrize("control", CONTROLS)
def test_control_is_flagged(control: str) -> None:
    broken, test = CONTROLS[control]
    assert test in flagged(p_values(broken()))


def test_the_controls_are_right_but_for_their_defect() -> None:
    assert not flagged(p_values(reflected(square_normal())))


def test_power() -> None:
    """A coordinate's law is told from that in two more dimensions."""
    generator = np.random.default_rng(6)
    x = np.sqrt(betaincinv(0.5, (SQUARE + 1) / 2, generator.random(MANY))) * generator.choice([-1.0, 1.0], MANY)
    assert _ks(sphere(x, SQUARE + 2)) > ALPHA > _ks(sphere(x, SQUARE))
