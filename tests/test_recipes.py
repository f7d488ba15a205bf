"""Ready recipes: what holds for all of them, C3D, and that a wrong recipe would be found."""

import math

import pytest
import torch
from libraries import disagreements
from recorded_init import law
from torch import nn

from fastinit import Part, Recipe, RecipeError, Rule, init_model_, normal_, padding_row, recipes, zeros_
from fastinit.bench.c3d import C3D, FILLERS
from fastinit.plan import make_plan

READY = {
    "torch_defaults": recipes.torch_defaults(),
    "gpt2": recipes.gpt2(12),
    "llama": recipes.llama(),
    "llama(32)": recipes.llama(32),
    "vit": recipes.vit(),
    "vit(timm)": recipes.vit("timm"),
    "vit(torchvision)": recipes.vit("torchvision"),
    "resnet": recipes.resnet(),
    "resnet(False)": recipes.resnet(zero_init_residual=False),
    "bert": recipes.bert(),
    "c3d": recipes.c3d(),
}


class Unknown(nn.Module):
    """Parameters and buffers under every name that a library of today gives its own, in a class that none knows."""

    def __init__(self) -> None:
        super().__init__()
        for recipe in READY.values():
            for rule in recipe.rules:
                for glob in rule.params or ():
                    self.register_parameter(glob.replace("*", "x").replace("?", "q"), nn.Parameter(torch.zeros(2, 2)))
        for name in ("weight", "bias", "gamma", "scale", "c_proj", "position_ids"):
            self.register_parameter(name, nn.Parameter(torch.zeros(2, 2)))
        for name in ("running_mean", "running_var", "num_batches_tracked", "token_type_ids"):
            self.register_buffer(name, torch.zeros(2))


@pytest.mark.parametrize("name", READY)
def test_no_recipe_has_a_catch_all_rule(name: str) -> None:
    model = nn.ModuleDict({path: Unknown() for path in ("c_proj", "o_proj", "fc8", "conv1a", "heads", "norm", "bn2")})
    assert all(entry.rule is None for entry in make_plan(model, READY[name], strict=False).entries)
    with pytest.raises(RecipeError, match=r"heads\.gamma"):
        init_model_(model, READY[name])


@pytest.mark.parametrize("name", READY)
def test_every_recipe_is_the_same_when_written_and_read_again(name: str) -> None:
    again = Recipe.from_dict(READY[name].to_dict())
    assert repr(again.to_dict()) == repr(READY[name].to_dict())
    model = nn.ModuleList([nn.Linear(3, 4), nn.Embedding(5, 3, padding_idx=1), nn.BatchNorm2d(3), nn.Conv2d(2, 3, 3)])
    plans = [make_plan(model, recipe, strict=False).entries for recipe in (READY[name], again)]
    assert [entry[:8] for entry in plans[0]] == [entry[:8] for entry in plans[1]]


@pytest.mark.parametrize("name", READY)
def test_every_recipe_names_its_source(name: str) -> None:
    text = getattr(recipes, name.split("(")[0]).__doc__
    assert any(word in text for word in ("Source: ", "`ViTPreTrainedModel._init_weights`"))


@pytest.mark.parametrize("n_layer", [0, -1, 1.5, "12"])
def test_a_number_of_layers_that_cannot_be_is_refused(n_layer: object) -> None:
    for make in (recipes.gpt2, recipes.llama):
        with pytest.raises(ValueError, match="n_layer must be a whole number of at least 1"):
            make(n_layer)


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(ValueError, match="'transformers', 'timm', 'torchvision', got 'jax'"):
        recipes.vit("jax")


# C3D


def test_c3d_has_the_fillers_of_the_published_definition() -> None:
    with torch.device("meta"):
        model = C3D()
    entries = {entry.name: entry.law for entry in make_plan(model, recipes.c3d()).entries}
    expected = {f"{name}.weight": law("normal", 0, layer.std) for name, layer in FILLERS.items()}
    expected |= {f"{name}.bias": law("constant", layer.bias) for name, layer in FILLERS.items()}
    assert entries == expected
    assert sum(parameter.numel() for parameter in model.parameters()) == 79_991_015


def test_c3d_by_other_names_of_its_first_and_last_layer() -> None:
    model = nn.ModuleDict({"stem": nn.Conv3d(3, 4, 3), "next": nn.Conv3d(4, 4, 3), "head": nn.Linear(4, 2)})
    recipe = recipes.c3d(first="stem", last="head")
    entries = {entry.name: entry.law for entry in make_plan(nn.ModuleDict({"net": model}), recipe).entries}
    assert entries["net.stem.bias"] == law("constant", 0)
    assert entries["net.next.bias"] == law("constant", 1)
    assert entries["net.head.weight"] == law("normal", 0, 0.01)
    assert entries["net.head.bias"] == law("constant", 0)


def test_c3d_from_meta_runs() -> None:
    with torch.device("meta"):
        model = C3D(thinner=32)
    init_model_(model, recipes.c3d())
    scores = model(torch.zeros(1, 3, 16, 112, 112))
    assert scores.shape == (1, 487)
    assert scores.isfinite().all()


# GPT-2's law in models that are not transformers'


def test_gpt2_takes_the_linear_layers_of_nanogpt() -> None:
    block = nn.ModuleDict({"c_attn": nn.Linear(4, 12), "c_proj": nn.Linear(4, 4)})
    model = nn.ModuleDict({"wte": nn.Embedding(5, 4), "h": nn.ModuleList([block]), "ln_f": nn.LayerNorm(4)})
    entries = {entry.name: entry.law for entry in make_plan(model, recipes.gpt2(3)).entries}
    assert entries["h.0.c_proj.weight"] == law("normal", 0, 0.02 / math.sqrt(6))
    assert entries["h.0.c_attn.weight"] == entries["wte.weight"] == law("normal", 0, 0.02)
    assert entries["h.0.c_proj.bias"] == law("constant", 0)


# Negative controls


def embedding_and_linear() -> nn.Module:
    return nn.ModuleDict({"embedding": nn.Embedding(7, 3, padding_idx=2), "linear": nn.Linear(3, 4)})


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (Rule(normal_, types=nn.Embedding), "embedding.weight: 3 elements: the library writes constant"),
        (Rule(normal_, types=nn.Embedding, std=1.01, parts=Part(zeros_, padding_row)), "embedding.weight: 18 elements"),
        (Rule(normal_, types=nn.Embedding, parts=Part(zeros_, 1)), "embedding.weight: 3 elements"),
        (Rule(zeros_, types=nn.Linear, params="bias"), "linear.bias: 4 elements: the library writes uniform"),
        (Rule(normal_, types=nn.Linear, params="weight", std=0.3), "linear.weight: 12 elements: the library"),
    ],
    ids=["padding row forgotten", "std", "other row", "zero bias", "other law"],
)
def test_a_wrong_rule_would_be_found(first: Rule, message: str) -> None:
    right = recipes.torch_defaults()
    assert disagreements(embedding_and_linear, right) == []
    wrong = disagreements(embedding_and_linear, Recipe([first]) + right)
    assert any(message in line for line in wrong), wrong
