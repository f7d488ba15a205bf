"""A model as it is cut over meshes by PyTorch's own wrappers, and what its parameters must hold there."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sharded_cases import elements, found_by, unlike
from small_model import on_meta
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import fastinit
from fastinit import Key, Part, Recipe, RecipeError, Rule, init_model_, normal_, ones_, padding_row, zeros_

KEY = Key(8)
RECIPE = Recipe(
    [
        Rule(fastinit.normal_, types=nn.Embedding, std=0.02, parts=Part(zeros_, padding_row)),
        Rule(fastinit.kaiming_uniform_, names="blocks.*.up.weight", mode="fan_out"),
        Rule(fastinit.trunc_normal_, names="blocks.*.down.weight", std=0.02),
        Rule(fastinit.orthogonal_, names="head.weight", gain=2.0),
        Rule(fastinit.ones_, types=nn.LayerNorm, params="weight"),
        Rule(fastinit.uniform_, params="bias", a=-0.1, b=0.1),
    ]
)


class Block(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.down(torch.tanh(self.up(self.norm(inputs))))


class Net(nn.Module):
    def __init__(self, words: int = 12, width: int = 8, hidden: int = 20, tied: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width, padding_idx=1)
        self.blocks = nn.ModuleList([Block(width, hidden) for _ in range(2)])
        self.head = nn.Linear(width, words, bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, indices: Tensor) -> Tensor:
        inputs = self.embedding(indices)
        for block in self.blocks:
            inputs = block(inputs)
        return self.head(inputs)


def by_fsdp(model: Net, mesh: DeviceMesh, **given: Any) -> Net:
    for block in model.blocks:
        fully_shard(block, mesh=mesh, **given)
    return fully_shard(model, mesh=mesh, **given)  # type: ignore[return-value]


def by_tensor_parallel(model: Net, mesh: DeviceMesh) -> Net:
    plan: dict[str, Any] = {
        "blocks.*.up": ColwiseParallel(),
        "blocks.*.down": RowwiseParallel(),
        "embedding": RowwiseParallel(input_layouts=Replicate()),
        "head": ColwiseParallel(output_layouts=Replicate()),
    }
    return parallelize_module(model, mesh, plan)  # type: ignore[return-value]


def by_both(model: Net, mesh: DeviceMesh) -> Net:
    return by_fsdp(by_tensor_parallel(model, mesh["tensor"]), mesh["data"])


def by_blocks(model: Net, mesh: DeviceMesh) -> Net:
    """Cut the blocks alone, and leave the rest to every rank."""
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    return model


def by_columns(model: Net, mesh: DeviceMesh) -> Net:
    def last(parameter: nn.Parameter) -> Shard:
        return Shard(parameter.dim() - 1)

    return by_fsdp(model, mesh, shard_placement_fn=last)


Cutter = Callable[[Any, DeviceMesh], Any]
# name: the mesh, the names of its dimensions, and how the model is cut over it
WAYS: dict[str, tuple[tuple[int, ...], tuple[str, ...], Cutter]] = {
    "FSDP2": ((4,), ("data",), by_fsdp),
    "FSDP2 over three": ((3,), ("data",), by_fsdp),
    "FSDP2 by columns": ((4,), ("data",), by_columns),
    "HSDP": ((2, 2), ("copies", "data"), by_fsdp),
    "tensor parallel": ((4,), ("tensor",), by_tensor_parallel),
    "FSDP2 over tensor parallel": ((2, 2), ("data", "tensor"), by_both),
    "the blocks alone": ((2,), ("data",), by_blocks),
}


def make(way: str, build: Callable[[], Any] = Net, meta: bool = True) -> Any:
    """Return the model of a rank, cut in this way; the process group is there."""
    shape, names, cutter = WAYS[way]
    return cutter(on_meta(build) if meta else build(), init_device_mesh("cpu", shape, mesh_dim_names=names))


def single(build: Callable[[], Any] = Net, recipe: Recipe = RECIPE, **given: Any) -> dict[str, Tensor]:
    """Return every tensor of the same model, initialised where it is whole, by all of its names."""
    model = on_meta(build)
    init_model_(model, recipe, KEY, **given)
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: tensor.detach() for name, tensor in named}


def places_in(tensor: Tensor) -> Tensor:
    """Return the numbers in the whole of the elements that a rank has of it."""
    numbers = torch.arange(tensor.numel()).view(tensor.shape)
    if not isinstance(tensor, DTensor):
        return numbers
    return distribute_tensor(numbers, tensor.device_mesh, tensor.placements, src_data_rank=None).to_local()


def local(tensor: Tensor) -> Tensor:
    # Not by an operator of DTensors: torch works out anew for each of a thousand cases what it does to placements.
    return (tensor._local_tensor if isinstance(tensor, DTensor) else tensor).detach()


def differences(model: nn.Module, whole: dict[str, Tensor]) -> list[str]:
    """Say where a rank's tensors differ from their parts of the whole model's."""
    named = dict([*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)])
    assert named.keys() == whole.keys()
    told = {name: unlike(local(tensor), whole[name], places_in(tensor)) for name, tensor in named.items()}
    return [f"{name}: {text}" for name, text in told.items() if text]


def size_of(way: str) -> int:
    return math.prod(WAYS[way][0])


def on_ranks(way: str, build: Callable[[], Any], recipe: Recipe, meta: bool = True, **given: Any) -> list[str]:
    """Initialise the model of every rank; say where one differs from the whole."""
    whole = single(build, recipe, **given)

    def look(rank: int) -> list[str]:
        model = make(way, build, meta)
        init_model_(model, recipe, KEY, **given)
        return differences(model, whole)

    return found_by(size_of(way), look)


def doubled_noise(tensor: Tensor) -> None:
    tensor.copy_(torch.randn(tensor.shape)).mul_(2)


def nothing_written(model: nn.Module, match: str, recipe: Recipe = RECIPE, **given: Any) -> None:
    before = {name: (one, one.is_meta or elements(local(one)).clone()) for name, one in model.named_parameters()}
    with pytest.raises(RecipeError, match=match):
        init_model_(model, recipe, KEY, **given)
    for name, parameter in model.named_parameters():
        assert parameter is before[name][0], name
        assert parameter.is_meta or elements(local(parameter)).equal(before[name][1]), name


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 9)
        self.norm = nn.BatchNorm1d(9)
        self.register_buffer("angles", torch.empty(9, 4))


NORMED = Recipe(
    [
        Rule(normal_, types=nn.Linear),
        Rule(ones_, types=nn.BatchNorm1d),
        Rule(fastinit.uniform_, buffers="angles", a=-1.0),
    ]
)
