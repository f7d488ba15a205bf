"""What is out of the ordinary goes to torch itself: fastinit then does, returns, raises and warns what torch does.

Tensors, numbers and generators here; modes and transformations in test_torch_stream_modes.py. Each case is tried where
the self-checks were made before, and where they must first be made.
"""

import enum
import fractions
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from cases import DRAWN
from torch_cases import LAWS
from torch_stream import compare, compare_outcomes, describe, handmade_state, stand_in, state_of

import fastinit
from fastinit import _C

NAN, INF = float("nan"), float("inf")


def inference_tensor() -> torch.Tensor:
    with torch.inference_mode():
        return torch.zeros(4, 5)


CALLS: list[Any] = []  # of what Logged and Wrapped saw


class Logged(torch.Tensor):
    """Writes down what is called on it."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        CALLS.append(function)
        return super().__torch_function__(function, types, args, kwargs or {})


class Wrapped(torch.Tensor):
    """Holds another tensor and passes on what is dispatched to it."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "Wrapped":
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    def __repr__(self) -> str:
        return f"Wrapped({self.inner.tolist()})"

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        CALLS.append(str(function))
        unwrapped = torch.utils._pytree.tree_map_only(cls, lambda wrapped: wrapped.inner, (args, kwargs or {}))
        result = function(*unwrapped[0], **unwrapped[1])
        return args[0] if str(function).split(".")[1].endswith("_") else result


# None of these may be written by fastinit itself.
TENSORS: dict[str, Callable[[], Any]] = {
    "on another device": lambda: torch.zeros(4, 5, device="meta"),
    "integer": lambda: torch.zeros(4, 5, dtype=torch.int64),
    "bool": lambda: torch.zeros(4, 5, dtype=torch.bool),
    "complex": lambda: torch.zeros(4, 5, dtype=torch.complex64),
    "float8_e4m3fn": lambda: torch.zeros(4, 5).to(torch.float8_e4m3fn),
    "float8_e5m2": lambda: torch.zeros(4, 5).to(torch.float8_e5m2),
    "sparse": lambda: torch.zeros(4, 5).to_sparse(),
    "compressed": lambda: torch.eye(4, 5).to_sparse_csr(),
    "quantised": lambda: torch.quantize_per_tensor(torch.zeros(4, 5), 0.1, 0, torch.qint8),
    "of another library": lambda: torch.zeros(4, 5).to_mkldnn(),
    "nested": lambda: torch.nested.nested_tensor([torch.zeros(4, 5), torch.zeros(3, 5)]),
    "expanded": lambda: torch.zeros(1, 5).expand(4, 5),
    "expanded, large": lambda: torch.zeros(1, 50).expand(40, 50),
    "overlapping": lambda: torch.zeros(9).as_strided((4, 4), (1, 1)),
    "overlapping now and then": lambda: torch.zeros(40).as_strided((6, 5), (3, 5)),
    "negated view": lambda: torch.zeros(4, 5, dtype=torch.complex64).conj().imag,
    "conjugated view": lambda: torch.zeros(4, 5, dtype=torch.complex64).conj(),
    "zero without memory": lambda: torch._efficientzerotensor((4, 5)),
    "functional": lambda: torch._to_functional_tensor(torch.zeros(4, 5)),
    "inference tensor": inference_tensor,
    "wrapper subclass": lambda: Wrapped(torch.zeros(4, 5)),
    "uninitialised parameter": torch.nn.UninitializedParameter,
    "a list": lambda: [1.0, 2.0],
    "an array": lambda: np.zeros((4, 5)),
    "nothing": lambda: None,
}
# These it may write, as torch would; an empty one is not worth it.
OTHER_TENSORS: dict[str, Callable[[], Any]] = {
    "subclass": lambda: torch.zeros(4, 5).as_subclass(Logged),
    "parameter of a subclass": lambda: torch.nn.Parameter(torch.zeros(4, 5).as_subclass(Logged)),
    "buffer": lambda: torch.nn.Buffer(torch.zeros(4, 5)),
    "empty": lambda: torch.zeros(0, 5),
    "empty, no dimension of size 0 first": lambda: torch.zeros(3, 0, 2).transpose(0, 2),
    "one of several views": lambda: torch.zeros(4, 5, 6, requires_grad=True).mul(1).unbind()[1],
    "chunk of a leaf": lambda: torch.zeros(8, 5, requires_grad=True).chunk(2)[1],
    "view made without gradients": lambda: torch.no_grad()(lambda leaf: leaf[1:])(
        torch.zeros(5, 6, requires_grad=True)
    ),
    "detached": lambda: torch.zeros(5, 6, requires_grad=True).detach(),
    "of an array": lambda: torch.from_numpy(np.zeros((4, 5), np.float32)),
    "vector": lambda: torch.zeros(5),
    "number": lambda: torch.zeros(()),
}


def fill(name: str, make: Callable[[], Any]) -> Callable[[Any], Any]:
    """A program that fills such a tensor: what came back, what was called on it, and how it is then."""

    def program(module: Any) -> Any:
        tensor = make()
        CALLS.clear()
        try:
            result = getattr(module, name)(tensor) is tensor
        except Exception as error:
            result = type(error), str(error)
        return result, list(CALLS), describe(tensor)

    return program


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", [*TENSORS, *OTHER_TENSORS])
def test_tensors(kind: str) -> None:
    make = (TENSORS | OTHER_TENSORS)[kind]
    for name in DRAWN:
        compare_outcomes(fill(name, make))
    if kind in TENSORS:
        assert not _C.torch_takes(make(), None)


def test_what_shares_memory_until_it_is_written() -> None:
    """A lazy clone gets memory of its own when it is filled; its original keeps what it has."""

    def program(module: Any) -> Any:
        original = torch.full((30,), 7.0)
        clone = module.normal_(torch._lazy_clone(original), 0.3, 0.02)
        return original.unique().tolist(), describe(original), describe(clone)

    assert compare_outcomes(program)[0] == [7.0]


def test_a_graph_that_needed_the_old_values_fails_as_ever() -> None:
    def program(module: Any) -> Any:
        leaf = torch.ones(3, requires_grad=True)
        used = leaf * 2
        result = (used * used).sum()
        module.uniform_(used)
        result.backward()

    assert compare_outcomes(program)[0] is RuntimeError


class Whole(enum.IntEnum):
    ONE = 1


class Real(float):
    pass


NUMBERS: dict[str, list[Any]] = {
    "uniform_": [(0.0, INF), (-INF, 0.0), (NAN, 1.0), (0.0, NAN), (INF, INF), (1.0, 0.0), (3, -3), (-3.4e38, 3.4e38)],
    "normal_": [(NAN, 1.0), (0.0, NAN), (INF, 1.0), (-INF, 0.0), (0.0, INF), (0.0, -1.0), (0.0, -1e-320), (0.0, -0.0)],
    "trunc_normal_": [
        (NAN, 1.0, -2.0, 2.0),
        (0.0, NAN, -2.0, 2.0),
        (0.0, 1.0, NAN, 2.0),
        (0.0, 1.0, -2.0, NAN),
        (INF, 1.0, -2.0, 2.0),
        (0.0, INF, -2.0, 2.0),
        (0.0, 1.0, -INF, INF),
        (0.0, 1.0, -INF, 0.5),
        (0.0, 1.0, -0.5, INF),
        (0.0, 1.0, 2.0, -2.0),
        (0.0, -1.0, -2.0, 2.0),
        (0.0, -1.0, 2.0, -2.0),
        (0.0, 0.0, -2.0, 2.0),
        (0.5, 1.0, 0.25, 0.25),
        (-5.0, 1.0, -2.0, 2.0),  # a mean so far outside that torch warns
        (2.9, 1.0, -2.0, 0.8),
        (1e300, 1e300, -1e308, 1e308),
    ],
}
# In place of a number: what torch takes for one, and what it does not.
INSTEAD: dict[str, Any] = {
    "bool": True,
    "numpy float64": np.float64(0.7),
    "numpy float32": np.float32(0.7),
    "numpy int64": np.int64(1),
    "numpy array": np.array(0.7),
    "tensor": torch.tensor(0.7),
    "tensor of an integer": torch.tensor(1),
    "tensor of one element": torch.tensor([0.7]),
    "tensor of two": torch.tensor([0.7, 0.8]),
    "tensor with a gradient": torch.tensor(0.7, requires_grad=True),
    "whole": Whole.ONE,
    "real": Real(0.7),
    "fraction": fractions.Fraction(7, 10),
    "complex": 0.7 + 0j,
    "text": "0.7",
    "none": None,
    "more than int64": 2**63,
    "more than float64": 10**400,
    "less than int64": -(2**70),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
@pytest.mark.parametrize("name", LAWS)
def test_numbers(name: str, dtype: torch.dtype) -> None:
    for numbers, n in itertools.product(NUMBERS[name], (5, 40)):
        compare(name, torch.empty(n, dtype=dtype), *numbers, state=state_of(2, normals=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_never_ends_is_left_to_torch(dtype: torch.dtype) -> None:
    """Rejection that float32 keeps from ever accepting: torch's can be interrupted."""

    def fill(mean: float, std: float, a: float, b: float) -> int:
        return _C.torch_trunc_normal(torch.empty(40, dtype=dtype), mean, std, a, b, torch.Generator(), True)

    half = 2.0**-24  # of the distance from 1 to the next float32: the mean becomes 1 and its bound does not
    assert fill(1 + half - 2e-16, 1e-11, 1 + half + 2e-12, 2.0) == _C.LEFT
    assert fill(0.0, 6e-46, 7.1e-46, 1.0) == _C.LEFT
    assert fill(1.0, 1e-11, 1.0 - 1e-12, 2.0) == fill(0.0, 1e-6, -2.0, 2.0) == fill(0.5, 1.0, 0.6, 2.0) == _C.WRITTEN


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", INSTEAD)
def test_instead_of_numbers(kind: str) -> None:
    given = INSTEAD[kind]
    for name, numbers in [("uniform_", (0.5, 2.0)), ("normal_", (0.5, 2.0)), ("trunc_normal_", (0.5, 2.0, -3.0, 3.0))]:
        for i, n in itertools.product(range(len(numbers)), (5, 40)):
            compare(name, torch.empty(n), *numbers[:i], given, *numbers[i + 1 :], state=state_of(2))
    for name in DRAWN[3:]:
        compare(name, torch.empty(4, 5), given, state=state_of(2))


class Derived(torch.Generator):
    pass


def in_state(left: int, following: int, factor: int = 40503, cached: float = -0.25) -> Callable[[], torch.Generator]:
    """At odds with how torch counts, left + following = 625 but for a generator just seeded.

    Not more: then torch itself reads beyond its block.
    """

    def make() -> torch.Generator:
        generator, state = torch.Generator(), handmade_state(torch.arange(624) * factor, cached=cached)
        state[8:12].view(torch.int32)[0] = left
        state[16:24].view(torch.int64)[0] = following
        generator.set_state(state)
        return generator

    return make


GENERATORS: dict[str, Callable[[], Any]] = {
    "subclass": lambda: Derived(),
    "just made": torch.Generator,
    "clone": lambda: torch.Generator().manual_seed(3).clone_state(),
    "on another device": lambda: torch.Generator("cuda"),
    "one fewer left than there are": in_state(624, 0),
    "fewer left than there are": in_state(7, 100),
    "one left, none drawn": in_state(1, 0),
    "one left, some drawn": in_state(1, 5),
    "none drawn": in_state(300, 0),
    "words all zero": in_state(1, 0, factor=0),  # and so all that follow
    "a normal number that is none": in_state(324, 301, cached=NAN),
    "a number": lambda: 5,
    "text": lambda: "cpu",
    "the class": lambda: torch.Generator,
    "numpy's": lambda: np.random.default_rng(3),
    "an object": lambda: object(),
}


@pytest.mark.parametrize("kind", GENERATORS)
def test_generators(kind: str) -> None:
    shapes = [(3, 2), (4, 10), (16, 39), (40, 50)]  # 16 39: a whole block of words
    for name, shape in itertools.product(DRAWN, shapes):

        def program(module: Any, name: str = name, shape: Any = shape) -> Any:
            generator, tensor = GENERATORS[kind](), torch.zeros(shape, dtype=torch.float16 if shape[1] < 30 else None)
            getattr(module, name)(tensor, generator=generator)
            return describe(tensor), generator.get_state().tolist()

        compare_outcomes(program)


@pytest.mark.parametrize(("left", "following"), [(624, 0), (7, 100), (300, 0), (600, 300), (624, 624)])
def test_states_at_odds_are_left_to_torch(left: int, following: int) -> None:
    for state, outcome in ((in_state(325, 300), _C.WRITTEN), (in_state(left, following), _C.LEFT)):
        assert _C.torch_fill(torch.zeros(4), 1, 0.0, 1.0, state(), True) == outcome
        assert _C.torch_trunc_normal(torch.zeros(4), 0.0, 1.0, -2.0, 2.0, state(), True) == outcome


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
@pytest.mark.parametrize("name", ["kaiming_uniform_", "kaiming_normal_"])
def test_a_warning_of_the_tensor_is_at_the_caller_s_line(name: str, dtype: torch.dtype) -> None:
    """Python shows it once a line, and filters go by the module."""
    for module, arguments in itertools.product((torch.nn.init, fastinit), ({}, {"mode": "sideways"})):
        tensor = torch.empty(0, 4, dtype=dtype)
        with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op") as caught:
            assert getattr(module, name)(tensor, **arguments) is tensor
        assert [warning.filename for warning in caught] == [__file__]


def test_another_outcome_is_noticed() -> None:
    for wrong in (
        lambda tensor: tensor.normal_(),
        lambda tensor: torch.nn.init.normal_(tensor).clone(),
        lambda tensor: torch.nn.init.normal_(tensor[:0]) and tensor,
    ):
        program = fill("normal_", lambda: torch.zeros(4, 5, requires_grad=True))
        with pytest.raises(AssertionError):
            compare_outcomes(program, stand_in(normal_=wrong))
