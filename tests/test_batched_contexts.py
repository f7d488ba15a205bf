"""How blocks of `fastinit.batched` stand to one another, to devices and errors."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from batched_plain import SEED, attributes, same, snapshot, succeeds
from torch import Tensor, nn

import fastinit


def small() -> nn.Module:
    model = nn.Sequential(nn.Linear(17, 5), nn.LayerNorm(5), nn.Embedding(9, 5, padding_idx=3))
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.5, 0.02)
    return model


def test_nested_blocks_of_the_torch_stream_are_one() -> None:
    def nested() -> list[Any]:
        before = torch.empty(50).normal_()
        with fastinit.batched(), fastinit.batched() as inner:
            model = small()
            assert inner.recorded > 0 and inner.computed == 0
        return [before, model, torch.empty(3).uniform_()]

    assert succeeds(nested).dead > 0


def test_a_block_can_be_entered_again() -> None:
    block = fastinit.batched()
    torch.manual_seed(SEED)
    expected = [torch.empty(20).normal_() for _ in range(3)]
    torch.manual_seed(SEED)
    with block:
        a = torch.empty(20).normal_()
        with block:
            b = torch.empty(20).normal_()
    with block:
        c = torch.empty(20).normal_()
        assert block.recorded == 1
    assert snapshot([a, b, c]) == snapshot(expected)


def test_a_keyed_block_within_one_without_a_key() -> None:
    model = nn.Linear(7, 3)
    torch.manual_seed(SEED)
    x, y = torch.empty(20).normal_(), torch.empty(20).normal_()
    expected = torch.get_rng_state()
    torch.manual_seed(SEED)
    with fastinit.batched() as outer:
        a = torch.empty(20).normal_()
        with fastinit.batched(model, key=3):
            assert outer.computed >= 0
            model.weight.data.normal_()
        b = torch.empty(20).normal_()
    assert a.equal(x) and b.equal(y) and torch.get_rng_state().equal(expected)
    weight = fastinit.normal_(torch.empty(3, 7), generator=fastinit.Key(3).fold_in("weight"))
    assert model.weight.equal(weight)


def test_a_block_without_a_key_within_a_keyed_one() -> None:
    model = nn.Linear(7, 3)
    torch.manual_seed(SEED)
    x = torch.empty(20).normal_()
    torch.manual_seed(SEED)
    with fastinit.batched(model, key=3):
        model.weight.data.normal_()
        with fastinit.batched():
            a = torch.empty(20).normal_()
        assert a.equal(x)  # seen in the keyed block: what the inner one recorded has run
        model.bias.data.uniform_()
    key = fastinit.Key(3)
    assert model.weight.equal(fastinit.normal_(torch.empty(3, 7), generator=key.fold_in("weight")))
    assert model.bias.equal(fastinit.uniform_(torch.empty(3), generator=key.fold_in("bias")))


def test_two_keyed_blocks() -> None:
    one, other = nn.Linear(7, 3), nn.Linear(7, 3)
    with fastinit.batched(one, key=3):
        one.weight.data.normal_()
        with fastinit.batched(other, key=4):
            other.weight.data.normal_()
            with pytest.raises(RuntimeError):
                one.weight.data.normal_()
        one.bias.data.normal_()
    for model, key in ((one, 3), (other, 4)):
        expected = fastinit.normal_(torch.empty(3, 7), generator=fastinit.Key(key).fold_in("weight"))
        assert model.weight.equal(expected)


def test_an_error_in_the_inner_block_leaves_the_outer_one_open() -> None:
    def program() -> list[Any]:
        a = torch.empty(20).normal_()
        with contextlib.suppress(KeyError), fastinit.batched():
            b = torch.empty(20).normal_()
            raise KeyError
        c = torch.empty(20).normal_()
        return [a, b, c]

    assert succeeds(program).recorded == 3


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_was_filled_before_an_error_is_filled(error: type[BaseException]) -> None:
    kept: list[Tensor] = []

    def program() -> None:
        kept.append(torch.empty(40).normal_().mul_(2))
        kept.append(torch.zeros(5))
        raise error

    def run() -> Any:
        torch.manual_seed(SEED)
        kept.clear()
        with pytest.raises(error):
            program()
        return snapshot([*kept, torch.get_rng_state()])

    expected = run()
    torch.manual_seed(SEED)
    kept.clear()
    with pytest.raises(error), fastinit.batched():
        program()
    assert snapshot([*kept, torch.get_rng_state()]) == expected


def test_nothing_stays_patched() -> None:
    before = attributes()
    with fastinit.batched():
        small()
    assert attributes() == before
    with pytest.raises(ValueError, match="mine"), fastinit.batched(), fastinit.batched():
        raise ValueError("mine")
    assert attributes() == before
    with pytest.raises(RuntimeError), fastinit.batched(nn.Linear(2, 2), key=0):
        torch.randn(3)
    assert attributes() == before
    with pytest.raises((TypeError, ValueError)):
        fastinit.batched("model", key=0).__enter__()  # type: ignore[arg-type]
    assert attributes() == before
    assert snapshot(torch.zeros(3)) == snapshot(torch.tensor([0.0] * 3))


def test_a_patch_of_the_users_outlives_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made inside, it must not be undone; made before, it must be called."""
    calls: list[Tensor] = []

    def mine(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        calls.append(tensor)
        return tensor.data.fill_(3)

    monkeypatch.setattr(nn.init, "kaiming_uniform_", mine)
    with fastinit.batched():
        assert nn.Linear(3, 2).weight.eq(3).all()
        assert nn.init.kaiming_uniform_ is mine
    assert len(calls) == 1 and nn.init.kaiming_uniform_ is mine


def test_a_method_replaced_inside_stays_replaced() -> None:
    original = nn.init.orthogonal_
    try:
        with fastinit.batched():
            nn.init.orthogonal_ = mine = lambda tensor, gain=1, generator=None: tensor
        assert nn.init.orthogonal_ is mine
    finally:
        nn.init.orthogonal_ = original


def test_as_a_decorator() -> None:
    @fastinit.batched()
    def build(n: int) -> nn.Module:
        """Of a model."""
        return nn.Linear(n, 3)

    assert build.__name__ == "build" and build.__doc__ == "Of a model."
    torch.manual_seed(SEED)
    expected = snapshot([nn.Linear(4, 3), nn.Linear(5, 3)])
    torch.manual_seed(SEED)
    assert snapshot([build(4), build(5)]) == expected


def test_a_generator_that_is_left_in_the_middle_of_its_block() -> None:
    def filled() -> Iterator[Tensor]:
        with fastinit.batched():
            while True:
                yield torch.empty(20).normal_()

    torch.manual_seed(SEED)
    expected = [torch.empty(20).normal_() for _ in range(3)]
    torch.manual_seed(SEED)
    steps = filled()
    a, b = next(steps), next(steps)
    c = torch.empty(20).normal_()
    assert a.equal(expected[0])
    steps.close()
    assert snapshot([a, b, c]) == snapshot(expected)
    with pytest.raises(RuntimeError, match="block"):
        fastinit._C.batched_counts()


def test_an_iterator_of_the_outside_goes_on_inside() -> None:
    def numbers() -> Iterator[Tensor]:
        while True:
            yield torch.empty(20).normal_()

    def program() -> list[Tensor]:
        return [next(steps), next(steps)]

    steps = numbers()
    next(steps)
    same(program)


# Devices


def test_on_the_meta_device_nothing_is_recorded() -> None:
    def program() -> list[Any]:
        with torch.device("meta"):
            model = small()
            nn.init.trunc_normal_(model[0].weight)
        return [model, torch.empty(20).normal_()]

    assert same(program).recorded == 1


def test_the_meta_device_draws_what_it_draws_without_the_block() -> None:
    """torch's generator stays where it is, with the arguments checked as ever."""

    def program() -> list[Any]:
        with torch.device("meta"), pytest.raises(RuntimeError, match="std"):
            torch.empty(20).normal_(0, -1)
        return [torch.rand(2)]

    same(program)


def test_from_the_meta_device_into_memory() -> None:
    def program() -> nn.Module:
        with torch.device("meta"):
            model = small()
        model.to_empty(device="cpu")
        for parameter in model.parameters():
            nn.init.uniform_(parameter)
        return model

    succeeds(program)


def test_the_cpu_as_a_device_context() -> None:
    def program() -> nn.Module:
        with torch.device("cpu"):
            return small()

    succeeds(program)


def test_no_cuda_device_is_the_same_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a device")

    def program() -> nn.Module:
        with torch.device("cuda"):
            return nn.Linear(3, 2)

    same(program)
    assert torch.empty(4).fill_(2).sum() == 8  # the block is gone


def test_skip_init() -> None:
    def program() -> nn.Module:
        model = nn.utils.skip_init(nn.Linear, 20, 4)
        nn.init.normal_(model.weight)
        nn.init.zeros_(model.bias)
        return model

    block = succeeds(program)
    assert (block.recorded, block.dead) == (2, 0)
