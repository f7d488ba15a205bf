"""Ready recipes against what the model classes of timm and torchvision write themselves."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from libraries import disagreements, disagreements_of, library
from recorded_init import record
from torch import nn

from fastinit import Recipe, RecipeError, init_model_, recipes
from fastinit.plan import make_plan

TIMM_VIT = {"img_size": 8, "patch_size": 4, "depth": 2, "num_heads": 2, "embed_dim": 8, "num_classes": 5}
TORCHVISION_VIT = {"image_size": 8, "patch_size": 4, "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 12}


def timm_vit(**changes: Any) -> Callable[[], nn.Module]:
    kind = library("timm.models.vision_transformer").VisionTransformer
    return lambda: kind(**TIMM_VIT, **changes)


def torchvision_vit(**changes: Any) -> Callable[[], nn.Module]:
    kind = library("torchvision.models.vision_transformer").VisionTransformer
    return lambda: kind(**TORCHVISION_VIT, **changes)


@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnet_of_torchvision(name: str, zero: bool) -> None:
    make = getattr(library("torchvision.models.resnet"), name)
    recorded = record(lambda: make(num_classes=5, zero_init_residual=zero))
    assert disagreements_of(*recorded, recipes.resnet(zero_init_residual=zero)) == []
    wrong = disagreements_of(*recorded, recipes.resnet(zero_init_residual=not zero))
    last, blocks = ("bn2", 8) if name == "resnet18" else ("bn3", 16)
    assert len(wrong) == blocks
    assert all(f".{last}.weight: " in line for line in wrong)


def test_resnet_of_torchvision_with_group_norm() -> None:
    make = library("torchvision.models.resnet").resnet18
    build = lambda: make(num_classes=5, zero_init_residual=True, norm_layer=lambda n: nn.GroupNorm(2, n))  # noqa: E731
    assert disagreements(build, recipes.resnet()) == []


@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet18d"])  # d: a stem of three convolutions
def test_resnet_of_timm(name: str, zero: bool) -> None:
    timm = library("timm")
    build = lambda: timm.create_model(name, num_classes=5, zero_init_last=zero)  # noqa: E731
    assert disagreements(build, recipes.resnet(zero_init_residual=zero)) == []


def test_resnet_of_timm_zeroes_by_default_as_the_recipe_does() -> None:
    timm = library("timm")
    assert disagreements(lambda: timm.create_model("resnet18", num_classes=5), recipes.resnet()) == []


def test_what_resnet_does_not_have_is_an_error_that_names_it() -> None:
    timm = library("timm")
    with torch.device("meta"):
        model = timm.create_model("seresnet50", num_classes=5)
    with pytest.raises(RecipeError, match=r"layer1\.0\.se\.fc1\.bias"):
        make_plan(model, recipes.resnet())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"init_values": 1e-5},
        {"reg_tokens": 2, "class_token": False, "global_pool": "avg"},
        {"reg_tokens": 2, "qk_norm": True, "pre_norm": True, "no_embed_class": True},
        {"pos_embed": "none", "num_classes": 0},
    ],
)
def test_vit_of_timm(changes: dict[str, Any]) -> None:
    changes = TIMM_VIT | changes
    kind = library("timm.models.vision_transformer").VisionTransformer
    assert disagreements(lambda: kind(**changes), recipes.vit("timm")) == []


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_vit_of_timm_by_the_names_of_its_registry(name: str) -> None:
    timm = library("timm")
    assert disagreements(lambda: timm.create_model(name, depth=1, num_classes=5), recipes.vit("timm")) == []


def test_another_weight_init_of_timm_would_be_found() -> None:
    lines = disagreements(timm_vit(weight_init="jax"), recipes.vit("timm"))
    assert any("attn.qkv.weight: 192 elements: the library writes uniform" in line for line in lines)
    lines = disagreements(timm_vit(fix_init=True), recipes.vit("timm"))
    assert {line.split(":")[0].split(".")[-2] for line in lines} == {"proj", "fc2"}


def test_vit_of_torchvision() -> None:
    assert disagreements(torchvision_vit(), recipes.vit("torchvision")) == []
    assert disagreements(torchvision_vit(representation_size=6), recipes.vit("torchvision")) == []


def test_vit_of_torchvision_with_a_stem_of_convolutions() -> None:
    stem = library("torchvision.models.vision_transformer").ConvStemConfig
    layers = [stem(4, 3, 2), stem(6, 3, 2)]
    assert disagreements(torchvision_vit(conv_stem_configs=layers), recipes.vit("torchvision")) == []


@pytest.mark.parametrize("source", ["transformers", "timm"])
def test_the_wrong_source_is_an_error(source: Any) -> None:
    with torch.device("meta"):
        model = torchvision_vit()()
    with pytest.raises(RecipeError, match="class_token"):
        init_model_(model, recipes.vit(source))


@pytest.mark.parametrize(
    ("make", "recipe"),
    [
        (timm_vit, recipes.vit("timm")),
        (torchvision_vit, recipes.vit("torchvision")),
        (lambda: lambda: library("torchvision.models.resnet").resnet18(), recipes.resnet()),
        (lambda: lambda: library("timm").create_model("resnet18"), recipes.resnet()),
    ],
    ids=["timm vit", "torchvision vit", "torchvision resnet", "timm resnet"],
)
def test_a_model_on_meta_is_ready_after_init_model(make: Callable[[], Callable[[], nn.Module]], recipe: Recipe) -> None:
    build = make()
    with torch.device("meta"):
        model = build()
    init_model_(model, recipe)  # every buffer by rule
    plain = build()
    for (path, buffer), (_, expected) in zip(model.named_buffers(), plain.named_buffers(), strict=True):
        assert torch.equal(buffer, expected), path
    size = 8 if "VisionTransformer" in type(model).__name__ else 64
    assert model.eval()(torch.zeros(1, 3, size, size)).isfinite().all()
