"""Which stream of numbers a call without a Key takes: torch's, or the keyed one with a key drawn from the generator."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal

import torch

from fastinit import _C
from fastinit.key import Key, KeyShard

if TYPE_CHECKING:
    from contextlib import _GeneratorContextManager

Stream = Literal["torch", "keyed"]
Generator = torch.Generator | Key | KeyShard | None
KEYED = (Key, KeyShard)
_NAMES = ("torch", "keyed")

_default: Stream = "torch"
_chosen: ContextVar[Stream | None] = ContextVar("fastinit.stream", default=None)
_open = 0  # `with stream(...)` blocks now open in the process
_lock = threading.Lock()


def _renew_lock() -> None:
    """In a forked child: the thread that held the parent's is not there to let it go."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def current_stream() -> Stream:
    """Return the stream that a call without a Key takes here: "torch" or "keyed"."""
    if not _open:  # torch.compile can trace this much, and not a ContextVar
        return _default
    return _chosen.get() or _default


def set_default_stream(name: Stream) -> None:
    """Choose the stream of calls without a Key in the whole process, except within `with fastinit.stream(...)`.

    "torch" (the default): the numbers of torch.nn.init. "keyed": each call of `uniform_`, `normal_`, `trunc_normal_`,
    `xavier_*`, `kaiming_*`, `orthogonal_` or `sparse_` draws one 64-bit seed from its generator (torch's default one if
    None), whatever the tensor, and fills with Key(seed): torch.manual_seed reproduces it, and the next call differs. A
    call given a Key is the same in both.

    torch.compile traces calls of the torch stream, and calls with a Key. A call that must draw its key, and any call
    without a Key while some thread is within `with fastinit.stream(...)`, is a graph break: it runs outside the graph.

    Args:
        name: "torch" or "keyed"; another is a ValueError

    """
    global _default
    _default = _checked(name)


def stream(name: Stream) -> "_GeneratorContextManager[None]":
    """Choose the stream of calls without a Key within a `with` block, or in a function that this decorates.

    Blocks nest; each thread and each asynchronous task has its own. An `async def` and a generator function take a
    block inside: decorated, they would run after it. See `set_default_stream` for the streams.

    Args:
        name: "torch" or "keyed"; another is a ValueError

    Examples:
        >>> import fastinit, torch
        >>> with fastinit.stream("keyed"):
        ...     fastinit.current_stream()
        'keyed'

    """
    return _within(_checked(name))


@contextmanager
def _within(name: Stream) -> Iterator[None]:
    before = _chosen.get()
    _count(1)
    _chosen.set(name)
    try:
        yield
    finally:
        _chosen.set(before)
        _count(-1)


def _count(change: int) -> None:
    global _open
    with _lock:
        _open += change


def _checked(name: Stream) -> Stream:
    if name not in _NAMES:
        raise ValueError(f"name must be 'torch' or 'keyed', got {name!r}")
    return name


def in_stream(generator: Generator) -> Generator:
    """Return the generator as given, or where the keyed stream is in force a Key drawn from it."""
    if isinstance(generator, KEYED) or current_stream() == "torch":
        return generator
    if not torch.compiler.is_compiling() and _C.batched_stream() == "keyed":
        return generator  # the block has a key
    return Key(_drawn_seed(generator))


def _drawn_seed(generator: torch.Generator | None) -> int:
    if torch.compiler.is_compiling():  # raised while tracing, this breaks the graph, and the call runs outside it
        raise RuntimeError("the keyed stream can draw no key inside torch.compile: give a Key in generator=")
    if generator is None:
        return _C.draw_seed(None)
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be None, a torch.Generator or a fastinit.Key, got {generator!r}")
    if type(generator) is torch.Generator and generator.device.type == "cpu":
        return _C.draw_seed(generator)
    seed = torch.empty((), dtype=torch.int64, device=generator.device)
    return int(seed.random_(-(2**63), None, generator=generator)) % 2**64
