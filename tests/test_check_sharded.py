"""check_model of DTensors: each process measures what it holds, and takes no part of it for another."""

import math
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from sharded_cases import CUTS, Cut, as_rank, cut, on_every_rank
from torch import Tensor, nn
from torch.distributed.tensor import Partial, Replicate, Shard

import fastinit
from fastinit import CheckReport, Part, Recipe, Rule, check_model


@pytest.fixture(autouse=True)
def no_warnings_of_empty_tensors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors is a no-op")
        yield


def check(one: Cut, recipe: Recipe, whole: Tensor) -> CheckReport:
    """Check a model that holds this rank's part of the tensor."""
    mesh = one.make_mesh()
    local = whole.flatten()[one.places(mesh)] if mesh.get_coordinate() else None
    model = nn.Module()
    model.weight = nn.Parameter(one.tensor(mesh, whole.dtype, local), requires_grad=False)
    return check_model(model, recipe)


def with_parts(shape: tuple[int, ...]) -> tuple[Recipe, Tensor, Tensor]:
    """Return a recipe of parts over parts, a whole tensor by it, and for each element the row that it belongs to."""
    odd = slice(1, None, 2)
    whole, row = fastinit.normal_(torch.empty(shape), 5.0, 0.1, generator=fastinit.Key(3)), torch.zeros(shape)
    parts = []
    if 0 not in shape:
        parts.append(Part(fastinit.zeros_, odd))
        whole[odd], row[odd] = 0, 1
        last = (Ellipsis, -1)
        parts.append(Part(fastinit.ones_, (*[slice(None)] * (len(shape) - 1), -1)))
        whole[last], row[last] = 1, 2
    return Recipe([Rule(fastinit.normal_, mean=5.0, std=0.1, parts=parts)]), whole, row


# Without those in an order of their own: torch itself cuts them anew when they become parameters.
@pytest.mark.parametrize("name", [name for name, one in CUTS.items() if not one.order])
def test_each_process_measures_what_it_holds_of_a_tensor_and_of_its_parts(name: str) -> None:
    one = CUTS[name]
    recipe, whole, row_of = with_parts(one.shape)

    def look(rank: int) -> None:
        report = check(one, recipe, whole)
        assert report.ok, report.failures
        mesh = one.make_mesh()
        places = one.places(mesh) if mesh.get_coordinate() else torch.empty(0, dtype=torch.int64)
        values, rows = whole.flatten()[places].double(), row_of.flatten()[places]
        expected = [values[rows == number] for number in rows.unique()]
        found = [row for row in report.rows if row.elements]
        assert [row.elements for row in found] == [held.numel() for held in expected]
        assert all(row.name == "weight" or row.name.startswith("weight[") for row in report.rows)
        for row, held in zip(found, expected, strict=True):
            assert (row.min, row.max) == (held.min().item(), held.max().item())
            assert row.mean == pytest.approx(held.mean().item())
        assert all(row.shape == one.shape for row in found if row.name == "weight")

    on_every_rank(one.world, look)


@pytest.mark.parametrize(("wrong", "verdict"), [(math.nan, "nan"), (9.0, "out of law")])
@pytest.mark.parametrize("name", ["uneven rows", "FSDP over rows, unevenly", "filters and channels"])
def test_what_is_wrong_is_told_by_the_process_that_holds_it(name: str, wrong: float, verdict: str) -> None:
    one = CUTS[name]
    recipe, whole, row_of = with_parts(one.shape)
    place = int((row_of.flatten() == 0).nonzero()[-1])
    whole.view(-1)[place] = wrong

    def look(rank: int) -> None:
        failures = {row.name: row.verdict for row in check(one, recipe, whole).failures}
        here = (one.places(one.make_mesh()) == place).any()
        assert failures == ({"weight": verdict} if here else {})

    on_every_rank(one.world, look)


@pytest.mark.parametrize("fill", [fastinit.eye_, fastinit.orthogonal_, fastinit.sparse_])
def test_a_law_of_whole_tensors_is_compared_where_a_process_has_all_of_it(fill: Callable[..., object]) -> None:
    arguments = {"sparsity": 0.25} if fill is fastinit.sparse_ else {}
    recipe = Recipe([Rule(fill, **arguments)])
    whole = torch.full((8, 8), 3.0)
    for one, ok in ((cut((8, 8), (2,), Replicate()), False), (cut((8, 8), (2,), Shard(0)), True)):
        with as_rank(1, 2):
            report = check(one, recipe, whole)
            assert report.ok == ok
            if ok:  # which is not more than was looked at
                assert "is not checked" in report.rows[0].note


def test_what_is_on_the_meta_device_or_no_part_of_anything_is_said() -> None:
    recipe = Recipe([Rule(fastinit.normal_)])
    with as_rank(0, 2):
        model = nn.Module()
        for kind, placement in (("meta", Shard(0)), ("not measured", Partial())):
            one = cut((6, 5), (2,), placement)
            local = torch.empty((3, 5) if kind == "meta" else (6, 5), device="meta" if kind == "meta" else "cpu")
            model.weight = nn.Parameter(one.tensor(one.make_mesh(), local=local))
            (row,) = check_model(model, recipe).rows
            assert row.verdict == kind
        assert "Partial" in row.note
