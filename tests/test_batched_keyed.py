"""`fastinit.batched(model, key=...)`: a parameter's numbers follow from the key, its name and its live fills alone."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from batched_keyed import KEY, dirty, init, keyed
from settings import threads
from small_model import RECIPE, Small, same, tied_model, values
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.init import trunc_normal_

import fastinit
from fastinit import Key

LAWS: dict[str, tuple[float, ...]] = {
    "uniform_": (-0.3, 0.7),
    "normal_": (0.1, 0.02),
    "trunc_normal_": (0.1, 0.5, -0.4, 0.6),
    "xavier_uniform_": (1.7,),
    "xavier_normal_": (),
    "kaiming_uniform_": (math.sqrt(5),),
    "kaiming_normal_": (),
    "orthogonal_": (0.4,),
    "sparse_": (0.3, 0.02),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("law", LAWS)
def test_every_law_by_the_parameters_name(law: str, dtype: torch.dtype) -> None:
    model = nn.ModuleDict({"a": nn.Linear(37, 11), "b": nn.Linear(5, 23)}).to(dtype)
    for seed in (0, 1):
        torch.manual_seed(seed)
        with fastinit.batched(model, key=KEY):
            for layer in model.values():
                assert getattr(nn.init, law)(layer.weight, *LAWS[law]) is layer.weight
    for name, shape in (("a.weight", (11, 37)), ("b.weight", (23, 5))):
        expected, found = keyed(name, shape, law, *LAWS[law], dtype=dtype), model.get_parameter(name)
        if law == "orthogonal_":  # matrix products: where they lie in memory decides how they round
            torch.testing.assert_close(found.detach(), expected)
        else:
            assert found.equal(expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("law", LAWS)
def test_fastinits_own_functions_are_keyed_too(law: str, dtype: torch.dtype) -> None:
    model = nn.Linear(37, 11, dtype=dtype)
    with fastinit.batched(model, key=KEY):
        getattr(fastinit, law)(model.weight, *LAWS[law])
    expected = keyed("weight", (11, 37), law, *LAWS[law], dtype=dtype)
    torch.testing.assert_close(model.weight.detach(), expected, rtol=0, atol=1e-6 if dtype == torch.float32 else 0.01)


def test_a_function_that_was_imported_by_name() -> None:
    model = nn.Linear(37, 11)
    with fastinit.batched(model, key=KEY):
        trunc_normal_(model.weight, std=0.02)
    assert model.weight.equal(keyed("weight", (11, 37), "trunc_normal_", 0.0, 0.02))


def test_an_integer_and_a_key_are_the_same() -> None:
    results = []
    for key in (5, Key(5)):
        model = dirty(Small())
        with fastinit.batched(model, key=key):
            model.apply(init)
        results.append(values(model))
    assert same(*results)


def test_the_values_are_those_of_init_model_() -> None:
    def by_hand(model: Small) -> None:
        nn.init.kaiming_normal_(model.conv.weight, mode="fan_out", nonlinearity="relu")
        for linear in (model.body[0], model.head):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        nn.init.xavier_uniform_(model.embedding.weight, 2.0)
        nn.init.uniform_(model.head.bias, -0.5, 0.25)
        for norm in (model.norm, model.body[1]):
            nn.init.ones_(norm.weight)
            norm.bias.data.zero_()
        model.conv.bias.data.copy_(torch.tensor(0))

    ours, theirs = dirty(Small()), dirty(Small())
    with fastinit.batched(ours, key=KEY):
        by_hand(ours)
    fastinit.init_model_(theirs, RECIPE, key=KEY)
    assert same(values(ours), values(theirs))


def test_threads_and_seeds_make_no_difference() -> None:
    results = []
    for count, seed in ((1, 0), (2, 1), (2, 2**40)):
        model = nn.Sequential(nn.Embedding(5000, 301), nn.Linear(301, 700), nn.Conv2d(3, 5, 3))
        torch.manual_seed(seed)
        with threads(count), fastinit.batched(model, key=KEY):
            torch.manual_seed(seed + 1)
            model.apply(init)
        results.append(values(model))
    assert same(results[0], results[1]) and same(results[1], results[2])


def test_the_order_of_other_parameters_makes_no_difference() -> None:
    one, other = Small(), Small()
    with fastinit.batched(one, key=KEY):
        one.apply(init)
    with fastinit.batched(other, key=KEY):
        for module in reversed(list(other.modules())):
            init(module)
            other.head.weight.sum()
    assert same(values(one), values(other))


def test_torchs_generator_is_not_touched() -> None:
    model = Small()
    before = torch.get_rng_state()
    with fastinit.batched(model, key=KEY):
        model.apply(init)
        nn.init.orthogonal_(model.head.weight)
        nn.init.sparse_(model.body[0].weight, 0.3)
        assert torch.get_rng_state().equal(before)
    assert torch.get_rng_state().equal(before)


def test_a_wrapper_adds_nothing_to_a_name() -> None:
    model = Small()
    with fastinit.batched(nn.ModuleDict({"model": checkpoint_wrapper(model)}), key=KEY):
        nn.init.normal_(model.head.weight)
    assert model.head.weight.equal(keyed("model.head.weight", (5, 6)))


def test_tied_weights_have_the_first_name() -> None:
    model = tied_model()
    with fastinit.batched(model, key=KEY):
        nn.init.normal_(model.head.weight)
    assert model.embedding.weight.equal(keyed("embedding.weight", (11, 6)))
    assert model.head.weight is model.embedding.weight


def test_fills_under_both_names_are_fills_of_one() -> None:
    model = tied_model()
    with fastinit.batched(model, key=KEY):
        nn.init.normal_(model.embedding.weight)
        model.embedding.weight.sum()
        nn.init.normal_(model.head.weight)
    assert model.head.weight.equal(keyed("embedding.weight", (11, 6), n=1))


# Live fills


def looks(parameter: Tensor) -> None:
    parameter.detach().sum()


LOOKS: dict[str, Callable[[Tensor], Any]] = {
    "sum": looks,
    "item": lambda p: p.data.view(-1)[3].item(),
    "numpy": lambda p: p.detach().numpy(),
    "clone": lambda p: p.data.clone(),
    "list": lambda p: p.tolist(),
    "in place": lambda p: p.data.abs_(),
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_fill_that_was_seen_counts(look: str) -> None:
    model = nn.Linear(7, 5)
    with fastinit.batched(model, key=KEY):
        for n in range(4):
            model.weight.data.normal_()
            assert model.weight.detach().equal(keyed("weight", (5, 7), n=n))
            LOOKS[look](model.weight)
        nn.init.uniform_(model.weight)
    assert model.weight.equal(keyed("weight", (5, 7), "uniform_", n=4))


def test_dead_fills_do_not_count() -> None:
    model = nn.Linear(7, 5)
    with fastinit.batched(model, key=KEY) as block:
        model.reset_parameters()
        nn.init.normal_(model.weight)
        model.weight.data.zero_()
        nn.init.uniform_(model.weight)
        nn.init.trunc_normal_(model.weight)
        nn.init.normal_(model.weight)
    assert model.weight.equal(keyed("weight", (5, 7)))
    assert block.dead == 5


def test_a_dead_fill_by_something_that_runs_at_once_does_not_count() -> None:
    source = torch.arange(35.0).view(5, 7)
    model = nn.Linear(7, 5)
    with fastinit.batched(model, key=KEY):
        model.weight.data.uniform_()
        model.weight.data.copy_(source)
        assert model.weight.detach().equal(source)
        model.weight.data.normal_()
    assert model.weight.equal(keyed("weight", (5, 7)))


def test_constants_do_not_count() -> None:
    model = nn.Linear(7, 5)
    with fastinit.batched(model, key=KEY):
        for number in (0, 1, 0.3):
            model.weight.data.fill_(number)
            looks(model.weight)
        nn.init.normal_(model.weight)
    assert model.weight.equal(keyed("weight", (5, 7)))


def test_each_parameter_has_its_own_count_and_each_block_begins_anew() -> None:
    model = nn.Linear(7, 5)
    for _ in range(2):
        with fastinit.batched(model, key=KEY):
            model.weight.data.normal_()
            looks(model.weight)
            model.weight.data.normal_()
            model.bias.data.normal_()
        assert model.weight.equal(keyed("weight", (5, 7), n=1)) and model.bias.equal(keyed("bias", 5))


def test_a_chain_goes_on_from_the_keys_numbers() -> None:
    model = nn.Linear(701, 50)
    with fastinit.batched(model, key=KEY), torch.no_grad():
        model.weight.uniform_(-0.95, 0.95).erfinv_().mul_(0.02 * math.sqrt(2)).add_(0.1).clamp_(0.08, 0.13)
    expected = keyed("weight", (50, 701), "uniform_", -0.95, 0.95)
    assert model.weight.equal(expected.erfinv_().mul_(0.02 * math.sqrt(2)).add_(0.1).clamp_(0.08, 0.13))


# Views and parts


def test_a_part_is_numbered_by_itself() -> None:
    model = nn.Linear(8, 6)
    with fastinit.batched(model, key=KEY):
        model.weight.data.zero_()
        model.weight.data[1:3].normal_()
        model.weight.data[4:, ::2].uniform_()
    expected = torch.zeros(6, 8)
    expected[1:3] = keyed("weight", (2, 8))
    expected[4:, ::2] = keyed("weight", (2, 4), "uniform_", n=1)
    assert model.weight.equal(expected)


def test_the_whole_over_its_part() -> None:
    model = nn.Linear(8, 6)
    with fastinit.batched(model, key=KEY):
        model.weight.data[1:3].normal_()
        nn.init.normal_(model.weight)
    assert model.weight.equal(keyed("weight", (6, 8)))


def test_other_views_of_a_parameter() -> None:
    model = nn.Linear(8, 6)
    with fastinit.batched(model, key=KEY):
        model.weight.data.t().normal_()
    assert model.weight.t().equal(keyed("weight", (8, 6)))
    with fastinit.batched(model, key=KEY):
        model.weight.detach().view(-1).normal_()
    assert model.weight.view(-1).equal(keyed("weight", 48))


def test_parameters_in_one_storage() -> None:
    flat = torch.zeros(40)
    model = nn.Module()
    model.a, model.b = nn.Parameter(flat[:18].view(3, 6)), nn.Parameter(flat[18:30])
    with fastinit.batched(model, key=KEY):
        nn.init.normal_(model.b)
        nn.init.normal_(model.a)
        with pytest.raises(RuntimeError):
            flat[30:].normal_()
        with pytest.raises(RuntimeError):
            flat.normal_()
    assert model.a.equal(keyed("a", (3, 6))) and model.b.equal(keyed("b", 12)) and flat[30:].eq(0).all()


def test_a_transposed_parameter() -> None:
    model = nn.Module()
    model.w = nn.Parameter(torch.zeros(7, 5).t())
    with fastinit.batched(model, key=KEY):
        nn.init.xavier_normal_(model.w)
    assert model.w.equal(keyed("w", (5, 7), "xavier_normal_"))
