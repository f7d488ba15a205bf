"""Models that are cut over a mesh: init_model_ gives every rank its part of the whole model's weights, and no more."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from sharded_cases import as_rank, found_by, on_every_rank, peak_growth
from sharded_models import (
    KEY,
    NORMED,
    RECIPE,
    WAYS,
    Net,
    Normed,
    by_fsdp,
    differences,
    doubled_noise,
    local,
    make,
    on_ranks,
    places_in,
    single,
    size_of,
)
from small_model import on_meta
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode

import fastinit
from fastinit import (
    Part,
    Recipe,
    Rule,
    init_model_,
    normal_,
    ones_,
    zeros_,
)


def odd() -> Net:
    return Net(11, 7, 13)


def tied() -> Net:
    return Net(tied=True)


@pytest.mark.parametrize("meta", [True, False], ids=["meta", "in memory"])
@pytest.mark.parametrize("way", WAYS)
def test_every_rank_has_its_part_of_the_whole_model(way: str, meta: bool) -> None:
    assert on_ranks(way, Net, RECIPE, meta) == []
    if way not in ("FSDP2 over tensor parallel", "FSDP2 by columns"):  # torch does not cut those unevenly, or wrongly
        assert on_ranks(way, odd, RECIPE, meta) == []


@pytest.mark.parametrize("meta", [True, False], ids=["meta", "in memory"])
@pytest.mark.parametrize("way", [way for way in WAYS if "tensor" not in way])  # which unties
def test_tied_weights_are_filled_once_and_stay_tied(way: str, meta: bool) -> None:
    whole = single(tied)

    def look(rank: int) -> list[str]:
        model = make(way, tied, meta)
        report = init_model_(model, RECIPE, KEY)
        assert model.head.weight is model.embedding.weight
        assert next(row for row in report.rows if row.name == "embedding.weight").tied == ("head.weight",)
        return differences(model, whole)

    assert found_by(size_of(way), look) == []


# Memory


@pytest.mark.parametrize("way", WAYS)
def test_a_rank_has_memory_for_its_part_and_no_more(way: str) -> None:
    def look(rank: int) -> None:
        model = make(way)
        init_model_(model, RECIPE, KEY)
        for name, parameter in model.named_parameters():
            part = local(parameter)
            assert not part.is_meta
            assert part.device.type == "cpu"
            assert part.untyped_storage().nbytes() == places_in(parameter).numel() * 4, name

    on_every_rank(size_of(way), look)


def test_what_has_memory_keeps_it_and_its_parameters() -> None:
    with as_rank(1, 4):
        model = make("FSDP2 over tensor parallel", meta=False)
        before = {name: (parameter, local(parameter).data_ptr()) for name, parameter in model.named_parameters()}
        init_model_(model, RECIPE, KEY)
        for name, parameter in model.named_parameters():
            assert parameter is before[name][0]
            assert local(parameter).data_ptr() == before[name][1]


def test_after_to_empty_too() -> None:
    whole = single()

    def look(rank: int) -> list[str]:
        model = make("FSDP2 over tensor parallel").to_empty(device="cpu")
        init_model_(model, RECIPE, KEY)
        return differences(model, whole)

    assert found_by(4, look) == []


@pytest.mark.parametrize("around", [lambda: torch.device("meta"), torch.inference_mode, torch.no_grad])
@pytest.mark.parametrize("meta", [True, False], ids=["meta", "in memory"])
def test_whatever_it_is_called_within(around: Callable[[], Any], meta: bool) -> None:
    whole = single()
    with as_rank(2, 4):
        model = make("FSDP2 over tensor parallel", meta=meta)
        with around():
            init_model_(model, RECIPE, KEY)
        assert differences(model, whole) == []
        assert not any(local(parameter).is_inference() for parameter in model.parameters())


@pytest.mark.parametrize("meta", [True, False], ids=["meta", "in memory"])
def test_a_callable_makes_its_tensor_on_the_cpu_whatever_the_default_device_is(meta: bool) -> None:
    recipe = Recipe([Rule(doubled_noise, params="weight"), *RECIPE.rules])
    whole = single(recipe=recipe)
    with as_rank(1, 2):
        model = make("the blocks alone", meta=meta)
        with torch.device("meta"):
            init_model_(model, recipe, KEY)
        assert differences(model, whole) == []


def test_the_peak_of_a_rank_is_its_part() -> None:
    def build() -> nn.Module:
        return nn.Sequential(*(nn.Linear(4096, 4096, bias=False) for _ in range(8)))  # half a gigabyte

    recipe = Recipe([Rule(normal_, names="[0-5].*", std=0.02), Rule(fastinit.trunc_normal_, names="[67].*")])
    with as_rank(7, 64):
        mesh = init_device_mesh("cpu", (32, 2), mesh_dim_names=("data", "tensor"))
        model = on_meta(build)
        for layer in model:
            layer.weight = nn.Parameter(distribute_tensor(layer.weight, mesh["tensor"], [Shard(0)], src_data_rank=None))
            fully_shard(layer, mesh=mesh["data"])
        grown = peak_growth(lambda: init_model_(model, recipe, KEY))
        assert sum(local(parameter).nbytes for parameter in model.parameters()) == 8 * 2**20
        assert grown < 32 * 2**20


# What stays


def test_requires_grad_class_and_attributes_stay() -> None:
    def build() -> Net:
        model = Net()
        model.head.weight.requires_grad_(False)
        return model

    with as_rank(1, 2):
        model = make("the blocks alone", build)
        model.blocks[0].up.weight.layer_scale = 0.5
        model.blocks[0].up.bias.requires_grad_(False)
        kinds = {name: type(parameter) for name, parameter in model.named_parameters()}
        init_model_(model, RECIPE, KEY)
        assert {name: type(parameter) for name, parameter in model.named_parameters()} == kinds
        assert not model.head.weight.requires_grad
        assert not model.blocks[0].up.bias.requires_grad
        assert model.blocks[0].up.weight.requires_grad
        assert model.blocks[0].up.weight.layer_scale == 0.5
        assert all(isinstance(parameter, nn.Parameter) and parameter.is_leaf for parameter in model.parameters())
        assert isinstance(model.blocks[1].norm.weight, DTensor)
        assert not isinstance(model.head.weight, DTensor)


def test_dtype_is_that_of_what_is_made() -> None:
    whole = single(dtype=torch.bfloat16)

    def look(rank: int) -> list[str]:
        model = make("FSDP2 over tensor parallel")
        init_model_(model, RECIPE, KEY, dtype=torch.bfloat16)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
        return differences(model, whole)

    assert found_by(4, look) == []


def test_names_are_those_without_wrappers() -> None:
    whole = single()

    def look(rank: int) -> list[str]:
        model = on_meta(Net)
        for i in range(2):
            model.blocks[i] = checkpoint_wrapper(model.blocks[i])
        by_fsdp(model, init_device_mesh("cpu", (2,)))
        report = init_model_(model, RECIPE, KEY)
        assert {row.name for row in report.rows} == whole.keys()
        plain = {name.replace("_checkpoint_wrapped_module.", ""): one for name, one in model.named_parameters()}
        return [name for name, one in plain.items() if not local(one).equal(whole[name].flatten()[places_in(one)])]

    assert found_by(2, look) == []


# Buffers


def test_plain_buffers_beside_sharded_parameters() -> None:
    whole = single(Normed, NORMED, buffers="reset")

    def look(rank: int) -> list[str]:
        model = fully_shard(on_meta(Normed), mesh=init_device_mesh("cpu", (3,)))
        init_model_(model, NORMED, KEY, buffers="reset")
        assert type(model.norm.running_var) is Tensor
        return differences(model, whole)

    assert found_by(3, look) == []


@pytest.mark.parametrize("meta", [True, False], ids=["meta", "in memory"])
def test_buffers_that_are_dtensors(meta: bool) -> None:
    whole = single(Normed, NORMED, buffers="reset")

    def look(rank: int) -> list[str]:
        mesh = init_device_mesh("cpu", (2,))
        model = distribute_module(on_meta(Normed) if meta else Normed(), mesh)
        assert isinstance(model.norm.running_var, DTensor)
        empty = torch.empty(9, 4, device="meta" if meta else "cpu")
        model.angles = distribute_tensor(empty, mesh, [Shard(0)], src_data_rank=None)
        init_model_(model, NORMED, KEY, buffers="reset")
        return differences(model, whole)

    assert found_by(2, look) == []


class Counted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.ones(7, dtype=torch.int64))
        self.register_buffer("mask", torch.zeros(7, 5, dtype=torch.bool))
        self.register_buffer("angles", torch.zeros(7, 5, dtype=torch.complex64))


COUNTED = [
    Rule(zeros_, buffers="count", parts=Part(ones_, slice(1, 7, 2))),
    Rule(ones_, buffers="mask"),
    Rule(fastinit.constant_, buffers="angles", val=3.0),
]


@pytest.mark.parametrize("meta", [True, False], ids=["meta", "in memory"])
def test_types_that_no_law_is_for_get_constants_and_nothing_is_sent(meta: bool) -> None:
    whole = single(Counted, Recipe(COUNTED))

    def look(rank: int) -> list[str]:
        mesh = init_device_mesh("cpu", (3,))
        model = on_meta(Counted) if meta else Counted()
        for name, buffer in [*model.named_buffers()]:
            setattr(model, name, distribute_tensor(buffer, mesh, [Shard(0)], src_data_rank=None))
        with CommDebugMode() as sent:
            init_model_(model, Recipe(COUNTED), KEY)
        assert sent.get_total_counts() == 0
        return differences(model, whole)

    assert found_by(3, look) == []
