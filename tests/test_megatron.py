"""Layers cut by hand as Megatron cuts them: plain tensors, no DTensor, no mesh, `key.shard` alone.

Each class is what one rank of a tensor-parallel group of a given size holds. The whole is the same class of a group of
one, and that it is what the uncut torch.nn module would be is shown first. What is cut is cut where Megatron cuts it:
outputs of a column-parallel layer, inputs of a row-parallel one, rows of an embedding whose vocabulary is padded until
it divides, and of a fused projection of queries, keys and values the heads, whose rows lie in three places.
"""

import doctest
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import fastinit
from fastinit import Key

KEY = Key(8)
SIZES = (1, 2, 4)
INPUTS, OUTPUTS, HEADS, HEAD = 12, 20, 8, 3
VOCABULARY, MULTIPLE = 50, 4  # padded to a multiple of 4 a rank: 52, 56, 64

LAWS: dict[str, Callable[..., Tensor]] = {
    "normal": partial(fastinit.normal_, std=0.02),
    "uniform": partial(fastinit.uniform_, a=-0.3, b=0.1),
    "trunc_normal": partial(fastinit.trunc_normal_, std=0.5, a=-0.9, b=0.6),
    "xavier_uniform": fastinit.xavier_uniform_,
    "xavier_normal": fastinit.xavier_normal_,
    "kaiming_uniform, fan_in": partial(fastinit.kaiming_uniform_, a=5**0.5),
    "kaiming_normal, fan_out": partial(fastinit.kaiming_normal_, mode="fan_out", nonlinearity="relu"),
    "sparse": partial(fastinit.sparse_, sparsity=0.4),
    "orthogonal": fastinit.orthogonal_,
}


class Piece(NamedTuple):
    """Some rows and columns of a rank's tensor, and where they start in the whole."""

    tensor: Tensor
    global_shape: tuple[int, ...]
    offset: tuple[int, ...]


class ColumnParallelLinear(nn.Module):
    def __init__(self, inputs: int, outputs: int, rank: int, ranks: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs // ranks, inputs))
        self.pieces = [Piece(self.weight, (outputs, inputs), (rank * (outputs // ranks), 0))]


class RowParallelLinear(nn.Module):
    def __init__(self, inputs: int, outputs: int, rank: int, ranks: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs // ranks))
        self.pieces = [Piece(self.weight, (outputs, inputs), (0, rank * (inputs // ranks)))]


def padded(vocabulary: int, ranks: int) -> int:
    return -(-vocabulary // (MULTIPLE * ranks)) * MULTIPLE * ranks


class VocabParallelEmbedding(nn.Module):
    """The rows are those of the padded vocabulary: they, and the fans, depend on how it is padded."""

    def __init__(self, rows: int, width: int, rank: int, ranks: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows // ranks, width))
        self.pieces = [Piece(self.weight, (rows, width), (rank * (rows // ranks), 0))]


class QKVParallelLinear(nn.Module):
    """Queries of all heads, then keys, then values, as one weight of the whole; a rank has its heads' rows of each."""

    def __init__(self, inputs: int, heads: int, head: int, rank: int, ranks: int) -> None:
        super().__init__()
        all_rows, rows = heads * head, heads // ranks * head
        self.weight = nn.Parameter(torch.empty(3 * rows, inputs))
        self.pieces = [
            Piece(part, (3 * all_rows, inputs), (i * all_rows + rank * rows, 0))
            for i, part in enumerate(self.weight.detach().chunk(3))
        ]


MODULES: dict[str, tuple[Callable[[int, int], Any], int]] = {  # of rank and ranks; the dimension that is cut
    "column": (partial(ColumnParallelLinear, INPUTS, OUTPUTS), 0),
    "row": (partial(RowParallelLinear, INPUTS, OUTPUTS), 1),
    "embedding": (lambda rank, ranks: VocabParallelEmbedding(padded(VOCABULARY, ranks), INPUTS, rank, ranks), 0),
    "qkv": (partial(QKVParallelLinear, INPUTS, HEADS, HEAD), 0),
}


@torch.no_grad()
def filled(module: Any, law: Callable[..., Tensor], key: Key = KEY) -> Any:
    for tensor, global_shape, offset in module.pieces:
        law(tensor, generator=key.shard(global_shape, offset))
    return module


def whole(kind: str, law: Callable[..., Tensor], ranks: int) -> Tensor:
    """The uncut weight, by the key itself. Its shape depends on the ranks where the vocabulary is padded for them."""
    shapes = {
        "column": (OUTPUTS, INPUTS),
        "row": (OUTPUTS, INPUTS),
        "embedding": (padded(VOCABULARY, ranks), INPUTS),
        "qkv": (3 * HEADS * HEAD, INPUTS),
    }
    return law(torch.empty(shapes[kind]), generator=KEY)


@pytest.mark.parametrize("ranks", SIZES)
@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("name", LAWS)
def test_each_rank_has_its_slice_of_the_whole_and_together_they_are_it(name: str, kind: str, ranks: int) -> None:
    law = LAWS[name]
    build, dim = MODULES[kind]
    expected = whole(kind, law, ranks)
    modules = [filled(build(rank, ranks), law) for rank in range(ranks)]
    for module in modules:
        for tensor, global_shape, offset in module.pieces:
            assert global_shape == tuple(expected.shape)
            place = tuple(slice(at, at + n) for at, n in zip(offset, tensor.shape, strict=True))
            assert torch.equal(tensor, expected[place])
    weights = [module.weight.detach() for module in modules]
    if kind == "qkv":  # of each of the three the ranks' parts
        weights = [part for i in range(3) for part in (weight.chunk(3)[i] for weight in weights)]
    assert torch.equal(torch.cat(weights, dim), expected)
    assert all(not torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i])


@pytest.mark.parametrize("law", ["xavier_uniform", "kaiming_uniform, fan_in", "kaiming_normal, fan_out"])
@pytest.mark.parametrize("kind", MODULES)
def test_fans_are_the_whole_s(kind: str, law: str) -> None:
    """What a rank would get from its own shape, as without `shard`, is wrong by the square root of the ranks or less.

    A row-parallel weight has the whole's fan_out, and others its fan_in: of each law some kind shows.
    """
    build, _ = MODULES[kind]
    rank = filled(build(3, 4), LAWS[law])
    fan_out, fan_in = rank.pieces[0].global_shape
    std = {
        "xavier_uniform": (2 / (fan_in + fan_out)) ** 0.5,
        "kaiming_uniform, fan_in": (1 / 3 / fan_in) ** 0.5,
        "kaiming_normal, fan_out": (2 / fan_out) ** 0.5,
    }[law]
    for tensor, global_shape, offset in rank.pieces:
        plain = fastinit.uniform_ if "uniform" in law else fastinit.normal_
        bounds = {"a": -(3**0.5) * std, "b": 3**0.5 * std} if "uniform" in law else {"std": std}
        same = plain(torch.empty(tensor.shape), **bounds, generator=KEY.shard(global_shape, offset))
        torch.testing.assert_close(tensor.detach(), same, rtol=1e-6, atol=0)


def test_a_size_of_padding_is_part_of_the_shape_that_fans_and_sparsity_follow() -> None:
    """What follows no fan has the same rows under any padding: rows of the vocabulary do not depend on the ranks."""
    few, many = (whole("embedding", LAWS["normal"], ranks) for ranks in (1, 4))
    assert len(few) == 52 and len(many) == 64
    assert torch.equal(few[:VOCABULARY], many[:VOCABULARY])
    few, many = (whole("embedding", LAWS["xavier_uniform"], ranks) for ranks in (1, 4))
    assert not torch.equal(few[:VOCABULARY], many[:VOCABULARY])


def test_names_make_the_keys_of_layers_as_in_init_model() -> None:
    """A rank's part of a layer is that of the model that init_model_ fills uncut."""
    model = nn.ModuleDict(
        {"up": nn.Linear(INPUTS, OUTPUTS, bias=False), "down": nn.Linear(OUTPUTS, INPUTS, bias=False)}
    )
    fastinit.init_model_(model, fastinit.Recipe([fastinit.Rule(fastinit.xavier_normal_)]), key=KEY)
    up = filled(ColumnParallelLinear(INPUTS, OUTPUTS, 1, 2), LAWS["xavier_normal"], KEY.fold_in("up.weight"))
    down = filled(RowParallelLinear(OUTPUTS, INPUTS, 1, 2), LAWS["xavier_normal"], KEY.fold_in("down.weight"))
    assert torch.equal(up.weight, model["up"].weight[OUTPUTS // 2 :])
    assert torch.equal(down.weight, model["down"].weight[:, OUTPUTS // 2 :])


def test_the_examples_of_key_shard_run() -> None:
    (example,) = doctest.DocTestFinder(recurse=False).find(Key.shard, "Key.shard", globs={})
    assert len(example.examples) > 8
    assert doctest.DocTestRunner().run(example).failed == 0
