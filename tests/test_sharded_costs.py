"""What filling a DTensor does not take: nothing is sent, and no rank makes more than its part, or anything twice."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from sharded_cases import (
    CUTS,
    KEY,
    Cut,
    as_rank,
    cut,
    drawn_fills_of,
    elements,
    fills_of,
    peak_growth,
    strided,
    unlike,
)
from torch import Tensor
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.debug import CommDebugMode

import fastinit

MEGABYTE = 2**20


@pytest.fixture(autouse=True)
def no_warnings_of_empty_tensors() -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors is a no-op")
        yield


@pytest.mark.parametrize("fill", fills_of((48, 40)))
def test_nothing_is_sent(fill: str) -> None:
    for one in (cut((48, 40), (2, 2), Shard(0), Replicate()), cut((48, 40), (2, 2), strided(0, 2), Shard(0))):
        with as_rank(3, 4):
            tensor = one.tensor(one.make_mesh())
            with CommDebugMode() as sent:
                fills_of(one.shape)[fill](tensor, KEY)
            assert sent.get_total_counts() == 0


WIDE = 2**28  # a tensor of 64 times as many elements is nowhere: 64 GiB


@pytest.mark.parametrize(
    ("one", "start"),
    [
        (cut((WIDE, 64), (2**14,), Shard(0)), (5 * 2**14, 0)),
        (cut((64, WIDE), (2**14,), Shard(1)), (0, 5 * 2**14)),
        (cut((WIDE, 64), (2**13, 2), strided(0, 2), Shard(0)), (WIDE // 2 + 2 * 2**14, 0)),
        (cut((WIDE, 64), (2**7, 2**7), Shard(0), Shard(0)), (5 * 2**14, 0)),
    ],
    ids=["rows", "columns", "FSDP over rows", "rows twice"],
)
def test_a_rank_needs_no_more_than_its_part_of_a_tensor_larger_than_any_memory(
    one: Cut, start: tuple[int, int]
) -> None:
    shape = tuple(2**14 if size == WIDE else size for size in one.shape)
    with as_rank(5, one.world):
        mesh = one.make_mesh()
        for name, fill in drawn_fills_of(one.shape).items():
            if name == "orthogonal_" or (name == "sparse_" and one.shape[0] == WIDE):
                continue  # which compute the whole matrix, and whole columns
            tensor = one.tensor(mesh, torch.bfloat16, torch.full(shape, math.nan, dtype=torch.bfloat16))
            grown = peak_growth(lambda fill=fill, tensor=tensor: fill(tensor, KEY))
            expected = fill(torch.empty(shape, dtype=torch.bfloat16), KEY.shard(one.shape, start))
            assert elements(tensor.to_local()).equal(elements(expected)), name
            assert grown < 24 * MEGABYTE, name


def test_the_count_of_memory_finds_a_large_tensor() -> None:
    assert peak_growth(lambda: torch.ones(64 * MEGABYTE)) > 200 * MEGABYTE


@pytest.mark.parametrize("few", [2**22, 40], ids=["all columns at once", "two columns at a time"])
@pytest.mark.parametrize(("fill", "name"), [("orthogonal_", "strided columns"), ("sparse_", "strided by three")])
def test_what_is_the_same_for_all_pieces_of_a_rank_is_made_once(
    fill: str, name: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As whole columns are for their zeros, and the whole for a matrix of sums of products."""
    one = CUTS[name]
    whole = fills_of(one.shape)[fill](torch.empty(one.shape), KEY)
    made: list[int] = []
    write = fastinit._ops.fill_by_words_

    def count(tensors: Sequence[Tensor], *arguments: Any) -> None:
        made.extend(tensor.numel() for tensor in tensors if not tensor.is_meta)
        write(tensors, *arguments)

    monkeypatch.setattr(fastinit.sharded_fill, "_FEW", few)
    monkeypatch.setattr(fastinit._ops, "fill_by_words_", count)
    with as_rank(0, one.world):
        mesh = one.make_mesh()
        tensor = one.tensor(mesh)
        with fastinit.batched():
            fills_of(one.shape)[fill](tensor, KEY)
        assert unlike(tensor.to_local(), whole, one.places(mesh)) == ""
    assert sum(made) == whole.numel()
