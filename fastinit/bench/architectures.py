"""The architectures of `python -m fastinit bench`, each with a recipe that does what transformers does."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from fastinit import recipes
from fastinit.recipe import Recipe


class Architecture(NamedTuple):
    build: Callable[[], nn.Module]  # imports transformers; wants a meta-device context
    recipe: Recipe


def _llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=128256,
            hidden_size=2048,
            intermediate_size=8192,
            num_hidden_layers=16,
            num_attention_heads=32,
            num_key_value_heads=8,
            tie_word_embeddings=True,
        )
    )


def _gpt2_xl() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_embd=1600, n_layer=48, n_head=25))


def _vit_large() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    size = {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    }
    return ViTForImageClassification(ViTConfig.from_dict(size | {"num_labels": 1000}))


def _resnet_50() -> nn.Module:
    from transformers import ResNetConfig, ResNetForImageClassification

    # The default configuration is ResNet-50's.
    return ResNetForImageClassification(ResNetConfig.from_dict({"num_labels": 1000}))


# Each does what transformers does for its class.
ARCHITECTURES = {
    "llama-1b": Architecture(_llama, recipes.llama()),
    "gpt2-xl": Architecture(_gpt2_xl, recipes.gpt2(48)),
    "vit-l": Architecture(_vit_large, recipes.vit()),
    "resnet-50": Architecture(_resnet_50, recipes.resnet(zero_init_residual=False)),
}


def on_meta(name: str, dtype: torch.dtype) -> nn.Module:
    """Build the architecture without memory."""
    with torch.device("meta"):
        return ARCHITECTURES[name].build().to(dtype)


def materialised(model: nn.Module) -> nn.Module:
    """Give it memory, whatever that holds, and tie its tied weights again: `to_empty` parts them."""
    model.to_empty(device="cpu")
    tie = getattr(model, "tie_weights", None)
    if tie is not None:
        tie()
    return model
