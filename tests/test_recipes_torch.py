"""recipes.torch_defaults against every class of torch.nn."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from libraries import disagreements
from recorded_init import law, same_law
from torch import nn

from fastinit import init_model_, recipes
from fastinit.plan import make_plan

pytestmark = pytest.mark.filterwarnings(
    "ignore:enable_nested_tensor is True",  # of encoders, whose forward is not run here
    "ignore:`NLLLoss2d` has been deprecated",
)

# The classes that own parameters or buffers, or hold modules that do, with every variant of what they own.
OWNERS: dict[type[nn.Module], list[Callable[[], nn.Module]]] = {
    nn.Linear: [lambda: nn.Linear(3, 4), lambda: nn.Linear(3, 4, bias=False)],
    nn.Bilinear: [lambda: nn.Bilinear(3, 4, 5), lambda: nn.Bilinear(3, 4, 5, bias=False)],
    nn.Conv1d: [lambda: nn.Conv1d(4, 6, 3), lambda: nn.Conv1d(4, 6, 3, groups=2, bias=False)],
    nn.Conv2d: [lambda: nn.Conv2d(4, 6, (3, 2)), lambda: nn.Conv2d(4, 6, 3, groups=2)],
    nn.Conv3d: [lambda: nn.Conv3d(4, 6, (3, 2, 1)), lambda: nn.Conv3d(4, 8, 1, groups=4)],
    nn.ConvTranspose1d: [lambda: nn.ConvTranspose1d(4, 6, 3), lambda: nn.ConvTranspose1d(4, 6, 3, groups=2)],
    nn.ConvTranspose2d: [lambda: nn.ConvTranspose2d(4, 6, 3), lambda: nn.ConvTranspose2d(4, 6, 3, groups=2)],
    nn.ConvTranspose3d: [lambda: nn.ConvTranspose3d(4, 6, 3), lambda: nn.ConvTranspose3d(4, 6, 3, groups=2)],
    nn.Embedding: [
        lambda: nn.Embedding(5, 3),
        lambda: nn.Embedding(5, 3, padding_idx=0),
        lambda: nn.Embedding(5, 3, padding_idx=-2),
    ],
    nn.EmbeddingBag: [lambda: nn.EmbeddingBag(5, 3), lambda: nn.EmbeddingBag(5, 3, padding_idx=4)],
    nn.PReLU: [nn.PReLU, lambda: nn.PReLU(3, init=0.1)],
    nn.MultiheadAttention: [
        lambda: nn.MultiheadAttention(4, 2),
        lambda: nn.MultiheadAttention(4, 2, bias=False),
        lambda: nn.MultiheadAttention(4, 2, kdim=3, vdim=5),
        lambda: nn.MultiheadAttention(4, 2, add_bias_kv=True, kdim=3),
        lambda: nn.MultiheadAttention(4, 2, add_bias_kv=True, bias=False, add_zero_attn=True),
    ],
    nn.TransformerEncoderLayer: [
        lambda: nn.TransformerEncoderLayer(4, 2, 6),
        lambda: nn.TransformerEncoderLayer(4, 2, 6, bias=False),
    ],
    nn.TransformerDecoderLayer: [lambda: nn.TransformerDecoderLayer(4, 2, 6)],
    nn.TransformerEncoder: [lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 6), 2, nn.LayerNorm(4))],
    nn.TransformerDecoder: [lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 6), 2)],
    nn.Transformer: [
        lambda: nn.Transformer(4, 2, 1, 1, 6),
        lambda: nn.Transformer(4, 2, 1, 1, 6, bias=False),
        lambda: nn.Transformer(4, 2, 1, 1, 6, custom_encoder=everything()),
        lambda: nn.ModuleDict({"text": nn.Transformer(4, 2, 1, 1, 6), "head": nn.Linear(4, 3)}),
    ],
    nn.AdaptiveLogSoftmaxWithLoss: [
        lambda: nn.AdaptiveLogSoftmaxWithLoss(16, 20, [5, 10]),
        lambda: nn.AdaptiveLogSoftmaxWithLoss(16, 20, [5, 10], head_bias=True),
    ],
    nn.LayerNorm: [lambda: nn.LayerNorm((2, 3)), lambda: nn.LayerNorm(3, bias=False)],
    nn.RMSNorm: [lambda: nn.RMSNorm(3)],
    nn.GroupNorm: [lambda: nn.GroupNorm(2, 4)],
    nn.SyncBatchNorm: [lambda: nn.SyncBatchNorm(3)],
    nn.LinearCrossEntropyLoss: [lambda: nn.LinearCrossEntropyLoss(3, 4, bias=True)],
}
for norm in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
    OWNERS[norm] = [lambda norm=norm: norm(3), lambda norm=norm: norm(3, affine=False)]
for norm in (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d):
    OWNERS[norm] = [lambda norm=norm: norm(3, affine=True), lambda norm=norm: norm(3, track_running_stats=True)]
for recurrent in (nn.RNN, nn.LSTM, nn.GRU):
    OWNERS[recurrent] = [
        lambda recurrent=recurrent: recurrent(3, 4, 2, bidirectional=True),
        lambda recurrent=recurrent: recurrent(3, 4, bias=False),
    ]
OWNERS[nn.LSTM].append(lambda: nn.LSTM(3, 4, 2, proj_size=2, bidirectional=True))
for cell in (nn.RNNCell, nn.LSTMCell, nn.GRUCell):
    OWNERS[cell] = [lambda cell=cell: cell(3, 4), lambda cell=cell: cell(3, 4, bias=False)]

# Bases of others, containers of what the user gives them, and a wrapper.
NOTHING_OF_THEIR_OWN = {
    *(nn.Module, nn.RNNBase, nn.RNNCellBase),
    *(nn.Container, nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict),
    nn.DataParallel,
}


def everything() -> nn.Module:
    """Return a module with one of each kind of matrix, for torch.nn.Transformer to draw anew."""
    modules = [
        *(nn.Bilinear(2, 3, 4), nn.Conv1d(2, 3, 3), nn.ConvTranspose2d(2, 3, 2), nn.Embedding(5, 3, padding_idx=1)),
        *(nn.LSTM(3, 4, proj_size=2), nn.GRUCell(3, 4), nn.MultiheadAttention(4, 2, kdim=3, add_bias_kv=True)),
        *(nn.PReLU(3), nn.BatchNorm1d(3), nn.LayerNorm(4)),
    ]
    return nn.ModuleList(modules)


def classes() -> Iterator[type[nn.Module]]:
    for name in dir(nn):
        kind = getattr(nn, name)
        if inspect.isclass(kind) and issubclass(kind, nn.Module):
            yield kind


def lazies() -> list[type[nn.Module]]:
    return [kind for kind in classes() if issubclass(kind, nn.modules.lazy.LazyModuleMixin)]


@pytest.mark.parametrize(
    "build",
    [pytest.param(one, id=f"{kind.__name__}{i}") for kind, all_ in OWNERS.items() for i, one in enumerate(all_)],
)
def test_every_parameter_and_statistic_has_the_law_of_its_reset_parameters(build: Callable[[], nn.Module]) -> None:
    assert disagreements(build, recipes.torch_defaults()) == []
    with torch.device("meta"):
        on_meta = build()
    init_model_(on_meta, recipes.torch_defaults())  # buffers by rule, too
    assert not any(tensor.is_meta for tensor in on_meta.state_dict().values())


LAZY_ARGUMENTS: dict[str, tuple[tuple[Any, ...], tuple[int, ...]]] = {
    "LazyLinear": ((3,), (2, 5)),
    "LazyBatchNorm1d": ((), (2, 3)),
    "LazyInstanceNorm1d": ((), (2, 3, 4)),
} | {
    f"Lazy{kind}{n}d": (arguments, (2, 3, *(4,) * n))
    for kind, arguments in (("Conv", (6, 2)), ("ConvTranspose", (6, 2)), ("BatchNorm", ()), ("InstanceNorm", ()))
    for n in (1, 2, 3)
}


@pytest.mark.parametrize("lazy", lazies(), ids=lambda kind: kind.__name__)
def test_lazy_modules_once_called(lazy: type[nn.Module]) -> None:
    arguments, shape = LAZY_ARGUMENTS[lazy.__name__]

    def build() -> nn.Module:
        module = lazy(*arguments).eval()
        module(torch.zeros(shape))
        return module

    assert disagreements(build, recipes.torch_defaults()) == []


def test_no_class_of_torch_nn_is_forgotten() -> None:
    """Each is among those above, or can be made and owns nothing."""
    for kind in set(classes()) - set(OWNERS) - NOTHING_OF_THEIR_OWN - set(lazies()):
        made = next(_made(kind))
        assert not list(made.parameters()), kind
        assert not list(made.buffers()), kind


def _made(kind: type[nn.Module]) -> Iterator[nn.Module]:
    for arguments in ((), (1,), (1, 1), (1, 1, 1), ((1, 1), 1), (1, (1, 1))):
        try:
            yield kind(*arguments)
        except (TypeError, ValueError, AssertionError):
            continue
    pytest.fail(f"how is a {kind.__name__} made?")


def test_layers_of_a_transformer_are_told_from_layers_alone() -> None:
    model = nn.ModuleList([nn.Transformer(4, 2, 1, 1, 6), nn.TransformerEncoderLayer(4, 2, 6)])
    entries = {entry.name: entry.law for entry in make_plan(model, recipes.torch_defaults()).entries}
    inside, alone = entries["0.encoder.layers.0.linear1.weight"], entries["1.linear1.weight"]
    assert same_law(inside, law("uniform", -((6 / 10) ** 0.5), (6 / 10) ** 0.5))
    assert same_law(alone, law("uniform", -0.5, 0.5))
