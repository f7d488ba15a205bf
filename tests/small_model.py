"""A small model and a recipe for it, and what tests compare."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import fastinit
from fastinit import Key, Recipe, Rule, ones_, trunc_normal_, zeros_

RECIPE = Recipe(
    [
        Rule(fastinit.kaiming_normal_, types=nn.Conv2d, params="weight", mode="fan_out", nonlinearity="relu"),
        Rule(trunc_normal_, types=nn.Linear, params="weight", std=0.02),
        Rule(fastinit.xavier_uniform_, types=nn.Embedding, gain=2.0),
        Rule(fastinit.uniform_, names="head.bias", a=-0.5, b=0.25),
        Rule(ones_, types=(nn.LayerNorm, nn.BatchNorm2d), params="weight"),
        Rule(zeros_, params="bias"),
    ]
)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.embedding = nn.Embedding(11, 6)
        self.body = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6))
        self.head = nn.Linear(6, 5)

    def forward(self, indices: Tensor) -> Tensor:
        return self.head(self.body(self.embedding(indices)))


def on_meta(build: Callable[[], Any] = Small) -> Any:
    with torch.device("meta"):
        return build()


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def drop_in(rule: Rule, tensor: Tensor, key: Key) -> Tensor:
    takes_key = "generator" in inspect.signature(rule.initialiser).parameters
    rule.initialiser(tensor, **rule.kwargs, **({"generator": key} if takes_key else {}))
    return tensor


def tied_model() -> Small:
    model = Small()
    model.head = nn.Linear(6, 11)
    model.head.weight = model.embedding.weight
    return model
