"""Other people's models inside `fastinit.batched()`: the bits of plain construction, and torch's generator after it.

Every parameter and buffer of each class is compared.
"""

import copy
from collections.abc import Callable

import pytest
import torch
from libraries import library
from model_zoo import TIMM, TORCHVISION, TRANSFORMERS, convnext_of_torchvision, of_timm, of_torchvision, of_transformers
from same_bits import digest, disagreements
from settings import default_dtype
from torch import nn

import fastinit
from fastinit.bench import architectures

VIT = "vit_tiny_patch16_224"


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_of_transformers(name: str) -> None:
    assert disagreements(of_transformers(name)) == []


@pytest.mark.parametrize("name", TIMM)
def test_of_timm(name: str) -> None:
    assert disagreements(of_timm(name)) == []


@pytest.mark.parametrize("weight_init", ["jax", "jax_nlhb", "moco", "reset"])
def test_a_vit_of_timm_by_its_other_weight_inits(weight_init: str) -> None:
    assert disagreements(of_timm(VIT, weight_init=weight_init)) == []


@pytest.mark.parametrize("name", TORCHVISION)
def test_of_torchvision(name: str) -> None:
    assert disagreements(of_torchvision(name)) == []


def test_a_convnext_of_torchvision() -> None:
    assert disagreements(convnext_of_torchvision()) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: of_transformers("LlamaForCausalLM"),
        lambda: of_transformers("GPT2LMHeadModel"),
        lambda: of_transformers("ViTForImageClassification"),
        lambda: of_transformers("T5ForConditionalGeneration"),
        lambda: of_timm(VIT),
        lambda: of_timm("efficientnet_b0"),
        lambda: of_torchvision("VisionTransformer"),
        lambda: of_torchvision("resnet18"),
    ],
    ids=["llama", "gpt2", "vit", "t5", "timm vit", "timm efficientnet", "torchvision vit", "torchvision resnet"],
)
def test_in_bfloat16(make: Callable[[], Callable[[], nn.Module]]) -> None:
    build = make()
    with default_dtype(torch.bfloat16):
        assert disagreements(build) == []


def test_in_the_type_that_from_config_is_told() -> None:
    assert disagreements(of_transformers("LlamaForCausalLM", dtype=torch.bfloat16)) == []


def reinitialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            module.bias.data.zero_()
    elif isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
        module.weight.data.normal_(1, 0.02)
        module.bias.data.fill_(0.1)
    elif isinstance(module, nn.Embedding):
        module.weight.data.uniform_(-0.1, 0.1)


def applied(build: Callable[[], nn.Module]) -> nn.Module:
    return build().apply(reinitialise)


def rounded(build: Callable[[], nn.Module]) -> nn.Module:
    return build().to(torch.bfloat16)


def averaged(build: Callable[[], nn.Module]) -> nn.Module:
    """Return a model, and its copy that an average starts from: a copy reads what is pending."""
    model = build()
    return nn.ModuleDict({"copy": copy.deepcopy(model).apply(reinitialise), "model": model})


def loaded(build: Callable[[], nn.Module]) -> nn.Module:
    model = build()
    model.load_state_dict(build().state_dict())
    return model


def finely_tuned(build: Callable[[], nn.Module]) -> nn.Module:
    """Return a model that has taken a step: a forward pass, its gradients and an optimiser's writing."""
    model = build()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    size = 32 if type(model).__module__.startswith("timm") else 64
    model(torch.randn(2, 3, size, size)).square().mean().backward()
    optimiser.step()
    optimiser.zero_grad()
    return model


@pytest.mark.parametrize("then", [applied, rounded, averaged, loaded])
@pytest.mark.parametrize(
    "make",
    [
        lambda: of_transformers("GPT2LMHeadModel"),
        lambda: of_timm(VIT),
        lambda: of_torchvision("mobilenet_v3_small"),
    ],
    ids=["gpt2", "timm vit", "torchvision mobilenet"],
)
def test_a_model_that_is_changed_within_the_block(
    make: Callable[[], Callable[[], nn.Module]], then: Callable[[Callable[[], nn.Module]], nn.Module]
) -> None:
    build = make()
    assert disagreements(lambda: then(build)) == []


@pytest.mark.parametrize(
    "make",
    [lambda: of_timm(VIT), lambda: of_torchvision("mobilenet_v3_small")],
    ids=["timm vit", "torchvision mobilenet"],
)
def test_a_model_that_takes_a_step_within_the_block(make: Callable[[], Callable[[], nn.Module]]) -> None:
    build = make()
    assert disagreements(lambda: finely_tuned(build)) == []


@pytest.mark.parametrize(
    "make",
    [lambda: of_transformers("GPT2LMHeadModel"), lambda: of_timm("resnet10t"), lambda: of_torchvision("resnet18")],
    ids=["transformers", "timm", "torchvision"],
)
def test_the_block_has_recorded_what_these_libraries_fill(make: Callable[[], Callable[[], nn.Module]]) -> None:
    """A block that did nothing would agree with plain construction too."""
    build = make()
    with fastinit.batched() as block:
        model = build()
    matrices = sum(parameter.dim() > 1 for parameter in model.parameters())
    assert block.recorded >= 2 * matrices, "each is filled by torch's module and then by its library"
    assert block.dead >= matrices - 1, "and the first of these is not computed"


def large(name: str) -> Callable[[], nn.Module]:
    kind, _, which = name.partition(" ")
    if kind == "transformers":
        library("transformers")
        return architectures.ARCHITECTURES[which].build
    if kind == "timm":
        timm = library("timm")
        return lambda: timm.create_model(which)
    return getattr(library("torchvision.models"), which)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "transformers gpt2-xl",  # 6.2 GB
        "transformers llama-1b",
        "timm vit_large_patch16_224",
        "torchvision vit_l_16",
        "torchvision resnet152",
    ],
)
def test_large(name: str) -> None:
    assert disagreements(large(name), value=digest) == []


def changed(change: Callable[[nn.Module], object]) -> str:
    """Return what is said of a model that is changed the second time it is built."""
    build, changes = of_transformers("GPT2LMHeadModel"), iter((lambda model: None, change))

    def build_and_change() -> nn.Module:
        model = build()
        next(changes)(model)
        return model

    return "; ".join(disagreements(build_and_change))


def test_a_difference_is_found() -> None:
    def tie_no_more(model: nn.Module) -> None:
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())

    def transpose_memory(model: nn.Module) -> None:
        model.transformer.wpe.weight.data = model.transformer.wpe.weight.detach().t().contiguous().t()

    assert changed(lambda model: None) == ""
    assert changed(lambda model: torch.rand(1)) == "another state of torch's generator"
    assert "h.1.mlp.c_fc.bias: bits differ in 32 of 128 bytes" in changed(  # -0, which equals 0
        lambda model: model.transformer.h[1].mlp.c_fc.bias.data.neg_()
    )
    assert "lm_head.weight: storage of lm_head.weight, expected" in changed(tie_no_more)
    assert "wpe.weight: stride (1, 7), expected (8, 1)" in changed(transpose_memory)
    assert "ln_f.bias: version 3, expected 2" in changed(lambda model: nn.init.zeros_(model.transformer.ln_f.bias))
    assert "ln_f.bias: requires_grad False" in changed(lambda model: model.transformer.ln_f.requires_grad_(False))
    assert "ln_f.bias: dtype torch.float64" in changed(lambda model: model.double())
