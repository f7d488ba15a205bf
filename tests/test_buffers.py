"""Buffers: by rule, by their modules' own ways, and never guessed."""

import math
from typing import Any

import pytest
import torch
from small_model import RECIPE, Small, on_meta, same, tied_model, values
from torch import Tensor, nn

import fastinit
from fastinit import Key, Recipe, RecipeError, Rule, init_model_, normal_, ones_, uniform_, zeros_

STATS = Recipe(
    [Rule(zeros_, buffers=("running_mean", "num_batches_tracked")), Rule(ones_, types="*Norm*", buffers="running_var")]
)


class Positions(nn.Module):
    """With a buffer that its constructor computes, and `way` to compute it again."""

    def __init__(self, size: int = 6) -> None:
        super().__init__()
        self.size = size
        self.weight = nn.Parameter(torch.zeros(3))
        self.register_buffer("angles", self.computed(), persistent=False)

    def computed(self) -> Tensor:
        return torch.arange(self.size) / math.pi


class InPlace(Positions):
    def reset_buffers(self) -> None:
        self.angles.copy_(self.computed())


class Anew(Positions):
    def init_non_persistent_buffers(self) -> None:
        self.register_buffer("angles", self.computed(), persistent=False)


class WithParameters(Positions):
    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.weight.fill_(5.0)
        self.angles = self.computed()


class ByData(Positions):
    def reset_parameters(self) -> None:
        self.angles.data.copy_(self.computed())


class Above(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(Positions())

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Positions):
            with torch.no_grad():
                module.weight.fill_(5.0)
                module.angles.copy_(module.computed())


def test_a_buffer_on_meta_without_a_rule_is_an_error_that_names_it() -> None:
    model = on_meta(Small)
    with pytest.raises(RecipeError) as caught:
        init_model_(model, RECIPE)
    lines = str(caught.value).split("\n")
    assert "buffers='reset'" in lines[0]
    assert lines[1:] == [
        "  norm.running_mean  (buffer of BatchNorm2d, [8])",
        "  norm.running_var  (buffer of BatchNorm2d, [8])",
        "  norm.num_batches_tracked  (buffer of BatchNorm2d, [])",
    ]
    assert all(one.is_meta for one in (*model.parameters(), *model.buffers()))
    init_model_(model, RECIPE, strict=False)
    assert model.norm.running_mean.is_meta


@pytest.mark.parametrize("build", [Small, lambda: on_meta(Small)])
def test_rules_with_buffers_are_for_buffers_alone_and_fill_them(build: Any) -> None:
    model = build()
    recipe = Recipe([Rule(normal_, buffers="running_mean", std=3.0), *STATS.rules]) + RECIPE
    with torch.no_grad():
        for buffer in model.buffers():
            buffer.fill_(9)
    report = init_model_(model, recipe, key=2)
    expected = normal_(torch.empty(8), std=3.0, generator=Key(2).fold_in("norm.running_mean"))
    assert torch.equal(model.norm.running_mean, expected)
    assert torch.equal(model.norm.running_var, torch.ones(8))
    assert model.norm.num_batches_tracked.item() == 0
    assert model.norm.num_batches_tracked.dtype is torch.int64
    assert [row.name for row in report.rows if row.buffer] == [f"norm.{own}" for own in model.norm._buffers]
    plain = Small()
    init_model_(plain, RECIPE, key=2)
    assert same(values(model), values(plain))


def test_rules_without_buffers_leave_buffers_alone() -> None:
    model = Small()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    report = init_model_(model, Recipe([Rule(uniform_)]), buffers="reset")
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert not any(row.buffer for row in report.rows)
    only_buffers = Recipe([Rule(uniform_, buffers="*"), Rule(ones_, names="head.bias")])
    report = init_model_(model, only_buffers, strict=False, only=("*.running_mean", "head.bias"))
    assert [row.name for row in report.rows] == ["head.bias", "norm.running_mean"]
    assert torch.equal(model.head.bias, torch.ones(5))


# By their modules


@pytest.mark.parametrize("build", [InPlace, Anew, ByData, WithParameters, lambda: nn.Sequential(InPlace()), Above])
def test_reset_has_modules_make_their_buffers_and_nothing_else(build: Any) -> None:
    model, expected = on_meta(build), build()
    recipe = Recipe([Rule(ones_)])
    report = init_model_(model, recipe, buffers="reset")
    assert [(row.rule, row.dtype) for row in report.rows if row.buffer] == [(None, torch.float32)]
    assert "made by its module" in str(report)
    for (name, buffer), (_, want) in zip(model.named_buffers(), expected.named_buffers(), strict=True):
        assert torch.equal(buffer, want), name
    assert all(torch.equal(parameter, torch.ones(3)) for parameter in model.parameters())
    assert not model.state_dict().keys() - dict(model.named_parameters()).keys()  # still not persistent


def test_reset_leaves_parameters_that_have_memory_alone() -> None:
    model = on_meta(WithParameters)
    model.weight = nn.Parameter(torch.full((3,), 7.0))
    init_model_(model, Recipe([Rule(fastinit.keep)]), buffers="reset")
    assert torch.equal(model.weight, torch.full((3,), 7.0))
    assert torch.equal(model.angles, Positions().angles)


def test_a_rule_comes_before_the_modules_own_way() -> None:
    model = on_meta(InPlace)
    init_model_(model, Recipe([Rule(ones_, buffers="angles"), Rule(zeros_)]), buffers="reset")
    assert torch.equal(model.angles, torch.ones(6))


@pytest.mark.parametrize("build", [Positions, lambda: nn.Sequential(Positions())])
def test_a_buffer_that_no_way_makes_is_named_before_anything_is_written(build: Any) -> None:
    model = on_meta(build)
    with pytest.raises(RecipeError, match=r"Positions has no way .*'(0\.)?angles'.*Rule\(\.\.\., buffers='angles'\)"):
        init_model_(model, Recipe([Rule(ones_)]), buffers="reset")
    assert all(one.is_meta for one in (*model.parameters(), *model.buffers()))


def test_a_way_that_leaves_the_buffer_or_a_part_of_it_as_it_was_does_not_count() -> None:
    class Idle(Positions):
        def reset_buffers(self) -> None:
            self.angles + 1

    class Partial(Positions):
        def reset_buffers(self) -> None:
            self.angles[1:] = 0

    for kind in (Idle, Partial):
        with pytest.raises(RecipeError, match=rf"{kind.__name__}.*'angles' \(tried: {kind.__name__}.reset_buffers\)"):
            init_model_(on_meta(kind), Recipe([Rule(ones_)]), buffers="reset")


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("value", [0, 1])
def test_buffers_of_any_type_whatever_is_set(dtype: torch.dtype, value: int) -> None:
    class Typed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.empty(3, 2, dtype=dtype).T)
            self.register_buffer("scalar", torch.empty((), dtype=dtype))

        def reset_buffers(self) -> None:
            self.table.fill_(value)
            self.scalar.fill_(value)

    model = on_meta(Typed)
    init_model_(model, Recipe([]), buffers="reset")
    assert torch.equal(model.table, torch.full((2, 3), value, dtype=dtype))
    assert torch.equal(model.scalar, torch.tensor(value, dtype=dtype))


def test_a_way_that_fails_or_makes_another_shape_is_named() -> None:
    class Broken(Positions):
        def reset_buffers(self) -> None:
            raise RuntimeError("no such table")

    class Longer(Positions):
        def reset_buffers(self) -> None:
            self.angles = torch.zeros(self.size + 1)

    for kind, message in (
        (Broken, "Broken.reset_buffers.*'angles'.*no such table"),
        (Longer, r"'angles'.*\[7\].*\[6\]"),
    ):
        with pytest.raises(RecipeError, match=message):
            init_model_(on_meta(kind), Recipe([Rule(ones_)]), buffers="reset")


def test_random_buffers_follow_the_key_and_leave_the_generator_alone() -> None:
    class Features(Positions):
        def reset_buffers(self) -> None:
            self.angles.uniform_()

    drawn = []
    for key in (1, 1, 2):
        torch.manual_seed(len(drawn))
        state = torch.get_rng_state()
        model = on_meta(Features)
        init_model_(model, Recipe([Rule(ones_)]), key, buffers="reset")
        assert torch.equal(torch.get_rng_state(), state)
        drawn.append(model.angles)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


class InAnotherOrder(nn.Module):
    """Its buffers are made in another order of memory than that in which they were held."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.empty(5, 3).t())
        self.register_buffer("padded", torch.empty(3, 10)[:, :5])

    def reset_buffers(self) -> None:
        self.table = torch.arange(15.0).view(3, 5)
        self.padded.copy_(torch.arange(15.0).view(3, 5))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_values_are_where_the_module_put_them_whatever_the_order_of_memory(device: str) -> None:
    with torch.device(device):
        module = InAnotherOrder()
    init_model_(module, Recipe([Rule(fastinit.normal_)]), only=["table", "padded"], buffers="reset")
    assert torch.equal(module.table, torch.arange(15.0).view(3, 5))
    assert torch.equal(module.padded, torch.arange(15.0).view(3, 5))


def test_a_buffer_held_twice_stays_one() -> None:
    model = on_meta(lambda: nn.Sequential(InPlace(), InPlace()))
    model[1].register_buffer("angles", model[0].angles, persistent=False)
    init_model_(model, Recipe([Rule(ones_)]), buffers="reset")
    assert model[0].angles is model[1].angles
    assert torch.equal(model[0].angles, Positions().angles)


def test_transformers_rotary_embeddings_and_position_ids() -> None:
    transformers = pytest.importorskip("transformers")
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    for kind, config in (
        (transformers.LlamaForCausalLM, transformers.LlamaConfig(vocab_size=20, **size)),
        (transformers.BertModel, transformers.BertConfig(vocab_size=20, **size)),
    ):
        model, expected = on_meta(lambda kind=kind, config=config: kind(config)), kind(config)
        assert any(buffer.is_meta for buffer in model.buffers())
        init_model_(model, Recipe([Rule(normal_, std=0.02)]), buffers="reset")
        for (name, buffer), (_, want) in zip(model.named_buffers(), expected.named_buffers(), strict=True):
            assert torch.equal(buffer, want), name


# Beside a pretrained model


def test_only_missing_keys_fills_what_a_checkpoint_lacks_and_touches_nothing_else() -> None:
    pretrained = Small().state_dict()
    lacking = {name: one for name, one in pretrained.items() if not name.startswith(("head.", "norm."))}
    for wrap in (lambda model: model, torch.compile, lambda model: nn.Sequential(model)):
        inner = Small()
        model = wrap(inner)
        prefix = next(iter(model.state_dict())).removesuffix("conv.weight")
        result = model.load_state_dict({prefix + name: one for name, one in lacking.items()}, strict=False)
        assert len(result.missing_keys) == 6
        with torch.no_grad():
            inner.norm.running_mean.fill_(9)
        init_model_(model, RECIPE, key=1, only=result.missing_keys, buffers="reset")
        for name, one in inner.state_dict().items():
            if name in lacking:
                assert torch.equal(one, pretrained[name]), name
        assert torch.equal(inner.norm.running_mean, torch.zeros(8))
        name = "0.head.bias" if isinstance(model, nn.Sequential) else "head.bias"
        expected = uniform_(torch.empty(5), -0.5, 0.25, generator=Key(1).fold_in(name))
        if not isinstance(model, nn.Sequential):  # there the recipe's names="head.bias" is another name
            assert torch.equal(inner.head.bias, expected)


def test_a_tied_weight_that_the_checkpoint_has_under_another_name_is_not_missing() -> None:
    model = tied_model()
    loaded = {name: one.detach().clone() for name, one in model.state_dict().items() if name.startswith("embedding.")}
    result = model.load_state_dict(loaded, strict=False)
    assert "head.weight" in result.missing_keys
    report = init_model_(model, RECIPE, only=result.missing_keys, buffers="reset")
    assert torch.equal(model.head.weight, loaded["embedding.weight"])
    assert "embedding.weight" not in {row.name for row in report.rows}
    assert {"head.bias", "conv.weight"} <= {row.name for row in report.rows}
    names = ["head.weight", "embedding.weight"]
    assert [row.name for row in init_model_(model, RECIPE, only=names).rows] == ["embedding.weight"]
    assert not torch.equal(model.head.weight, loaded["embedding.weight"])


def test_missing_keys_name_a_module_that_is_held_twice_under_both_of_its_names() -> None:
    model: Any = Small()
    model.again = model.norm
    result = model.load_state_dict(Small().state_dict(), strict=False)
    assert {"again.weight", "again.running_mean"} <= set(result.missing_keys)
    assert all(name.startswith("again.") for name in result.missing_keys)
    with torch.no_grad():
        model.norm.running_mean.fill_(9)
    before = {name: one.clone() for name, one in model.state_dict().items()}
    init_model_(model, RECIPE, only=result.missing_keys, buffers="reset")
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    missing = [name for name in model.state_dict() if name.startswith(("norm.", "again."))]
    report = init_model_(model, RECIPE, only=missing, buffers="reset")
    assert torch.equal(model.norm.running_mean, torch.zeros(8))
    assert [row.tied for row in report.rows if row.buffer] == [(f"again.{own}",) for own in model.norm._buffers]


def test_missing_keys_of_extra_state_are_no_tensors() -> None:
    class Stateful(nn.Linear):
        def get_extra_state(self) -> Any:
            return 1

        def set_extra_state(self, state: Any) -> None:
            pass

    model = nn.Sequential(Stateful(2, 3))
    missing = model.load_state_dict({}, strict=False).missing_keys
    assert "0._extra_state" in missing
    init_model_(model, Recipe([Rule(ones_)]), only=missing)
    assert all(parameter.eq(1).all() for parameter in model.parameters())


def test_a_buffer_of_a_lazy_module_is_named() -> None:
    with pytest.raises(RecipeError, match=r"buffer '0\.running_mean' has no shape yet"):
        init_model_(nn.Sequential(nn.LazyBatchNorm2d(affine=False)), STATS)


def test_a_missing_buffer_needs_a_rule_or_reset() -> None:
    model = Small()
    with pytest.raises(RecipeError, match=r"norm.running_mean  "):
        init_model_(model, RECIPE, only=["norm.running_mean", "head.bias"])
    init_model_(model, RECIPE + STATS, only=["norm.running_mean", "head.bias"])


def test_a_name_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(RecipeError, match=r"only: 'head.wieght' matches no parameter or buffer"):
        init_model_(Small(), RECIPE, only=["head.bias", "head.wieght"])
