"""Language models as transformers initialises them: `gpt2`, `llama`, `bert`."""

import math

from torch import nn

from fastinit.init import normal_, ones_, zeros_
from fastinit.recipe import Recipe
from fastinit.recipes.torch_nn import Types
from fastinit.rule import Part, Rule, padding_row


def gpt2(n_layer: int, *, std: float = 0.02) -> Recipe:
    """GPT-2: N(0, std²) everywhere, and the outputs onto the residual path divided by sqrt(2 n_layer).

    Source: transformers' `GPT2PreTrainedModel._init_weights`, with std its config.initializer_range (Radford et al.
    2019, section 2.3, scales by 1/sqrt(N) for N residual layers, of which a block has two). Also fits code in the
    style of nanoGPT, whose c_proj are nn.Linear.

    Args:
        n_layer: blocks of the model; below 1 a ValueError
        std: standard deviation of all other matrices

    """
    conv1d = "transformers.*.Conv1D"
    residual = std / math.sqrt(2 * _layers(n_layer))
    return Recipe(
        [
            Rule(normal_, types=(conv1d, nn.Linear), names="*.c_proj.weight", std=residual),
            *normal_everywhere(std, layers=(nn.Linear, conv1d), norms=(nn.LayerNorm,)),
        ]
    )


def llama(n_layer: int | None = None, *, std: float = 0.02) -> Recipe:
    """Llama: N(0, std²) everywhere; with `n_layer`, the residual outputs divided by sqrt(2 n_layer).

    Source: without n_layer, transformers' `PreTrainedModel._init_weights`, which Llama, Mistral and Qwen2 leave as it
    is, with std their config.initializer_range. With it, Megatron-LM's default for the same architecture:
    `output_layer_init_method`, that is `scaled_init_method_normal(std, n_layer)` of megatron/core/utils.py, for the
    projections onto the residual path, o_proj and down_proj.

    Args:
        n_layer: layers of the model, if residual outputs are to be scaled; below 1 a ValueError
        std: standard deviation of all other matrices

    """
    rules = normal_everywhere(
        std, layers=(nn.Linear,), norms=("LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", nn.RMSNorm)
    )
    if n_layer is not None:
        residual = std / math.sqrt(2 * _layers(n_layer))
        rules.insert(0, Rule(normal_, types=nn.Linear, names=("*.o_proj.weight", "*.down_proj.weight"), std=residual))
    return Recipe(rules)


def bert(*, std: float = 0.02) -> Recipe:
    """BERT: N(0, std²) everywhere, zeros in the row of the padding token.

    Source: transformers' `BertPreTrainedModel._init_weights`, with std its config.initializer_range. (Devlin et al.
    and Google's code cut the normal at two standard deviations; transformers does not.)

    Args:
        std: standard deviation of matrices and embeddings

    """
    return Recipe(
        [
            *normal_everywhere(std, layers=(nn.Linear,), norms=(nn.LayerNorm,)),
            Rule(zeros_, types="BertLMPredictionHead", params="bias"),
            Rule(zeros_, types="BertEmbeddings", buffers="token_type_ids"),
        ]
    )


def normal_everywhere(std: float, layers: Types, norms: Types) -> list[Rule]:
    """Return the rules of transformers' `PreTrainedModel._init_weights` for these classes, and for embeddings."""
    return [
        Rule(normal_, types=layers, params="weight", std=std),
        Rule(zeros_, types=layers, params="bias"),
        Rule(normal_, types=nn.Embedding, params="weight", std=std, parts=Part(zeros_, padding_row)),
        Rule(ones_, types=norms, params="weight"),
        Rule(zeros_, types=norms, params="bias"),
    ]


def _layers(n_layer: int) -> int:
    if not isinstance(n_layer, int) or n_layer < 1:
        raise ValueError(f"n_layer must be a whole number of at least 1, got {n_layer!r}")
    return n_layer
