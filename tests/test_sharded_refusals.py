"""What init_model_ chooses, refuses and leaves alone of models that are cut over a mesh."""

import enum
from typing import Any

import pytest
import torch
from sharded_cases import as_rank, found_by, on_every_rank, peak_growth
from sharded_models import (
    KEY,
    RECIPE,
    Net,
    by_both,
    by_fsdp,
    differences,
    doubled_noise,
    local,
    make,
    nothing_written,
    places_in,
    single,
)
from small_model import on_meta
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Shard, distribute_tensor

from fastinit import (
    Part,
    Recipe,
    RecipeError,
    Rule,
    chunk,
    init_model_,
    keep,
    normal_,
    ones_,
    zeros_,
)

# only, strict, and what is refused


def test_only_some_of_a_model_in_memory() -> None:
    whole = single()

    def look(rank: int) -> None:
        model = make("FSDP2", meta=False)
        before = {name: local(one).clone() for name, one in model.named_parameters()}
        init_model_(model, RECIPE, KEY, only=["blocks.1.*", "head.weight"])
        for name, parameter in model.named_parameters():
            chosen = name.startswith("blocks.1.") or name == "head.weight"
            expected = whole[name].flatten()[places_in(parameter)] if chosen else before[name]
            assert local(parameter).equal(expected), name

    on_every_rank(4, look)


@pytest.mark.parametrize("meta", [True, False], ids=["meta", "in memory"])
def test_what_no_rule_matches_is_an_error_that_names_it_with_the_shape_of_the_whole(meta: bool) -> None:
    with as_rank(1, 4):
        model = make("FSDP2", meta=meta)
        nothing_written(model, r"head.weight +\(Linear, \[12, 8\]\)", Recipe(RECIPE.rules[:3] + RECIPE.rules[4:]))
        init_model_(model, Recipe(RECIPE.rules[:3] + RECIPE.rules[4:]), KEY, strict=False)
        assert model.head.weight.is_meta == meta


def test_a_refused_argument_leaves_all_as_it_was() -> None:
    for meta in (True, False):
        with as_rank(1, 4):
            nothing_written(
                make("FSDP2", meta=meta),
                "'head.weight'.*std",
                Recipe([Rule(normal_, names="head.*", std=-1.0), *RECIPE.rules]),
            )


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_a_partial_parameter_is_refused_by_name(device: str) -> None:
    with as_rank(0, 2):
        mesh = init_device_mesh("cpu", (2,))
        model = by_fsdp(Net() if device == "cpu" else on_meta(Net), mesh)
        model.extra = nn.Linear(3, 3, bias=False)
        part = DTensor.from_local(torch.empty(3, 3, device=device), mesh, [Partial()], run_check=False)
        model.extra.weight = nn.Parameter(part)
        recipe = Recipe([Rule(normal_, names="extra.*"), *RECIPE.rules])
        nothing_written(model, r"'extra.weight'(.|\n)*Partial", recipe)


def test_a_local_tensor_of_another_shape_is_refused_by_name() -> None:
    with as_rank(0, 2):
        model = make("the blocks alone", meta=False)
        model.blocks[1].up.weight._local_tensor = torch.zeros(7, 8)
        nothing_written(model, r"'blocks.1.up.weight'")


def test_what_fsdp_cuts_otherwise_than_it_says_is_refused() -> None:
    """Nine rows, two ranks by tensor parallelism, four by FSDP2: torch's placements tell another cut than it makes."""
    with as_rank(7, 8):
        mesh = init_device_mesh("cpu", (4, 2), mesh_dim_names=("data", "tensor"))
        model = by_both(Net(9), mesh)
        assert local(model.embedding.weight).shape != places_in(model.embedding.weight).shape, "torch has changed"
        nothing_written(model, "'embedding.weight'")


def test_a_rank_outside_the_mesh_is_left_alone() -> None:
    whole = single()

    def look(rank: int) -> list[str]:
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("stage", "data"))
        other = torch.distributed.device_mesh.DeviceMesh("cpu", torch.arange(2, 4))
        assert mesh.ndim == 2
        model = on_meta(Net)
        model.head.weight = nn.Parameter(distribute_tensor(model.head.weight, other, [Shard(0)], src_data_rank=None))
        init_model_(model, RECIPE, KEY)
        if rank < 2:
            assert local(model.head.weight).numel() == 0
            del model.head
            return differences(model, {name: one for name, one in whole.items() if name != "head.weight"})
        return differences(model, whole)

    assert found_by(4, look) == []


@pytest.mark.parametrize("meta", [True, False], ids=["meta", "in memory"])
def test_a_rank_outside_the_mesh_calls_nothing_for_what_others_hold(meta: bool) -> None:
    def refuse(tensor: Tensor) -> None:
        raise AssertionError(tensor.shape)

    with as_rank(0, 3):
        mesh = torch.distributed.device_mesh.DeviceMesh("cpu", torch.arange(1, 3))
        model = nn.Linear(6, 4, bias=False, device="meta" if meta else "cpu")
        model.weight = nn.Parameter(distribute_tensor(model.weight, mesh, [Shard(0)], src_data_rank=None))
        init_model_(model, Recipe([Rule(refuse)]), KEY)
        assert local(model.weight).numel() == 0


@pytest.mark.parametrize("rule", [Rule(normal_), Rule(doubled_noise), Rule(keep, parts=Part(zeros_, 0))], ids=str)
def test_what_autograd_has_saved_is_known_to_have_changed(rule: Rule) -> None:
    with as_rank(0, 2):
        mesh = init_device_mesh("cpu", (2,))
        weight = nn.Parameter(distribute_tensor(torch.ones(6, 4), mesh, [Shard(0)], src_data_rank=None))
        saved = (weight * weight).sum()
        init_model_(nn.ParameterDict({"w": weight}), Recipe([rule]), KEY)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            saved.backward()


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_whatever_the_strides_of_the_local_tensor(device: str) -> None:
    whole = normal_(torch.empty(6, 4), generator=KEY.fold_in("w"))
    for strides in [(4, 1), (1, 3), (8, 2), (2, 6)]:
        with as_rank(1, 2):
            mesh = init_device_mesh("cpu", (2,))
            part = torch.empty_strided((3, 4), strides, device=device)
            weight = nn.Parameter(DTensor.from_local(part, mesh, [Shard(0)], run_check=False))
            model = nn.ParameterDict({"w": weight})
            init_model_(model, Recipe([Rule(normal_)]), KEY)
            assert local(model["w"]).equal(whole[3:]), strides


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_dtensors_of_other_shapes_over_one_memory_stay_tied(device: str) -> None:
    with as_rank(1, 2):
        mesh = init_device_mesh("cpu", (2,))
        memory = torch.empty(3, 4, device=device)
        views = {"matrix": memory, "vector": memory.view(12)}
        tied = {
            name: nn.Parameter(DTensor.from_local(view, mesh, [Shard(0)], run_check=False))
            for name, view in views.items()
        }
        model = nn.ParameterDict(tied)
        report = init_model_(model, Recipe([Rule(normal_)]), KEY)
        assert [(row.name, row.tied) for row in report.rows] == [("matrix", ("vector",))]
        assert model["vector"].shape == (24,)
        assert model["vector"].placements == (Shard(0),)
        assert local(model["vector"]).data_ptr() == local(model["matrix"]).data_ptr()


def test_parts_that_cover_a_tensor_are_known_to_without_a_mask_of_it() -> None:
    halves = [Part(normal_, chunk(0, 2)), Part(zeros_, slice(2**19, None))]
    rows = Part(ones_, (slice(None), slice(1, None, 2)))
    with as_rank(0, 2):
        mesh = init_device_mesh("cpu", (2,))
        weight = distribute_tensor(torch.empty(2**20, 512, device="meta"), mesh, [Shard(0)], src_data_rank=None)
        model = nn.ParameterDict({"w": weight})

        def look() -> None:
            Recipe([Rule(keep, parts=[rows, *halves])]).explain(model)
            for some in (halves[:1], [rows], [rows, halves[1]]):
                with pytest.raises(RecipeError, match="do not cover"):
                    Recipe([Rule(keep, parts=some)]).explain(model)

        assert peak_growth(look) < 2**27


class Status(enum.Enum):  # as deepspeed.runtime.zero.partition_parameters.ZeroParamStatus
    AVAILABLE = 1
    NOT_AVAILABLE = 2
    INFLIGHT = 3


def zero_three(parameter: nn.Parameter) -> None:
    """Make it as DeepSpeed's ZeRO-3 leaves what it has partitioned."""
    given: Any = parameter
    given.ds_id, given.ds_status, given.ds_shape = 3, Status.NOT_AVAILABLE, parameter.shape
    given.ds_numel, given.ds_tensor = parameter.numel(), torch.zeros(parameter.numel() // 2)
    parameter.data = torch.empty(0)


def test_deepspeed_zero_three_is_refused_by_the_way_around_it() -> None:
    model = Net()
    zero_three(model.head.weight)
    nothing_written(model, r"'head.weight'(.|\n)*deepspeed\.zero\.GatheredParameters")


def test_what_deepspeed_has_gathered_is_filled() -> None:
    model = Net()
    zero_three(model.head.weight)
    model.head.weight.data = torch.empty(12, 8)  # as within GatheredParameters
    model.head.weight.ds_status = Status.AVAILABLE
    init_model_(model, RECIPE, KEY)
    assert differences(model, single()) == []
