"""Models that are cut over a mesh: init_model_ gives every rank its part of the whole model's weights, and no more."""

import enum
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from sharded_cases import as_rank, elements, found_by, on_every_rank, peak_growth
from sharded_models import (
    KEY,
    RECIPE,
    WAYS,
    Block,
    Net,
    by_both,
    by_fsdp,
    differences,
    local,
    make,
    places_in,
    single,
)
from small_model import on_meta
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_module, distribute_tensor

import fastinit
from fastinit import Key, Part, Recipe, RecipeError, Rule, chunk, init_model_, keep, normal_, ones_, orthogonal_, zeros_


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


# Parts, callables, checkpoints

EACH_GATE = [Part(orthogonal_, chunk(i, 4), gain=1.0 + i) for i in range(4)]
PARTS: dict[str, list[Rule]] = {
    "a row": [Rule(normal_, params="weight", parts=Part(zeros_, 3))],
    "the last row": [Rule(normal_, params="weight", parts=Part(normal_, -1, std=3.0))],
    "some rows": [
        Rule(normal_, params="weight", parts=[Part(fastinit.uniform_, slice(1, 12, 3)), Part(zeros_, slice(5, 9))])
    ],
    "a column": [Rule(normal_, params="weight", parts=Part(fastinit.uniform_, (slice(None), 2)))],
    "a box": [Rule(normal_, params="weight", parts=Part(fastinit.kaiming_uniform_, (slice(2, 11, 2), slice(1, 5))))],
    "gates": [Rule(keep, params="weight", parts=EACH_GATE)],
    "no rows": [Rule(normal_, params="weight", parts=Part(zeros_, slice(5, 2)))],
    "sparse rows": [Rule(normal_, params="weight", parts=Part(fastinit.sparse_, slice(2, 10), sparsity=0.4))],
    "fused": [Rule(fastinit.xavier_uniform_, params="weight", fused=4)],
}


@pytest.mark.parametrize("meta", [True, False], ids=["meta", "in memory"])
@pytest.mark.parametrize("part", PARTS)
def test_parts_lie_across_shards(part: str, meta: bool) -> None:
    def build() -> nn.Module:
        return nn.Linear(8, 12, bias=False)

    recipe = Recipe(PARTS[part])
    whole = single(build, recipe)

    def look(rank: int) -> list[str]:
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
        found = []
        for dims in ((0,), (1,), (0, 0), (0, 1), (1, 1)):
            model = on_meta(build) if meta else build()
            if len(dims) > 1:
                placed = [Shard(dims[1])]
                model.weight = nn.Parameter(distribute_tensor(model.weight, mesh["tensor"], placed, src_data_rank=None))
            fully_shard(model, mesh=mesh["data"], shard_placement_fn=lambda parameter, dim=dims[0]: Shard(dim))
            init_model_(model, recipe, KEY)
            found += [f"{dims}: {text}" for text in differences(model, whole)]
        return found

    assert found_by(4, look) == []


def drawn(tensor: Tensor, *, scale: float) -> None:
    assert not isinstance(tensor, DTensor)
    tensor.normal_().mul_(scale)


@pytest.mark.parametrize("way", ["FSDP2 over three", "FSDP2 over tensor parallel", "the blocks alone"])
def test_a_callable_makes_the_whole_tensor_and_a_rank_keeps_its_part(way: str) -> None:
    rules = [
        Rule(drawn, params="weight", scale=0.5),
        Rule(normal_, names="blocks.*.up.bias", parts=Part(drawn, slice(3, 17), scale=1.0)),
        Rule(drawn, params="bias", scale=0.1),
    ]
    assert on_ranks(way, Net, Recipe(rules), meta=False) == []
    state = torch.get_rng_state()
    assert on_ranks(way, Net, Recipe(rules)) == []
    assert torch.get_rng_state().equal(state)


def by_module(module: nn.Module, name: str, parameter: Tensor) -> float:
    return parameter.shape[0] + parameter.numel() ** -0.5


@pytest.mark.parametrize("way", ["FSDP2 over three", "FSDP2 over tensor parallel"])
def test_arguments_that_are_functions_see_the_shape_of_the_whole(way: str) -> None:
    assert on_ranks(way, Net, Recipe([Rule(normal_, std=by_module)])) == []


@pytest.mark.parametrize(
    "way", ["FSDP2 over three", "FSDP2 by columns", "FSDP2 over tensor parallel", "tensor parallel"]
)
@pytest.mark.parametrize("meta", [True, False], ids=["meta", "in memory"])
def test_from_a_checkpoint_every_rank_takes_its_part(way: str, meta: bool, tmp_path: Path) -> None:
    whole = single()
    save_file({f"model.{name}": tensor for name, tensor in whole.items()}, tmp_path / "model.safetensors")
    recipe = Recipe([Rule(fastinit.from_checkpoint(tmp_path, prefix="model."))])

    def look(rank: int) -> list[str]:
        model = make(way, meta=meta)
        init_model_(model, recipe, KEY)
        return differences(model, whole)

    assert found_by(size_of(way), look) == []


# The report


def test_the_report_tells_how_each_parameter_is_cut() -> None:
    with as_rank(3, 4):
        model = make("FSDP2 over tensor parallel")
        report = init_model_(model, RECIPE, KEY)
        rows = {row.name: row for row in report.rows}
        for name, parameter in model.named_parameters():
            row = rows[name]
            assert row.shape == parameter.shape
            assert row.sharding is not None
            assert row.sharding.mesh == tuple(parameter.device_mesh.shape)
            assert row.sharding.local_shape == tuple(local(parameter).shape)
            assert row.sharding.placements in (
                tuple(map(str, parameter.placements)),
                tuple(map(repr, parameter.placements)),
            )
            assert row.sharding.way == ("whole" if name == "head.weight" else None)
        assert sum(group.elements for group in report.groups) == sum(local(one).numel() for one in model.parameters())
        told = {row["name"]: row["sharding"] for row in report.to_dict()["rows"]}
        assert list(told["head.weight"]["mesh"]) == [2, 2]
        assert told["head.weight"]["way"] == "whole"
        assert list(told["head.weight"]["local_shape"]) == [3, 8]
        assert "head.weight" in str(report)
        report.to_json(Path("/dev/null"))


def test_the_report_of_what_is_not_cut_says_so() -> None:
    with as_rank(0, 2):
        report = init_model_(make("the blocks alone"), RECIPE, KEY)
        cut = {row.name for row in report.rows if row.sharding is not None}
        assert cut == {name for name in single() if name.startswith("blocks.")}
        rows = {row["name"]: row["sharding"] for row in report.to_dict()["rows"]}
        assert rows["head.weight"] is None
    report = init_model_(Net(), RECIPE, KEY)
    assert {row.sharding for row in report.rows} == {None}


def test_progress_counts_the_elements_of_this_rank() -> None:
    with as_rank(1, 4):
        model = make("FSDP2")
        seen: list[tuple[int, int]] = []
        init_model_(model, RECIPE, KEY, progress=lambda done, total: seen.append((done, total)))
        elements = sum(local(one).numel() for one in model.parameters())
        assert seen[-1] == (elements, elements)


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


def nothing_written(model: nn.Module, match: str, recipe: Recipe = RECIPE, **given: Any) -> None:
    before = {name: (one, one.is_meta or elements(local(one)).clone()) for name, one in model.named_parameters()}
    with pytest.raises(RecipeError, match=match):
        init_model_(model, recipe, KEY, **given)
    for name, parameter in model.named_parameters():
        assert parameter is before[name][0], name
        assert parameter.is_meta or elements(local(parameter)).equal(before[name][1]), name


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


# Pipeline stages


def test_a_stage_under_its_prefix_has_the_weights_of_the_whole() -> None:
    whole = single()
    for i in range(2):
        stage = on_meta(lambda: Block(8, 20))
        report = init_model_(stage, RECIPE, KEY, prefix=f"blocks.{i}")
        assert {row.name for row in report.rows} == {name for name in whole if name.startswith(f"blocks.{i}.")}
        for name, parameter in stage.named_parameters():
            assert parameter.equal(whole[f"blocks.{i}.{name}"]), name


def test_a_stage_of_several_modules_by_a_mapping() -> None:
    whole = single()
    stage = on_meta(
        lambda: nn.Sequential(nn.Embedding(12, 8, padding_idx=1), Block(8, 20), nn.ModuleDict({"out": Block(8, 20)}))
    )
    names = {"0": "embedding", "1": "blocks.0", "2.out": "blocks.1"}
    report = init_model_(stage, RECIPE, KEY, prefix=names)
    for name, parameter in stage.named_parameters():
        path = next(path for path in names if name.startswith(f"{path}."))
        assert parameter.equal(whole[names[path] + name.removeprefix(path)]), name
    assert {row.name for row in report.rows} == {name for name in whole if not name.startswith("head")}


def test_the_longest_leading_path_of_a_mapping_wins() -> None:
    whole = single()
    stage = on_meta(lambda: Block(8, 20))
    recipe = RECIPE + Recipe([Rule(normal_, names="other.*")])
    report = init_model_(stage, recipe, KEY, prefix={"": "blocks.0", "up": "blocks.1.up", "norm": "other"})
    assert stage.up.weight.equal(whole["blocks.1.up.weight"])
    assert stage.down.weight.equal(whole["blocks.0.down.weight"])
    assert {row.name for row in report.rows} >= {"other.bias", "blocks.1.up.bias", "blocks.0.down.weight"}


def test_a_path_is_of_whole_names() -> None:
    stage = nn.Sequential()
    stage.add_module("1", nn.Linear(3, 3))
    stage.add_module("10", nn.Linear(3, 3))
    report = init_model_(stage, Recipe([Rule(normal_)]), KEY, prefix={"1": "layers.4"})
    assert [row.name for row in report.rows] == ["layers.4.weight", "layers.4.bias", "10.weight", "10.bias"]


def test_only_and_errors_have_the_names_of_the_whole() -> None:
    stage = Block(8, 20)
    before = stage.down.weight.clone()
    init_model_(stage, RECIPE, KEY, prefix="blocks.1", only="blocks.1.up.*")
    assert stage.up.weight.equal(single()["blocks.1.up.weight"])
    assert stage.down.weight.equal(before)
    nothing_written(stage, "blocks.1.up.weight", Recipe(RECIPE.rules[2:]), prefix="blocks.1")
    nothing_written(stage, "only: 'blocks.0.up.weight'", prefix="blocks.1", only="blocks.0.up.weight")


@pytest.mark.parametrize("prefix", [3, None, ["blocks.0"], {"up": 4}, {3: "up"}])
def test_a_prefix_that_is_none_is_refused(prefix: Any) -> None:
    stage = on_meta(lambda: Block(8, 20))
    with pytest.raises((TypeError, ValueError), match="prefix"):
        init_model_(stage, RECIPE, KEY, prefix=prefix)
    assert stage.up.weight.is_meta


def test_two_tensors_of_one_name_by_a_mapping_are_refused() -> None:
    stage = on_meta(lambda: nn.Sequential(Block(8, 20), Block(8, 20)))
    with pytest.raises((RecipeError, ValueError), match=r"blocks\.0"):
        init_model_(stage, RECIPE, KEY, prefix={"0": "blocks.0", "1": "blocks.0"})


def test_a_stage_that_is_sharded_and_has_parts_and_buffers() -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = Normed(), Normed()

    rows = Part(zeros_, slice(2, 5))
    recipe = Recipe([Rule(normal_, names="second.linear.weight", parts=rows), *NORMED.rules])
    whole = single(Whole, recipe, buffers="reset")
    second = {name.removeprefix("second."): one for name, one in whole.items() if name.startswith("second.")}

    def look(rank: int) -> list[str]:
        stage = fully_shard(on_meta(Normed), mesh=init_device_mesh("cpu", (3,)))
        init_model_(stage, recipe, KEY, buffers="reset", prefix="second")
        return differences(stage, second)

    assert found_by(3, look) == []


def test_a_plain_part_of_someone_elses_sharding() -> None:
    """Megatron's column and row parallel layers: plain tensors, whose place the caller knows."""
    key = Key(0)
    whole = normal_(torch.empty(12, 8), std=0.02, generator=key.fold_in("up.weight"))
    for rank in range(4):
        part = torch.empty(3, 8)
        normal_(part, std=0.02, generator=key.fold_in("up.weight").shard((12, 8), (3 * rank, 0)))
        assert part.equal(whole[3 * rank : 3 * rank + 3])


def test_every_replica_is_the_same() -> None:
    def look(rank: int) -> bytes:
        mesh = init_device_mesh("cpu", (3,))
        model = distribute_module(on_meta(Net), mesh)
        assert all(one.placements == (Replicate(),) for one in model.parameters())
        init_model_(model, RECIPE, KEY)
        return b"".join(local(one).numpy().tobytes() for one in model.parameters())

    assert len(set(on_every_rank(3, look))) == 1
