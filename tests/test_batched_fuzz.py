"""Random programs of fills, reads, views, overwrites, seeds and contexts: the same inside a block as outside.

Compared are what every read saw when it did, every error at its step, and in the end all memory, versions, gradients,
what shares memory with what, and the states of three generators. A program that differs is cut down and printed so that
it plays again.
"""

import contextlib
from collections import Counter
from typing import Any

import pytest
import torch
from batched_programs import CONTEXTS, compare, first_difference, fuzz, pairs, play, programs
from batched_steps import STEPS
from torch.overrides import TorchFunctionMode

import fastinit

QUICK = {"seed": 1, "count": 300}


def test_hundreds_of_programs() -> None:
    fuzz(**QUICK)


def test_every_step_after_every_fill() -> None:
    compare(pairs(seed=1))


@pytest.mark.slow
def test_every_step_after_every_fill_often() -> None:
    for seed in range(2, 6):
        compare(pairs(seed))


@pytest.mark.slow
def test_thousands_of_programs() -> None:
    fuzz(seed=2, count=2500)


@pytest.mark.one_torch
def test_programs_are_the_same_twice() -> None:
    """Else a difference would say nothing about the block."""
    fuzz(seed=1, count=100, block=contextlib.nullcontext)
    compare(pairs(seed=1), contextlib.nullcontext)


@pytest.mark.one_torch
def test_every_step_and_context_has_its_turn() -> None:
    played: Counter[str] = Counter()
    for program in programs(**QUICK):
        names: list[str] = []
        play(program, contextlib.nullcontext, names)
        played.update(names)
        played.update(step[1] for step in program if step[0] == "push")
    assert {name for name in STEPS if played[name] < 3} == set()
    assert {name for name in (*CONTEXTS, "block") if played[name] < 3} == set()


def test_much_is_recorded_and_some_of_it_dead() -> None:
    """A block that ran everything at once would pass, and save nothing."""
    blocks = []

    def block() -> Any:
        blocks.append(fastinit.batched())
        return blocks[-1]

    for program in programs(seed=1, count=100):
        play(program, block)
    assert sum(one.recorded for one in blocks) > 300
    assert sum(one.dead for one in blocks) > 30
    assert sum(one.computed for one in blocks) > 100


FILLS = (torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.zero_, torch.Tensor.fill_)


class Executor(TorchFunctionMode):
    """One that is right: subclasses make mistakes."""

    def __init__(self) -> None:
        super().__init__()
        self.fills = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function not in FILLS:
            return function(*args, **(kwargs or {}))
        self.fills += 1
        return self.fill(function, args, kwargs or {})

    def fill(self, function: Any, args: Any, kwargs: Any) -> Any:
        return function(*args, **kwargs)


class DropsOneFill(Executor):
    def fill(self, function: Any, args: Any, kwargs: Any) -> Any:
        return args[0] if self.fills == 3 else function(*args, **kwargs)


class DrawsOnceMore(Executor):
    def fill(self, function: Any, args: Any, kwargs: Any) -> Any:
        if self.fills == 4:
            torch.rand(1)
        return function(*args, **kwargs)


class AddsAVersion(Executor):
    def fill(self, function: Any, args: Any, kwargs: Any) -> Any:
        if self.fills == 2 and not args[0].is_inference():
            torch._C._autograd._unsafe_set_version_counter((args[0],), (args[0]._version + 1,))
        return function(*args, **kwargs)


class RunsLate(Executor):
    """Zeros are written when the block ends, whoever looked before."""

    def __init__(self) -> None:
        super().__init__()
        self.late: list[torch.Tensor] = []

    def fill(self, function: Any, args: Any, kwargs: Any) -> Any:
        if function is not torch.Tensor.zero_ or torch.is_inference_mode_enabled() or args[0].requires_grad:
            return function(*args, **kwargs)
        values = args[0].detach().clone()
        function(*args, **kwargs)
        args[0].data.copy_(values)
        self.late.append(args[0].data)
        return args[0]

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for tensor in self.late:
            tensor.zero_()


class MovesABit(Executor):
    """In the last of 17 elements alone: only bytes tell."""

    def fill(self, function: Any, args: Any, kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if args[0].shape == (17,) and args[0].dtype == torch.float32 and function is torch.Tensor.normal_:
            args[0].data[-1:].view(torch.int32).bitwise_xor_(1)
        return result


@pytest.mark.one_torch
def test_an_executor_without_a_mistake_passes() -> None:
    """But fastinit's own functions go another way where a mode of functions is on, and count other versions."""
    for program in (*programs(seed=1, count=100), *pairs(seed=1)):
        if not any(step[:2] == ("initialise", "fastinit") for step in program):
            assert not first_difference(program, Executor), program


@pytest.mark.one_torch
@pytest.mark.parametrize("wrong", [DropsOneFill, DrawsOnceMore, AddsAVersion, RunsLate, MovesABit])
def test_a_mistake_is_found_and_cut_down(wrong: type[Executor]) -> None:
    with pytest.raises(AssertionError, match="to play it again") as found:
        fuzz(**QUICK, block=wrong)
    message = str(found.value)
    again = message[message.index("first_difference(") + len("first_difference(") : -2]
    program = eval(again, {"inf": float("inf"), "nan": float("nan")})  # what is printed plays again
    assert first_difference(program, wrong) and not first_difference(program, contextlib.nullcontext)
    assert len(program) <= 9
