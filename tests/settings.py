"""torch's settings of the whole process or thread, for the length of a block."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def _set(read: Callable[[], Any], write: Callable[[Any], object], value: Any) -> Iterator[None]:
    before = read()
    write(value)
    try:
        yield
    finally:
        write(before)


def threads(n: int):
    """Inside, torch and fastinit use n threads."""
    return _set(torch.get_num_threads, torch.set_num_threads, n)


def default_dtype(dtype: torch.dtype):
    return _set(torch.get_default_dtype, torch.set_default_dtype, dtype)


def matmul_precision(name: str):
    return _set(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, name)


def deterministic():
    return _set(torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True)


@contextmanager
def subnormals_flushed() -> Iterator[None]:
    assert torch.set_flush_denormal(True)
    try:
        yield
        assert torch.tensor([1e-310], dtype=torch.float64).mul(1.0).item() == 0, "the setting must still be on"
    finally:
        torch.set_flush_denormal(False)
