"""Every value of each argument of torch's Box-Muller transformation, 2^24 of them, by torch and by fastinit.

Generators are put in states made by hand, whose words are the values in question, and normal_ fills float32 tensors,
on each instruction set of this machine. Run it: it prints a line a sweep and fails on a difference. First it shows that
the words arrive, and that one flipped bit and a sum rounded otherwise are noticed.
"""

import itertools
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from settings import threads
from torch_stream import NORMAL, bytes_of, handmade_state, settle, torch_calls, untemper

import fastinit
from fastinit import _C

Fill = Callable[..., torch.Tensor]

VALUES = 2**24
PAIRS = 38 * 8  # in a block of the generator: 38 groups of 16 words, 8 first arguments and then their 8 second ones
BLOCKS = 2048  # at a time


class Sweep(NamedTuple):
    """All values of one argument, the other's word fixed. The first is u1 = 1 - word / 2^24, the second the angle's."""

    argument: int
    fixed: int
    mean: float
    std: float

    def words(self, start: int) -> torch.Tensor:
        """What the generators draw, a row a block, if the values begin at `start`."""
        words = torch.full((BLOCKS, 38, 2, 8), self.fixed)
        swept = torch.arange(start, start + BLOCKS * PAIRS) % VALUES
        words[:, :, self.argument] = swept.view(BLOCKS, 38, 8)
        return words.view(BLOCKS, 2 * PAIRS)


SWEEPS = [
    Sweep(0, 0, 0.0, 1.0),  # angle 0: every radius itself
    Sweep(1, 0x64BA68, 0.0, 1.0),  # radius 1: every cosine and sine itself
    Sweep(0, 0x2AAAAB, 0.3, 0.7),  # and how they are multiplied and added
    Sweep(1, 0xFFFFFF, 0.3, 0.7),  # the largest radius
]


def state_and_words() -> tuple[torch.Tensor, torch.Tensor]:
    """A state, and the part of it that holds the words drawn next."""
    state = handmade_state(torch.zeros(624, dtype=torch.int64))
    return state, state[24:5016].view(torch.int64)[1 : 1 + 2 * PAIRS]


def values_of(fill: Fill, blocks: torch.Tensor, mean: float, std: float) -> torch.Tensor:
    """What the fill writes, a row a block of (untempered) words."""
    state, words = state_and_words()
    generator, values = torch.Generator(), torch.empty(blocks.shape)
    for block, row in zip(blocks.unbind(), values.unbind(), strict=True):
        words.copy_(block)
        generator.set_state(state)
        fill(row, mean, std, generator=generator)
    return values.view(torch.int32)


def compare_all(sweep: Sweep, ours: Fill, isas: list[str], end: int = VALUES) -> tuple[int, int]:
    """How many values were compared on each instruction set, and how many differ on any."""
    compared = differing = 0
    for start in range(0, end, BLOCKS * PAIRS):
        blocks = untemper(sweep.words(start))
        theirs = values_of(torch.Tensor.normal_, blocks, sweep.mean, sweep.std)
        compared += theirs.numel()
        for isa in isas:
            _C.use_isa(isa)
            differing += int((theirs != values_of(ours, blocks, sweep.mean, sweep.std)).sum())
    return compared, differing


def flips_one_bit() -> Fill:
    """torch's fill, but for one bit of one value of its 700th tensor."""
    calls = itertools.count(1)

    def fill(tensor: torch.Tensor, mean: float, std: float, generator: torch.Generator) -> torch.Tensor:
        tensor.normal_(mean, std, generator=generator)
        if next(calls) == 700:
            tensor.view(torch.int32)[123] ^= 1
        return tensor

    return fill


def rounds_twice(tensor: torch.Tensor, mean: float, std: float, generator: torch.Generator) -> torch.Tensor:
    """torch's fill without the fused multiply-add at its end."""
    return tensor.normal_(0.0, std, generator=generator).add_(mean)


def check_the_check(isa: str) -> None:
    near_the_end = SWEEPS[2].words(VALUES - 5)
    state, words = state_and_words()
    words.copy_(untemper(near_the_end[0]))
    generator = torch.Generator()
    generator.set_state(state)
    assert bytes_of((torch.rand(2 * PAIRS, generator=generator) * VALUES).long()) == bytes_of(near_the_end[0])
    first_arguments = near_the_end.view(-1, 2, 8)[:, 0].flatten()
    assert first_arguments.tolist() == [*range(VALUES - 5, VALUES), *range(BLOCKS * PAIRS - 5)]
    radius_one = values_of(torch.Tensor.normal_, untemper(SWEEPS[1].words(0)[:1]), 0.0, 1.0)
    assert radius_one.view(torch.float32)[0, 0] == 1.0  # the cosine of the first word, 0
    assert compare_all(SWEEPS[1], flips_one_bit(), [isa], 1) == (2 * BLOCKS * PAIRS, 1)
    compared, differing = compare_all(SWEEPS[2], rounds_twice, [isa], 1)
    assert differing > compared // 100


def check_who_writes(isa: str) -> None:
    """fastinit itself, where it has fills of its own and torch is built as they expect."""
    _C.use_isa(isa)
    settle(torch.float32)
    with torch_calls() as calls:
        fastinit.normal_(torch.empty(2 * PAIRS), 0.3, 0.7)
    own = _C.torch_verdicts()[NORMAL, torch.float32]
    assert not (own and calls), f"written by torch's {', '.join(calls)}"


def main() -> int:
    isas, total = _C.available_isas(), 0
    check_the_check(isas[0])
    for isa in isas:
        check_who_writes(isa)
    for sweep in SWEEPS:
        begun = time.perf_counter()
        compared, differing = compare_all(sweep, fastinit.normal_, isas)
        assert compared >= 2 * VALUES
        seconds = time.perf_counter() - begun
        print(f"{sweep}: {compared} compared, {differing} differ, {seconds:.1f} s", flush=True)
        total += differing
    print(f"{total} differ on {', '.join(isas)}")
    return total != 0


if __name__ == "__main__":
    with threads(1):
        sys.exit(main())
