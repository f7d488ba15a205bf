"""The architectures of `python -m fastinit bench`, each with a recipe that does what transformers does."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from fastinit.init import kaiming_normal_, kaiming_uniform_, normal_, ones_, trunc_normal_, uniform_, zeros_
from fastinit.recipe import Recipe
from fastinit.rule import Rule


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


# What transformers' PreTrainedModel._init_weights does everywhere: N(0, initializer_range = 0.02) in linear
# layers, convolutions and embeddings, ones in the weights of norms, zeros in biases.
_NORMAL = Rule(normal_, types=(nn.Linear, nn.Embedding, nn.Conv2d), params="weight", std=0.02)
_ZERO_BIAS = Rule(zeros_, params="bias")

ARCHITECTURES = {
    "llama-1b": Architecture(
        _llama,
        # LlamaRMSNorm is not a torch norm: by the name of the parameter.
        Recipe([_NORMAL, Rule(ones_, names=("*norm.weight", "*layernorm.weight"))]),
    ),
    "gpt2-xl": Architecture(
        _gpt2_xl,
        # GPT2PreTrainedModel: outputs onto the residual path get 0.02 / sqrt(2 n_layer). Conv1D is
        # transformers' own.
        Recipe(
            [
                Rule(normal_, names="*.c_proj.weight", std=0.02 / (2 * 48) ** 0.5),
                Rule(normal_, names=("*.c_attn.weight", "*.c_fc.weight"), std=0.02),
                _NORMAL,
                Rule(ones_, types=nn.LayerNorm, params="weight"),
                _ZERO_BIAS,
            ]
        ),
    ),
    "vit-l": Architecture(
        _vit_large,
        # ViTPreTrainedModel: positions and class token from the truncated normal on [-2, 2].
        Recipe(
            [
                Rule(trunc_normal_, params=("position_embeddings", "cls_token"), std=0.02),
                _NORMAL,
                Rule(ones_, types=nn.LayerNorm, params="weight"),
                _ZERO_BIAS,
            ]
        ),
    ),
    "resnet-50": Architecture(
        _resnet_50,
        # ResNetPreTrainedModel: He's normal by fan out in convolutions, torch's own defaults in the
        # classifier.
        Recipe(
            [
                Rule(kaiming_normal_, types=nn.Conv2d, params="weight", mode="fan_out", nonlinearity="relu"),
                Rule(kaiming_uniform_, types=nn.Linear, params="weight", a=5**0.5),
                Rule(uniform_, types=nn.Linear, params="bias", a=-(2048**-0.5), b=2048**-0.5),
                Rule(ones_, types=nn.BatchNorm2d, params="weight"),
                _ZERO_BIAS,
            ]
        ),
    ),
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
