"""Rules for what stands inside modules of a class."""

import pytest
import torch
from torch import nn

from fastinit import Recipe, RecipeError, Rule, init_model_, normal_, ones_, zeros_
from fastinit.plan import make_plan


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.inner = Inner()


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


def rules_of(model: nn.Module, recipe: Recipe) -> dict[str, int | None]:
    return {entry.name: entry.rule for entry in make_plan(model, recipe, strict=False).entries}


def taken(model: nn.Module, recipe: Recipe) -> set[str]:
    return {name for name, rule in rules_of(model, recipe).items() if rule == 0}


IN_BODY = {"inner.body.0.weight", "inner.body.0.bias", "inner.body.1.weight", "inner.body.1.bias"}


@pytest.mark.parametrize("inside", [Inner, "Inner", "In*", "*.Inner", ("Other", Inner)])
def test_classes_and_globs_over_their_names_at_any_depth(inside: object) -> None:
    assert taken(Outer(), Recipe([Rule(ones_, inside=inside)])) == IN_BODY


def test_a_module_is_not_inside_itself_and_bases_count() -> None:
    class Derived(Inner):
        pass

    assert taken(Outer(), Recipe([Rule(ones_, inside=nn.Linear)])) == set()
    assert taken(Derived(), Recipe([Rule(ones_, inside=Inner)])) == {name.removeprefix("inner.") for name in IN_BODY}
    everything = IN_BODY | {"linear.weight", "linear.bias"}
    assert taken(Outer(), Recipe([Rule(ones_, inside=nn.Module)])) == everything
    assert taken(nn.Linear(2, 2), Recipe([Rule(ones_, inside=nn.Module)])) == set()


def test_it_goes_with_the_other_selectors_and_the_rules_after_it_stay_possible() -> None:
    recipe = Recipe(
        [
            Rule(zeros_, inside=Inner, types=nn.Linear, names="*.0.weight"),
            Rule(ones_, inside=Inner, params="weight"),
            Rule(normal_, params="weight"),
            Rule(zeros_, inside=Inner, buffers="running_*"),
        ]
    )
    rules = rules_of(Outer(), recipe)
    assert rules["inner.body.0.weight"] == 0
    assert rules["inner.body.1.weight"] == 1
    assert rules["linear.weight"] == 2
    assert rules["inner.body.0.bias"] is None
    assert rules["inner.body.1.running_var"] == 3
    assert rules["inner.body.1.num_batches_tracked"] is None
    # In another order of the modules: what one place got must not be remembered for another.
    other = nn.ModuleDict({"a": Outer(), "b": nn.Linear(2, 2), "c": Inner()})
    assert taken(other, Recipe([Rule(ones_, inside=Inner, types=nn.Linear)])) == {
        "a.inner.body.0.weight",
        "a.inner.body.0.bias",
        "c.body.0.weight",
        "c.body.0.bias",
    }


def test_wrappers_do_not_matter() -> None:
    recipe = Recipe([Rule(ones_, inside=Inner), Rule(zeros_)])
    plain, wrapped = Outer(), nn.DataParallel(Outer())
    wrapped.module.inner = torch.compile(wrapped.module.inner)
    assert taken(wrapped, recipe) == taken(plain, recipe) == IN_BODY
    init_model_(wrapped, recipe)
    assert wrapped.module.inner._orig_mod.body[0].weight.eq(1).all()
    assert not wrapped.module.linear.weight.any()


def test_it_is_written_as_plain_types_and_shown() -> None:
    recipe = Recipe([Rule(ones_, inside=(Inner, "B*"), params="weight")])
    again = Recipe.from_dict(recipe.to_dict())
    assert taken(Outer(), again) == taken(Outer(), recipe)
    assert "inside=(Inner, 'B*')" in repr(recipe)


@pytest.mark.parametrize("inside", [3, (), (Inner, 3), [Inner]])
def test_anything_else_is_refused(inside: object) -> None:
    with pytest.raises(RecipeError, match="inside must be a class, a glob"):
        Rule(ones_, inside=inside)
