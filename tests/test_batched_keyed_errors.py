"""What a block with a key refuses, with nothing written, and models that change within one."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from batched_keyed import KEY, dirty, init, keyed
from small_model import Small, on_meta, same, values
from torch import Tensor, nn

import fastinit
from fastinit import Key, Recipe, Rule

# Errors: nothing is written


def with_buffer() -> nn.Module:
    model = nn.Linear(7, 5)
    model.register_buffer("mean", torch.zeros(9))
    return model


REFUSED: dict[str, Callable[[nn.Module], Any]] = {
    "a buffer": lambda model: model.mean.normal_(),
    "a buffer by name": lambda model: nn.init.trunc_normal_(model.mean),
    "a temporary": lambda model: torch.empty(3).uniform_(),
    "another model": lambda model: nn.Linear(3, 3),
    "a generator": lambda model: model.weight.data.normal_(generator=torch.Generator()),
    "a generator of torch's function": lambda model: nn.init.normal_(model.weight, generator=torch.Generator()),
    "a generator of trunc_normal_": lambda model: nn.init.trunc_normal_(model.weight, generator=torch.Generator()),
    "a generator of orthogonal_": lambda model: nn.init.orthogonal_(model.weight, generator=torch.Generator()),
    "randn": lambda model: torch.randn(3),
    "rand": lambda model: torch.rand(3),
    "rand_like": lambda model: torch.rand_like(model.bias),
    "normal": lambda model: torch.normal(0.0, 1.0, (3,)),
    "randperm": lambda model: torch.randperm(5),
    "randint": lambda model: torch.randint(5, (3,)),
    "bernoulli_": lambda model: model.bias.data.bernoulli_(0.5),
    "random_": lambda model: model.bias.data.random_(),
    "exponential_": lambda model: model.bias.data.exponential_(),
    "dropout": lambda model: nn.functional.dropout(model.weight),
    "multinomial": lambda model: torch.multinomial(torch.ones(4), 2),
    "out": lambda model: torch.randn(5, out=model.bias.data),
}


@pytest.mark.parametrize("what", REFUSED)
def test_random_numbers_of_anything_else_are_an_error(what: str) -> None:
    model = dirty(with_buffer())
    state = torch.get_rng_state()
    with fastinit.batched(model, key=KEY):
        nn.init.zeros_(model.bias)
        with pytest.raises(RuntimeError, match="key"):
            REFUSED[what](model)
        assert torch.get_rng_state().equal(state)
    assert model.weight.eq(7).all() and model.bias.eq(0).all() and model.mean.eq(0).all()


def test_an_error_leaves_what_was_pending_and_the_count() -> None:
    model = nn.Linear(7, 5)
    with fastinit.batched(model, key=KEY):
        nn.init.uniform_(model.weight)
        for wrong in (
            lambda: model.weight.data.normal_(0, -1),
            lambda: model.weight.data.uniform_(1, 0),
            lambda: nn.init.trunc_normal_(model.weight, std=-1),
            lambda: model.weight.normal_(),  # a leaf, outside of no_grad
            lambda: model.weight.data.normal_(generator=torch.Generator()),
        ):
            with pytest.raises((RuntimeError, ValueError)):
                wrong()
        assert model.weight.detach().equal(keyed("weight", (5, 7), "uniform_"))
        nn.init.normal_(model.weight)
    assert model.weight.equal(keyed("weight", (5, 7), n=1))


def test_what_was_filled_before_an_error_that_leaves_the_block() -> None:
    def build() -> None:
        with fastinit.batched(model, key=KEY):
            nn.init.normal_(model.weight)
            torch.randn(3)

    model = dirty(nn.Linear(7, 5))
    with pytest.raises(RuntimeError, match="key"):
        build()
    assert model.weight.equal(keyed("weight", (5, 7))) and model.bias.eq(7).all()


def test_constants_of_anything_are_welcome() -> None:
    model = with_buffer()
    with fastinit.batched(model, key=KEY):
        model.mean.fill_(3)
        other = torch.zeros(4) + torch.ones(4).mul_(2)
    assert model.mean.eq(3).all() and other.eq(2).all()


def test_a_call_that_is_given_a_key_keeps_it() -> None:
    model = nn.Linear(7, 5)
    with fastinit.batched(model, key=KEY):
        fastinit.normal_(model.weight, generator=Key(9))
        other = fastinit.normal_(torch.empty(20), generator=Key(9))
    assert model.weight.view(-1)[:20].equal(other)
    assert other.equal(fastinit.normal_(torch.empty(20), generator=Key(9)))


def own_normal_(tensor: Tensor) -> None:
    nn.init.normal_(tensor)


@pytest.mark.parametrize("make", [Small, on_meta])
def test_a_whole_model_that_is_given_a_key_keeps_it(make: Callable[[], nn.Module]) -> None:
    """A callable's numbers too, which come from torch's generator, seeded for the while."""
    recipe = Recipe([Rule(own_normal_, params="weight"), Rule(fastinit.uniform_)])
    expected, model, state = make(), make(), torch.get_rng_state()
    fastinit.init_model_(expected, recipe, key=9, buffers="reset")
    with fastinit.batched(model, key=KEY):
        fastinit.init_model_(model, recipe, key=9, buffers="reset")
    assert same(values(model), values(expected)) and torch.get_rng_state().equal(state)


def test_the_keyed_stream_draws_no_keys_within() -> None:
    model, state = nn.Linear(7, 5), torch.get_rng_state()
    with fastinit.batched(model, key=KEY), fastinit.stream("keyed"):
        fastinit.normal_(model.weight)
        with pytest.raises(RuntimeError, match="generator"):
            fastinit.uniform_(model.bias, generator=torch.Generator())
        with pytest.raises(RuntimeError, match="no part"):
            fastinit.normal_(torch.empty(3))
    assert model.weight.equal(keyed("weight", (5, 7))) and torch.get_rng_state().equal(state)


@pytest.mark.parametrize("key", [0, KEY])
def test_a_key_without_a_model(key: int | Key) -> None:
    with pytest.raises((TypeError, ValueError), match="model"):
        fastinit.batched(key=key)


@pytest.mark.parametrize("key", [-1, 2**64, 0.5, "0", torch.Generator(), KEY.shard((3,), (0,))])
def test_a_key_that_is_none(key: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"key|seed"):
        fastinit.batched(nn.Linear(2, 2), key=key)


@pytest.mark.parametrize("model", ["model", torch.empty(3), nn.Linear])
def test_a_model_that_is_none(model: Any) -> None:
    with pytest.raises(TypeError, match="model"):
        fastinit.batched(model, key=0)


def test_an_integer_of_numpys_is_one() -> None:
    model = nn.Linear(7, 5)
    with fastinit.batched(model, key=np.int64(KEY.seed)):
        nn.init.normal_(model.weight)
    assert model.weight.equal(keyed("weight", (5, 7)))


# Models that change


@pytest.mark.parametrize("what", ["an error", "a new parameter"])
def test_looking_for_a_name_is_not_looking_at_values(what: str) -> None:
    """A dead fill stays one, and what is filled afterwards is recorded as before."""
    model = nn.Linear(7, 5)
    with fastinit.batched(model, key=KEY) as block:
        nn.init.normal_(model.weight)
        if what == "an error":
            with pytest.raises(RuntimeError):
                torch.empty(3).normal_()
        else:
            model.bias = nn.Parameter(torch.empty(5))
            nn.init.uniform_(model.bias)
        nn.init.normal_(model.weight)
        assert block.computed == 0
    assert model.weight.equal(keyed("weight", (5, 7)))


def test_parameters_replaced_inside() -> None:
    model = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3))
    with fastinit.batched(model, key=KEY):
        nn.init.normal_(model[0].weight)
        model[0].weight.sum()
        old = model[0].weight
        model[0].weight = nn.Parameter(torch.zeros(5, 9))
        nn.init.normal_(model[0].weight)  # the second live fill of that name
        model[1].bias.data = torch.zeros(4)
        nn.init.normal_(model[1].bias)
        model.add_module("head", fresh)
        nn.init.normal_(model.head.weight)
        with pytest.raises(RuntimeError):
            old.data.normal_()
    assert old.equal(keyed("0.weight", (5, 7)))
    assert model[0].weight.equal(keyed("0.weight", (5, 9), n=1))
    assert model[1].bias.equal(keyed("1.bias", 4))
    assert model.head.weight.equal(keyed("head.weight", (2, 2)))


fresh = nn.Linear(2, 2)


def test_a_model_built_on_meta_gets_memory_inside() -> None:
    model = on_meta()
    with fastinit.batched(model, key=KEY):
        model.to_empty(device="cpu")
        model.apply(init)
    expected = dirty(Small())
    with fastinit.batched(expected, key=KEY):
        expected.apply(init)
    assert same(values(model), values(expected))


def test_a_meta_model_is_left_alone() -> None:
    model = on_meta()
    with fastinit.batched(model, key=KEY):
        model.apply(init)
        with torch.device("meta"):
            nn.Linear(3, 3)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_a_model_is_left_as_it_was_but_for_its_values() -> None:
    model = Small()
    before = {name: (id(p), p.data_ptr(), p.requires_grad) for name, p in model.named_parameters()}
    with fastinit.batched(model, key=KEY):
        model.apply(init)
    assert before == {name: (id(p), p.data_ptr(), p.requires_grad) for name, p in model.named_parameters()}


def test_a_deepcopy_inside_is_another_model() -> None:
    model = nn.Linear(7, 5)
    with fastinit.batched(model, key=KEY):
        nn.init.normal_(model.weight)
        copied = copy.deepcopy(model)
        assert copied.weight.detach().equal(keyed("weight", (5, 7)))
        with pytest.raises(RuntimeError):
            nn.init.normal_(copied.weight)


def test_a_frozen_parameter_and_a_subclass_of_parameter() -> None:
    class Marked(nn.Parameter):
        pass

    model = nn.Linear(7, 5)
    model.weight = Marked(torch.zeros(5, 7))
    model.bias.requires_grad_(False)
    with fastinit.batched(model, key=KEY):
        nn.init.normal_(model.weight)
        model.bias.normal_()
    assert model.weight.detach().as_subclass(Tensor).equal(keyed("weight", (5, 7))) and type(model.weight) is Marked
    assert model.bias.equal(keyed("bias", 5))
