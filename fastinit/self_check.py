"""Trust, but check: the native torch stream against torch's kernels, once a process and instruction set.

torch's arithmetic is a choice of its build (which multiply-adds are fused, which vectors), so it is compared and not
assumed: values by their bytes, `_version`, and the generator's state.
"""

import math
import os
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FunctionType, SimpleNamespace
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.init import sparse_, trunc_normal_

from fastinit import _C, torch_trunc_normal
from fastinit.laws import KINDS

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_WIDER = {torch.float32: torch.float64, torch.bfloat16: torch.float32, torch.float16: torch.float32}
_CAPABILITIES = ("AVX2", "AVX512")  # whose kernels have the same bits; those of DEFAULT have others
_SHAPES = ((1253,), (7, 13), (5,))  # transposed, so that the second is not contiguous; it leaves a number for the third
# Means of zero and bounds of [0, 1) would hide how multiply-adds are rounded. Truncated normal: both of torch's ways.
_CASES = {
    "uniform": (((-0.7, 0.9), _SHAPES),),
    "normal": (((0.3, 0.02), _SHAPES),),
    "trunc_normal": (((0.1, 1.0, -2.9, 2.9), _SHAPES), ((0.1, 1.0, 0.6, 0.7), ((7, 13),))),
}
_LAWS = (*_CASES, "sparse")
_SPARSE = ((331, 3), 0.3, 0.02)  # more rows than half a block of the generator has words
# As they were when fastinit was imported: other libraries patch them for a while.
_TORCH: dict[str, Callable[..., Tensor]] = {
    "uniform": Tensor.uniform_,
    "normal": Tensor.normal_,
    "trunc_normal": trunc_normal_,
    "sparse": sparse_,
    "randperm": torch.randperm,
}

_lock = threading.RLock()
_warned = False


def _renew_lock() -> None:
    """In a forked child: the thread that held the parent's is not there to let it go."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)


def self_check(kind: str, dtype: torch.dtype) -> bool:
    """Return whether the native fill of this law and type gives torch's bits; the first time it does not, warn."""
    holds = _verdict(kind, dtype)
    if not holds:
        _warn()
    return holds


def verdicts() -> dict[tuple[str, torch.dtype], bool]:
    """Return for each law and type whether its torch stream is native here, checking what was not checked yet."""
    return {(kind, dtype): _verdict(kind, dtype) for kind in _LAWS for dtype in DTYPES}


def find_verdicts() -> None:
    """Check what was not checked yet."""
    if len(_C.torch_verdicts()) < len(_LAWS) * len(DTYPES):
        verdicts()


def by_law(*, native: bool) -> list[str]:
    """List the laws with their types that are native here, or those that are left to torch's own code."""
    found = verdicts()
    types = {kind: [str(dtype)[6:] for dtype in DTYPES if found[kind, dtype] == native] for kind in _LAWS}
    return [f"{kind}_ {' '.join(names)}" for kind, names in types.items() if names]


def _verdict(kind: str, dtype: torch.dtype) -> bool:
    pair = KINDS[kind], dtype
    known = _C.torch_verdicts().get(pair)
    if known is None:
        with _lock:
            if pair not in _C.torch_verdicts():  # another thread may have come first
                for (of_kind, of_dtype), holds in _found().items():
                    _C.torch_verdict(KINDS[of_kind], of_dtype, holds)
        known = _C.torch_verdicts()[pair]
    return known


def _found() -> dict[tuple[str, torch.dtype], bool]:
    """Compare all laws and types, which takes less than a thread for each would."""
    if torch.backends.cpu.get_cpu_capability() in _CAPABILITIES:
        try:  # in a thread of its own, which has no mode, default device, inference mode or trace of the caller's
            with ThreadPoolExecutor(1) as thread:
                return thread.submit(_compared).result()
        except RuntimeError:  # Python ends, and starts no more threads
            pass
    return {(kind, dtype): False for kind in _LAWS for dtype in DTYPES}


def _compared() -> dict[tuple[str, torch.dtype], bool]:
    torch.set_flush_denormal(False)  # the caller's setting came with the thread, and ends with it
    found: dict[tuple[str, torch.dtype], bool] = {}
    for kind in _LAWS:
        for dtype in sorted(DTYPES, key=lambda dtype: -dtype.itemsize):
            known = kind != "trunc_normal" or torch_trunc_normal.is_known()
            needed = all(found[pair] for pair in _needed(kind, dtype))
            found[kind, dtype] = known and needed and _agrees(kind, dtype)
    return found


def _needed(kind: str, dtype: torch.dtype) -> list[tuple[str, torch.dtype]]:
    """List what must hold first.

    The next wider type: 16 bits alone can agree by chance, and so can float32, whose normal numbers one after another
    are float64's rounded. And the laws that this one is made of.
    """
    wider = [(kind, _WIDER[dtype])] if dtype in _WIDER else []
    parts = {"trunc_normal": ("uniform", "normal"), "sparse": ("normal",)}.get(kind, ())
    return wider + [(part, dtype) for part in parts]


def _agrees(kind: str, dtype: torch.dtype) -> bool:
    if kind == "sparse":
        return dtype in _WIDER or _sparse_agrees(dtype)  # what there is to see beside the normal numbers is seen in one
    ours, theirs = Generator("cpu").manual_seed(5), Generator("cpu").manual_seed(5)
    try:
        for numbers, shapes in _CASES[kind]:
            for shape in shapes:
                mine, other = (torch.empty(shape, dtype=dtype, device="cpu") for _ in range(2))
                _TORCH[kind](other.t(), *numbers, generator=theirs)
                if not _native(kind, mine.t(), numbers, ours) or not _same(mine, other):
                    return False
    except RuntimeError:  # torch's, of any kind
        return False
    return torch.equal(ours.get_state(), theirs.get_state())


def _sparse_agrees(dtype: torch.dtype) -> bool:
    """Run torch's own function, with a generator of ours in place of the default one for its permutations."""
    (rows, columns), sparsity, std = _SPARSE
    mine, other = (torch.empty(rows, columns, dtype=dtype, device="cpu") for _ in range(2))
    ours, ours2, theirs, theirs2 = (Generator("cpu").manual_seed(seed) for seed in (5, 6, 5, 6))

    def randperm(n: int) -> Tensor:  # should torch come to name a generator, this raises
        return _TORCH["randperm"](n, generator=theirs2, device="cpu")

    known = SimpleNamespace(no_grad=torch.no_grad, randperm=randperm)
    function = _TORCH["sparse"]
    if not isinstance(function, FunctionType):
        return False
    try:
        FunctionType(function.__code__, function.__globals__ | {"torch": known})(other, sparsity, std, theirs)
    except Exception:  # another function than the one known here
        return False
    zeros = math.ceil(sparsity * rows)
    done = _C.torch_sparse(mine, zeros, std, ours, ours2, True) == _C.WRITTEN
    states = [generator.get_state() for generator in (ours, theirs, ours2, theirs2)]
    return done and _same(mine, other) and torch.equal(states[0], states[1]) and torch.equal(states[2], states[3])


def _native(kind: str, tensor: Tensor, numbers: Any, generator: Generator) -> bool:
    if kind == "trunc_normal":
        mean, std, a, b = numbers
        return torch_trunc_normal.fill(tensor, mean, std, a, b, generator)
    first, second = numbers
    return _C.torch_fill(tensor, KINDS[kind], first, second, generator, True) == _C.WRITTEN


def _same(mine: Tensor, other: Tensor) -> bool:
    return mine._version == other._version and torch.equal(mine.view(torch.uint8), other.view(torch.uint8))


def _warn() -> None:
    global _warned
    with _lock:
        if _warned:
            return
        _warned = True
        left = ", ".join(by_law(native=False))
    warnings.warn(
        f"fastinit's native fills are not known to give the bits of this build of torch for {left}: there it calls "
        "torch.nn.init's own code, for the same numbers, but no sooner. `python -m fastinit info` lists both.",
        RuntimeWarning,
        stacklevel=6,  # from a drop-in function
    )
