"""Parts, callables and checkpoints as rules of models that are cut over a mesh, and the report of what was done."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from sharded_cases import as_rank, found_by, on_every_rank
from sharded_models import (
    KEY,
    RECIPE,
    Net,
    differences,
    local,
    make,
    on_ranks,
    single,
    size_of,
)
from small_model import on_meta
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

import fastinit
from fastinit import (
    Part,
    Recipe,
    Rule,
    chunk,
    init_model_,
    keep,
    normal_,
    ones_,
    orthogonal_,
    plot,
    zeros_,
)

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


@pytest.mark.parametrize("way", ["FSDP2 over three", "FSDP2 by columns"])
def test_what_a_rank_draws_of_a_report_is_what_it_holds(way: str) -> None:
    recipe = Recipe([Rule(normal_, types=nn.Embedding, parts=Part(ones_, slice(1, 12, 2))), *RECIPE.rules])

    def drawn(model: nn.Module) -> dict[str, list[float]]:
        report = init_model_(model, recipe, KEY)
        samples = [one for row in report.rows for one in plot._samples(row, report._tensors()[row.name])]
        return {f"{one.name}, {one.about}, {one.vector}": one.values.tolist() for one in samples}

    expected = drawn(on_meta(Net))
    together: dict[str, list[float]] = {name: [] for name in expected}
    for of_rank in on_every_rank(size_of(way), lambda rank: drawn(make(way))):
        for name, values in of_rank.items():
            together[name] += values
    assert {name: sorted(values) for name, values in together.items()} == {
        name: sorted(values) for name, values in expected.items()
    }


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
