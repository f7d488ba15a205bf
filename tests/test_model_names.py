"""Whole models: tied parameters, parameters that overlap, and names without wrappers."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from small_model import RECIPE, Small, drop_in, same, tied_model, values
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from fastinit import Key, Recipe, RecipeError, Rule, init_model_, normal_, ones_

# Ties and overlaps


def test_tied_parameters_are_filled_once_under_the_first_of_their_names() -> None:
    model = tied_model()
    report = init_model_(model, RECIPE)
    row = next(row for row in report.rows if row.name == "embedding.weight")
    assert row.tied == ("head.weight",)
    assert "head.weight" not in [row.name for row in report.rows]
    expected = drop_in(RECIPE.rules[2], torch.empty(11, 6), Key(0).fold_in("embedding.weight"))
    assert torch.equal(model.head.weight, expected)
    assert "embedding.weight = head.weight" in str(report)


def test_different_parameters_over_the_same_memory_are_tied() -> None:
    model = Small()
    flat = torch.zeros(6, 6)
    model.body[0].weight = nn.Parameter(flat)
    model.head = nn.Linear(6, 6)
    model.head.weight = nn.Parameter(flat.view(6, 6))
    model.last = nn.Parameter(flat.t())
    report = init_model_(model, Recipe([Rule(normal_, names="last"), *RECIPE.rules]))
    # A module's own parameters are registered, and so named, before its children's.
    with_ties = {row.name: row.tied for row in report.rows if row.tied}
    assert with_ties == {"last": ("body.0.weight", "head.weight")}


def test_a_shared_module_is_filled_once() -> None:
    block = nn.Linear(3, 3)
    report = init_model_(nn.Sequential(block, nn.Sequential(block)), RECIPE)
    assert [(row.name, row.tied) for row in report.rows] == [
        ("0.weight", ("1.0.weight",)),
        ("0.bias", ("1.0.bias",)),
    ]


@pytest.mark.parametrize("second", [slice(5, 15), slice(0, 5), slice(9, 10)])
def test_parameters_that_share_a_part_of_their_memory_are_an_error_that_names_both(second: slice) -> None:
    flat = torch.zeros(20)
    model = nn.ParameterDict({"one": nn.Parameter(flat[:10]), "two": nn.Parameter(flat[second])})
    with pytest.raises(RecipeError, match=r"'one' and 'two' .*memory"):
        init_model_(model, Recipe([Rule(normal_)]))
    assert not flat.any()


def test_interleaved_parameters_that_share_no_element_are_fine() -> None:
    fused = torch.zeros(4, 6)
    parts = nn.ParameterList([nn.Parameter(part) for part in fused.split(2, dim=1)])
    report = init_model_(parts, Recipe([Rule(normal_)]), key=1)
    assert len(report.rows) == 3
    assert torch.equal(parts[1], normal_(torch.empty(4, 2), generator=Key(1).fold_in("1")))
    overlapping = nn.ParameterList([nn.Parameter(fused[:, :2]), nn.Parameter(fused[:, 1:3])])
    with pytest.raises(RecipeError, match="'0' and '1'"):
        init_model_(overlapping, Recipe([Rule(normal_)]))


def test_empty_parameters_are_filled_with_nothing_and_are_not_tied() -> None:
    model = nn.ParameterList([torch.empty(0, 3), torch.empty(0), torch.empty(())])
    report = init_model_(model, Recipe([Rule(normal_)]))
    assert [row.tied for row in report.rows] == [(), (), ()]


# Wrappers


@pytest.fixture
def process_group(tmp_path: Any) -> Iterator[None]:
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def assert_same_as_unwrapped(wrapped: nn.Module, model: nn.Module) -> None:
    plain = Small()
    names = [row.name for row in init_model_(plain, RECIPE).rows]
    assert [row.name for row in init_model_(wrapped, RECIPE).rows] == names
    assert same(values(model), values(plain))


def test_names_leave_out_torch_compile_whole_and_in_part() -> None:
    model = Small()
    assert_same_as_unwrapped(torch.compile(model), model)
    part = Small()
    part.body = torch.compile(part.body)
    assert "body._orig_mod.0.weight" in dict(part.named_parameters())
    init_model_(part, RECIPE)
    init_model_(model, RECIPE)
    assert torch.equal(part.body._orig_mod[0].weight, model.body[0].weight)


def test_names_leave_out_data_parallel() -> None:
    model = Small()
    assert_same_as_unwrapped(nn.DataParallel(model), model)


@pytest.mark.usefixtures("process_group")
def test_names_leave_out_distributed_data_parallel_and_what_derives_from_it() -> None:
    class Mine(nn.parallel.DistributedDataParallel):
        pass

    model = Small()
    assert_same_as_unwrapped(torch.compile(Mine(model)), model)


def test_names_leave_out_activation_checkpoint_wrappers() -> None:
    model = Small()
    model.body[0] = checkpoint_wrapper(model.body[0])
    assert "body.0._checkpoint_wrapped_module.weight" in dict(model.named_parameters())
    assert "body.0.weight" in [row.name for row in init_model_(model, RECIPE).rows]


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("use_orig_params", [True, False])
def test_parameters_cut_up_by_fsdp_are_refused(use_orig_params: bool) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel

    cpu = torch.device("cpu")
    wrapped = FullyShardedDataParallel(nn.Linear(2, 3), use_orig_params=use_orig_params, device_id=cpu)
    model = nn.Sequential(nn.Linear(2, 2), wrapped)
    before = model[0].weight.detach().clone()
    with pytest.raises(RecipeError, match="module '1' is wrapped in FullyShardedDataParallel"):
        init_model_(model, RECIPE)
    assert torch.equal(model[0].weight, before)


def test_a_users_module_named_like_a_wrappers_child_keeps_its_name() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)
            self._orig_mod = nn.Linear(2, 2)

    names = {row.name for row in init_model_(Net(), RECIPE).rows}
    assert names == {"module.weight", "module.bias", "_orig_mod.weight", "_orig_mod.bias"}


def test_two_parameters_of_one_canonical_name_are_an_error_that_names_both() -> None:
    wrapped = nn.DataParallel(nn.Linear(2, 2))
    wrapped.weight = nn.Parameter(torch.zeros(2))
    with pytest.raises(RecipeError, match=r"'weight'.*weight and module.weight"):
        init_model_(wrapped, Recipe([Rule(ones_)]))
    assert not wrapped.weight.any()


def test_a_parameter_and_a_buffer_of_one_name_are_refused() -> None:
    class Mine(nn.DataParallel):
        def __init__(self, module: nn.Module) -> None:
            super().__init__(module)
            self.register_buffer("scale", torch.ones(3))

    inner = nn.Linear(2, 3)
    inner.scale = nn.Parameter(torch.ones(3))
    for recipe in (Recipe([Rule(ones_)]), Recipe([Rule(normal_), Rule(ones_, buffers="*")])):
        with pytest.raises(RecipeError, match=r"two tensors have the canonical name 'scale': module.scale and scale"):
            init_model_(Mine(inner), recipe)
    del inner.scale
    inner.register_buffer("scale", torch.zeros(3))
    with pytest.raises(RecipeError, match=r"two tensors have the canonical name 'scale': scale and module.scale"):
        init_model_(Mine(inner), Recipe([Rule(ones_)]))
