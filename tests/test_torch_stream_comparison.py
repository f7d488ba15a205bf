"""The comparison that the tests of the torch stream stand on: that it notices whatever fastinit might do wrong."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import LAYOUTS
from torch_stream import (
    GUARD,
    compare,
    guarded,
    handmade_state,
    memory_of,
    must_be_own,
    stand_in,
    state_of,
    torch_calls,
)

import fastinit

Fill = Callable[..., torch.Tensor]
torch_normal_ = torch.nn.init.normal_


def raw_memory(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())


def one_ulp(tensor: torch.Tensor, mean: float, std: float, generator: torch.Generator) -> torch.Tensor:
    torch_normal_(tensor, mean, std, generator)
    raw_memory(tensor)[GUARD] ^= 1
    return tensor


def beside_the_tensor(tensor: torch.Tensor, mean: float, std: float, generator: torch.Generator) -> torch.Tensor:
    torch_normal_(tensor, mean, std, generator)
    raw_memory(tensor)[-1] ^= 1
    return tensor


def one_draw_more(tensor: torch.Tensor, mean: float, std: float, generator: torch.Generator) -> torch.Tensor:
    torch_normal_(tensor, mean, std, generator)
    torch.rand(1, generator=generator)
    return tensor


def one_word_changed(tensor: torch.Tensor, mean: float, std: float, generator: torch.Generator) -> torch.Tensor:
    torch_normal_(tensor, mean, std, generator)
    state = generator.get_state()
    state[24 + 8 * 623] ^= 1
    generator.set_state(state)
    return tensor


def forgotten_cache(tensor: torch.Tensor, mean: float, std: float, generator: torch.Generator) -> torch.Tensor:
    torch_normal_(tensor, mean, std, generator)
    state = generator.get_state()
    assert state[5040] == 1
    state[5040] = 0
    generator.set_state(state)
    return tensor


def one_version_more(tensor: torch.Tensor, mean: float, std: float, generator: torch.Generator) -> torch.Tensor:
    return torch_normal_(tensor, mean, std, generator).add_(0)


def a_copy(tensor: torch.Tensor, mean: float, std: float, generator: torch.Generator) -> torch.Tensor:
    return torch_normal_(tensor, mean, std, generator).clone()


def a_warning(tensor: torch.Tensor, mean: float, std: float, generator: torch.Generator) -> torch.Tensor:
    warnings.warn("careful", stacklevel=1)
    return torch_normal_(tensor, mean, std, generator)


def the_default_generator_too(
    tensor: torch.Tensor, mean: float, std: float, generator: torch.Generator
) -> torch.Tensor:
    torch.rand(1)
    return torch_normal_(tensor, mean, std, generator)


WRONG: dict[str, tuple[Fill, str]] = {
    "one ulp": (one_ulp, "memory: 1 of"),
    "beside the tensor": (beside_the_tensor, "memory: 1 of"),
    "one draw more": (one_draw_more, "state: "),
    "one word changed": (one_word_changed, "state: 1 of 5056 bytes"),
    "forgotten cache": (forgotten_cache, "state: 9 of 5056 bytes"),
    "one version more": (one_version_more, "versions: torch 1, fastinit 2"),
    "a copy": (a_copy, "result: torch 'the tensor', fastinit 'another object'"),
    "a warning": (a_warning, "warnings: "),
    "the default generator too": (the_default_generator_too, "default_state: "),
    "an error": (lambda *_, generator: 1 / 0, "result: torch 'the tensor', fastinit 'ZeroDivisionError: "),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_noticed(wrong: str) -> None:
    fill, message = WRONG[wrong]
    with pytest.raises(AssertionError, match=message):
        compare("normal_", torch.empty(7), 0.3, 0.02, state=state_of(), ours=stand_in(normal_=fill))


def test_what_is_right_passes() -> None:
    compare("normal_", torch.empty(7), 0.3, 0.02, state=state_of(), ours=stand_in())


def test_guards_lie_around_the_tensor() -> None:
    tensor = guarded(torch.empty(4, 6, dtype=torch.bfloat16).t()[1:])
    assert tensor.shape == (5, 4) and tensor.stride() == (1, 6)
    before = memory_of(tensor)
    tensor.zero_()
    after = memory_of(tensor)
    written = [i for i, (one, other) in enumerate(zip(before, after, strict=True)) if one != other]
    assert len(written) == 5 * 4 * 2 and min(written) == 64 + 2 and max(written) == len(after) - 65


def test_handmade_words_are_drawn_and_the_cached_normal_is_taken() -> None:
    words = torch.randint(2**32, (624,))
    generator = torch.Generator()
    generator.set_state(handmade_state(words, drawn=24, cached=0.125))
    assert torch.randn(1, generator=generator).item() == 0.125
    assert (torch.rand(600, generator=generator) * 2**24).long().equal(words[24:] & 0xFFFFFF)


def test_calls_of_torch_are_seen() -> None:
    """Of its functions and of the methods they call, and only inside."""
    with torch_calls() as calls:
        torch.nn.init.uniform_(torch.empty(2, 2))
        torch.nn.init.xavier_normal_(torch.empty(2, 2))
        torch.nn.init.trunc_normal_(torch.empty(2, 2), std=0.02)
        torch.empty(3).normal_()
    assert calls == [
        *("_no_grad_uniform_", "uniform_"),
        *("_no_grad_normal_", "normal_"),
        *("_no_grad_trunc_normal_", "normal_"),
        "normal_",
    ]
    assert "normal_" not in torch.Tensor.__dict__


def test_torch_s_fill_in_the_place_of_fastinit_s_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastinit, "normal_", torch_normal_)
    with pytest.raises(AssertionError, match="written by torch's _no_grad_normal_, normal_"):
        compare("normal_", torch.empty(7), 0.3, 0.02, state=state_of())


@pytest.mark.parametrize(
    ("numbers", "layout", "own"),
    [
        (("uniform_", -0.7, 0.9), "every second column", True),
        (("uniform_", 0.0, 1e39), "contiguous", False),
        (("trunc_normal_",), "contiguous", True),
        (("trunc_normal_",), "transposed", True),
        (("trunc_normal_",), "every second column", False),
        (("trunc_normal_", 0.0, 1.0, -0.3, 0.4), "contiguous", False),
        (("trunc_normal_", 0.0, 1.0, -0.4, float("inf")), "contiguous", False),
    ],
)
def test_where_fastinit_itself_must_write(
    monkeypatch: pytest.MonkeyPatch, numbers: tuple[Any, ...], layout: str, own: bool
) -> None:
    verdicts = {(law, torch.float32): True for law in (1, 2, 3)}
    monkeypatch.setattr(fastinit._C, "torch_verdicts", lambda: verdicts)
    name, *arguments = numbers
    assert must_be_own(name, LAYOUTS[layout](5, 7, dtype=torch.float32), tuple(arguments), {"generator": None}) == own


def test_a_generator_not_given_is_the_default_one_and_gets_its_state_back() -> None:
    before = torch.get_rng_state()
    left = compare("uniform_", torch.empty(5), state=state_of(3), given=False, ours=fastinit)
    assert left.state == left.default_state != before.numpy().tobytes()
    assert torch.get_rng_state().equal(before)
