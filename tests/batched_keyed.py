"""What tests of keyed blocks share: the numbers that a parameter must get, by its name, and an init function."""

from typing import Any

import torch
from torch import Tensor, nn

import fastinit
from fastinit import Key

KEY = Key(5)

KEY = Key(5)


def keyed(name: str, shape: Any, law: str = "normal_", *numbers: float, n: int = 0, dtype: Any = None) -> Tensor:
    key = KEY.fold_in(name)
    tensor = torch.empty(shape, dtype=dtype)
    return getattr(fastinit, law)(tensor, *numbers, generator=key.fold_in(n) if n else key)


def dirty(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    return model


def init(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        module.bias.data.uniform_(-0.3, 0.7)
    elif isinstance(module, nn.Embedding):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
        nn.init.ones_(module.weight)
        module.bias.data.zero_()
