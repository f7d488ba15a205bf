"""The steps that random programs of test_batched_fuzz.py are made of, each a function of a pool of tensors.

A step is a tuple of a name and plain numbers and strings, so that a program can be printed and played again. What a
step returns is looked at by the one who plays it, at once; a step that returns None has looked at nothing.
"""

import copy
import ctypes
import io
import math
import pickle
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import dlpack

import fastinit

GENERATORS = 3  # 0 is the default one


class Pool:
    """What a program works on."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = [torch.arange(6.0)]
        self.generators = [None, *(torch.Generator().manual_seed(seed) for seed in range(1, GENERATORS))]
        self.states: list[Tensor] = []
        self.arrays: list[np.ndarray] = []
        self.losses: list[Tensor] = []

    def add(self, tensor: Tensor) -> None:
        self.tensors.append(tensor)
        if len(self.tensors) > 12:
            del self.tensors[0]


T, G = "a tensor of the pool", "a generator"
Kind = str | Sequence[Any]
STEPS: dict[str, tuple[Callable[..., Any], tuple[Kind, ...], int]] = {}


def step(*kinds: Kind, often: int = 2) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a step by the function's name; `kinds` say what each of its arguments may be."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        STEPS[function.__name__] = function, kinds, often
        return function

    return register


class Chooser(random.Random):
    """Chooses steps, the tensor of the step before as often as another: it is there that steps meet."""

    tensor = 0
    keeps = 0.5

    def step(self, name: str = "") -> tuple[Any, ...]:
        name = name or self.choices(list(STEPS), [often for _, _, often in STEPS.values()])[0]
        return name, *(self.argument(kind) for kind in STEPS[name][1])

    def argument(self, kind: Kind) -> Any:
        if kind == T:
            self.tensor = self.tensor if self.random() < self.keeps else self.randrange(12)
            return self.tensor
        return self.randrange(GENERATORS) if kind == G else self.choice(kind)


def do(pool: Pool, name: str, *arguments: Any) -> Any:
    function, kinds, _ = STEPS[name]

    def meant(kind: Kind, given: Any) -> Any:
        if kind == T:
            return pool.tensors[given % len(pool.tensors)]
        return pool.generators[given] if kind == G else given

    return function(pool, *(meant(kind, given) for kind, given in zip(kinds, arguments, strict=True)))


NUMBERS = (0, 1, -1, 0.5, 0.02, -3.7, True, 300, 1e5, 1e39, 2**40, math.inf, math.nan, -0.0, 1j)
SMALL = (0, 1, 2, -1, 0.3, 1.7)
TYPES = ("float32",) * 4 + ("float64", "bfloat16", "bfloat16", "float16", "int64", "bool", "complex64")
SHAPES = (
    (),
    (0,),
    (1,),
    (15,),
    (16,),
    (17,),
    (3, 5),
    (5, 3),
    (4, 4),
    (33,),
    (7, 9),
    (2, 3, 4),
    (0, 3),
    (1, 16),
    (20, 31),
)
SHAPES_AND_LONG = SHAPES * 4 + ((40_007,),)


def values(shape: Sequence[int], dtype: str) -> Tensor:
    return (torch.arange(math.prod(shape)) % 7 - 3).reshape(tuple(shape)).to(getattr(torch, dtype))


# name: a tensor over memory that may reach beyond it
PLACES: dict[str, Callable[[Sequence[int], str], Tensor]] = {
    "dense": values,
    "transposed": lambda shape, dtype: values(shape[::-1], dtype).permute(*range(len(shape))[::-1]),
    "strided": lambda shape, dtype: values((*shape, 2), dtype)[..., 0],
    "padded": lambda shape, dtype: values((math.prod(shape) + 9,), dtype)[4:-5].view(tuple(shape)),
    "expanded": lambda shape, dtype: values((1, *shape), dtype).expand(3, *shape),
}

VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "data": lambda t: t.data,
    "detach": lambda t: t.detach(),
    "flat": lambda t: t.view(-1),
    "first": lambda t: t[0],
    "last": lambda t: t.select(-1, t.shape[-1] - 1),
    "head": lambda t: t[: len(t) // 2],
    "tail": lambda t: t[1:],
    "every second": lambda t: t[..., ::2],
    "narrow": lambda t: t.narrow(0, 1, 2),
    "transposed": lambda t: t.t(),
    "diagonal": lambda t: t.diagonal(),
    "as_strided": lambda t: t.as_strided((2, 2), (1, 2), t.storage_offset()),
    "before": lambda t: t.as_strided((3,), (1,), 0),
    "overlapping": lambda t: t.as_strided((3, 2), (1, 1), t.storage_offset()),
    "expanded": lambda t: t.unsqueeze(0).expand(2, *t.shape),
    "one": lambda t: t.view(-1)[3],
    "chunk": lambda t: t.chunk(2)[1],
    "unbound": lambda t: t.unbind()[-1],
    "other type": lambda t: t.view(torch.int16),
    "wider type": lambda t: t.view(torch.float64),
    "pairs": lambda t: torch.view_as_real(t),
    "real": lambda t: t.real,
    "imaginary": lambda t: t.imag,
    "conjugated": lambda t: t.conj(),
    "negated": lambda t: torch._neg_view(t),
    "alias": lambda t: torch.ops.aten.alias(t),
    "itself": lambda t: t,
}

# Initialisers and numbers for them, some of which they refuse.
INITIALISERS: dict[str, tuple[tuple[Any, ...], ...]] = {
    "uniform_": ((), (-0.3, 0.7), (1, -1)),
    "normal_": ((), (0.1, 0.02), (0, -1)),
    "trunc_normal_": ((), (0.0, 0.02), (0.1, 0.5, -0.4, 0.6), (0, 1, 2, 3), (0, 1, 3, 2), (0, -1)),
    "constant_": ((0.3,), (1e39,), (2,), (True,)),
    "ones_": ((),),
    "zeros_": ((),),
    "eye_": ((),),
    "dirac_": ((), (2,)),
    "xavier_uniform_": ((), (1.7,)),
    "xavier_normal_": ((), (-0.5,)),
    "kaiming_uniform_": ((), (5**0.5,), (0, "fan_out", "relu")),
    "kaiming_normal_": ((0, "fan_out", "relu"), (0, "fan_up")),
    "orthogonal_": ((), (0.4,)),
    "sparse_": ((0.3,), (0.5, 0.02), (1.5,)),
}
CALLS = [(name, numbers) for name, choices in INITIALISERS.items() for numbers in choices]


# Fills


@step(T, (0.0, 0.3, -2), (0.02, 1, 0, 1.5, -1.0), G, often=12)
def normal_(pool: Pool, t: Tensor, mean: float, std: float, generator: torch.Generator | None) -> None:
    t.normal_(mean, std, generator=generator)


@step(T, (0.0, -0.3, -2), (0.7, 1, 1e-3, -5.0), G, often=10)
def uniform_(pool: Pool, t: Tensor, low: float, high: float, generator: torch.Generator | None) -> None:
    t.uniform_(low, high, generator=generator)


@step(T, often=8)
def zero_(pool: Pool, t: Tensor) -> None:
    t.zero_()


@step(T, NUMBERS, often=8)
def fill_(pool: Pool, t: Tensor, number: complex) -> None:
    t.fill_(number)


@step(T, T, often=3)
def fill_tensor(pool: Pool, t: Tensor, value: Tensor) -> None:
    t.fill_(value.view(-1)[0] if value.numel() else value)


@step(T, T, often=4)
def copy_(pool: Pool, t: Tensor, source: Tensor) -> None:
    t.copy_(source)


@step(T, NUMBERS, TYPES, often=4)
def copy_constant(pool: Pool, t: Tensor, number: complex, dtype: str) -> None:
    t.copy_(torch.tensor(number, dtype=getattr(torch, dtype)))


@step(T)
def copy_zero_tensor(pool: Pool, t: Tensor) -> None:
    t.copy_(torch._efficientzerotensor(t.shape))


@step(T)
def copy_values(pool: Pool, t: Tensor) -> None:
    t.copy_(torch.arange(t.numel()).view(t.shape))


@step(T, (1, -1))
def copy_shifted(pool: Pool, t: Tensor, by: int) -> None:
    t[max(by, 0) : len(t) + min(by, 0)].copy_(t[max(-by, 0) : len(t) + min(-by, 0)])


@step(T, list(VIEWS), list(VIEWS), often=3)
def copy_between_views(pool: Pool, t: Tensor, to: str, source: str) -> None:
    VIEWS[to](t).copy_(VIEWS[source](t))


@step(("torch", "torch", "fastinit"), CALLS, T, often=12)
def initialise(pool: Pool, module: str, call: tuple[str, tuple[Any, ...]], t: Tensor) -> None:
    functions: Any = torch.nn.init if module == "torch" else fastinit
    assert getattr(functions, call[0])(t, *call[1]) is t


@step(T, G, (0.0, 0.02), often=2)
def initialise_from(pool: Pool, t: Tensor, generator: torch.Generator | None, mean: float) -> None:
    torch.nn.init.trunc_normal_(t, mean, 0.5, generator=generator)


@step(("normal_", "uniform_", "trunc_normal_"), T, (0, 7))
def keyed(pool: Pool, name: str, t: Tensor, seed: int) -> None:
    getattr(fastinit, name)(t, generator=fastinit.Key(seed))


@step(T, (0.0, 0.1), (0.02, 1.0), G, often=5)
def by_erfinv(pool: Pool, t: Tensor, mean: float, std: float, generator: torch.Generator | None) -> None:
    """As libraries write their own trunc_normal_."""
    with torch.no_grad():
        t.uniform_(-0.9545, 0.9545, generator=generator)
        t.erfinv_()
        t.mul_(std * math.sqrt(2.0))
        t.add_(mean)
        t.clamp_(min=-2 * std, max=mean + std)


@step(T, T, often=2)
def by_erfinv_of_two(pool: Pool, t: Tensor, other: Tensor) -> None:
    """Two chains at once: if they share memory, the order matters."""
    with torch.no_grad():
        t.uniform_(-0.99, 0.99)
        other.uniform_(-0.9, 0.9)
        t.erfinv_()
        other.erfinv_().mul_(0.3)
        t.mul_(0.02)


@step(("mul_", "add_", "sub_", "div_", "clamp_min_", "clamp_max_", "pow_", "remainder_"), T, NUMBERS, often=8)
def chain(pool: Pool, name: str, t: Tensor, number: complex) -> None:
    getattr(t, name)(number)


@step(("neg_", "erfinv_", "abs_", "sqrt_", "logical_not_", "detach_", "squeeze_", "t_"), T, often=5)
def chain_alone(pool: Pool, name: str, t: Tensor) -> None:
    getattr(t, name)()


@step(("mul_", "add_", "sub_", "div_", "clamp_min_", "lerp_", "maximum", "__iadd__"), T, T, often=4)
def chain_tensor(pool: Pool, name: str, t: Tensor, other: Tensor) -> Any:
    if name == "maximum":
        return torch.maximum(t, other)
    getattr(t, name)(other, *((0.5,) if name == "lerp_" else ()))


@step(("add_", "sub_"), T, SMALL, (2, 0.5, -1), often=3)
def chain_alpha(pool: Pool, name: str, t: Tensor, number: float, alpha: float) -> None:
    getattr(t, name)(number, alpha=alpha)


@step(T, (None, -0.5, 0), (None, 0.5, -1), often=3)
def clamp_(pool: Pool, t: Tensor, low: float | None, high: float | None) -> None:
    t.clamp_(low, high)


@step(list(VIEWS), T, ("zero_", "normal_", "uniform_", "fill_", "erfinv_", "mul_", "random_"), often=10)
def through(pool: Pool, view: str, t: Tensor, name: str) -> None:
    getattr(VIEWS[view](t), name)(*((0.3,) if name in ("fill_", "mul_") else ()))


@step((0, -1, slice(1, 3), ..., (..., 0), slice(None, None, 2)), T, NUMBERS, often=4)
def set_item(pool: Pool, index: Any, t: Tensor, number: complex) -> None:
    t[index] = number


@step((0, slice(0, 2), (..., 0)), T, T, (True, False), often=3)
def set_item_tensor(pool: Pool, index: Any, t: Tensor, value: Tensor, one: bool) -> None:
    t[index] = value.view(-1)[0] if one else value


@step(T, ("index_put_", "masked_fill_", "index_fill_", "scatter_", "index_copy_", "where"))
def write_by_index(pool: Pool, t: Tensor, name: str) -> Any:
    zero = torch.zeros(1, dtype=torch.int64)  # itself pending
    if name == "index_put_":
        t.index_put_((zero,), torch.ones((), dtype=t.dtype), accumulate=True)
    elif name == "masked_fill_":
        t.masked_fill_(torch.ones(t.shape, dtype=torch.bool), 0.25)
    elif name == "index_fill_":
        t.index_fill_(0, zero, 0.5)
    elif name == "scatter_":
        t.scatter_(0, zero.view((1,) * t.dim()), 2)
    elif name == "index_copy_":
        t.index_copy_(0, zero, torch.ones_like(t[:1]))
    else:
        return torch.where(t == 0, t, torch.full_like(t, 3))


# Reads


def saved(t: Tensor) -> bytes:
    file = io.BytesIO()
    torch.save(t, file)
    file.seek(0)
    return torch.load(file).detach().numpy().tobytes()


READS: dict[str, Callable[[Tensor], Any]] = {
    "sum": lambda t: t.sum(),
    "item": lambda t: repr(t.view(-1)[0].item()),
    "tolist": lambda t: repr(t.tolist()),
    "numpy": lambda t: t.numpy().copy(),
    "numpy of detached": lambda t: t.detach().numpy().copy(),
    "asarray": lambda t: np.asarray(t).copy(),
    "clone": lambda t: t.clone(),
    "contiguous": lambda t: t.contiguous(),
    "equal": lambda t: t == t.flip(0),
    "not a number": lambda t: t.isnan().any().item(),
    "repr": repr,
    "to": lambda t: t.to(torch.float64),
    "float": lambda t: repr(float(t)),
    "bool": lambda t: bool((t == 0).all()),
    "iterated": lambda t: [one.sum() for one in t],
    "deepcopy": lambda t: copy.deepcopy(t),
    "pickle": lambda t: pickle.loads(pickle.dumps(t)),
    "saved": saved,
    "storage": lambda t: bytes(t.untyped_storage()[:40]),
    "typed storage": lambda t: repr(list(t.storage()[:9])),
    "address": lambda t: ctypes.string_at(t.data_ptr(), t.element_size()) if t.numel() else b"",
    "dlpack": lambda t: dlpack.from_dlpack(t).clone(),
    "dlpack capsule": lambda t: dlpack.from_dlpack(dlpack.to_dlpack(t)).clone(),
    "numpy by dlpack": lambda t: np.from_dlpack(t).copy(),
    "tensor of it": lambda t: torch.tensor(t),
    "as_tensor": lambda t: torch.as_tensor(t).sum(),
    "apply": lambda t: t.apply_(lambda number: number),
    "norm": lambda t: torch.linalg.vector_norm(t),
    "product": lambda t: t.view(-1) @ t.view(-1),
    "flattened": lambda t: nn.utils.parameters_to_vector([t, t]),
    "any": lambda t: torch.any(t),
    "sparse": lambda t: t.to_sparse().values(),
    "shape": lambda t: (tuple(t.shape), t.stride(), t.is_contiguous(), t.is_leaf, t._version),
}


@step(list(READS), T, often=12)
def read(pool: Pool, how: str, t: Tensor) -> Any:
    return READS[how](t)


@step(T, T, T, ("cat", "stack", "foreach", "equal", "block_diag"))
def read_several(pool: Pool, a: Tensor, b: Tensor, c: Tensor, how: str) -> Any:
    if how == "foreach":
        return torch._foreach_add([a, b], [b, c])
    if how == "equal":
        return torch.equal(a, b), torch.equal(b, c)
    if how == "block_diag":
        return torch.block_diag(a, b, c)
    return getattr(torch, how)([t.view(-1) for t in (a, b, c)])
