"""What of torch may stand around and within a block of `fastinit.batched`: modes, subclasses, transforms, training."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from batched_plain import SEED, Logs, same, snapshot, succeeds
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

import fastinit


def build() -> nn.Module:
    model = nn.Sequential(nn.Linear(9, 6), nn.LayerNorm(6), nn.Linear(6, 4))
    for layer in model[::2]:
        nn.init.xavier_normal_(layer.weight)
    return model


# Modes of the user's


class Doubles(TorchDispatchMode):
    """Changes what fills write."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function._schema.name in ("aten::normal_", "aten::uniform_", "aten::fill_"):
            result.mul_(2)
        return result


class Triples(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        return result.mul_(3) if function in (Tensor.normal_, Tensor.fill_) else result


@pytest.mark.parametrize("mode", [Logs, Doubles, Triples])
def test_a_mode_inside_does_what_it_does(mode: Callable[[], Any]) -> None:
    def program() -> list[Any]:
        a = torch.empty(40).normal_()
        with mode() as opened:
            model = build()
            a.data.fill_(2)
            b = torch.empty(7).normal_()
        return [a, b, model, getattr(opened, "calls", None)]

    same(program)


@pytest.mark.parametrize("mode", [Logs, Doubles, Triples])
def test_a_mode_around_the_block_does_what_it_does(mode: Callable[[], Any]) -> None:
    def values(block: bool) -> Any:
        torch.manual_seed(SEED)
        with mode():
            if block:
                with fastinit.batched():
                    model = build()
                    model[0].bias.data.fill_(0.3)
            else:
                model = build()
                model[0].bias.data.fill_(0.3)
        return snapshot([model, torch.get_rng_state()])

    assert values(True) == values(False)


def test_a_mode_sees_tensors_that_are_pending() -> None:
    class Peeks(TorchDispatchMode):
        """Reads a tensor that is no argument of the call."""

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(hidden[0].sum().item())
            return function(*args, **(kwargs or {}))

    def program() -> list[Any]:
        seen.clear()
        other = torch.empty(30).normal_()
        hidden[:] = [other]
        x = torch.ones(3)
        other.fill_(4)
        with Peeks():
            x.add_(1)
            other.fill_(5)
            x.add_(1)
        return [seen, x, other]

    seen: list[float] = []
    hidden: list[Tensor] = []
    same(program)


def test_a_function_mode_that_reads_before_each_fill() -> None:
    class Reads(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is Tensor.fill_:
                seen.append(args[0].tolist())
            return function(*args, **(kwargs or {}))

    seen: list[Any] = []

    def program() -> list[Any]:
        seen.clear()
        x = torch.zeros(3).normal_()
        with Reads():
            x.fill_(3).mul_(2)
            x.fill_(5)
        return [seen, x]

    same(program)


def test_fake_tensors() -> None:
    def program() -> list[Any]:
        a = torch.empty(30).normal_()
        with FakeTensorMode(allow_non_fake_inputs=True):
            fake = nn.Linear(1000, 1000)
            nn.init.kaiming_normal_(fake.weight)
            shape = fake(torch.empty(3, 1000).normal_()).shape
        return [a, shape, type(fake.weight).__name__, torch.empty(30).normal_()]

    succeeds(program)


# Subclasses


class Logged(Tensor):
    """Sees functions."""

    calls: list[str] = []  # noqa: RUF012 - of all of them

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.calls.append(function.__name__)
        return super().__torch_function__(function, types, args, kwargs or {})


class Wraps(Tensor):
    """Has no memory of its own."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Wraps":
        return Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def unwrapped(thing: Any) -> Any:
            return thing.inner if isinstance(thing, Wraps) else thing

        plain = [unwrapped(one) for one in args]
        keywords = {name: unwrapped(one) for name, one in (kwargs or {}).items()}
        result = function(*plain, **keywords)
        wrapped = Wraps(result) if isinstance(result, Tensor) else result
        return return_and_correct_aliasing(function, args, kwargs or {}, wrapped)


def test_a_subclass_that_sees_functions() -> None:
    def program() -> list[Any]:
        Logged.calls.clear()
        x = torch.empty(30).as_subclass(Logged)
        x.normal_().mul_(2)
        nn.init.uniform_(x[3:])
        return [x.as_subclass(Tensor), list(Logged.calls), type(x).__name__]

    same(program)


def test_a_subclass_around_a_pending_tensor() -> None:
    def program() -> list[Any]:
        inner = torch.empty(30).normal_()
        x = Wraps(inner)
        x.fill_(2)
        first = inner.sum().item()
        inner.normal_()
        x.mul_(3)
        x.uniform_()
        inner.data[:4].fill_(7)
        return [first, (x + 1).inner, inner]

    same(program)


def test_a_subclass_as_a_parameter() -> None:
    class Marked(nn.Parameter):
        pass

    def program() -> nn.Module:
        model = nn.Linear(9, 4)
        model.weight = Marked(torch.empty(4, 9))
        nn.init.kaiming_normal_(model.weight)
        assert isinstance(model.weight, Marked)
        return model

    succeeds(program)


# Transforms


def test_vmap_and_functional_call() -> None:
    def program() -> list[Any]:
        models = [build() for _ in range(3)]
        parameters, buffers = torch.func.stack_module_state(models)
        x = torch.empty(5, 9).normal_()

        def call(parameters: Any, buffers: Any, x: Tensor) -> Tensor:
            return torch.func.functional_call(models[0], (parameters, buffers), (x,))

        many = torch.func.vmap(call, in_dims=(0, 0, None))(parameters, buffers, x)
        weight = torch.empty(4, 9).normal_()
        gradient = torch.func.grad(lambda w: (w @ x.t()).square().sum())(weight)
        return [many.detach(), gradient]

    succeeds(program)


@pytest.mark.parametrize("randomness", ["error", "different", "same"])
def test_fills_inside_vmap(randomness: str) -> None:
    def program() -> list[Any]:
        x = torch.zeros(3, 17)
        pending = torch.empty(17).normal_()
        torch.func.vmap(lambda row: row.normal_().add_(pending), randomness=randomness)(x)
        y = torch.func.vmap(lambda row: row + torch.randn(17), randomness=randomness)(x)
        torch.func.vmap(lambda row: row.fill_(2))(x[1:])
        return [x, y]

    same(program)


def test_functionalize_and_jvp() -> None:
    def program() -> list[Any]:
        x = torch.empty(7).normal_()
        y = torch.func.functionalize(lambda t: t.clone().fill_(3).add_(t))(x)
        z = torch.func.jvp(lambda t: t * x, (x,), (torch.ones(7),))
        return [x, y, z]

    succeeds(program)


def test_a_scripted_init_function() -> None:
    @torch.jit.script
    def init(weight: Tensor, std: float) -> Tensor:
        with torch.no_grad():
            weight.normal_(0.0, std)
            weight[0].zero_()
            weight.mul_(2.0).clamp_(-std, std)
        return weight.sum()

    def program() -> list[Any]:
        w = torch.empty(5, 9)
        return [init(w, 0.02), w, init(w, 0.3), w]

    program()
    same(program)


def test_a_traced_module() -> None:
    def program() -> list[Any]:
        model = build()
        traced = torch.jit.trace(model, torch.ones(2, 9))
        model[0].weight.data.normal_()
        return [traced(torch.ones(2, 9)).detach(), model]

    succeeds(program)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_function_called_inside(backend: str) -> None:
    @torch.compile(backend=backend)
    def compute(x: Tensor, w: Tensor) -> Tensor:
        w.mul_(2)
        return x @ w + torch.ones(4)

    def program() -> list[Any]:
        x, w = torch.empty(3, 9).normal_(), torch.empty(9, 4).normal_()
        first = compute(x, w)
        w.normal_()
        return [first, compute(x, w), w]

    torch.manual_seed(SEED)
    program()
    same(program)


@pytest.mark.slow
def test_a_block_inside_a_compiled_function() -> None:
    def program() -> Tensor:
        with fastinit.batched():
            x = torch.empty(30).normal_()
            x.mul_(2)
        return x

    torch.manual_seed(SEED)
    expected = program()
    torch.manual_seed(SEED)
    assert torch.compile(program, backend="eager")().equal(expected)


# Code of the user's that torch calls


def test_a_custom_op_that_reads_through_a_closure() -> None:
    hidden = torch.zeros(20)

    @torch.library.custom_op("fastinit_tests::adds_hidden", mutates_args=())
    def adds_hidden(x: Tensor) -> Tensor:
        return x + hidden.sum()

    @torch.library.custom_op("fastinit_tests::fills", mutates_args=("x",))
    def fills(x: Tensor, number: float) -> None:
        x.fill_(number)
        hidden.fill_(number)

    def program() -> list[Any]:
        hidden.normal_()
        one = adds_hidden(torch.zeros(3))
        hidden.fill_(7)
        two = adds_hidden(torch.zeros(3).normal_())
        x = torch.empty(5).normal_()
        fills(x, 2.0)
        return [one, two, x, hidden.clone(), adds_hidden(x)]

    same(program)


def test_an_operator_of_a_python_library() -> None:
    library = torch.library.Library("fastinit_tests_more", "DEF")
    library.define("peek(Tensor x) -> Tensor")
    hidden = torch.zeros(20)
    library.impl("peek", lambda x: hidden.clone() + x, "CompositeExplicitAutograd")
    same(lambda: [hidden.normal_() * 1, torch.ops.fastinit_tests_more.peek(torch.ones(20)), hidden.fill_(2) * 1])


def test_an_operator_of_torch_that_python_overrides() -> None:
    """Whose code may look anywhere."""
    hidden, seen = torch.zeros(20), []
    library = torch.library.Library("aten", "IMPL")

    def cosine(x: Tensor) -> Tensor:
        seen.append(hidden.tolist())
        return x.sin()

    library.impl("cos", cosine, "CPU")
    try:

        def program() -> list[Any]:
            seen.clear()
            hidden.normal_()
            return [torch.cos(torch.ones(3)), list(seen)]

        same(program)
    finally:
        library._destroy()
