"""A part of a model under its prefix has the weights of the whole."""

from typing import Any

import pytest
import torch
from sharded_cases import found_by, on_every_rank
from sharded_models import (
    KEY,
    NORMED,
    RECIPE,
    Block,
    Net,
    Normed,
    differences,
    local,
    nothing_written,
    single,
)
from small_model import on_meta
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, distribute_module

from fastinit import (
    Key,
    Part,
    Recipe,
    RecipeError,
    Rule,
    init_model_,
    normal_,
    zeros_,
)

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
