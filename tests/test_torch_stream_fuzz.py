"""Random sequences of calls on shared generators: what one leaves over, cached normals and half used blocks, the next
finds.

Fills of all sizes, types and layouts, torch's own draws, seeds and copied states, on the default generator and two
given ones. A sequence that differs is cut down to the steps that matter and printed as a line that plays it again.
"""

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from cases import LAYOUTS
from torch_cases import NUMBERS, OPTIONS
from torch_stream import (
    DTYPES,
    LAW,
    Left,
    bytes_of,
    difference,
    generator_in,
    guarded,
    leave,
    must_be_own,
    settle,
    stand_in,
    state_of,
    torch_calls,
)

import fastinit

GENERATORS = 3  # 0 is the default one


class Fill(NamedTuple):
    """An initialiser, on a tensor of this layout."""

    name: str
    layout: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    numbers: tuple[Any, ...]
    generator: int

    def play(self, module: Any, generators: list[torch.Generator]) -> Left:
        tensor = guarded(LAYOUTS[self.layout](*self.shape, dtype=self.dtype))
        keywords = {"generator": generators[self.generator] if self.generator else None}
        with torch_calls() if module is fastinit else contextlib.nullcontext([]) as calls:
            left = leave(getattr(module, self.name), tensor, self.numbers, keywords)
        if calls and left.result == "the tensor" and self.name in LAW:
            assert not must_be_own(self.name, tensor, self.numbers, keywords), self
        return left


DRAWS: dict[str, Callable[[int, torch.Generator], torch.Tensor]] = {
    "rand": lambda n, generator: torch.rand(n, generator=generator),
    "rand float64": lambda n, generator: torch.rand(n, generator=generator, dtype=torch.float64),
    "randn": lambda n, generator: torch.randn(n, generator=generator),
    "randn float64": lambda n, generator: torch.randn(n, generator=generator, dtype=torch.float64),
    "randperm": lambda n, generator: torch.randperm(n, generator=generator),
    "randint": lambda n, generator: torch.randint(7, (n,), generator=generator),
    "bernoulli": lambda n, generator: torch.full((n,), 0.3).bernoulli_(generator=generator),
    "exponential": lambda n, generator: torch.empty(n).exponential_(generator=generator),
}


class Draw(NamedTuple):
    """One of torch's own draws of n numbers."""

    name: str
    n: int
    generator: int

    def play(self, module: Any, generators: list[torch.Generator]) -> bytes:
        return DRAWS[self.name](self.n, generators[self.generator]).numpy().tobytes()


class Seed(NamedTuple):
    """A generator seeded anew."""

    seed: int
    generator: int

    def play(self, module: Any, generators: list[torch.Generator]) -> None:
        generators[self.generator].manual_seed(self.seed)


class Copy(NamedTuple):
    """One generator put where another is."""

    source: int
    generator: int

    def play(self, module: Any, generators: list[torch.Generator]) -> None:
        generators[self.generator].set_state(generators[self.source].get_state())


Step = Fill | Draw | Seed | Copy


def random_shape(choose: random.Random) -> tuple[int, ...]:
    dimensions = choose.choice((1, 1, 1, 2, 2, 3))
    if dimensions == 1:
        return (choose.choice((choose.randrange(1, 20), choose.randrange(1, 400), choose.randrange(600, 3000))),)
    return tuple(choose.randrange(1, 30 // dimensions) for _ in range(dimensions))


def random_fill(choose: random.Random, generator: int) -> Fill:
    shape, dtype = random_shape(choose), choose.choice(DTYPES)
    layout = choose.choice(("contiguous", "contiguous", *(name for name in LAYOUTS if name != "channels last")))
    name = choose.choice(("uniform_", "normal_", "normal_", "trunc_normal_", "derived"))
    if name != "derived" or len(shape) == 1:
        name = "normal_" if name == "derived" else name
        return Fill(name, layout, shape, dtype, choose.choice(NUMBERS[name]), generator)
    family = choose.choice(("xavier", "kaiming", "orthogonal_", "sparse_"))
    if family in OPTIONS:
        options, _ = choose.choice(OPTIONS[family])
        name = family + choose.choice(("_uniform_", "_normal_"))
        return Fill(
            name,
            layout,
            shape,
            dtype,
            tuple(options[k] for k in ("gain", "a", "mode", "nonlinearity") if k in options),
            generator,
        )
    if family == "sparse_":  # by a given generator, and the default one
        return Fill(family, layout, shape[:2], dtype, (choose.choice((0, 0.1, 0.4, 0.9, 1)), 0.02), generator)
    # torch's own code, which draws from the same generators
    return Fill(family, layout, shape[:2], torch.float32, (0.4,), generator)


def random_step(choose: random.Random) -> Step:
    generator, kind = choose.randrange(GENERATORS), choose.random()
    if kind < 0.7:
        return random_fill(choose, generator)
    if kind < 0.9:
        return Draw(choose.choice(list(DRAWS)), choose.choice((1, 2, 3, 15, 16, 17, choose.randrange(700))), generator)
    if kind < 0.95:
        return Seed(choose.choice((0, choose.randrange(2**63))), generator)
    return Copy(choose.randrange(GENERATORS), generator)


def play(module: Any, steps: list[Step]) -> Iterator[tuple[Any, list[bytes]]]:
    """After each step, what it left and where the generators are."""
    with generator_in(state_of(), given=False) as default:
        generators = [default, *(torch.Generator().manual_seed(seed) for seed in range(1, GENERATORS))]
        for step in steps:
            left = step.play(module, generators)
            yield left, [bytes_of(generator.get_state()) for generator in generators]


def first_difference(steps: list[Step], ours: Any = fastinit) -> tuple[int, str] | None:
    """The first step after which fastinit and torch differ, and how; None where they agree to the end."""
    theirs = list(play(torch.nn.init, steps))
    for i, (expected, found) in enumerate(zip(theirs, play(ours, steps), strict=True)):
        if expected != found:
            fill = isinstance(expected[0], Left) and difference(expected[0], found[0])
            return i, fill or "a draw or a state differs"
    return None


def shortest(steps: list[Step], ours: Any = fastinit) -> list[Step]:
    """Without the steps that have no part in the first difference."""
    differs = first_difference(steps, ours)
    assert differs is not None
    steps = steps[: differs[0] + 1]
    for i in reversed(range(len(steps) - 1)):
        shorter = steps[:i] + steps[i + 1 :]
        if first_difference(shorter, ours):
            steps = shorter
    return steps


def fuzz(seed: int, sequences: int, ours: Any = fastinit) -> None:
    choose = random.Random(seed)
    for dtype in DTYPES:
        settle(dtype)
    for _ in range(sequences):
        steps = [random_step(choose) for _ in range(choose.randrange(4, 20))]
        if first_difference(steps, ours):
            steps = shortest(steps, ours)
            again = f"import torch; from test_torch_stream_fuzz import *; print(first_difference({steps}))"
            raise AssertionError(f"{first_difference(steps, ours)}; to play it again, in tests/: {again}")


@pytest.mark.usefixtures("isa")
def test_hundreds_of_sequences() -> None:
    fuzz(seed=1, sequences=200)


@pytest.mark.slow
@pytest.mark.usefixtures("isa")
def test_thousands_of_sequences() -> None:
    fuzz(seed=2, sequences=1000)


def forgets_the_cached_normal(tensor: torch.Tensor, mean: float, std: float, generator: torch.Generator | None) -> Any:
    """Wrong only where another call left a cached normal and torch goes element by element in bfloat16."""
    used = generator or torch.default_generator
    if tensor.dtype == torch.bfloat16 and tensor.numel() < 16:
        state = used.get_state()
        state[5040] = 0
        used.set_state(state)
    return torch.nn.init.normal_(tensor, mean, std, generator)


def test_a_rare_mistake_is_found_and_cut_down() -> None:
    wrong = stand_in(normal_=forgets_the_cached_normal, orthogonal_=torch.nn.init.orthogonal_)
    with pytest.raises(AssertionError) as found:
        fuzz(seed=1, sequences=250, ours=wrong)
    message = str(found.value)
    steps = eval(message[message.index("([") + 1 : -2], {**globals()})  # the line that is printed plays again
    assert first_difference(steps, wrong) and not first_difference(steps)
    assert len(steps) == 2 and steps[-1].dtype == torch.bfloat16
