"""Real ranks: what they have is put together by torch's own collectives, and models train as a single process's do."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import gloo
import pytest
import torch
import torch.distributed as dist
from sharded_cases import CUTS, elements, fills_of
from sharded_cases import KEY as FILL_KEY
from sharded_models import KEY, RECIPE, Net, by_both, by_fsdp, by_tensor_parallel, differences, single
from small_model import on_meta
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from fastinit import Key, Recipe, RecipeError, Rule, init_model_, normal_

WORDS, WIDTH, HIDDEN = 12, 8, 24  # each a multiple of every number of ranks
INDICES = torch.tensor([[1, 0, 3, 7, 11, 2], [5, 5, 4, 9, 8, 6]])


def build() -> Net:
    return Net(WORDS, WIDTH, HIDDEN)


def whole_model() -> Net:
    model = build()
    init_model_(model, RECIPE, KEY)
    return model


def train(model: nn.Module) -> list[float]:
    """Take five steps on the same batch, and return the losses."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.05)
    losses = []
    for _ in range(5):
        out = model(INDICES)
        out = out.full_tensor() if isinstance(out, DTensor) else out
        loss = nn.functional.cross_entropy(out.flatten(0, 1), INDICES.roll(1).flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def full(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def trains_as_one_process(model: Any) -> None:
    report = init_model_(model, RECIPE, KEY)
    whole = whole_model()
    for name, parameter in model.named_parameters():
        assert elements(full(parameter)).equal(elements(whole.get_parameter(name))), name
    assert sum(group.elements for group in report.groups) < sum(one.numel() for one in whole.parameters()) or (
        dist.get_world_size() == 1
    )
    expected = train(whole)
    assert expected[-1] < expected[0] - 0.1, "nothing was learnt"
    losses = train(model)
    assert max(abs(a - b) for a, b in zip(losses, expected, strict=True)) < 1e-4, (losses, expected)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(full(parameter), whole.get_parameter(name).detach(), rtol=1e-3, atol=1e-3)


def world_mesh(name: str = "data") -> DeviceMesh:
    return init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=(name,))


def square_mesh(*names: str) -> DeviceMesh:
    world = dist.get_world_size()
    return init_device_mesh("cpu", (2, 2) if world == 4 else (1, world), mesh_dim_names=names)


# The cases, which every rank runs


def torch_puts_the_parts_together() -> None:
    for name, one in CUTS.items():
        if one.world != dist.get_world_size():
            continue
        mesh = one.make_mesh()
        for fill in ("uniform_", "normal_", "sparse_"):
            write = fills_of(one.shape).get(fill)
            if write is None or math.prod(one.shape) == 0:
                continue
            got = write(one.tensor(mesh), FILL_KEY)
            if mesh.get_coordinate() is None:
                continue
            assert isinstance(got, DTensor)
            together = got.full_tensor()
            expected = write(torch.empty(one.shape), FILL_KEY)
            assert elements(together).equal(elements(expected)), (name, fill)


def fsdp2() -> None:
    trains_as_one_process(by_fsdp(on_meta(build), world_mesh()))


def fsdp2_with_copies() -> None:
    trains_as_one_process(by_fsdp(on_meta(build), square_mesh("copies", "data")))


def tensor_parallel() -> None:
    trains_as_one_process(by_tensor_parallel(on_meta(build), world_mesh("tensor")))


def fsdp2_over_tensor_parallel() -> None:
    trains_as_one_process(by_both(on_meta(build), square_mesh("data", "tensor")))


def tied_weights_train_as_one() -> None:
    def tied() -> Net:
        return Net(WORDS, WIDTH, HIDDEN, tied=True)

    model, whole = by_fsdp(on_meta(tied), world_mesh()), tied()
    init_model_(model, RECIPE, KEY)
    init_model_(whole, RECIPE, KEY)
    for ours, theirs in zip(train(model), train(whole), strict=True):
        assert abs(ours - theirs) < 1e-4
    assert model.head.weight is model.embedding.weight


def fsdp2_of_uneven_sizes() -> None:
    def uneven() -> Net:
        return Net(WORDS + 1, 7, 13)

    expected = uneven()
    init_model_(expected, RECIPE, KEY)
    losses = train(expected)
    for model in (by_fsdp(on_meta(uneven), world_mesh()), by_fsdp(uneven(), world_mesh())):
        init_model_(model, RECIPE, KEY)
        assert max(abs(ours - theirs) for ours, theirs in zip(train(model), losses, strict=True)) < 1e-4


def filled_anew_while_it_is_whole() -> None:
    """After a forward pass that leaves it gathered, what is filled is the shards, and the next pass sees them."""
    model = by_fsdp(on_meta(build), world_mesh(), reshard_after_forward=False)
    init_model_(model, RECIPE, Key(99))
    with torch.no_grad():
        model(INDICES)
    assert not isinstance(model.blocks[0].up.weight, DTensor), "nothing is gathered: the test is wrong"
    init_model_(model, RECIPE, KEY)
    assert differences(model, single(build)) == []
    with torch.no_grad():
        torch.testing.assert_close(model(INDICES), whole_model()(INDICES))


def filled_anew_between_steps() -> None:
    model = by_fsdp(on_meta(build), world_mesh())
    init_model_(model, RECIPE, Key(99))
    train(model)
    init_model_(model, RECIPE, KEY)
    assert differences(model, single(build)) == []
    for ours, theirs in zip(train(model), train(whole_model()), strict=True):
        assert abs(ours - theirs) < 1e-4


def ddp() -> None:
    model = DistributedDataParallel(build())
    init_model_(model, RECIPE, KEY)
    whole = whole_model()
    for name, parameter in model.module.named_parameters():
        assert parameter.equal(whole.get_parameter(name)), name
    assert max(abs(a - b) for a, b in zip(train(model), train(whole), strict=True)) < 1e-5


def fsdp1_is_initialised_before_it_wraps() -> None:
    model = on_meta(build)
    init_model_(model, RECIPE, KEY)
    wrapped = FullyShardedDataParallel(model, device_id=torch.device("cpu"))
    whole = whole_model()
    with FullyShardedDataParallel.summon_full_params(wrapped):
        for name, parameter in wrapped.module.named_parameters():
            assert parameter.equal(whole.get_parameter(name)), name
    with pytest.raises(RecipeError, match=r"FullyShardedDataParallel(.|\n)*before wrapping(.|\n)*fully_shard"):
        init_model_(wrapped, RECIPE, KEY)


def every_rank_of_another_seed_has_the_same_copies() -> None:
    """What torch would draw on a CPU mesh, from each rank's generator or all from the same, plays no part."""
    torch.manual_seed(dist.get_rank())
    model = fully_shard(on_meta(lambda: nn.Linear(8, 12)), mesh=square_mesh("copies", "data"))
    init_model_(model, Recipe([Rule(normal_)]), KEY)
    expected = normal_(torch.empty(12, 8), generator=KEY.fold_in("weight"))
    assert full(model.weight).equal(expected)
    ranks: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(ranks, model.weight.to_local().flatten().tolist())
    assert len({tuple(values) for values in ranks}) == square_mesh("copies", "data").size(1)


CASES: list[Callable[[], None]] = [
    torch_puts_the_parts_together,
    fsdp2,
    fsdp2_with_copies,
    tensor_parallel,
    fsdp2_over_tensor_parallel,
    tied_weights_train_as_one,
    fsdp2_of_uneven_sizes,
    filled_anew_while_it_is_whole,
    filled_anew_between_steps,
    ddp,
    fsdp1_is_initialised_before_it_wraps,
    every_rank_of_another_seed_has_the_same_copies,
]


@cache
def outcomes(world: int) -> dict[str, str]:
    return gloo.run(world, CASES)


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_with_real_ranks(case: Callable[[], None], world: int) -> None:
    assert outcomes(world)[case.__name__] == ""
