"""Models of images and video: `vit` and `resnet` as timm, torchvision and transformers have them, `c3d`."""

import math
from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from fastinit.init import constant_, kaiming_normal_, normal_, trunc_normal_, xavier_uniform_, zeros_
from fastinit.laws import fans
from fastinit.recipe import Recipe
from fastinit.recipes.language import normal_everywhere
from fastinit.recipes.torch_nn import attention, linear, norms
from fastinit.rule import Rule


def vit(source: Literal["transformers", "timm", "torchvision"] = "transformers", *, std: float = 0.02) -> Recipe:
    """Return the vision transformer as one of three libraries initialises it: they share few laws and no names.

    Source: "transformers": `ViTPreTrainedModel._init_weights`, std its config.initializer_range. "timm":
    `VisionTransformer` with its default weight_init="" (`init_weights_vit_timm`). "torchvision":
    `VisionTransformer.__init__` and `MLPBlock.__init__`, where std is that of the positions.

    Args:
        source: the library; another name is a ValueError
        std: standard deviation of the laws that have no fans in them

    """
    sources: dict[str, Callable[[float], Recipe]] = {
        "transformers": _vit_transformers,
        "timm": _vit_timm,
        "torchvision": _vit_torchvision,
    }
    if source not in sources:
        raise ValueError(f"source must be one of {', '.join(map(repr, sources))}, got {source!r}")
    return sources[source](std)


def _vit_transformers(std: float) -> Recipe:
    return Recipe(
        [
            Rule(trunc_normal_, types="ViTEmbeddings", params=("position_embeddings", "cls_token"), std=std),
            Rule(zeros_, types="ViTEmbeddings", params="mask_token"),
            *normal_everywhere(std, layers=(nn.Linear, nn.Conv2d), norms=(nn.LayerNorm,)),
        ]
    )


def _vit_timm(std: float) -> Recipe:
    return Recipe(
        [
            Rule(trunc_normal_, types="VisionTransformer", params=("pos_embed", "dist_token"), std=std),
            Rule(normal_, types="VisionTransformer", params=("cls_token", "reg_token"), std=1e-6),
            Rule(trunc_normal_, types=nn.Linear, params="weight", std=std),
            Rule(zeros_, types=nn.Linear, params="bias"),
            *linear((nn.Conv2d,)),
            Rule(constant_, types="LayerScale", params="gamma", val=_init_values),
            *norms((nn.LayerNorm,)),
        ]
    )


def _vit_torchvision(std: float) -> Recipe:
    return Recipe(
        [
            Rule(zeros_, types="VisionTransformer", params="class_token"),
            Rule(normal_, types="Encoder", params="pos_embedding", std=std),
            Rule(trunc_normal_, types=nn.Conv2d, names="*conv_proj.weight", std=_lecun),
            # A stem of several convolutions, of which the last stands here and the others as torch makes them.
            Rule(normal_, types=nn.Conv2d, names="*conv_proj.conv_last.weight", std=_he_fan_out),
            Rule(zeros_, types=nn.Conv2d, names=("*conv_proj.bias", "*conv_proj.conv_last.bias")),
            *linear((nn.Conv2d,)),
            *attention(),
            *linear((nn.modules.linear.NonDynamicallyQuantizableLinear,)),
            Rule(xavier_uniform_, types=nn.Linear, inside="MLPBlock", params="weight"),
            Rule(normal_, types=nn.Linear, inside="MLPBlock", params="bias", std=1e-6),
            Rule(trunc_normal_, types=nn.Linear, names="*heads.pre_logits.weight", std=_lecun),
            Rule(zeros_, types=nn.Linear, names=("*heads.pre_logits.bias", "*heads.head.*")),
            *norms((nn.LayerNorm, nn.BatchNorm2d)),
        ]
    )


def resnet(zero_init_residual: bool = True) -> Recipe:
    """ResNet as torchvision, timm and transformers have it: He's normal by fan out, torch's own in the classifier.

    Source: torchvision's `ResNet.__init__`, timm's `ResNet.init_weights`, transformers'
    `ResNetPreTrainedModel._init_weights`.

    Args:
        zero_init_residual: zeros in the weight of the last norm of each residual branch (Goyal et al. 2017, section
            5.1): off by default in torchvision, on in timm (its zero_init_last), and not in transformers at all, whose
            own law is zero_init_residual=False

    """
    last_norms = [
        Rule(zeros_, types=_RESNET_NORMS, inside="BasicBlock", names="*.bn2.weight"),
        Rule(zeros_, types=_RESNET_NORMS, inside="Bottleneck", names="*.bn3.weight"),
        Rule(zeros_, types=_RESNET_NORMS, inside="ResNetBasicLayer", names="*.layer.1.normalization.weight"),
        Rule(zeros_, types=_RESNET_NORMS, inside="ResNetBottleNeckLayer", names="*.layer.2.normalization.weight"),
    ]
    return Recipe(
        [
            *(last_norms if zero_init_residual else []),
            Rule(kaiming_normal_, types=nn.Conv2d, params="weight", mode="fan_out", nonlinearity="relu"),
            *linear((nn.Linear,)),
            *norms(_RESNET_NORMS),
        ]
    )


_RESNET_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, nn.GroupNorm)


def c3d(first: str = "conv1a", last: str = "fc8") -> Recipe:
    """C3D (Tran et al., Learning Spatiotemporal Features with 3D Convolutional Networks, ICCV 2015, figure 3).

    Source: the fillers of the network definitions that its authors published for Caffe (facebookarchive/C3D,
    examples/c3d_finetuning/c3d_ucf101_finetuning_train.prototxt): N(0, 0.01²) in convolutions and the last layer,
    N(0, 0.005²) in the other fully connected ones; biases 1, but 0 in the first and the last layer.

    Args:
        first: what the model calls its first layer, as the published definition does if not given
        last: what it calls its last

    """
    first_bias = (f"{first}.bias", f"*.{first}.bias")
    return Recipe(
        [
            Rule(zeros_, types=nn.Conv3d, names=first_bias),
            Rule(normal_, types=nn.Conv3d, params="weight", std=0.01),
            Rule(constant_, types=nn.Conv3d, params="bias", val=1.0),
            Rule(normal_, types=nn.Linear, names=(f"{last}.weight", f"*.{last}.weight"), std=0.01),
            Rule(zeros_, types=nn.Linear, names=(f"{last}.bias", f"*.{last}.bias")),
            Rule(normal_, types=nn.Linear, params="weight", std=0.005),
            Rule(constant_, types=nn.Linear, params="bias", val=1.0),
        ]
    )


def _init_values(module: nn.Module, name: str, gamma: Tensor) -> float:
    return float(module.init_values)  # type: ignore[arg-type]


def _lecun(module: nn.Module, name: str, weight: Tensor) -> float:
    fan_in, _ = fans(weight.shape)
    return math.sqrt(1 / fan_in)


def _he_fan_out(module: nn.Module, name: str, weight: Tensor) -> float:
    return math.sqrt(2.0 / weight.shape[0])
