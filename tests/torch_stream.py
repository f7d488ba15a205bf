"""One call made twice, by torch.nn.init and by fastinit, on twin tensors and generators: all that is left is compared.

What must agree: the bytes of the elements and of the memory around them, the number of versions, the 5056 bytes of the
generator's state, the next torch.rand, warnings and errors; and that fastinit's own code wrote, wherever it must.
"""

import contextlib
import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from settings import threads

import fastinit
from fastinit import _C

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
GUARD = 64  # bytes before and after a tensor's memory

# Which self-check a function stands on, as fastinit/laws.py numbers them.
UNIFORM, NORMAL, TRUNC_NORMAL, SPARSE = 1, 2, 3, 6
LAW = {
    "uniform_": UNIFORM,
    "normal_": NORMAL,
    "trunc_normal_": TRUNC_NORMAL,
    "xavier_uniform_": UNIFORM,
    "xavier_normal_": NORMAL,
    "kaiming_uniform_": UNIFORM,
    "kaiming_normal_": NORMAL,
    "sparse_": SPARSE,
}
LAW |= {name.removesuffix("_"): law for name, law in LAW.items() if name != "trunc_normal_"}


def guarded(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of the same type, shape and strides over memory of its own, which begins before it and ends after it."""
    memory = torch.full((tensor.untyped_storage().nbytes() + 2 * GUARD,), 0xA5, dtype=torch.uint8)
    offset = tensor.storage_offset() + GUARD // tensor.element_size()
    empty = torch.empty(0, dtype=tensor.dtype)
    return empty.set_(memory.untyped_storage(), offset, tensor.shape, tensor.stride())


def memory_of(tensor: torch.Tensor) -> bytes:
    """The bytes of all the memory that a tensor lies in."""
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage()).numpy().tobytes()


def bytes_of(state: torch.Tensor) -> bytes:
    return state.numpy().tobytes()


def state_of(seed: int = 0, words: int = 0, normals: int = 0) -> torch.Tensor:
    """The state of a generator that has drawn so many words, then so many normal numbers (two a pair of 4 words)."""
    generator = torch.Generator().manual_seed(seed)
    torch.rand(words, generator=generator)
    for _ in range(normals):
        torch.randn(1, generator=generator)
    return generator.get_state()


def untemper(words: torch.Tensor) -> torch.Tensor:
    """The words of a state from which MT19937 draws these words (int64, 32 bits used): its tempering, inverted."""
    words = words ^ words >> 18
    words = words ^ words << 15 & 0xEFC60000
    drawn = words
    for _ in range(4):
        words = drawn ^ words << 7 & 0x9D2C5680
    drawn = words
    for _ in range(2):
        words = drawn ^ words >> 11
    return words


DEFAULT = state_of(13, words=400, normals=1)  # of the default generator, where another one is given


def handmade_state(words: torch.Tensor, drawn: int = 1, cached: float | None = None) -> torch.Tensor:
    """A state whose block draws these 624 words, `drawn` of them (1 to 624) already, and a pending normal number."""
    state = state_of()
    state[8:12].view(torch.int32)[0] = 625 - drawn
    state[16:24].view(torch.int64)[0] = drawn
    state[24:5016].view(torch.int64).copy_(untemper(words))
    if cached is not None:
        state[5024:5032].view(torch.float64)[0] = cached
        state[5040:5044].view(torch.int32)[0] = 1
        state[5048:5052].view(torch.float32)[0] = 0.25  # a pending float normal, which no fill on CPU takes
        state[5052] = 1
    return state


@contextlib.contextmanager
def generator_in(state: torch.Tensor, given: bool) -> Iterator[torch.Generator]:
    """A generator in this state: one to give, or the default one, which gets its own state back afterwards."""
    generator = torch.Generator() if given else torch.default_generator
    before = generator.get_state()
    generator.set_state(state)
    try:
        yield generator
    finally:
        generator.set_state(before)


class Left(NamedTuple):
    """What a call leaves behind."""

    result: str
    warnings: list[tuple[type, str]]
    memory: bytes
    versions: int
    state: bytes
    default_state: bytes
    following: bytes  # what torch.rand then gives


def leave(function: Callable[..., Any], tensor: torch.Tensor, numbers: Any, keywords: dict[str, Any]) -> Left:
    """Make the call; keywords["generator"] may be None, then it is the default generator that is looked at."""
    generator = keywords.get("generator") or torch.default_generator
    version = tensor._version
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = "the tensor" if function(tensor, *numbers, **keywords) is tensor else "another object"
        except Exception as error:
            result = f"{type(error).__name__}: {error}"
    return Left(
        result,
        [(w.category, str(w.message)) for w in caught],
        memory_of(tensor),
        tensor._version - version,
        bytes_of(generator.get_state()),
        bytes_of(torch.default_generator.get_state()),
        bytes_of(torch.rand(1, generator=generator)),
    )


def difference(expected: Left, found: Left) -> str:
    """What differs, in words; empty where nothing does."""
    for field, one, other in zip(Left._fields, expected, found, strict=True):
        if one == other:
            continue
        if isinstance(one, bytes) and isinstance(other, bytes):
            at = np.flatnonzero(np.frombuffer(one, np.uint8) != np.frombuffer(other, np.uint8))
            return f"{field}: {len(at)} of {len(one)} bytes differ, the first at {at[0]}"
        return f"{field}: torch {one!r}, fastinit {other!r}"
    return ""


def settle(dtype: torch.dtype) -> None:
    """Have the self-checks of a type done, which call torch's own code, before anyone looks who calls it."""
    for law in (UNIFORM, NORMAL, TRUNC_NORMAL):
        if (law, dtype) not in _C.torch_verdicts():
            name = next(name for name in LAW if LAW[name] == law)
            getattr(fastinit, name)(torch.empty(16, dtype=dtype), generator=torch.Generator())


@contextlib.contextmanager
def torch_calls() -> Iterator[list[str]]:
    """The torch fills that are called inside, by name: whatever is written without any, fastinit wrote."""
    calls: list[str] = []

    def recorded(name: str, fill: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return fill(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("uniform_", "normal_", "trunc_normal_"):
            inner = f"_no_grad_{name}"
            patch.setattr(torch.nn.init, inner, recorded(inner, getattr(torch.nn.init, inner)))
        for name in ("uniform_", "normal_"):
            patch.setattr(torch.Tensor, name, recorded(name, getattr(torch.Tensor, name)))
        yield calls


def is_dense(tensor: torch.Tensor) -> bool:
    """Without gaps: only then is there a layout for torch's temporaries to keep."""
    return torch.empty_like(tensor).stride() == tensor.stride()


def must_be_own(name: str, tensor: torch.Tensor, numbers: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
    """Say whether fastinit's own code must write this, if torch's raises nothing.

    Not where a number is of another type than float and int, or infinite in the type it is used in; nor, by
    trunc_normal_, into tensors with gaps or where the window holds so little that torch begins with uniform numbers;
    nor by sparse_ what is no matrix, or a fraction that is none.
    """
    if not _C.torch_verdicts().get((LAW[name], tensor.dtype), False) or tensor.numel() == 0:
        return False
    options = (value for keyword, value in keywords.items() if keyword != "generator")
    if not {type(given) for given in (*numbers, *options)} <= {float, int, str}:
        return False
    if name.startswith(("xavier", "kaiming")):
        return True
    if name.startswith("sparse") and not (tensor.dim() == 2 and 0 <= keywords.get("sparsity", *numbers[:1]) <= 1):
        return False
    given = inspect.signature(getattr(torch.nn.init, name.removesuffix("_") + "_")).bind(tensor, *numbers, **keywords)
    given.apply_defaults()
    first, second, *bounds = [float(number) for number in given.args[1:-1]]
    wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    finite = torch.tensor([first, second], dtype=torch.float64).to(wide).isfinite().all()
    finite &= torch.tensor(bounds, dtype=torch.float64).to(tensor.dtype).isfinite().all()
    if not bounds or not finite:
        return bool(finite)
    low, high = ((bound - first) / second for bound in bounds)
    inside = (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2))) / 2
    return inside > 0.3 and low <= 2 and high >= -2 and is_dense(tensor)


def compare(
    name: str,
    tensor: torch.Tensor,
    *numbers: Any,
    state: torch.Tensor,
    given: bool = True,
    ours: Any = fastinit,
    counts: Sequence[int] = (1,),
    default: torch.Tensor = DEFAULT,
    **keywords: Any,
) -> Left:
    """Fail unless fastinit leaves what torch leaves, and wrote it where it must; return what torch leaves.

    `given`: by a generator that is given, not the default one, which then is in the state `default`. fastinit goes
    through all these `counts` of threads; torch uses one, which is quicker where other programs use the cores, and
    makes no other difference.
    """

    def left_by(module: Any) -> tuple[Left, list[str]]:
        with generator_in(default, given=False), generator_in(state, given) as generator:
            arguments = {**keywords, "generator": generator if given else None}
            with torch_calls() if module is fastinit else contextlib.nullcontext([]) as calls:
                return leave(getattr(module, name), guarded(tensor), numbers, arguments), calls

    settle(tensor.dtype)
    with threads(1):
        expected, _ = left_by(torch.nn.init)
    for count in counts:
        with threads(count):
            found, calls = left_by(ours)
        differs = difference(expected, found)
        ordinary = bool(state[24:5016].any() and default[24:5016].any())  # words that are all zero are left to torch
        if calls and expected.result == "the tensor" and ordinary and must_be_own(name, tensor, numbers, keywords):
            differs = f"written by torch's {', '.join(calls)}"
        if differs:
            raise AssertionError(
                f"{name}{numbers or ''} {keywords or ''} of {tensor.dtype}, shape {tuple(tensor.shape)}, strides "
                f"{tensor.stride()}, {'given' if given else 'default'} generator, {count} threads: {differs}"
            )
    return expected


def describe(thing: Any) -> Any:
    """All of a tensor that can be compared: what it is, its version, its memory. Of anything else, its repr."""
    if not isinstance(thing, torch.Tensor):
        return repr(thing)

    def try_to(look: Callable[[], Any]) -> Any:
        try:
            return look()
        except Exception as error:
            return type(error), str(error)

    plain = type(thing).__torch_dispatch__ is torch.Tensor.__torch_dispatch__ and not torch._is_functional_tensor(thing)
    with torch._C.DisableTorchFunctionSubclass():
        return (
            type(thing),
            thing.dtype,
            thing.requires_grad,
            try_to(lambda: thing._version),
            try_to(lambda: type(thing.grad_fn)),
            try_to(lambda: memory_of(thing) if plain else repr(thing)),
            try_to(lambda: repr(thing)),
        )


Program = Callable[[Any], Any]


def outcome(program: Program, module: Any) -> Any:
    """What comes of a program that is given a module of initialisers: result or error, warnings, a state."""
    with generator_in(state_of(3, normals=1), given=False) as default, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = program(module)
        except Exception as error:
            result = type(error), str(error)
        return result, [(w.category, str(w.message)) for w in caught], bytes_of(default.get_state())


def compare_outcomes(program: Program, ours: Any = fastinit) -> Any:
    """Fail unless it comes to the same with fastinit, be its self-checks made or to be made; return what it is."""
    outcome(program, torch.nn.init)  # for the warnings that torch gives once
    expected = outcome(program, torch.nn.init)
    for dtype in DTYPES:
        settle(dtype)
    verdicts = _C.torch_verdicts()
    assert outcome(program, ours) == expected
    _C.use_isa(_C.isa())  # which forgets the verdicts
    assert outcome(program, ours) == expected
    assert _C.torch_verdicts().items() <= verdicts.items()
    return expected[0]


def stand_in(**functions: Callable[..., Any]) -> SimpleNamespace:
    """torch.nn.init with some functions put wrong, in fastinit's place: what a comparison must notice."""
    return SimpleNamespace(**{name: getattr(torch.nn.init, name) for name in LAW} | functions)
