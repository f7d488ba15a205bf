"""Rules and recipes: what they match, and what they refuse."""

import copy
import functools
import pickle

import pytest
from torch import Tensor, nn

import fastinit
from fastinit import Recipe, RecipeError, Rule, kaiming_normal_, keep, normal_, ones_, zeros_


def half_(tensor: Tensor, *, scale: float = 0.5) -> Tensor:
    return tensor.fill_(scale)


def test_first_rule_that_matches_wins() -> None:
    recipe = Recipe([Rule(ones_, names="head.*"), Rule(normal_, types=nn.Linear, params="weight"), Rule(zeros_)])
    assert recipe.match(nn.Linear, "weight", "head.weight") == 0
    assert recipe.match(nn.Linear, "weight", "body.weight") == 1
    assert recipe.match(nn.Linear, "bias", "body.bias") == 2
    assert recipe.match(nn.Conv2d, "weight", "body.conv.weight") == 2


def test_all_selectors_of_a_rule_must_match() -> None:
    recipe = Recipe([Rule(ones_, types=nn.Linear, params="w*", names="*.0.*")])
    assert recipe.match(nn.Linear, "weight", "a.0.weight") == 0
    assert recipe.match(nn.Conv2d, "weight", "a.0.weight") is None
    assert recipe.match(nn.Linear, "bias", "a.0.bias") is None
    assert recipe.match(nn.Linear, "weight", "a.1.weight") is None


def test_the_cache_of_class_and_parameter_does_not_hide_full_names() -> None:
    recipe = Recipe([Rule(ones_, names="a.*"), Rule(zeros_, names=("b.*", "c.weight"))])
    names = ["x.weight", "b.weight", "a.weight", "c.weight", "b.weight", "c.weights"]
    assert [recipe.match(nn.Linear, "weight", name) for name in names] == [None, 1, 0, 1, 1, None]


def test_subclasses_match_and_globs_respect_case_and_match_whole_names() -> None:
    class Mine(nn.Linear):
        pass

    assert Recipe([Rule(ones_, types=(nn.Conv2d, nn.Linear))]).match(Mine, "weight", "weight") == 0
    recipe = Recipe([Rule(ones_, params=("Weight", "eight", "weigh", "weight_[ab]", "b?as"))])
    assert recipe.match(Mine, "weight", "weight") is None
    assert recipe.match(Mine, "weight_b", "weight_b") == 0
    assert recipe.match(Mine, "bias", "bias") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("normal_",), "initialiser must be a callable.*'normal_'"),
        ((normal_, {"generator": None}), "generator"),
        ((normal_, {"types": 3}), "types must be a class, a glob over class names, or .*3"),
        ((normal_, {"types": (nn.Linear, 3)}), "types must be a class, "),
        ((normal_, {"types": [nn.Linear]}), "types must be a class, "),
        ((normal_, {"types": ()}), "types must be a class, .*or a non-empty tuple"),
        ((normal_, {"params": 3}), "params must be a glob, or .*3"),
        ((normal_, {"names": ["a"]}), "names must be a glob, or "),
        ((normal_, {"buffers": ["a"]}), "buffers must be a glob, or "),
        ((normal_, {"params": "a", "buffers": "b"}), "params='a' and buffers='b'"),
        ((normal_, {"fused": 0}), "fused must be .*0"),
        ((normal_, {"fused": 3}), "fused and fan_axes are for .*normal_"),
        ((kaiming_normal_, {"fan_axes": (0,)}), r"fan_axes must name .*\(0,\)"),
        ((normal_, {"parts": zeros_}), "parts"),
        ((normal_, {"parts": [zeros_]}), "parts: each must be a fastinit.Part.*zeros_"),
        ((normal_, {"sdt": 0.02}), r"normal_ .*sdt=0.02.*mean.*std"),
        ((zeros_, {"std": 0.02}), r"zeros_ .*std=0.02.*none"),
        ((fastinit.constant_, {}), r"constant_ .*missing.*val"),
        ((half_, {"size": 1}), "half_ .*size=1.*scale"),
    ],
)
def test_a_bad_rule_says_what_was_given_and_what_is_allowed(arguments: tuple, message: str) -> None:
    initialiser, *kwargs = arguments
    with pytest.raises(RecipeError, match=message):
        Rule(initialiser, **(kwargs[0] if kwargs else {}))


def test_the_generator_is_not_offered_among_the_keyword_arguments() -> None:
    with pytest.raises(RecipeError) as caught:
        Rule(normal_, sdt=1.0)
    assert "generator" not in str(caught.value)


def test_a_recipe_takes_rules_only() -> None:
    with pytest.raises(RecipeError, match=r"fastinit.Rule.*normal_"):
        Recipe([normal_])  # type: ignore[list-item]


def test_any_callable_is_an_initialiser() -> None:
    for initialiser in (
        half_,
        functools.partial(half_, scale=2.0),
        lambda tensor: tensor,
        Tensor.zero_,
        keep,
    ):
        assert Rule(initialiser).initialiser is initialiser


def test_repr_shows_the_rule_as_it_was_written() -> None:
    rule = Rule(kaiming_normal_, types=nn.Conv2d, params=("weight", "w"), mode="fan_out")
    assert repr(rule) == "Rule(kaiming_normal_, types=Conv2d, params=('weight', 'w'), mode='fan_out')"
    assert repr(Rule(zeros_, types=(nn.Linear, nn.Conv1d))) == "Rule(zeros_, types=(Linear, Conv1d))"
    assert repr(Recipe([Rule(zeros_), Rule(ones_)])) == "Recipe([\n    Rule(zeros_),\n    Rule(ones_),\n])"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda recipe: pickle.loads(pickle.dumps(recipe))])
def test_recipes_copy_and_pickle(copied) -> None:
    recipe = Recipe([Rule(normal_, types=nn.Linear, std=0.02), Rule(half_, names="x")])
    recipe.match(nn.Linear, "weight", "weight")
    again = copied(recipe)
    assert repr(again) == repr(recipe)
    assert again.match(nn.Linear, "weight", "weight") == 0
    assert again.match(nn.Conv1d, "weight", "x") == 1
