"""Without a Key fastinit is torch.nn.init to the last bit: every function, type, layout, size, generator and number.

Not every combination: each list is gone through whole with every type, law and instruction set, and the others turn
with it. Which numbers are right is torch's word alone; `test_torch_stream_comparison.py` shows what is noticed.
"""

import itertools
import platform
from collections.abc import Callable, Iterator

import pytest
import torch
from torch_cases import LAWS, NUMBERS, OPTIONS, SIZES, STATES, UNIFORM_BRANCH, small_tensors, views
from torch_stream import DTYPES, LAW, compare, must_be_own, settle, state_of, torch_calls

import fastinit
from fastinit import _C

pytestmark = pytest.mark.usefixtures("isa")
of_every_type = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
of_every_law = pytest.mark.parametrize("name", LAWS)


@of_every_type
@of_every_law
def test_every_size(name: str, dtype: torch.dtype) -> None:
    states, numbers = list(STATES.values()), NUMBERS[name][:5]
    for i, n in enumerate(SIZES):
        state = states[7 * i % len(states)]
        compare(name, torch.empty(n, dtype=dtype), *numbers[i % 5], state=state, given=i % 2 == 0)


@of_every_type
@of_every_law
def test_every_layout(name: str, dtype: torch.dtype) -> None:
    states, numbers = itertools.cycle(STATES.values()), itertools.cycle(NUMBERS[name][:5])
    for tensor in views(dtype):
        for given in (True, False):
            compare(name, tensor, *next(numbers), state=next(states), given=given)


@of_every_type
@of_every_law
def test_every_generator_position(name: str, dtype: torch.dtype) -> None:
    for i, (state, tensor) in enumerate(itertools.product(STATES.values(), small_tensors(dtype))):
        compare(name, tensor, *NUMBERS[name][0], state=state, given=i % 2 == 0)


@of_every_type
@of_every_law
def test_every_number(name: str, dtype: torch.dtype) -> None:
    """5003 elements too, so that values meet a bound, or overflow, where only a few do."""
    states, results = itertools.cycle(STATES.values()), []
    for numbers in NUMBERS[name]:
        for tensor in (torch.empty(5003, dtype=dtype), *small_tensors(dtype)):
            results.append(compare(name, tensor, *numbers, state=next(states)).result)
    assert results.count("the tensor") > len(results) // 2


@of_every_type
def test_the_uniform_branch_of_trunc_normal(dtype: torch.dtype) -> None:
    for numbers, tensor in itertools.product(UNIFORM_BRANCH, small_tensors(dtype)):
        compare("trunc_normal_", tensor, *numbers, state=STATES["cached normal"])


@pytest.mark.parametrize(("dtype", "bounds"), [(torch.bfloat16, (0, 1)), (torch.float16, (0.5, 0.5 + 2.0**-11))])
def test_values_do_round_to_the_upper_bound(dtype: torch.dtype, bounds: tuple[float, float]) -> None:
    """The numbers above reach the case where torch puts the lower bound in place of the upper."""
    drawn = torch.rand(5003, generator=torch.Generator().manual_seed(7)) * (bounds[1] - bounds[0]) + bounds[0]
    assert (drawn.to(dtype) == bounds[1]).sum() > 5


def both_ways_round(shape: tuple[int, ...], dtype: torch.dtype) -> Iterator[torch.Tensor]:
    yield torch.empty(shape, dtype=dtype)
    yield torch.empty(shape[::-1], dtype=dtype).permute(tuple(range(len(shape)))[::-1])


@of_every_type
@pytest.mark.parametrize("name", [name for name in LAW if name.startswith(("xavier", "kaiming"))])
def test_every_option_of_the_derived_functions(name: str, dtype: torch.dtype) -> None:
    states = itertools.cycle(STATES.values())
    for options, refused in OPTIONS[name.partition("_")[0]]:
        for shape in [(6, 4), (3, 2), (8, 3, 5, 5), (2, 3, 4), (40, 33), (0, 4), (5,), ()]:
            for tensor in both_ways_round(shape, dtype):
                left = compare(name, tensor, **options, state=next(states))
                assert left.result == "the tensor" or refused or len(shape) < 2


@of_every_type
@pytest.mark.parametrize("name", ["uniform", "normal"])
def test_the_deprecated_names(name: str, dtype: torch.dtype) -> None:
    for numbers, tensor in itertools.product(NUMBERS[name + "_"][:2], small_tensors(dtype)):
        left = compare(name, tensor, *numbers, state=STATES["one word left"], given=False)
        assert left.warnings[0][0] is FutureWarning


@of_every_law
def test_numbers_by_keyword(name: str) -> None:
    names = {"uniform_": ("a", "b"), "normal_": ("mean", "std"), "trunc_normal_": ("mean", "std", "a", "b")}[name]
    for numbers in NUMBERS[name][:3]:
        for chosen in itertools.combinations(zip(names, numbers, strict=True), 2):
            compare(name, torch.empty(21), state=state_of(4), **dict(chosen))


PARAMETERS: dict[str, Callable[[torch.dtype], torch.Tensor]] = {
    "parameter": lambda dtype: torch.nn.Parameter(torch.zeros(9, 5, dtype=dtype)),
    "part of a parameter": lambda dtype: torch.nn.Parameter(torch.zeros(9, 5, dtype=dtype)).t()[2:],
    "data of a parameter": lambda dtype: torch.nn.Linear(9, 5, dtype=dtype).weight.data,
    "result of an operation": lambda dtype: torch.nn.Parameter(torch.zeros(9, 5, dtype=dtype)) * 2,
}


@of_every_type
@pytest.mark.parametrize("kind", PARAMETERS)
@of_every_law
def test_parameters(name: str, kind: str, dtype: torch.dtype) -> None:
    """What initialisers are for, in grad mode: no operation is recorded, the version goes on."""
    settle(dtype)
    lefts = []
    for module in (torch.nn.init, fastinit):
        tensor = PARAMETERS[kind](dtype)
        base = tensor if tensor._base is None else tensor._base
        version = base._version
        with torch_calls() as calls:
            assert getattr(module, name)(tensor, generator=torch.Generator().manual_seed(8)) is tensor
        lefts.append((tensor.tolist(), base.tolist(), base._version - version, tensor.is_leaf, type(tensor.grad_fn)))
    assert lefts[0] == lefts[1]
    assert not (calls and must_be_own(name, tensor, (), {}))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="torch's own code is compiled otherwise there")
def test_nothing_falls_back(isa: str) -> None:
    """On x86-64 with AVX2 every law and type passes its self-check, under each instruction set."""
    assert fastinit._ops.isa() == isa
    for dtype in DTYPES:
        settle(dtype)
    verdicts = _C.torch_verdicts()
    assert all(verdicts.values()), verdicts
    assert set(verdicts) == set(itertools.product(LAW.values(), DTYPES))
