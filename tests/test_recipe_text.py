"""Recipes as plain types, JSON and TOML: what comes back does what went out, and what cannot go out says so."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_model import RECIPE, Small, on_meta, same, values
from torch import Tensor, nn

import fastinit
from fastinit import Part, Recipe, RecipeError, Rule, chunk, constant_, init_model_, keep, normal_, padding_row, zeros_


def std_of(module: nn.Module, name: str, parameter: Tensor) -> float:
    return 1.0 / parameter.shape[0]


def last_row(module: nn.Module, name: str, parameter: Tensor) -> int:
    return parameter.shape[0] - 1


def half_(tensor: Tensor, *, scale: float = 0.5) -> Tensor:
    return tensor.fill_(scale)


class Inner:
    @staticmethod
    def twice_(tensor: Tensor) -> Tensor:
        return tensor.fill_(2.0)


EVERYTHING = Recipe(
    [
        Rule(normal_, types=(nn.Conv2d, "Emb*"), params="weight", std=std_of, parts=[Part(zeros_, padding_row)]),
        Rule(fastinit.xavier_uniform_, names=("head.weight", "a.*"), gain=2, fused=5, fan_axes=(0, (1,))),
        Rule(
            constant_,
            types=nn.Linear,
            params="bias",
            val=0.5,
            parts=[
                Part(half_, 2, scale=0.25),
                Part(zeros_, slice(0, 3, 2)),
                Part(normal_, (slice(4, None),), std=3.0),
                Part(fastinit.ones_, last_row),
            ],
        ),
        Rule(keep, types=nn.LayerNorm, params="weight", parts=[Part(zeros_, chunk(i, 2)) for i in range(2)]),
        Rule(Inner.twice_, types=nn.Linear),
        Rule(functools.partial(half_, scale=0.125), types="*Norm*"),
        Rule(torch.nn.init.uniform_, buffers="running_*"),
        Rule(zeros_),
    ]
)


def through_dict(recipe: Recipe, path: Path) -> Recipe:
    return Recipe.from_dict(recipe.to_dict())


def through_json(recipe: Recipe, path: Path) -> Recipe:
    return Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))


def through_toml(recipe: Recipe, path: Path) -> Recipe:
    pytest.importorskip("tomli_w")
    recipe.to_toml(path / "recipe.toml")
    return Recipe.from_toml(path / "recipe.toml")


@pytest.mark.parametrize("recipe", [RECIPE, EVERYTHING, Recipe([])], ids=["small", "everything", "none"])
@pytest.mark.parametrize("through", [through_dict, through_json, through_toml])
def test_what_comes_back_does_the_same(recipe: Recipe, through: Callable[..., Recipe], tmp_path: Path) -> None:
    again = through(recipe, tmp_path)
    assert again.to_dict() == recipe.to_dict()
    models = []
    for each in (recipe, again):
        model: Any = on_meta(Small)
        report = init_model_(model, each, key=4, buffers="reset", strict=False)
        models.append(({name: one for name, one in model.named_parameters() if not one.is_meta}, report))
    (one, first), (other, second) = models
    assert same(one, other)
    assert [row[:6] for row in first.rows] == [row[:6] for row in second.rows]
    assert [[part[:4] for part in row.parts] for row in first.rows] == [
        [part[:4] for part in row.parts] for row in second.rows
    ]


def test_the_words_are_these() -> None:
    recipe = Recipe(
        [
            Rule(normal_, types=nn.Linear, params=("weight", "w"), std=0.02),
            Rule(normal_, types="E*", std=std_of, parts=[Part(zeros_, padding_row), Part(zeros_, (0, slice(2, 5)))]),
            Rule(keep, names="x", parts=[Part(half_, chunk(0, 1), scale=1.0)]),
        ]
    )
    assert recipe.to_dict() == {
        "rules": [
            {"init": "normal_", "std": 0.02, "types": "torch.nn.modules.linear.Linear", "params": ["weight", "w"]},
            {
                "init": "normal_",
                "std": {"function": "test_recipe_text:std_of"},
                "types": "E*",
                "parts": [{"init": "zeros_", "at": "padding_row"}, {"init": "zeros_", "at": [0, "2:5"]}],
            },
            {
                "init": "keep",
                "names": "x",
                "parts": [{"init": "test_recipe_text:half_", "scale": 1.0, "at": {"chunk": [0, 1, 0]}}],
            },
        ]
    }


def test_a_recipe_written_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        """
        [[rules]]
        init = "trunc_normal_"
        types = ["Conv*", "Linear", "Embedding"]
        params = "weight"
        std = 0.02

        [[rules]]
        init = "ones_"
        types = "*Norm*"
        params = "weight"

        [[rules]]
        init = "zeros_"
        params = "bias"
        parts = [{ init = "constant_", at = "0:2", val = 1 }]
        """
    )
    model = Small()
    init_model_(model, Recipe.from_toml(path))
    assert values(model)["head.bias"].tolist() == [1, 1, 0, 0, 0]
    assert values(model)["norm.weight"].tolist() == [1] * 8


@pytest.mark.parametrize(
    "rule",
    [
        Rule(normal_, std=lambda module, name, parameter: 1.0),
        Rule(lambda tensor: tensor.zero_()),
        Rule(half_, scale=None),
        Rule(half_, scale=torch.ones(1)),
        Rule(normal_, parts=Part(zeros_, lambda module, name, parameter: 0)),
        Rule(functools.partial(half_, scale=functools.partial(max, 1))),
    ],
)
def test_what_has_no_name_cannot_be_written_and_the_rule_is_shown(rule: Rule) -> None:
    with pytest.raises(RecipeError, match=r"^Rule\(.* cannot be written as plain types: "):
        Recipe([Rule(zeros_), rule]).to_dict()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "a recipe is"),
        ({"rules": {}}, "a recipe is"),
        ({"rules": [], "name": "x"}, "a recipe is"),
        ({"rules": ["normal_"]}, "a rule is a table with .init"),
        ({"rules": [{"std": 1.0}]}, "a rule is a table with .init"),
        ({"rules": [{"init": "normal"}]}, "init must be one of .*normal_.*'normal'"),
        ({"rules": [{"init": 3}]}, "init must be a name"),
        ({"rules": [{"init": "no_such_module:f"}]}, "'no_such_module:f' names no function"),
        ({"rules": [{"init": "math:no_such"}]}, "'math:no_such' names no function"),
        ({"rules": [{"init": "normal_", "sdt": 0.1}]}, "normal_ cannot be called.*sdt"),
        ({"rules": [{"init": "normal_", "types": 3}]}, "types must be"),
        ({"rules": [{"init": "normal_", "std": {"lambda": "x"}}]}, "a table among the arguments"),
        ({"rules": [{"init": "normal_", "parts": [{"init": "zeros_"}]}]}, "a part is a table"),
        ({"rules": [{"init": "normal_", "parts": [{"init": "zeros_", "at": "a:b"}]}]}, "at must be made of.*'a:b'"),
        ({"rules": [{"init": "normal_", "parts": [{"init": "zeros_", "at": "5"}]}]}, "at must be made of.*'5'"),
        (
            {"rules": [{"init": "normal_", "parts": [{"init": "zeros_", "at": []}]}]},
            r"at must be .* non-empty.*got \(\)",
        ),
        ({"rules": [{"init": "normal_", "parts": [{"init": "zeros_", "at": {"chunk": 3}}]}]}, "a chunk is .*got 3"),
        ({"rules": [{"init": "normal_", "parts": [{"init": "zeros_", "at": {"chunk": ["1", 4]}}]}]}, "whole numbers"),
        ({"rules": [{"init": "normal_", "parts": {"init": "zeros_", "at": 3}}]}, "parts must be a list of tables"),
        ({"rules": [{"init": "normal_", "std": {"function": 3}}]}, "a table among the arguments.*3"),
        ({"rules": [{"init": {"from_checkpoint": 3}}]}, "init must be a name.*3"),
        ({"rules": [{"init": "xavier_normal_", "fan_axes": 3}]}, "fan_axes must name .* got 3"),
        ({"rules": [{"init": "xavier_normal_", "fan_axes": ["a", "b"]}]}, "fan_axes must name .*'a'"),
        ([{"init": "normal_"}], "a recipe is"),
    ],
)
def test_what_is_no_recipe_says_what_was_given(given: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe.from_dict(given)


def test_what_is_no_toml_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("rules = [")
    with pytest.raises(RecipeError, match=r"recipe.toml is not TOML"):
        Recipe.from_toml(path)


def test_writing_toml_without_its_extra_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tomli_w", None)
    with pytest.raises(ImportError, match=r"tomli_w: pip install 'torch-fastinit\[models\]'"):
        RECIPE.to_toml(tmp_path / "recipe.toml")
    assert not list(tmp_path.iterdir())
