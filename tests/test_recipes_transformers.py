"""Ready recipes against what the model classes of transformers write themselves."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from libraries import disagreements, library
from recorded_init import cdf, law, record
from scipy import stats as scipy_stats
from torch import nn

from fastinit import Recipe, Rule, init_model_, normal_, recipes
from fastinit.plan import make_plan

GPT2 = {"n_embd": 8, "n_layer": 3, "n_head": 2, "vocab_size": 11, "n_positions": 7}
SMALL = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
LLAMA = SMALL | {"num_key_value_heads": 1, "vocab_size": 11}
BERT = SMALL | {"vocab_size": 11, "max_position_embeddings": 7}
VIT = SMALL | {"image_size": 8, "patch_size": 4}
RESNET = {"embedding_size": 4, "hidden_sizes": [8, 12], "depths": [1, 2], "num_labels": 5}


def model_of(name: str, config: str, arguments: dict[str, Any], **more: Any) -> Callable[[], nn.Module]:
    transformers = library("transformers")
    kind, made = getattr(transformers, name), getattr(transformers, config)(**arguments)
    return lambda: kind(made, **more)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("GPT2Model", {}),
        ("GPT2LMHeadModel", {}),
        ("GPT2LMHeadModel", {"tie_word_embeddings": False}),
        ("GPT2LMHeadModel", {"add_cross_attention": True}),
        ("GPT2LMHeadModel", {"initializer_range": 0.03}),
        ("GPT2DoubleHeadsModel", {}),
        ("GPT2ForSequenceClassification", {}),
        ("GPT2ForTokenClassification", {}),
        ("GPT2ForQuestionAnswering", {}),
    ],
)
def test_gpt2(name: str, changes: dict[str, Any]) -> None:
    recipe = recipes.gpt2(3, std=changes.get("initializer_range", 0.02))
    assert disagreements(model_of(name, "GPT2Config", GPT2 | changes), recipe) == []


@pytest.mark.parametrize("family", ["Llama", "Mistral", "Qwen2"])
@pytest.mark.parametrize(
    ("head", "changes"),
    [
        ("ForCausalLM", {}),
        ("ForCausalLM", {"tie_word_embeddings": True, "pad_token_id": 3}),
        ("ForCausalLM", {"attention_bias": True, "mlp_bias": True, "initializer_range": 0.03}),
        ("Model", {}),
        ("ForSequenceClassification", {}),
        ("ForTokenClassification", {}),
        ("ForQuestionAnswering", {}),
    ],
)
def test_llama(family: str, head: str, changes: dict[str, Any]) -> None:
    recipe = recipes.llama(std=changes.get("initializer_range", 0.02))
    assert disagreements(model_of(family + head, f"{family}Config", LLAMA | changes), recipe) == []


def test_llama_with_its_number_of_layers_differs_from_transformers_in_the_residual_outputs_alone() -> None:
    build = model_of("LlamaForCausalLM", "LlamaConfig", LLAMA)
    lines = disagreements(build, recipes.llama(2))
    outputs = {f"model.layers.{i}.{name}.weight" for i in (0, 1) for name in ("self_attn.o_proj", "mlp.down_proj")}
    assert {line.split(":")[0] for line in lines} == outputs
    assert all("the library writes normal(mean=0, std=0.02), the recipe normal(mean=0, std=0.01)" in x for x in lines)


@pytest.mark.parametrize(
    "name",
    [
        *("BertModel", "BertForPreTraining", "BertLMHeadModel", "BertForMaskedLM", "BertForNextSentencePrediction"),
        *("BertForSequenceClassification", "BertForMultipleChoice", "BertForTokenClassification"),
        "BertForQuestionAnswering",
    ],
)
def test_bert(name: str) -> None:
    assert disagreements(model_of(name, "BertConfig", BERT), recipes.bert()) == []


@pytest.mark.parametrize("changes", [{"tie_word_embeddings": False}, {"pad_token_id": None}, {"pad_token_id": 5}])
def test_bert_untied_and_with_other_padding(changes: dict[str, Any]) -> None:
    assert disagreements(model_of("BertForMaskedLM", "BertConfig", BERT | changes), recipes.bert()) == []


def test_bert_without_the_zeros_of_the_padding_token_would_be_found() -> None:
    wrong = Recipe([Rule(normal_, types=nn.Embedding, std=0.02)]) + recipes.bert()
    (line,) = disagreements(model_of("BertModel", "BertConfig", BERT), wrong)
    assert line == (
        "embeddings.word_embeddings.weight: 8 elements: "
        "the library writes constant(val=0), the recipe normal(mean=0, std=0.02)"
    )


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("ViTModel", {}),
        ("ViTModel", {"add_pooling_layer": False, "use_mask_token": True}),
        ("ViTForImageClassification", {}),
        ("ViTForMaskedImageModeling", {}),
    ],
)
def test_vit(name: str, more: dict[str, Any]) -> None:
    assert disagreements(model_of(name, "ViTConfig", VIT, **more), recipes.vit()) == []


@pytest.mark.parametrize("layer_type", ["basic", "bottleneck"])
@pytest.mark.parametrize("name", ["ResNetModel", "ResNetForImageClassification", "ResNetBackbone"])
def test_resnet(name: str, layer_type: str) -> None:
    build = model_of(name, "ResNetConfig", RESNET | {"layer_type": layer_type})
    assert disagreements(build, recipes.resnet(zero_init_residual=False)) == []


@pytest.mark.parametrize(("layer_type", "last"), [("basic", 1), ("bottleneck", 2)])
def test_zero_init_residual_is_the_last_norm_of_each_layer_and_nothing_else(layer_type: str, last: int) -> None:
    build = model_of("ResNetModel", "ResNetConfig", RESNET | {"layer_type": layer_type})
    places = ((0, 0), (1, 0), (1, 1))
    lines = disagreements(build, recipes.resnet())
    assert {line.split(":")[0] for line in lines} == {
        f"encoder.stages.{stage}.layers.{layer}.layer.{last}.normalization.weight" for stage, layer in places
    }


# The values

WIDE = {"hidden_size": 64, "intermediate_size": 128}


@pytest.mark.parametrize(
    ("name", "config", "arguments", "recipe"),
    [
        ("GPT2LMHeadModel", "GPT2Config", GPT2 | {"n_embd": 64}, recipes.gpt2(3)),
        ("LlamaForCausalLM", "LlamaConfig", LLAMA | WIDE | {"pad_token_id": 3}, recipes.llama()),
        ("BertForMaskedLM", "BertConfig", BERT | WIDE, recipes.bert()),
        ("ViTForImageClassification", "ViTConfig", VIT | WIDE, recipes.vit()),
        ("ResNetModel", "ResNetConfig", RESNET, recipes.resnet(zero_init_residual=False)),
    ],
)
def test_what_init_model_writes_follows_the_laws_that_the_library_writes(
    name: str, config: str, arguments: dict[str, Any], recipe: Recipe
) -> None:
    """A KS test for each random law, at p > 1e-4 of a fixed key; what is constant, exactly."""
    model, recorder = record(model_of(name, config, arguments))
    init_model_(model, recipe, key=11)
    for index, written in enumerate(recorder.laws):
        taken = [parameter.detach()[recorder.of(parameter) == index] for parameter in model.parameters()]
        values = torch.cat([one.flatten() for one in taken])
        if isinstance(written, str):
            assert not values.numel(), written
        elif written.kind == "constant":
            assert values.eq(written.numbers[0]).all()
        elif values.numel():
            assert scipy_stats.kstest(values.double().numpy(), cdf(written)).pvalue > 1e-4, written


# From the meta device


@pytest.mark.parametrize(
    ("name", "config", "arguments", "recipe"),
    [
        ("GPT2LMHeadModel", "GPT2Config", GPT2, recipes.gpt2(3)),
        ("LlamaForCausalLM", "LlamaConfig", LLAMA | {"tie_word_embeddings": True}, recipes.llama()),
        ("BertForMaskedLM", "BertConfig", BERT, recipes.bert()),
        ("ViTForImageClassification", "ViTConfig", VIT, recipes.vit()),
        ("ResNetForImageClassification", "ResNetConfig", RESNET, recipes.resnet()),
    ],
)
def test_a_model_on_meta_is_ready_after_init_model(
    name: str, config: str, arguments: dict[str, Any], recipe: Recipe
) -> None:
    build = model_of(name, config, arguments)
    with torch.device("meta"):
        model = build()
    init_model_(model, recipe, buffers="reset")
    plain = build()
    for (path, buffer), (_, expected) in zip(model.named_buffers(), plain.named_buffers(), strict=True):
        assert torch.equal(buffer, expected), path
    model.eval()
    inputs = {"pixel_values": torch.zeros(1, 3, 8, 8)} if "Image" in name else {"input_ids": torch.tensor([[1, 2, 3]])}
    out = model(**inputs)
    assert out.logits.isfinite().all()
    if name == "BertForMaskedLM":
        assert not model.bert.embeddings.word_embeddings.weight[0].any()
        assert model.bert.embeddings.word_embeddings.weight[1:].any(dim=1).all()


def test_the_whole_size_models_are_covered_too() -> None:
    transformers = library("transformers")
    with torch.device("meta"):
        gpt2 = transformers.GPT2LMHeadModel(transformers.GPT2Config())
    entries = {entry.name: entry.law for entry in make_plan(gpt2, recipes.gpt2(12)).entries}
    assert entries["transformer.h.11.mlp.c_proj.weight"] == law("normal", 0, 0.02 / 24**0.5)
