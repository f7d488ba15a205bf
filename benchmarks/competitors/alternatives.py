"""What each library's other generators and methods take, as a multiple of the one that README.md calls its best mode.

float32, taking turns, on one thread (JAX: on all), the fastest pass of each. From the repository's root:

    PYTHONPATH=.:benchmarks python -m competitors.alternatives
    PYTHONPATH=.:benchmarks python -m competitors.alternatives NumPy JAX
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

from suites import ALL
from timing import fastest
from turns import Case

from competitors import LIBRARIES, jax_random, mkl_vsl, numpy_generator, randompack_filler, version
from competitors.check import Wrong, checked

LAWS: dict[str, dict[str, Any]] = {
    "uniform_": {"a": -0.1, "b": 0.1},
    "normal_": {"std": 0.02},
    "trunc_normal_": {"a": -2.0, "b": 2.0},
}
ELEMENTS = 2**24  # 64 MB: whoever goes twice in a row, as the turns change direction, must not find it in the caches
ROUNDS = 7
JAX = ("threefry2x32", "rbg", "unsafe_rbg")


def alternatives(name: str) -> Iterator[tuple[str, str, Any]]:
    """Yield for each alternative a label, which constant of the module it is, and its value there."""
    if name == numpy_generator.NAME:
        for one in ("SFC64", "PCG64", "PCG64DXSM", "Philox", "MT19937"):
            yield one, "BIT_GENERATOR", one
    elif name == randompack_filler.NAME:
        import randompack

        for one in dict(randompack.engines()):
            yield one, "ENGINE", one
    elif name == mkl_vsl.NAME:
        for one in mkl_vsl.GENERATORS:
            yield one, "GENERATOR", one
        for one in mkl_vsl.METHODS:
            yield f"{mkl_vsl.GENERATOR}, {one}", "METHOD", one
    elif name == jax_random.NAME:
        for one in JAX:
            yield one, "IMPLEMENTATION", one
        for exponent in (16, 20):
            yield f"blocks of 2^{exponent}", "BLOCK", 2**exponent
        yield "all at once", "BLOCK", 2 * ELEMENTS


def measured(name: str, law: str) -> dict[str, float]:
    """Return the ns an element of each alternative, and of the best mode as "chosen"."""
    library = LIBRARIES[name]
    threads = ALL if library is jax_random else 1
    case = Case("competitor", law, "float32", ELEMENTS, threads, (ELEMENTS,), tuple(LAWS[law].items()))
    runs: dict[str, Callable[[], object]] = {"chosen": checked(case, library.filler(case))}
    for label, constant, value in alternatives(name):
        with patch.object(library, constant, value):
            try:
                runs[label] = checked(case, library.filler(case))
            except Wrong as wrong:
                print(f"{label} is left out: {wrong}")
    return {label: seconds / ELEMENTS * 1e9 for label, seconds in fastest(runs, ROUNDS).items()}


def main() -> None:
    for name in sys.argv[1:] or LIBRARIES:
        if (there := version(LIBRARIES[name])) is None:
            continue
        of = {law: measured(name, law) for law in LAWS}
        print(f"\n| {name} {there} | " + " | ".join(LAWS) + " |\n|---|" + "---:|" * len(LAWS))
        labels = list(dict.fromkeys(label for times in of.values() for label in times))
        for label in labels:
            cells = []
            for times in of.values():
                ratio = f"{times[label] / times['chosen']:.2f}×" if label in times else ""
                cells.append(f"{times[label]:.2f} ns" if label == "chosen" else ratio)
            print(f"| {label} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
