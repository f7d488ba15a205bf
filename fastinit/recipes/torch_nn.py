"""What the modules of torch.nn do in their reset_parameters: `torch_defaults`, and its rules for other recipes."""

import math

from torch import Tensor, nn

from fastinit.init import constant_, kaiming_uniform_, normal_, ones_, uniform_, xavier_normal_, xavier_uniform_, zeros_
from fastinit.laws import fans
from fastinit.recipe import Recipe
from fastinit.rule import Part, Rule, padding_row

Types = tuple[type | str, ...]

CONVOLUTIONS: Types = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
EMBEDDINGS: Types = (nn.Embedding, nn.EmbeddingBag)
RECURRENT: Types = (nn.RNNBase, nn.RNNCellBase)
WITH_STATISTICS: Types = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)
NORMS: Types = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, *WITH_STATISTICS)


def torch_defaults() -> Recipe:
    """Do what constructing a module of torch.nn does, for all of its classes that own parameters.

    Source: `reset_parameters` of each class of torch.nn, `MultiheadAttention._reset_parameters` and
    `Transformer._reset_parameters` (which makes every matrix inside a torch.nn.Transformer Glorot-uniform, also those
    of layers that draw otherwise on their own).
    """
    return Recipe(
        [
            Rule(
                xavier_uniform_,
                inside=nn.Transformer,
                types=(nn.Linear, nn.Bilinear, nn.MultiheadAttention, *CONVOLUTIONS, *EMBEDDINGS, *RECURRENT),
                params=("*weight*", "bias_k", "bias_v"),
            ),
            *attention(),
            *linear((nn.Linear, *CONVOLUTIONS)),
            Rule(uniform_, types=nn.Bilinear, params=("weight", "bias"), a=_low_bilinear, b=_high_bilinear),
            Rule(normal_, types=EMBEDDINGS, params="weight", parts=Part(zeros_, padding_row)),
            Rule(uniform_, types=RECURRENT, params=("weight_*", "bias_*"), a=_low_recurrent, b=_high_recurrent),
            Rule(constant_, types=nn.PReLU, params="weight", val=_slope),
            *norms(NORMS),
        ]
    )


def linear(types: Types) -> list[Rule]:
    """Return the rules of `Linear.reset_parameters` and `_ConvNd.reset_parameters`: U(±1/sqrt(fan_in)) for both."""
    return [
        Rule(kaiming_uniform_, types=types, params="weight", a=math.sqrt(5)),
        Rule(uniform_, types=types, params="bias", a=_low, b=_high),
    ]


def norms(types: Types) -> list[Rule]:
    """Return the rules of the `reset_parameters` of norms: ones and zeros, and statistics of nothing seen yet."""
    return [
        Rule(ones_, types=types, params="weight"),
        Rule(zeros_, types=types, params="bias"),
        Rule(zeros_, types=types, buffers=("running_mean", "num_batches_tracked")),
        Rule(ones_, types=types, buffers="running_var"),
    ]


def attention() -> list[Rule]:
    """Return the rules of `MultiheadAttention._reset_parameters`.

    Its in_proj_weight is drawn as one matrix of three times the outputs. Its out_proj keeps the weight that Linear
    draws; its class is of its own, which only MultiheadAttention uses.
    """
    return [
        Rule(xavier_uniform_, types=nn.MultiheadAttention, params="?_proj_weight"),
        Rule(xavier_uniform_, types=nn.MultiheadAttention, params="in_proj_weight"),
        Rule(zeros_, types=nn.MultiheadAttention, params="in_proj_bias"),
        Rule(xavier_normal_, types=nn.MultiheadAttention, params=("bias_k", "bias_v")),
        Rule(zeros_, types=nn.modules.linear.NonDynamicallyQuantizableLinear, params="bias"),
    ]


def _high(module: nn.Module, name: str, bias: Tensor) -> float:
    fan_in, _ = fans(module.weight.shape)  # type: ignore[arg-type]
    return 1 / math.sqrt(fan_in) if fan_in > 0 else 0.0


def _low(module: nn.Module, name: str, bias: Tensor) -> float:
    return -_high(module, name, bias)


def _high_bilinear(module: nn.Bilinear, name: str, parameter: Tensor) -> float:
    return 1 / math.sqrt(module.in1_features)


def _low_bilinear(module: nn.Bilinear, name: str, parameter: Tensor) -> float:
    return -_high_bilinear(module, name, parameter)


def _high_recurrent(module: nn.RNNBase | nn.RNNCellBase, name: str, parameter: Tensor) -> float:
    return 1 / math.sqrt(module.hidden_size) if module.hidden_size > 0 else 0.0


def _low_recurrent(module: nn.RNNBase | nn.RNNCellBase, name: str, parameter: Tensor) -> float:
    return -_high_recurrent(module, name, parameter)


def _slope(module: nn.PReLU, name: str, weight: Tensor) -> float:
    return module.init
