"""Other people's initialisation code, sped up unchanged: its fills are recorded, and run many at a time.

Which calls are fills is decided where all of them pass, in torch's dispatcher: see csrc/batched/. Functions that draw a
number of times that depends on the values, or that write bit by bit, are replaced by name while a block is open.
"""

import functools
import operator
import os
import threading
from collections.abc import Callable
from contextlib import ContextDecorator
from types import TracebackType
from typing import Any, SupportsIndex

import torch
import torch.utils.dlpack
from torch import Generator, Tensor, nn
from torch._C._dynamo import eval_frame
from torch._ops import HigherOrderOperator
from torch.compiler import is_compiling
from torch.nn import init as torch_init

from fastinit import _C, laws, torch_stream
from fastinit.key import Key
from fastinit.laws import KINDS, Law
from fastinit.parameter_keys import ParameterKeys
from fastinit.self_check import find_verdicts


class batched(ContextDecorator):
    """Within a `with` block, or in a function that this decorates, record fills and run them together, in parallel.

    Everything else is as without the block: a fill that someone looks at runs before they do, and what is left runs
    when the block ends. What is overwritten or freed before anyone looks is never computed, such as a module's own
    initialisation, followed by the library's.

    Recorded are `normal_`, `uniform_`, `zero_`, `fill_` and `copy_` of one value, of tensors and of views of them, by
    whatever function of torch, torch.nn.init, fastinit or another library they are called; operations with numbers that
    follow one at once (`erfinv_`, `mul_`, `add_`, `clamp_` and the like, by torch's kernels); and fills with a Key.
    Large new tensors lie in huge pages. Other calls run at once.

    Without a key, every value and the generator's state are those of the same code without the block, bit for bit. Each
    fill moves the generator on as it is recorded, so torch.manual_seed, get_rng_state and fork_rng are as ever.

    With a key, the numbers do not depend on torch's generator: a fill of a parameter of `model` has the key
    `key.fold_in(name)`, as in `init_model_`, and after n random fills of the same parameter in this block that were not
    overwritten unseen, `key.fold_in(name).fold_in(n)`. Elements are numbered in the tensor that is filled, which may be
    a part of the parameter. A random fill of anything else, and one with a torch.Generator, is a RuntimeError. Names
    are those when the block begins; a tensor that had none then is looked for in the model as it is now.

    A block belongs to its thread, where blocks end in the reverse of the order in which they began. Blocks without a
    key within one another are one block; around and within a block with a key, what is recorded runs when the inner
    block begins and ends. An `async def` and a generator function take a block inside: decorated, they would run after
    it.

    Limits: who took a tensor's address (`numpy()`, `data_ptr()`) before the block, reads memory without torch's
    dispatcher through a const pointer in C++, or looks from another thread, sees fills when the block ends.

    Args:
        model: whose parameters the key's names are; not looked at without a key
        key: an integer in [0, 2^64) or a Key (the keyed stream), or None (the bits of torch.nn.init)

    Raises:
        TypeError: a model that is no module, a key of another kind or without a model
        ValueError: a key outside of [0, 2^64)
        RuntimeError: within a block with a key, a random fill of what is no parameter, or with a torch.Generator

    """

    def __init__(self, model: nn.Module | None = None, key: int | Key | None = None) -> None:
        if model is not None and not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module or None, got {type(model).__name__}")
        if key is not None and model is None:
            raise TypeError("key needs a model, for the names of its parameters: fastinit.batched(model, key=...)")
        self._model = model
        self._key = key if key is None or isinstance(key, Key) else _as_key(key)
        self._open = 0
        self._counts = (0, 0, 0)

    def __enter__(self) -> "batched":
        keys = None
        if self._key is not None and self._model is not None:
            keys = ParameterKeys(self._model, self._key)
        find_verdicts()
        _replace()
        try:
            _C.batched_enter(keys)
        except BaseException:
            _restore()
            raise
        self._open += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _C.batched_counts()  # an error where this thread has no block: then there is nothing to undo
        try:
            self._counts = _C.batched_leave()
        finally:
            self._open -= 1
            _restore()

    @property
    def recorded(self) -> int:
        """Fills recorded so far."""
        return self._now()[0]

    @property
    def dead(self) -> int:
        """Of them, those found to be overwritten or freed before anyone looked."""
        return self._now()[1]

    @property
    def computed(self) -> int:
        """Of them, those that have run."""
        return self._now()[2]

    def _now(self) -> tuple[int, int, int]:
        return _C.batched_counts() if self._open else self._counts


def _as_key(key: SupportsIndex) -> Key:
    try:
        seed = operator.index(key)
    except TypeError:
        raise TypeError(f"key must be an integer in [0, 2**64), a fastinit.Key or None, got {key!r}") from None
    return Key(seed)


# ---- What is replaced while a block is open, anywhere: elsewhere it does as ever


@functools.cache
def _gives_address(before: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method in place of this one, for tensors whose memory its caller may look at whenever it likes."""

    def method(tensor: Tensor, *arguments: Any, **named: Any) -> Any:
        if not is_compiling():  # a graph's own calls come to the dispatcher
            _C.batched_pin(tensor)
        return before(tensor, *arguments, **named)

    return _never_compiled(method)


@functools.cache
def _tolist(before: Callable[..., Any]) -> Callable[..., Any]:
    def tolist(tensor: Tensor) -> Any:
        if not is_compiling():
            _C.batched_settle(tensor)
        return before(tensor)

    return _never_compiled(tolist)


@functools.cache
def _higher_order(before: Callable[..., Any]) -> Callable[..., Any]:
    """Return a call of a Python operator, which knows neither a block's dispatch key nor what it will look at."""

    def call(operator: HigherOrderOperator, /, *arguments: Any, **named: Any) -> Any:
        if _C.batched_stream() is None:
            return before(operator, *arguments, **named)
        with _C.Aside(None):
            return before(operator, *arguments, **named)

    return _never_compiled(call)


def _never_compiled(method: Callable[..., Any]) -> Callable[..., Any]:
    """Say so to torch.compile: what it makes calls the method of this name, which it would compile, and so on."""
    skip = eval_frame._FrameExecStrategy(eval_frame._FrameAction.SKIP, eval_frame._FrameAction.DEFAULT)
    eval_frame.set_code_exec_strategy(method.__code__, skip)
    return method


# By name, and not within others: pickled within a block, they can be loaded anywhere.
def _no_grad_trunc_normal_(
    tensor: Tensor, mean: float, std: float, a: float, b: float, generator: Generator | None = None
) -> Tensor:
    if _by_key(tensor, generator):
        return _fill(tensor, laws.trunc_normal(tensor.shape, mean, std, a, b))
    if _now(torch_stream.trunc_normal, tensor, mean, std, a, b, generator):
        return tensor
    return _torch("_no_grad_trunc_normal_", tensor, mean, std, a, b, generator)


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    if _by_key(tensor, generator):
        return _fill(tensor, laws.orthogonal(tensor.shape, gain))
    refused = isinstance(tensor, Tensor) and tensor.dtype in (torch.bfloat16, torch.float16)  # by torch, but not by us
    if not refused and _now(torch_stream.fill_orthogonal, tensor, gain, generator):
        return tensor
    return _torch("orthogonal_", tensor, gain, generator)


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    if _by_key(tensor, generator):
        return _fill(tensor, laws.sparse(tensor.shape, sparsity, std))
    if _now(torch_stream.fill_sparse, tensor, sparsity, std, generator):
        return tensor
    return _torch("sparse_", tensor, sparsity, std, generator)


def _torch(name: str, tensor: Tensor, *arguments: Any) -> Tensor:
    _TORCH[name](tensor, *arguments)
    return tensor


def _now(fill: Callable[..., bool], tensor: Tensor, *arguments: Any) -> bool:
    """Have a native function fill a tensor as if there were no block, and forget the fills that it wrote over."""
    if not isinstance(tensor, Tensor) or _C.batched_stream() is None:
        return False
    with _C.Aside(tensor) as aside:
        filled = fill(tensor, *arguments)
        if filled:
            aside.succeeded()
    return filled


def _by_key(tensor: Tensor, generator: Generator | None) -> bool:
    if _C.batched_stream() != "keyed" or not isinstance(tensor, Tensor) or tensor.is_meta or tensor.numel() == 0:
        return False
    if generator is not None:
        raise RuntimeError(
            f"in fastinit.batched with a key the numbers are the key's: generator must be None, got {generator!r}"
        )
    return True


def _fill(tensor: Tensor, law: Law) -> Tensor:
    with torch.no_grad():
        _C.batched_fill_parameter(tensor, KINDS[law.kind], law.numbers)
    return tensor


def _in_place_of(name: str, function: Callable[..., Tensor]) -> Callable[..., Any]:
    """Return a function that says what to put in place of torch's: a library's own, such as a guard's, stays."""
    return lambda before: function if before is _TORCH[name] else before


_TORCH = {name: getattr(torch_init, name) for name in ("_no_grad_trunc_normal_", "orthogonal_", "sparse_")}
# torch tells who takes an address for writing while fills wait; these do so when none do, or for reading.
_REPLACED: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
    *((Tensor, name, _gives_address) for name in ("data_ptr", "numpy", "untyped_storage", "__dlpack__")),
    *((owner, "to_dlpack", _gives_address) for owner in (torch, torch.utils.dlpack)),
    (HigherOrderOperator, "__call__", _higher_order),
    (Tensor, "tolist", _tolist),
    (torch_init, "_no_grad_trunc_normal_", _in_place_of("_no_grad_trunc_normal_", _no_grad_trunc_normal_)),
    (torch_init, "orthogonal_", _in_place_of("orthogonal_", orthogonal_)),
    (torch_init, "sparse_", _in_place_of("sparse_", sparse_)),
)
_placed: list[tuple[Any, str, Any, Any]] = []  # owner, name, ours, and the owner's own before, if it had one
_open = 0  # blocks in the process
_lock = threading.Lock()


def _renew_lock() -> None:
    """In a forked child: the thread that held the parent's is not there to let it go."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def _replace() -> None:
    global _open
    with _lock:
        _open += 1
        if _open > 1:
            return
        for owner, name, make in _REPLACED:
            ours = make(getattr(owner, name))
            _placed.append((owner, name, ours, vars(owner).get(name)))
            setattr(owner, name, ours)


def _restore() -> None:
    global _open
    with _lock:
        _open -= 1
        if _open > 0:
            return
        for owner, name, ours, before in _placed:
            if vars(owner).get(name) is not ours:
                continue  # someone has put another in its place since
            if before is None:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
        _placed.clear()
