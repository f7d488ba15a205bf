"""benchmarks/competitors/: what a filler writes is checked before it is timed; none needs its library to be there."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
N = 50_000
LAWS = {
    "uniform_": {"a": -0.1, "b": 0.1},
    "normal_": {"std": 0.02},
    "trunc_normal_": {"a": -2.0, "b": 2.0},
}


@pytest.fixture
def competitors(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import competitors
    import competitors.check

    return competitors


def case(name: str, dtype: str = "float32", elements: int = N, threads: int = 2) -> Any:
    from turns import Case

    return Case("competitor", name, dtype, elements, threads, (elements,), tuple(LAWS[name].items()))


@pytest.mark.parametrize("threads", sorted({1, 3, torch.get_num_threads()}))
@pytest.mark.parametrize("elements", [10, 1_000, 2**20 + 3])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("name", LAWS)
def test_installed_fillers_are_right(competitors: Any, name: str, dtype: str, elements: int, threads: int) -> None:
    one = case(name, dtype, elements, threads)
    for library in competitors.LIBRARIES.values():
        if competitors.version(library) is None:
            continue
        run = library.filler(one)
        assert (run is not None) == library.offers(one)
        if run is not None:
            assert competitors.check.checked(one, run) is run


def test_numpy_takes_part(competitors: Any) -> None:
    assert competitors.version(competitors.LIBRARIES["NumPy"]) == np.__version__
    assert all(competitors.LIBRARIES["NumPy"].offers(case(name)) for name in LAWS)


def right(name: str, generator: np.random.Generator) -> np.ndarray:
    if name == "uniform_":
        return generator.uniform(-0.1, 0.1, N).astype(np.float32)
    values = generator.standard_normal(2 * N)
    values = values[np.abs(values) < 2][:N] if name == "trunc_normal_" else values[:N] * 0.02
    return values.astype(np.float32)


def half_written(values: np.ndarray) -> np.ndarray:
    values[N // 2 :] = 0.3
    return values


WRONG: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "nothing written": (lambda values: np.full_like(values, 0.0), "every element is 0"),
    "half written": (half_written, "std"),
    "wide by a twentieth": (lambda values: values * np.float32(1.05), "std"),
    "shifted": (lambda values: values + values.std() / 20, "mean"),
    "another law of this mean and std": (
        lambda values: values.std() * np.sign(values) * np.float32(0.995) + values * np.float32(0.005),
        "share within one std",
    ),
    "not numbers": (lambda values: values * np.float32("nan"), "mean"),
    "one too large": (lambda values: np.append(values[:-1], np.float32(9)), "std|not within"),
    "parts alike": (lambda values: np.tile(values[: N // 2], 2), "numbers of the first"),
    "too short": (lambda values: values[:-1], "shape"),
    "another type": (lambda values: values.astype(np.float64), "float64"),
}


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("fault", [None, *WRONG])
def test_wrong_fillers_are_refused(competitors: Any, name: str, fault: str | None) -> None:
    generator = np.random.default_rng(5)

    def run() -> np.ndarray:
        values = right(name, generator)
        return values if fault is None else WRONG[fault][0](values)

    if fault is None:
        assert competitors.check.checked(case(name), run) is run
    else:
        with pytest.raises(competitors.check.Wrong, match=WRONG[fault][1]):
            competitors.check.checked(case(name), run)


def test_a_fill_that_repeats_the_one_before_is_refused(competitors: Any) -> None:
    with pytest.raises(competitors.check.Wrong, match="the numbers of the first"):
        competitors.check.checked(case("normal_"), lambda: right("normal_", np.random.default_rng(5)))


@pytest.mark.parametrize("left", [0, -1])
def test_a_fill_that_leaves_an_end_is_refused(competitors: Any, left: int) -> None:
    generator = np.random.default_rng(5)

    def run() -> np.ndarray:
        values = right("normal_", generator)
        values[left] = 0.01
        return values

    with pytest.raises(competitors.check.Wrong, match="an end of the memory was left"):
        competitors.check.checked(case("normal_"), run)


def test_modules_import_without_their_libraries() -> None:
    code = """
import sys
for name in ("numpy", "jax", "mkl", "randompack"):
    sys.modules[name] = None  # to import it raises ImportError
sys.path.insert(0, sys.argv[1])
import competitors
print(*competitors.LIBRARIES)
"""
    run = subprocess.run([sys.executable, "-c", code, str(BENCHMARKS)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[0] == "NumPy"


def test_a_library_that_is_not_installed_has_no_version(competitors: Any) -> None:
    from types import ModuleType

    library = ModuleType("library")
    library.PACKAGE = "there-is-no-such-package-of-fillers"
    assert competitors.version(library) is None
