"""Initialisers of the user's own in a recipe: what they draw, in which threads, and how they fail."""

import threading
import time
from dataclasses import dataclass

import pytest
import torch
from small_model import RECIPE, Small, same, values
from torch import Tensor, nn

from fastinit import Recipe, RecipeError, Rule, init_model_, zeros_


def noise_(tensor: Tensor, *, scale: float) -> Tensor:
    return tensor.copy_(torch.randn(tensor.shape) * scale)


def test_a_users_callable_draws_by_key_and_name_alone_and_leaves_torchs_generator_as_it_was() -> None:
    recipe = Recipe([Rule(noise_, types=nn.Linear, params="weight", scale=2.0), *RECIPE.rules])
    one, other = Small(), Small()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    init_model_(one, recipe, key=5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    init_model_(other, recipe, key=5, only="head.weight")
    assert torch.equal(one.head.weight, other.head.weight)
    init_model_(other, recipe, key=6)
    assert not torch.equal(one.head.weight, other.head.weight)
    assert not torch.equal(one.head.weight[:5, :5], one.body[0].weight[:5, :5])


def test_a_users_callable_draws_the_same_in_many_threads_at_once() -> None:
    def slow_(tensor: Tensor) -> None:
        time.sleep(0.001)  # and another thread has its turn
        noise_(tensor, scale=2.0)

    expected, *models = [nn.Sequential(*[nn.Linear(6, 6) for _ in range(10)]) for _ in range(5)]
    recipe = Recipe([Rule(slow_)])
    init_model_(expected, recipe)
    state = torch.get_rng_state()
    threads = [threading.Thread(target=init_model_, args=(model, recipe)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(values(model), values(expected)) for model in models)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_callable_that_has_no_hash_will_do() -> None:
    @dataclass
    class Fill:
        value: float

        def __call__(self, tensor: Tensor) -> None:
            tensor.fill_(self.value)

    model = Small()
    init_model_(model, Recipe([Rule(Fill(0.5))]))
    assert (model.head.weight == 0.5).all()


def test_an_error_of_a_callable_names_parameter_and_rule_and_the_generator_is_put_back() -> None:
    def refuses(tensor: Tensor) -> None:
        torch.randn(3)
        raise RuntimeError("not today")

    model, state = nn.Linear(2, 2), torch.get_rng_state()
    with pytest.raises(RecipeError, match=r"'weight' by Rule\(refuses, params='weight'\): not today") as caught:
        init_model_(model, Recipe([Rule(refuses, params="weight"), Rule(zeros_)]))
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
