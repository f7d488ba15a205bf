"""sparse_ in the torch stream is torch.nn.init.sparse_ to the last bit, of both generators too: normal numbers by the
one that is given, permutations by the default one.

Which is right is torch's word alone; the last tests show what is noticed.
"""

import contextlib
import itertools
import math
import threading
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cases import LAYOUTS
from test_torch_stream_modes import CALLS, ELSEWHERE, HERE, TRANSFORMATIONS
from test_torch_stream_unusual import GENERATORS, INSTEAD, OTHER_TENSORS, TENSORS
from torch_cases import STATES
from torch_stream import (
    DTYPES,
    bytes_of,
    compare,
    compare_outcomes,
    describe,
    generator_in,
    settle,
    stand_in,
    state_of,
    torch_calls,
)

import fastinit
from fastinit import _C

of_every_type = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
on_every_isa = pytest.mark.usefixtures("isa")
# Odd sizes; words that end with a block of the generator and next to it; more columns than a word of marks has bits.
SHAPES = [(1, 1), (1, 40), (2, 1), (2, 70), (3, 5), (25, 33), (33, 65), (64, 32), (625, 3), (626, 2), (1500, 31)]
SPARSITIES: list[float] = [0, 1, 0.1, 0.28, 0.7, 0.9, 1e-9, 0.9999, 0.5, 1.0, 0.0, -0.0]


@on_every_isa
@of_every_type
def test_every_shape_and_sparsity(dtype: torch.dtype) -> None:
    states = itertools.cycle(STATES.values())
    for i, (shape, sparsity) in enumerate(itertools.product(SHAPES, SPARSITIES)):
        compare("sparse_", torch.empty(shape, dtype=dtype), sparsity, 0.02, state=next(states), given=i % 3 == 0)


def test_a_product_that_is_rounded_up_counts_one_more() -> None:
    assert 0.28 * 25 > 7
    tensor = fastinit.sparse_(torch.empty(25, 33), 0.28, 1.0)
    assert ((tensor == 0).sum(0) == 8).all()


@on_every_isa
@of_every_type
@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "channels last"])
def test_every_layout(layout: str, dtype: torch.dtype) -> None:
    for shape, sparsity in [((7, 130), 0.4), ((65, 33), 0.1), ((130, 7), 0.9)]:
        tensor = LAYOUTS[layout](*shape, dtype=dtype)
        compare("sparse_", tensor, sparsity, state=STATES["one word left"])
        compare("sparse_", tensor[1:-1, 1:], sparsity, state=STATES["cached normal"])
        compare("sparse_", tensor.t()[::2], sparsity, 3, state=STATES["second block"], given=False)


@on_every_isa
def test_every_position_of_both_generators() -> None:
    for (given, default), shape in itertools.product(itertools.product(STATES.values(), repeat=2), [(3, 2), (9, 40)]):
        compare("sparse_", torch.empty(shape), 0.4, state=given, default=default)


@on_every_isa
def test_the_default_generator_given() -> None:
    lefts = []
    for module in (torch.nn.init, fastinit):
        with generator_in(state_of(5, words=77, normals=1), given=False) as default:
            tensors = [torch.empty(shape) for shape in SHAPES]
            for tensor in tensors:
                assert module.sparse_(tensor, 0.3, 0.1, default) is tensor
            lefts.append((list(map(describe, tensors)), bytes_of(default.get_state())))
    assert lefts[0] == lefts[1]


@on_every_isa
@pytest.mark.parametrize("shape", [(600, 900), (300_001, 2), (97, 9000)], ids=str)
def test_threads(shape: tuple[int, int]) -> None:
    tensors = [torch.empty(shape), torch.empty(shape[::-1], dtype=torch.bfloat16).t()]
    for tensor, sparsity in zip(tensors, (0.1, 0.9), strict=True):
        compare("sparse_", tensor, sparsity, state=STATES["made by hand"], counts=range(1, 5))


def test_threads_that_jump_to_their_columns() -> None:
    compare("sparse_", torch.empty(4100, 2100), 0.1, state=STATES["made by hand"], counts=(2, 3))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", INSTEAD)
def test_instead_of_numbers(kind: str) -> None:
    for arguments in [(INSTEAD[kind],), (0.3, INSTEAD[kind])]:
        with contextlib.suppress(Exception):  # for the warnings that torch gives once
            torch.nn.init.sparse_(torch.empty(10, 4), *arguments)
        compare("sparse_", torch.empty(10, 4), *arguments, state=state_of(2))


NUMBERS: list[float] = [float("nan"), float("inf"), -float("inf"), -0.1, -0.5, -3, 1.1, 2, 1e300, 1e-320, 1 + 2**-52]


@pytest.mark.parametrize("number", NUMBERS)
def test_unusual_numbers(number: float) -> None:
    for dtype in DTYPES:
        for arguments in [(number,), (0.3, number)]:
            compare("sparse_", torch.empty(10, 4, dtype=dtype), *arguments, state=state_of(2, normals=1))


def test_arguments_by_keyword() -> None:
    compare("sparse_", torch.empty(10, 4), sparsity=0.3, state=state_of(2))
    compare("sparse_", torch.empty(10, 4), 0.3, std=2, state=state_of(2))
    assert compare("sparse", torch.empty(10, 4), 0.3, state=state_of(2)).warnings[0][0] is FutureWarning


def with_fraction(module: Any) -> Any:
    """The module, of which there is only sparse_, for the programs of other tests."""
    return SimpleNamespace(sparse_=partial(module.sparse_, sparsity=0.4))


MORE_TENSORS: dict[str, Callable[[], Any]] = {
    "no rows": lambda: torch.zeros(0, 5),
    "no columns": lambda: torch.zeros(5, 0),
    "neither": lambda: torch.zeros(0, 0),
    "three dimensions": lambda: torch.zeros(3, 4, 5),
    "parameter": lambda: torch.nn.Parameter(torch.zeros(4, 5)),
    "part of a parameter": lambda: torch.nn.Parameter(torch.zeros(4, 5)).t()[2:],
    "result of an operation": lambda: torch.nn.Parameter(torch.zeros(4, 5)) * 2,
    "of gradients": lambda: torch.zeros(4, 5, requires_grad=True).mul(1)[1:],
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", [*TENSORS, *OTHER_TENSORS, *MORE_TENSORS])
def test_tensors(kind: str) -> None:
    def program(module: Any) -> Any:
        tensor = (TENSORS | OTHER_TENSORS | MORE_TENSORS)[kind]()
        try:
            result = module.sparse_(tensor, 0.4) is tensor
        except Exception as error:
            result = type(error), str(error)
        return result, describe(tensor)

    compare_outcomes(program)


@pytest.mark.parametrize("kind", GENERATORS)
def test_generators(kind: str) -> None:
    """As the one that is given, and their states as the default one's."""

    def program(module: Any) -> Any:
        generator, tensors = GENERATORS[kind](), [torch.zeros(16, 39), torch.zeros(3, 2, dtype=torch.float16)]
        for tensor in tensors:
            module.sparse_(tensor, 0.4, generator=generator)
        return list(map(describe, tensors)), generator.get_state().tolist()

    def by_default(module: Any) -> Any:
        tensor = torch.zeros(9, 5)
        torch.default_generator.set_state(GENERATORS[kind]().get_state())
        module.sparse_(tensor, 0.4, generator=torch.Generator())
        return describe(tensor)

    for each in (program, by_default):
        compare_outcomes(each)


def test_nothing_is_written_where_one_generator_is_left_to_torch() -> None:
    odd = GENERATORS["fewer left than there are"]
    for given, permutations in [(odd(), torch.Generator()), (torch.Generator(), odd()), (odd(), None), ("cpu", None)]:
        generators = [each for each in (given, permutations) if isinstance(each, torch.Generator)]
        tensor, states = torch.tensor([[7.0] * 5] * 9), [each.get_state() for each in generators]
        assert _C.torch_sparse(tensor, 4, 0.1, given, permutations, True) == _C.LEFT
        assert (tensor == 7).all() and tensor._version == 0
        assert all(map(torch.equal, states, (each.get_state() for each in generators)))


def test_rows_of_which_randperm_draws_wider_words_are_left_to_torch() -> None:
    _C.use_isa(_C.isa())  # which forgets the verdicts, so that nothing is written
    for rows, outcome in [(2**32 // 20, _C.LEFT), (2**32 // 20 - 1, _C.UNCHECKED)]:
        assert _C.torch_sparse(torch.empty(rows, 1, dtype=torch.float16), 1, 0.1, None, None) == outcome


def test_calls_that_take_two_generators_the_other_way_round_do_not_wait_for_each_other() -> None:
    one, two = torch.Generator(), torch.Generator()

    def fill(*generators: torch.Generator) -> None:
        for _ in range(3000):
            assert _C.torch_sparse(torch.empty(4, 3), 2, 0.1, *generators, True) == _C.WRITTEN

    running = [threading.Thread(target=fill, args=pair, daemon=True) for pair in ((one, two), (two, one))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(60)
    assert not any(thread.is_alive() for thread in running)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [*ELSEWHERE, *HERE])
def test_contexts(kind: str) -> None:
    def program(module: Any) -> Any:
        tensors = [torch.zeros(4, 5), torch.zeros(70, 30).t()]
        with (ELSEWHERE | HERE)[kind]():
            tensors.append(torch.zeros(6, 5))
            CALLS.clear()
            results = []
            for tensor in tensors:
                try:
                    results.append(module.sparse_(tensor, 0.4) is tensor)
                except Exception as error:  # where permutations are on the device meta
                    results.append((type(error), str(error)))
        return results, list(CALLS), list(map(describe, tensors))

    compare_outcomes(program)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", TRANSFORMATIONS)
def test_transformations(kind: str) -> None:
    def program(module: Any) -> Any:
        return TRANSFORMATIONS[kind](with_fraction(module), "sparse_")

    compare_outcomes(program)


def test_who_writes() -> None:
    """Nothing here is torch's own, but where a mode may have a say in its permutations."""
    settle(torch.float32)
    for context, theirs in [(HERE["deterministic"], False), (HERE["no_grad"], False), (HERE["device cpu"], True)]:
        with context(), torch_calls() as calls:
            fastinit.sparse_(torch.empty(5, 4), 0.3)
        assert bool(calls) == theirs


def stand_in_with(mistake: str) -> Any:
    """torch's sparse_ written once more, with this mistake in it."""

    def sparse_(tensor: torch.Tensor, sparsity: float, std: float = 0.01, generator: Any = None) -> torch.Tensor:
        rows, columns = tensor.shape
        zeros = round(sparsity * rows) if mistake == "rounding" else math.ceil(sparsity * rows)
        torch.nn.init.normal_(tensor, 0, std, generator)
        for column in reversed(range(columns)) if mistake == "order" else range(columns):
            rows_of_column = torch.randperm(rows, generator=generator if mistake == "generator" else None)
            tensor[rows_of_column[:zeros], column] = -0.0 if mistake == "sign" else 0
        if mistake == "version":
            tensor.add_(0)
        if mistake == "a word more":
            torch.randperm(2)
        return tensor

    return stand_in(sparse_=sparse_)


@pytest.mark.parametrize("mistake", ["rounding", "order", "generator", "sign", "version", "a word more", ""])
def test_a_mistake_is_noticed(mistake: str) -> None:
    with pytest.raises(AssertionError) if mistake else contextlib.nullcontext():
        compare("sparse_", torch.empty(10, 4), 0.41, 0.02, state=state_of(2), ours=stand_in_with(mistake))
