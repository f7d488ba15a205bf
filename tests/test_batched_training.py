"""Gradients, hooks, optimisers, generators and copies of models within a block of `fastinit.batched`."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from batched_plain import same, succeeds
from torch import Tensor, nn


def build() -> nn.Module:
    model = nn.Sequential(nn.Linear(9, 6), nn.LayerNorm(6), nn.Linear(6, 4))
    for layer in model[::2]:
        nn.init.xavier_normal_(layer.weight)
    return model


class Scales(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, w = ctx.saved_tensors
        return gradient * w, torch.empty_like(w).fill_(2).mul_(gradient * x)


def test_an_autograd_function() -> None:
    def program() -> list[Any]:
        x, w = torch.empty(9).normal_().requires_grad_(), torch.empty(9).normal_().requires_grad_()
        Scales.apply(x, w).sum().backward()
        return [x, w, x.grad, w.grad]

    succeeds(program)


def test_a_saved_tensor_filled_since_is_the_same_error() -> None:
    def program() -> Any:
        x = torch.ones(9, requires_grad=True)
        y = (x * x).sum()
        x.data.normal_()
        y.backward()
        z = (x * x).sum()
        with torch.no_grad():
            x.normal_()
        z.backward()

    same(program)


def test_hooks() -> None:
    seen: list[Any] = []

    def program() -> list[Any]:
        seen.clear()
        model = build()
        model.register_forward_pre_hook(lambda module, inputs: seen.append(module[0].weight.sum().item()))
        model.register_forward_hook(lambda module, inputs, output: seen.append(module[1].weight.data.normal_()))
        model[0].weight.register_hook(lambda gradient: gradient.fill_(1))
        model[2].weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.data.uniform_()))
        outputs = [model(torch.ones(2, 9)), model(torch.ones(2, 9))]
        sum(output.sum() for output in outputs[1:]).backward()
        return [model, seen, [output.detach() for output in outputs], [p.grad for p in model.parameters()]]

    succeeds(program)


def test_a_step_of_an_optimiser() -> None:
    def program() -> list[Any]:
        model = build()
        optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
        for _ in range(2):
            model(torch.empty(3, 9).normal_()).square().sum().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            nn.init.zeros_(model[2].bias)
        return [model, [list(state.values()) for state in optimiser.state.values()]]

    succeeds(program)


def test_a_parametrised_and_a_lazy_module() -> None:
    def program() -> list[Any]:
        one = nn.utils.parametrizations.weight_norm(nn.Linear(5, 3))
        two = nn.utils.parametrizations.orthogonal(nn.Linear(5, 5))
        three = nn.utils.parametrizations.spectral_norm(nn.Linear(5, 3))
        lazy = nn.LazyLinear(3)
        lazy(torch.ones(2, 5))
        nn.init.normal_(one.parametrizations.weight.original1)
        return [one, two, three, lazy, one.weight.detach(), two.weight.detach()]

    succeeds(program)


# Modes of gradients


def test_filling_a_leaf_outside_of_no_grad_is_the_same_error() -> None:
    def program() -> list[Any]:
        x = nn.Parameter(torch.empty(9))
        fills = [x.normal_, x.zero_, lambda: x.fill_(2), lambda: x.copy_(torch.ones(())), lambda: x[2:].uniform_()]
        errors = []
        for fill in fills:
            with pytest.raises(RuntimeError) as error:
                fill()
            errors.append(str(error.value))
        return [errors, x._version, nn.init.ones_(x)]

    same(program)


def test_inference_mode() -> None:
    def program() -> list[Any]:
        outside = torch.empty(9).normal_()
        with torch.inference_mode():
            inside = torch.empty(9).normal_()
            outside.fill_(2)
            inside[3:].zero_()
            sums = [inside.sum().item(), outside.sum().item()]
            with torch.inference_mode(False):
                made = torch.empty(9).normal_()
        with pytest.raises(RuntimeError, match="inference"):
            inside.normal_()
        return [outside, inside, sums, made, outside.uniform_()]

    same(program)


def test_fills_of_a_tensor_with_a_history() -> None:
    def program() -> list[Any]:
        x = torch.ones(9, requires_grad=True)
        y = x * 2
        y[:3].normal_()
        y[3:5].zero_()
        y[5:6].fill_(x[0].detach())
        y.sum().backward()
        return [y.detach(), x.grad, y._version, type(y.grad_fn).__name__]

    same(program)


# Generators


def test_seeds_and_states_inside() -> None:
    def program() -> list[Any]:
        a = torch.empty(40).normal_()
        state = torch.get_rng_state()
        b = torch.empty(41).uniform_()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            c = torch.empty(17).normal_()
        d = torch.empty(5).normal_()
        torch.set_rng_state(state)
        e = torch.empty(41).uniform_()
        torch.seed()
        torch.manual_seed(9)
        f = torch.rand(3)
        assert b.equal(e) and torch.initial_seed() == 9
        return [a, b, c, d, e, f, state]

    succeeds(program)


def test_generators_given() -> None:
    def program() -> list[Any]:
        one, other = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
        a = torch.empty(40).normal_(generator=one)
        other.set_state(one.get_state())
        b = torch.empty(40).normal_(generator=one)
        c = torch.empty(40).normal_(generator=other)
        twin = other.clone_state()
        del one
        return [a, b, c, other.get_state(), twin.get_state(), torch.rand(3, generator=twin)]

    succeeds(program)


def test_a_generator_that_is_gone_before_its_fill_runs() -> None:
    def program() -> Tensor:
        return torch.empty(40).normal_(generator=torch.Generator().manual_seed(1))

    succeeds(program)


# Copies of a model


def test_copies_of_a_model() -> None:
    def program() -> list[Any]:
        model = build()
        copied = copy.deepcopy(model)
        model[0].weight.data.normal_()
        pickled = pickle.loads(pickle.dumps(model))
        nn.init.zeros_(model[0].weight)
        file = io.BytesIO()
        torch.save(model, file)
        model[2].weight.data.uniform_()
        file.seek(0)
        shallow = copy.copy(model)
        return [model, copied, pickled, torch.load(file, weights_only=False), shallow.bfloat16()]

    succeeds(program)


def test_a_module_replaced_or_deleted_with_fills_pending() -> None:
    def program() -> nn.Module:
        model = build()
        model[0] = nn.Linear(9, 6)
        del model[1]
        model[1].weight = nn.Parameter(torch.empty(4, 6).normal_())
        model.register_buffer("mean", torch.empty(20).uniform_())
        model.mean = torch.zeros(3)
        return model

    assert succeeds(program).dead >= 6
