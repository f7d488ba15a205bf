"""oneMKL's vector statistics (VSL), called through ctypes, which releases the GIL.

A stream a thread, each far ahead of the one before. MKL's own threads stay out: VSL has none for its streams, and
torch has its own. There is no truncated normal law: float32 is made of uniform numbers by MKL's inverse error
function, as torch does; in float64 that takes longer than to draw again what lies outside the window.
"""

import ctypes
from collections.abc import Callable
from ctypes import POINTER, byref, c_double, c_float, c_int, c_int64, c_uint, c_void_p
from functools import cache, partial
from importlib.metadata import files
from math import erf, sqrt
from typing import Any

from turns import Case

from competitors.parts import chunks, redraw, split, together, touched

NAME = "oneMKL"
PACKAGE = "mkl"
GENERATOR = "ARS5"  # AES on a counter
METHOD = "ICDF"  # of normal numbers: inverse cumulative function
MODE = f"VSL {GENERATOR}, {METHOD}, a stream a thread"
GENERATORS = {  # VSL_BRNG_...
    "MCG31": 1 << 20,
    "R250": 2 << 20,
    "MRG32K3A": 3 << 20,
    "MCG59": 4 << 20,
    "WH": 5 << 20,
    "MT19937": 8 << 20,
    "MT2203": 9 << 20,
    "SFMT19937": 13 << 20,
    "ARS5": 15 << 20,
    "PHILOX4X32X10": 16 << 20,
}
METHODS = {"BOXMULLER": 0, "BOXMULLER2": 1, "ICDF": 2}  # VSL_RNG_METHOD_GAUSSIAN_...
UNIFORM = 0  # VSL_RNG_METHOD_UNIFORM_STD
LOW_ACCURACY = 1  # VML_LA
SEQUENTIAL = 1  # MKL_THREADING_SEQUENTIAL
APART = 2**48  # numbers from one thread's to the next one's


def offers(case: Case) -> bool:
    return case.name in _LAWS and case.dtype in ("float32", "float64")


def filler(case: Case) -> Callable[[], Any] | None:
    if not offers(case):
        return None
    array = touched(case)
    law = partial(_LAWS[case.name], **dict(case.arguments))
    parts = split(array, case.threads)
    return together([law(_Stream(number, case.dtype), part) for number, part in enumerate(parts)], array)


class _Stream:
    """A stream of VSL, and the functions for one type."""

    def __init__(self, number: int, dtype: str) -> None:
        self.mkl = _library()
        self.letter, self.real = {"float32": ("s", c_float), "float64": ("d", c_double)}[dtype]
        self.method = METHODS[METHOD]
        self.handle = c_void_p()
        self._done(self.mkl.vslNewStream(byref(self.handle), c_int(GENERATORS[GENERATOR]), c_uint(7)))
        if number > 0:  # not all generators can
            self._done(self.mkl.vslSkipAheadStream(self.handle, c_int64(number * APART)))

    def uniform(self, part: Any, a: float, b: float) -> Callable[[], None]:
        return self._draw("Uniform", UNIFORM, part, a, b)

    def normal(self, part: Any, std: float) -> Callable[[], None]:
        return self._draw("Gaussian", self.method, part, 0.0, std)

    def _draw(self, law: str, method: int, part: Any, one: float, other: float) -> Callable[[], None]:
        """Return the call, ready: what ctypes needs takes longer to make than a small tensor to fill."""
        draw = getattr(self.mkl, f"v{self.letter}Rng{law}")
        ready = (c_int(method), self.handle, c_int(part.size), _of(part), self.real(one), self.real(other))
        return lambda: self._done(draw(*ready))  # so that the stream lives as long as its calls

    def inverse_erf(self, part: Any) -> Callable[[], object]:
        function = getattr(self.mkl, f"vm{self.letter}ErfInv")
        return partial(function, c_int(part.size), _of(part), _of(part), c_int64(LOW_ACCURACY))

    def _done(self, status: int) -> None:
        if status != 0:
            raise RuntimeError(f"VSL ended with status {status}")

    def __del__(self) -> None:
        self.mkl.vslDeleteStream(byref(self.handle))


@cache
def _library() -> ctypes.CDLL:
    [runtime] = [file for file in files(PACKAGE) or [] if file.name.startswith("libmkl_rt.so")]
    mkl = ctypes.CDLL(str(runtime.locate()))
    mkl.MKL_Set_Threading_Layer(c_int(SEQUENTIAL))
    mkl.vslDeleteStream.argtypes = [POINTER(c_void_p)]
    return mkl


def _of(part: Any) -> c_void_p:
    return c_void_p(part.ctypes.data)


def _uniform(stream: _Stream, part: Any, a: float, b: float) -> Callable[[], None]:
    return stream.uniform(part, a, b)


def _normal(stream: _Stream, part: Any, std: float) -> Callable[[], None]:
    return stream.normal(part, std)


def _trunc_normal(stream: _Stream, part: Any, a: float, b: float) -> Callable[[], None]:
    import numpy as np

    if part.dtype == np.float32:
        return _trunc_normal_by_inverse(stream, part, a, b)

    def again(count: int) -> Any:
        drawn = np.empty(count, part.dtype)
        stream.normal(drawn, 1.0)()
        return drawn

    drawing = [(stream.normal(chunk, 1.0), chunk) for chunk in chunks(part)]

    def run() -> None:
        for draw, chunk in drawing:
            draw()
            redraw(chunk, a, b, again)

    return run


def _trunc_normal_by_inverse(stream: _Stream, part: Any, a: float, b: float) -> Callable[[], None]:
    low, high = erf(a / sqrt(2)), erf(b / sqrt(2))
    steps = [(stream.uniform(chunk, low, high), stream.inverse_erf(chunk), chunk) for chunk in chunks(part)]

    def run() -> None:
        for draw, inverse, chunk in steps:
            draw()
            inverse()
            chunk *= sqrt(2)

    return run


_LAWS = {"uniform_": _uniform, "normal_": _normal, "trunc_normal_": _trunc_normal}
