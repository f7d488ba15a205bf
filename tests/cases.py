"""The laws, types and layouts that tests go through, and the comparison of bytes."""

import os
import signal
from collections.abc import Callable

import torch

import fastinit

DTYPES = [
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.float16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
]

# The functions that draw numbers of a law, and so have both streams.
DRAWN = [
    "uniform_",
    "normal_",
    "trunc_normal_",
    "xavier_uniform_",
    "xavier_normal_",
    "kaiming_uniform_",
    "kaiming_normal_",
]

# name: (function, keyword arguments); the windows reach every form of the truncated normal
LAWS: dict[str, tuple[Callable[..., torch.Tensor], dict[str, float]]] = {
    "uniform": (fastinit.uniform_, {"a": -0.7, "b": 0.9}),
    "normal": (fastinit.normal_, {"mean": 0.3, "std": 0.02}),
    "truncated at 2 std": (fastinit.trunc_normal_, {"mean": 0.1, "std": 1.0, "a": -1.9, "b": 2.1}),
    "truncated at 100 std": (fastinit.trunc_normal_, {"std": 0.02}),
    "lower tail": (fastinit.trunc_normal_, {"a": -6.0, "b": -4.0}),
    "upper tail": (fastinit.trunc_normal_, {"a": 4.0, "b": 12.0}),
}

# name: a tensor of the given shape with that layout, over memory that reaches beyond it
LAYOUTS: dict[str, Callable[..., torch.Tensor]] = {
    "contiguous": lambda *shape, dtype: torch.zeros(shape, dtype=dtype),
    "transposed": lambda *shape, dtype: torch.zeros(shape[::-1], dtype=dtype).permute(*range(len(shape))[::-1]),
    "every second column": lambda *shape, dtype: torch.zeros(*shape[:-1], 2 * shape[-1], dtype=dtype)[..., ::2],
    "inner columns": lambda *shape, dtype: torch.zeros(*shape[:-1], shape[-1] + 5, dtype=dtype)[..., 2:-3],
    "every third row": lambda *shape, dtype: torch.zeros(3 * shape[0], *shape[1:], dtype=dtype)[::3],
    "channels last": lambda *shape, dtype: torch.zeros(shape[0], *shape[2:], shape[1], dtype=dtype).movedim(-1, 1),
    "misaligned": lambda *shape, dtype: torch.zeros(torch.Size(shape).numel() + 3, dtype=dtype)[3:].view(shape),
}


def raw(tensor: torch.Tensor) -> bytes:
    """The bytes of the elements in logical order."""
    flat = tensor.detach().reshape(-1)
    return torch.empty(flat.shape, dtype=flat.dtype).copy_(flat).view(torch.uint8).numpy().tobytes()


def filled(law: str, shape: tuple[int, ...], dtype: torch.dtype, key: fastinit.Key) -> torch.Tensor:
    function, arguments = LAWS[law]
    return function(torch.empty(shape, dtype=dtype), **arguments, generator=key)


def holds_in_a_fork(claim: Callable[[], bool]) -> bool:
    """Say whether it does in a forked child, within half a minute: one that waits for its parent's threads hangs."""
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(30)
            os._exit(not claim())
        finally:  # an exception must not go on with the parent's tests
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0
