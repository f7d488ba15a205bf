"""The architectures of `python -m fastinit bench`, each with a recipe that does what its authors or transformers do."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from fastinit import recipes
from fastinit.bench.c3d import C3D
from fastinit.recipe import Recipe


class Architecture(NamedTuple):
    build: Callable[[], nn.Module]  # imports transformers; wants a meta-device context
    recipe: Recipe


def _llama(**size: int | bool) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    common = {"vocab_size": 128256, "num_attention_heads": 32, "num_key_value_heads": 8}
    return LlamaForCausalLM(LlamaConfig.from_dict(common | size))


def _llama_1b() -> nn.Module:
    """Llama 3.2 1B."""
    return _llama(hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, tie_word_embeddings=True)


def _llama_8b() -> nn.Module:
    """Llama 3 8B."""
    return _llama(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, tie_word_embeddings=False)


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


def _bert_large() -> nn.Module:
    from transformers import BertConfig, BertForPreTraining

    size = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    return BertForPreTraining(BertConfig.from_dict(size))


def _resnet(depths: list[int]) -> nn.Module:
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(ResNetConfig.from_dict({"num_labels": 1000, "depths": depths}))


# Those of transformers have the recipe of their class.
ARCHITECTURES = {
    "llama-1b": Architecture(_llama_1b, recipes.llama()),
    "llama-8b": Architecture(_llama_8b, recipes.llama()),
    "gpt2-xl": Architecture(_gpt2_xl, recipes.gpt2(48)),
    "bert-large": Architecture(_bert_large, recipes.bert()),
    "vit-l": Architecture(_vit_large, recipes.vit()),
    "resnet-50": Architecture(lambda: _resnet([3, 4, 6, 3]), recipes.resnet(zero_init_residual=False)),
    "resnet-152": Architecture(lambda: _resnet([3, 8, 36, 3]), recipes.resnet(zero_init_residual=False)),
    "c3d": Architecture(C3D, recipes.c3d()),
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
