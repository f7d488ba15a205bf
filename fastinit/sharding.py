"""What this process holds of a tensor: rectangles in its memory, each with its place in the whole.

Of a DTensor they follow from its mesh and its placements alone, as torch.distributed.tensor cuts tensors.
"""

import sys
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.nn import Parameter

from fastinit.key import Key, KeyShard
from fastinit.tables import shape_text

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

Index = tuple[int | slice, ...]  # what takes a part out of a tensor as a view of it
Run = tuple[int, int]  # consecutive entries of a dimension: the first, and the one after the last


class Piece(NamedTuple):
    """A rectangle of a tensor."""

    view: Tensor
    start: tuple[int, ...]  # of its first element in the whole

    def place(self, key: Key | KeyShard, shape: Sequence[int]) -> Key | KeyShard:
        """Return the key of the piece, `key` being that of its whole, of this shape."""
        if isinstance(key, KeyShard):  # the tensor is itself a part of something larger
            if len(key.start) != len(self.start):
                return key  # which the op refuses
            return key.key.shard(key.global_shape, [a + b for a, b in zip(key.start, self.start, strict=True)])
        return key if self.view.shape == torch.Size(shape) else key.shard(shape, self.start)

    def of(self, whole: Tensor) -> Tensor:
        """Return the view of `whole` that the piece is a copy of."""
        return whole[tuple(slice(a, a + n) for a, n in zip(self.start, self.view.shape, strict=True))]

    def within(self, part: Index) -> "Piece | None":
        """Return what the piece holds of the part at this index of the whole, as a piece of that part."""
        here: list[int | slice] = []
        start: list[int] = []
        for dim, (first, size) in enumerate(zip(self.start, self.view.shape, strict=True)):
            at = part[dim] if dim < len(part) else slice(0, first + size, 1)
            if isinstance(at, int):
                if not first <= at < first + size:
                    return None
                here.append(at - first)
                continue
            inside = range(at.start, at.stop, at.step)
            begin = max(0, -((at.start - first) // at.step))  # of the part's entries, those that are in the piece
            end = min(len(inside), -((at.start - first - size) // at.step))
            if begin >= end:
                return None
            here.append(slice(inside[begin] - first, inside[end - 1] - first + 1, at.step))
            start.append(begin)
        return Piece(self.view.detach()[tuple(here)], tuple(start))


class Sharding(NamedTuple):
    """How a DTensor is cut, and what this process holds of it."""

    mesh: tuple[int, ...]
    placements: tuple[str, ...]  # one for each dimension of the mesh
    local_shape: torch.Size
    way: str | None  # of an orthogonal matrix: "whole" by every process, or "distributed" over them

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, for reports."""
        return self._asdict() | {"local_shape": list(self.local_shape)}

    def texts(self) -> tuple[str, ...]:
        """Return a cell of a table for each."""
        return "x".join(map(str, self.mesh)), ", ".join(self.placements), shape_text(self.local_shape), self.way or ""


def is_dtensor(tensor: object) -> "TypeGuard[DTensor]":
    if type(tensor) is Tensor or type(tensor) is Parameter:
        return False
    module = sys.modules.get("torch.distributed.tensor")  # not loaded, nothing is one
    return module is not None and isinstance(tensor, module.DTensor)


def local_of(tensor: "DTensor") -> Tensor:
    return tensor._local_tensor  # to_local() makes a view of it, for autograd, in ten times the time


def copy_held(whole: Tensor, tensor: Tensor) -> None:
    """Copy what this process holds of `tensor` from a tensor with the values of all of it."""
    with torch.no_grad():
        for piece in pieces_of(tensor):
            piece.view.copy_(piece.of(whole))
    if is_dtensor(tensor):
        increment_version(tensor)  # its own, beside its local tensor's


def elements_held(tensor: Tensor) -> int:
    """Return how many elements of the tensor this process has."""
    return local_of(tensor).numel() if is_dtensor(tensor) else tensor.numel()


def pieces_of(tensor: Tensor) -> list[Piece]:
    """Return the rectangles that this process holds of a DTensor, in order; of any other tensor, that itself.

    ValueError for a tensor that no process holds any part of as it is (Partial), and for placements that are not known
    here.
    """
    if not is_dtensor(tensor):
        return [Piece(tensor, (0,) * tensor.dim())]
    runs = runs_of(tensor)
    local = local_of(tensor)
    if runs is None:
        return []
    shape = tuple(map(length, runs))
    if local.shape != shape:
        raise ValueError(
            f"tensor must be a DTensor whose local tensor is what its placements say, got {list(local.shape)} in place "
            f"of {list(shape)} for {tensor.placements} of {list(tensor.shape)} on {tensor.device_mesh}"
        )
    if all(len(of_dim) == 1 for of_dim in runs):
        return [Piece(local, tuple(begin for ((begin, _),) in runs))]
    return [
        Piece(local[tuple(here for here, _ in place)], tuple(begin for _, begin in place))
        for place in product(*map(held, runs))
    ]


def length(runs: Sequence[Run]) -> int:
    return sum(end - begin for begin, end in runs)


def held(runs: Sequence[Run]) -> list[tuple[slice, int]]:
    """Return for each run its place in the local tensor, and its first entry in the whole."""
    places = []
    end = 0
    for first, after in runs:
        begin, end = end, end + after - first
        places.append((slice(begin, end), first))
    return places


def runs_of(tensor: "DTensor") -> list[list[Run]] | None:
    """Return what the process holds of each dimension; None where it is not in the tensor's mesh."""
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor.placement_types import _StridedShard

    mesh, placements = tensor.device_mesh, tensor.placements
    # Types derived from these may cut in another way.
    if unknown := [one for one in placements if type(one) not in (Replicate, Shard, _StridedShard)]:
        raise ValueError(
            f"tensor must be a DTensor placed by Replicate and Shard, got {unknown[0]!r} in {tensor.placements}: "
            "redistribute it first"
        )
    coordinate = mesh.get_coordinate()
    if coordinate is None:
        return None
    runs: list[list[Run]] = [[(0, size)] for size in tensor.shape]
    for mesh_dim in _order(tensor):
        placement = placements[mesh_dim]
        if isinstance(placement, Shard | _StridedShard):
            splits = int(placement.split_factor) if isinstance(placement, _StridedShard) else 1
            runs[placement.dim] = _cut(runs[placement.dim], splits, mesh.size(mesh_dim), coordinate[mesh_dim])
    return runs


def _order(tensor: "DTensor") -> list[int]:
    """Return the dimensions of the mesh in the order in which they cut the tensor: from the first on, if not said."""
    said = [dim for entry in getattr(tensor._spec, "shard_order", None) or () for dim in entry.mesh_dims]
    return said + [dim for dim in range(tensor.device_mesh.ndim) if dim not in said]


def _cut(runs: list[Run], splits: int, chunks: int, chunk: int) -> list[Run]:
    """Return chunk number `chunk` of each of `splits` splits of these entries, all cut as torch.chunk does."""
    total = length(runs)
    taken: list[Run] = []
    for split in range(splits):
        begin, end = _chunk(0, total, splits, split)
        begin, end = _chunk(begin, end, chunks, chunk)
        position = 0
        for first, after in runs:
            size = after - first
            low, high = max(begin - position, 0), min(end - position, size)
            if low < high:
                if taken and taken[-1][1] == first + low:
                    taken[-1] = taken[-1][0], first + high
                else:
                    taken.append((first + low, first + high))
            position += size
    return taken or [(0, 0)]


def _chunk(begin: int, end: int, chunks: int, chunk: int) -> Run:
    size = -(-(end - begin) // chunks)
    return min(end, begin + chunk * size), min(end, begin + (chunk + 1) * size)
