"""Without a Key orthogonal_ is torch.nn.init's to the last bit in float32 and float64; narrow types follow float32.

bfloat16 and float16, which torch refuses, hold what the same generator gives a float32 tensor, rounded once.
"""

import contextlib
import itertools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cases import LAYOUTS, raw
from settings import subnormals_flushed
from torch_cases import STATES
from torch_stream import (
    Left,
    bytes_of,
    compare_outcomes,
    difference,
    generator_in,
    guarded,
    leave,
    settle,
    state_of,
    torch_calls,
)

import fastinit

SHAPES = [(1, 1), (1, 2), (2, 1), (3, 3), (1, 40), (40, 1), (5, 3), (3, 5), (16, 16), (33, 40), (70, 33), (130, 129)]
SHAPES += [(6, 4, 3, 3), (2, 3, 4), (40, 2, 3), (3, 1, 1, 1, 2)]
GAINS: list[Any] = [1, 1.0, -1, 5 / 3, 0, 0.0, -0.0, 1e-42, 1e-46, -1e-310, 1e30, 1e39, 2**62, 3, math.pi]
WIDE = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
NARROW = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])


def compare(
    tensor: torch.Tensor, *gain: Any, state: torch.Tensor, given: bool = True, own: bool = True, ours: Any = fastinit
) -> Left:
    """Fail unless fastinit leaves what torch leaves, and drew the numbers itself, or not, as `own` says."""
    settle(tensor.dtype)
    lefts = []
    for module in (torch.nn.init, ours):
        with generator_in(state, given) as generator, torch_calls() as calls:
            keywords = {"generator": generator if given else None}
            lefts.append(leave(module.orthogonal_, guarded(tensor), gain, keywords))
    differs = difference(*lefts)
    assert not differs, f"{tuple(tensor.shape)}, strides {tensor.stride()}, {gain}: {differs}"
    assert own != ("normal_" in calls)
    return lefts[0]


@pytest.mark.usefixtures("isa")
@WIDE
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shape_layout_and_generator(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    states = itertools.cycle(STATES.items())
    for i, layout in enumerate(LAYOUTS.values()):
        tensor = layout(*shape, dtype=dtype)
        name, state = next(states)
        viewable = True
        try:
            tensor.view(shape[0], -1)
        except RuntimeError:
            viewable = False
        own = viewable and name != "words of zeros"  # words that are all zero are left to torch
        left = compare(tensor, *GAINS[i % 4 : i % 4 + 1], state=state, given=i % 2 == 0, own=own)
        assert (left.result == "the tensor") == viewable


@WIDE
@pytest.mark.parametrize("gain", GAINS)
def test_every_gain(gain: float, dtype: torch.dtype) -> None:
    for shape in [(1, 1), (7, 7), (20, 6), (6, 20)]:
        left = compare(torch.empty(shape, dtype=dtype), gain, state=state_of(5), own=abs(gain) < 2**63)
        assert left.result == "the tensor" and left.versions == 2


def test_a_product_by_sign_and_gain_at_once_is_that_by_one_after_the_other() -> None:
    """Also where numbers are zero, subnormal, infinite or NaN: bytes, but for which NaN it is."""
    q = torch.tensor([0.0, -0.0, 1e-45, -3e-39, 1e-20, 0.1, -0.7, 1.0, -1.0, 3e38, math.inf, math.nan])
    for dtype in (torch.float32, torch.float64):
        columns = q.to(dtype)[:, None].expand(-1, 4)
        signs = torch.tensor([1.0, -1.0, 0.0, -0.0], dtype=dtype)
        for gain in [*GAINS, math.inf, math.nan]:
            one = (columns * signs).mul_(gain)
            other = columns * signs.clone().mul_(gain)
            assert raw(one.nan_to_num(7.5, math.inf, -math.inf)) == raw(other.nan_to_num(7.5, math.inf, -math.inf))


@pytest.mark.parametrize(
    "gain", [True, math.inf, -math.inf, math.nan, 2**63, 10**400, torch.tensor(2.0), "steep", None]
)
def test_an_unusual_gain_is_left_to_torch(gain: object) -> None:
    """A number that is not finite, or of another type."""
    compare(torch.empty(6, 5), gain, state=state_of(6), own=False)


def programs() -> dict[str, Callable[[Any], Any]]:
    def with_mode(mode: Callable[[], Any], dtype: torch.dtype = torch.float32) -> Callable[[Any], Any]:
        def program(init: Any) -> Any:
            tensor = torch.zeros(6, 5, dtype=dtype)
            with mode():
                init.orthogonal_(tensor, 1.5)
            return tensor.tolist(), tensor._version

        return program

    def parameter(init: Any) -> Any:
        linear = torch.nn.Linear(5, 7)
        result = init.orthogonal_(linear.weight, gain=2)
        state = linear.weight._version, linear.weight.is_leaf, linear.weight.requires_grad, result is linear.weight
        return linear.weight.tolist(), *state

    def non_leaf(init: Any) -> Any:
        tensor = torch.nn.Parameter(torch.zeros(5, 7)) * 2
        init.orthogonal_(tensor)
        return tensor.tolist(), type(tensor.grad_fn), tensor._version

    class Subclass(torch.Tensor):
        pass

    def in_inference_mode(init: Any) -> Any:
        with torch.inference_mode():
            return init.orthogonal_(torch.zeros(6, 5)).tolist()

    def inference(init: Any) -> Any:
        with torch.inference_mode():
            tensor = torch.zeros(5, 4)
        return init.orthogonal_(tensor)

    return {
        "parameter": parameter,
        "not a leaf": non_leaf,
        "subclass": lambda init: init.orthogonal_(torch.zeros(5, 4).as_subclass(Subclass)).tolist(),
        "inference tensor": inference,
        "meta": lambda init: init.orthogonal_(torch.zeros(5, 4, device="meta")).shape,
        "empty": lambda init: init.orthogonal_(torch.zeros(0, 4)).shape,
        "no rows of memory": lambda init: init.orthogonal_(torch.zeros(4, 0)).shape,
        "one dimension": lambda init: init.orthogonal_(torch.zeros(4)),
        "integers": lambda init: init.orthogonal_(torch.zeros(4, 4, dtype=torch.int64)),
        "complex": lambda init: init.orthogonal_(torch.zeros(4, 4, dtype=torch.complex64)).tolist(),
        "float8": lambda init: init.orthogonal_(torch.zeros(4, 4).to(torch.float8_e5m2)),
        "overlapping": lambda init: init.orthogonal_(torch.zeros(4, 1).expand(4, 4)),
        "no tensor": lambda init: init.orthogonal_([[0.0, 1.0]]),
        "wrong generator": lambda init: init.orthogonal_(torch.zeros(4, 4), generator=7),
        "deprecated": lambda init: init.orthogonal(torch.zeros(4, 4)).tolist(),
        "inference mode": in_inference_mode,
        "no grad": with_mode(torch.no_grad),
        "autocast": with_mode(lambda: torch.autocast("cpu", torch.bfloat16)),
        "autocast, float64": with_mode(lambda: torch.autocast("cpu", torch.bfloat16), torch.float64),
        "autocast, bfloat16": with_mode(lambda: torch.autocast("cpu", torch.bfloat16), torch.bfloat16),
        "autocast, float16": with_mode(lambda: torch.autocast("cpu", torch.bfloat16), torch.float16),
        "default device": with_mode(lambda: torch.device("cpu")),
        "default device meta": with_mode(lambda: torch.device("meta")),
    }


PROGRAMS = programs()


@pytest.mark.parametrize("name", PROGRAMS)
def test_unusual_calls_come_to_what_torch_makes_of_them(name: str) -> None:
    compare_outcomes(PROGRAMS[name])


@NARROW
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_narrow_types_hold_float32_rounded_once(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    with pytest.raises(RuntimeError, match="geqrf"):
        torch.nn.init.orthogonal_(torch.empty(shape, dtype=dtype))
    for layout, gain in zip(LAYOUTS.values(), itertools.cycle([1.0, -0.3, 2]), strict=False):
        generators = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
        expected = torch.nn.init.orthogonal_(torch.empty(shape), gain, generators[0]).to(dtype)
        tensor = layout(*shape, dtype=dtype)
        assert fastinit.orthogonal_(tensor, gain, generators[1]) is tensor
        assert raw(tensor) == raw(expected)
        assert bytes_of(generators[0].get_state()) == bytes_of(generators[1].get_state())


@NARROW
@pytest.mark.parametrize(
    "mode", [torch.inference_mode, torch.no_grad, lambda: torch.device("meta"), subnormals_flushed]
)
@pytest.mark.parametrize("gain", [1.5, True, np.float64(0.3), torch.tensor(2.0), 10**400, "steep"])
def test_narrow_types_hold_float32_wherever_that_is_filled(
    gain: Any, mode: Callable[[], contextlib.AbstractContextManager[object]], dtype: torch.dtype
) -> None:
    """Also where float32 is torch's to fill, or to refuse."""

    def program(init: Any) -> Any:
        state = torch.get_rng_state()
        with mode():
            tensor = torch.zeros(6, 5, dtype=dtype if init is fastinit else torch.float32, device="cpu")
            try:
                init.orthogonal_(tensor, gain)
            except Exception as error:
                return type(error), str(error)
            finally:
                after = torch.get_rng_state()
                torch.set_rng_state(state)
        return raw(tensor.to(dtype)), bytes_of(after)

    assert program(fastinit) == program(torch.nn.init)


# ---- What these comparisons notice


def _changed(change: Callable[[torch.Tensor], object]) -> Any:
    def orthogonal_(tensor: torch.Tensor, gain: float = 1, generator: torch.Generator | None = None) -> torch.Tensor:
        fastinit.orthogonal_(tensor, gain, generator)
        change(tensor)
        return tensor

    return SimpleNamespace(orthogonal_=orthogonal_)


CONTROLS: dict[str, Callable[[torch.Tensor], object]] = {
    "one bit": lambda tensor: tensor.view(torch.int32)[0, 0].bitwise_xor_(1),
    "one more version": lambda tensor: torch.autograd.graph.increment_version(tensor),
    "one more draw": lambda tensor: torch.rand(1),
}


@pytest.mark.parametrize("control", CONTROLS)
def test_a_change_is_noticed(control: str) -> None:
    with pytest.raises(AssertionError, match=r"differ|torch"):
        compare(torch.empty(6, 5), state=state_of(5), given=False, ours=_changed(CONTROLS[control]))
