"""More steps for random programs: those that change what the pool holds, gradients, generators and modules."""

import copy
import io
import math
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import torch
from batched_steps import NUMBERS, PLACES, SHAPES, SHAPES_AND_LONG, SMALL, TYPES, VIEWS, G, Pool, T, step
from torch import Tensor, nn


@step(T, T, T, ("add", "mul", "div"))
def write_out(pool: Pool, a: Tensor, b: Tensor, c: Tensor, name: str) -> None:
    """Where c has another shape, into a new tensor: an error would leave c with undefined values."""
    shape = torch.broadcast_shapes(a.shape, b.shape)
    if shape != c.shape:
        c = torch.zeros(shape, dtype=c.dtype)
        pool.add(c)
    getattr(torch, name)(a, b, out=c)


@step(T, T, ("zero", "mul", "copy"))
def write_several(pool: Pool, a: Tensor, b: Tensor, name: str) -> None:
    if name == "zero":
        torch._foreach_zero_([a, b])
    elif name == "mul":
        torch._foreach_mul_([a, b], 0.5)
    else:
        torch._foreach_copy_([a], [b])


PLACED = ("dense",) * 4 + tuple(PLACES)


@step(PLACED, SHAPES_AND_LONG, TYPES, (False, False, True), often=5)
def base(pool: Pool, place: str, shape: Sequence[int], dtype: str, parameter: bool) -> None:
    tensor = PLACES[place](shape, dtype)
    pool.add(nn.Parameter(tensor) if parameter else tensor)


FACTORIES: dict[str, Callable[..., Tensor]] = {
    "empty": lambda shape, dtype: torch.empty(shape, dtype=dtype).zero_(),
    "empty, normal": lambda shape, dtype: torch.empty(shape, dtype=dtype).normal_(),
    "randn": lambda shape, dtype: torch.randn(shape, dtype=dtype),
    "rand": lambda shape, dtype: torch.rand(shape, dtype=dtype),
    "zeros": lambda shape, dtype: torch.zeros(shape, dtype=dtype),
    "ones": lambda shape, dtype: torch.ones(shape, dtype=dtype),
    "full": lambda shape, dtype: torch.full(shape, 3, dtype=dtype),
    "full of another": lambda shape, dtype: torch.full(shape, 0.7).to(dtype),
    "eye": lambda shape, dtype: torch.eye(3, dtype=dtype),
    "randint": lambda shape, dtype: torch.randint(2, shape, dtype=dtype),
    "normal": lambda shape, dtype: torch.normal(0.5, 2.0, shape, dtype=dtype),
    "parameter": lambda shape, dtype: nn.Parameter(torch.empty(shape, dtype=dtype).uniform_(-1, 1)),
    "scalar": lambda shape, dtype: torch.tensor(2.5, dtype=dtype),
    "permutation": lambda shape, dtype: torch.randperm(9).to(dtype),
}
LIKES: dict[str, Callable[[Tensor], Tensor]] = {
    "empty_like": lambda t: torch.empty_like(t).fill_(2),
    "zeros_like": torch.zeros_like,
    "ones_like": torch.ones_like,
    "full_like": lambda t: torch.full_like(t, 0.3),
    "randn_like": torch.randn_like,
    "rand_like": torch.rand_like,
    "new_zeros": lambda t: t.new_zeros(4),
    "new_full": lambda t: t.new_full((2, 3), 7),
    "clone": torch.clone,
    "half": lambda t: t.bfloat16(),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda t: pickle.loads(pickle.dumps(t)),
    "parameter": nn.Parameter,
    "normal": lambda t: torch.normal(t, 0.5),
    "dropped": lambda t: nn.functional.dropout(t, 0.4),
    "bernoulli": lambda t: torch.bernoulli(t.abs().clamp(0, 1)),
}


@step(list(FACTORIES), SHAPES_AND_LONG, TYPES, often=10)
def make(pool: Pool, factory: str, shape: Sequence[int], dtype: str) -> None:
    pool.add(FACTORIES[factory](shape, dtype=getattr(torch, dtype)))


@step(list(LIKES), T, often=6)
def make_like(pool: Pool, factory: str, t: Tensor) -> None:
    pool.add(LIKES[factory](t))


@step(list(VIEWS), T, often=10)
def view(pool: Pool, name: str, t: Tensor) -> None:
    pool.add(VIEWS[name](t))


@step(T, often=6)
def delete(pool: Pool, t: Tensor) -> None:
    pool.tensors[:] = [one for one in pool.tensors if one is not t] or [torch.arange(5.0)]


@step(T, T, ("tensor", "storage", "nothing"))
def set_(pool: Pool, t: Tensor, source: Tensor, how: str) -> None:
    if how == "tensor":
        t.set_(source)
    elif how == "storage":
        storage = source.untyped_storage()
        t.set_(storage, 0, (storage.nbytes() // t.element_size(),))
    else:
        t.set_()


@step(T, SHAPES, (True, False))
def resize_(pool: Pool, t: Tensor, shape: Sequence[int], like: bool) -> None:
    """A new tensor where t has too little memory: a storage that cannot grow would leave it with the new shape."""
    reach = 1 + sum((size - 1) * stride for size, stride in zip(t.shape, t.stride(), strict=True))
    if t.numel() == 0 or reach < math.prod(shape):
        t = torch.empty_like(t).fill_(1)
        pool.add(t)
    t.resize_as_(torch.ones(shape)) if like else t.resize_(shape)
    t.zero_()  # what was not there before is not defined


@step(T, SHAPES, ("ones", "rand", "empty"), often=4)
def new_data(pool: Pool, t: Tensor, shape: Sequence[int], how: str) -> None:
    t.data = getattr(torch, how)(t.shape if len(shape) == 2 else shape, dtype=t.dtype)
    t.data.fill_(3) if how == "empty" else None


@step(T, T, often=4)
def share_data(pool: Pool, t: Tensor, other: Tensor) -> None:
    t.data = other.data


@step(T, T)
def exchange_data(pool: Pool, t: Tensor, other: Tensor) -> None:
    t.data, other.data = other.data, t.data


@step(T, T)
def swap_tensors(pool: Pool, t: Tensor, other: Tensor) -> None:
    torch.utils.swap_tensors(t, other)


@step(T, (True, False))
def requires_grad_(pool: Pool, t: Tensor, requires: bool) -> None:
    t.requires_grad_(requires)


# Memory that torch's operators are not the only ones to touch


@step(T)
def keep_array(pool: Pool, t: Tensor) -> None:
    pool.arrays.append(t.detach().numpy())  # of a tensor of its own: whoever swaps the data of t would free the memory


@step((0, 1, 2), often=3)
def read_array(pool: Pool, i: int) -> Any:
    return pool.arrays[i % len(pool.arrays)].copy() if pool.arrays else None


@step((0, 1, 2), (0, 1))
def write_array(pool: Pool, i: int, number: int) -> None:
    if pool.arrays:
        pool.arrays[i % len(pool.arrays)][...] = number


@step((0, 1, 2), often=1)
def from_array(pool: Pool, i: int) -> None:
    """Another storage over the same memory."""
    if pool.arrays:
        pool.add(torch.from_numpy(pool.arrays[i % len(pool.arrays)]))


@step(T, (0, 63))
def write_storage(pool: Pool, t: Tensor, number: int) -> None:
    t.untyped_storage().fill_(number if t.dtype != torch.bool else 1)


@step(T, often=1)
def share_memory(pool: Pool, t: Tensor) -> None:
    """On a new tensor: the memory moves, and nobody may have its address."""
    pool.add(torch.empty_like(t).normal_().share_memory_())


# Gradients


@step(T, often=6)
def backward(pool: Pool, t: Tensor) -> Any:
    with torch.enable_grad():
        (t * t).sum().backward()
    return t.grad


@step(T, T)
def save_for_backward(pool: Pool, t: Tensor, other: Tensor) -> None:
    pool.losses.append((t * other).sum())


@step((0, 1), often=3)
def backward_of_saved(pool: Pool, i: int) -> None:
    """Which tells how many versions a tensor has had since, if any."""
    if pool.losses:
        pool.losses[i % len(pool.losses)].backward(retain_graph=True)


@step(T, (0.1, 1.0), often=6)
def descend(pool: Pool, t: Tensor, rate: float) -> None:
    backward(pool, t)
    with torch.no_grad():
        t.add_(t.grad, alpha=-rate)
    t.grad = None


# Generators


@step((0, 1, 2**40), often=3)
def manual_seed(pool: Pool, seed: int) -> None:
    torch.manual_seed(seed)


@step(G, (0, 5))
def seed_generator(pool: Pool, generator: torch.Generator | None, seed: int) -> None:
    (generator or torch.default_generator).manual_seed(seed)


@step(G, often=3)
def get_state(pool: Pool, generator: torch.Generator | None) -> Any:
    pool.states.append(generator.get_state() if generator else torch.get_rng_state())
    return pool.states[-1]


@step(G, (0, 1, 2), often=3)
def set_state(pool: Pool, generator: torch.Generator | None, i: int) -> None:
    if pool.states:
        state = pool.states[i % len(pool.states)]
        generator.set_state(state) if generator else torch.set_rng_state(state)


@step(G, G)
def copy_state(pool: Pool, generator: torch.Generator | None, source: torch.Generator | None) -> None:
    (generator or torch.default_generator).set_state((source or torch.default_generator).get_state())


@step(G, (1, 5, 16, 40), ("rand", "randn", "randperm"), often=4)
def draw(pool: Pool, generator: torch.Generator | None, n: int, name: str) -> Any:
    return getattr(torch, name)(n, generator=generator)


@step(T, G, ("random_", "bernoulli_", "exponential_", "log_normal_", "cauchy_", "geometric_"), often=5)
def draw_into(pool: Pool, t: Tensor, generator: torch.Generator | None, name: str) -> None:
    getattr(t, name)(*((0.4,) if name in ("bernoulli_", "geometric_") else ()), generator=generator)


@step(T, (3, 2**20), G)
def random_(pool: Pool, t: Tensor, to: int, generator: torch.Generator | None) -> None:
    t.random_(0, to, generator=generator)


# Modules

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(5, 3),
    "bfloat16": lambda: nn.Linear(5, 3, dtype=torch.bfloat16),
    "embedding": lambda: nn.Embedding(7, 3, padding_idx=2),
    "convolution": lambda: nn.Conv2d(2, 3, 2),
    "norm": lambda: nn.BatchNorm1d(5),
    "lstm": lambda: nn.LSTM(3, 2),
    "attention": lambda: nn.MultiheadAttention(4, 2),
    "skipped": lambda: nn.utils.skip_init(nn.Linear, 5, 3).requires_grad_(False).apply(nn.Linear.reset_parameters),
}


@step(list(LAYERS), ("keep", "reset", "half", "state", "saved", "forward", "share", "tie"), often=5)
def layer(pool: Pool, name: str, then: str) -> Any:
    module = LAYERS[name]()
    result: Any = None
    if then == "reset":
        module.apply(lambda one: one.reset_parameters() if hasattr(one, "reset_parameters") else None)
    elif then == "half":
        module.to(torch.float64)
    elif then == "state":
        module.load_state_dict({name: value * 0.5 for name, value in LAYERS[name]().state_dict().items()})
    elif then == "saved":
        file = io.BytesIO()
        torch.save(module.state_dict(), file)
        file.seek(0)
        result = list(torch.load(file).values())
    elif then == "forward":
        result = module(torch.rand(4, 5))
    elif then == "share":
        module.share_memory()
    elif then == "tie":
        module = nn.Sequential(module, copy.deepcopy(module))
        module[1].weight = module[0].weight
    for one in list(module.parameters())[:3]:
        pool.add(one)
    return result


@step(T, T, SMALL)
def assign_in_module(pool: Pool, t: Tensor, other: Tensor, number: float) -> Any:
    module = nn.Module()
    module.register_parameter("a", nn.Parameter(t))
    module.register_buffer("b", other)
    nn.init.constant_(module.a, number)
    module.a = nn.Parameter(module.b)
    return list(module.state_dict().values())


@step(T, NUMBERS)
def by_operator(pool: Pool, t: Tensor, number: complex) -> None:
    """Below torch.Tensor's methods."""
    torch.ops.aten.fill_.Scalar(t, number)
