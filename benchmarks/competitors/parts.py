"""What the fillers share: memory that was touched, and its parts, a thread each."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from turns import Case

LEAST = 2**18  # elements of a part: waking a thread takes as long as uniform numbers for this many
CHUNK = 2**16  # elements between the passes of a law that takes several: they stay in the second-level cache


def touched(case: Case) -> Any:
    """Return memory as fastinit's contestants have it: contiguous, and written once."""
    import numpy as np

    return np.full(case.elements, 0.3, dtype=case.dtype)


def split(array: Any, threads: int) -> list[Any]:
    """Return as many parts as threads are worth their while, as equal as can be."""
    import numpy as np

    return np.array_split(array, max(1, min(threads, len(array) // LEAST)))


def chunks(array: Any) -> Iterator[Any]:
    for first in range(0, len(array), CHUNK):
        yield array[first : first + CHUNK]


def redraw(chunk: Any, a: float, b: float, draw: Callable[[int], Any]) -> None:
    """Draw again what lies outside [a, b], until nothing does."""
    import numpy as np

    outside = np.flatnonzero((chunk < a) | (chunk > b))
    while outside.size:
        again = draw(outside.size)
        chunk[outside] = again
        outside = outside[(again < a) | (again > b)]


def together(fills: list[Callable[[], object]], array: Any) -> Callable[[], Any]:
    """Return what fills all parts of the array at once, one here and the others in threads that stay.

    Whoever fills a part must release the GIL.
    """
    here, *others = fills
    pool = ThreadPoolExecutor(max(1, len(others)))

    def run() -> Any:
        running = [pool.submit(fill) for fill in others]
        here()
        for one in running:
            one.result()
        return array

    return run
