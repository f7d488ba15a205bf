"""Fills of DTensors: of each, the rectangles that this process holds."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from fastinit import _ops
from fastinit.key import Key, KeyShard
from fastinit.laws import Law, constant
from fastinit.parameters import is_plain
from fastinit.sharded_orthogonal import fill_orthogonal, is_distributed
from fastinit.sharding import Piece, Sharding, is_dtensor, local_of, pieces_of

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

_FEW = 2**22  # elements made at a time of what is held in pieces


def fill_one(tensor: Tensor, law: Law, key: Key | KeyShard) -> Tensor:
    """Fill one tensor, a DTensor or a plain one, and return it."""
    if not is_dtensor(tensor):
        return _ops.fill_one(tensor, law, key)
    if torch.compiler.is_compiling():  # raised while tracing, this breaks the graph, and the call runs outside it
        raise RuntimeError("DTensors are not filled inside torch.compile")
    fill_([tensor], [law], [key])
    return tensor


def fill_(tensors: Sequence[Tensor], laws: Sequence[Law], keys: Sequence[Key | KeyShard]) -> None:
    """Fill many tensors, DTensors and plain ones, in one native call and without communication.

    Large orthogonal matrices follow it, which the processes of their meshes make together. Everything is checked before
    anything is written.
    """
    views: list[Tensor] = []
    of_views: list[Law] = []
    places: list[Key | KeyShard] = []
    together: list[tuple[DTensor, float, Key]] = []
    in_pieces: list[tuple[Tensor, Law, Key | KeyShard]] = []
    for tensor, law, key in zip(tensors, laws, keys, strict=True):
        pieces = pieces_of(tensor)
        distributed = law.kind == "orthogonal" and is_distributed(tensor)
        scattered = _is_scattered(law, pieces) and not distributed
        if distributed or scattered or not pieces or isinstance(key, KeyShard):
            # What is wrong with the whole is an error in every process, whatever it holds. This writes nothing.
            _ops.fill_([torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")], [law], [key])
        if distributed and isinstance(key, Key):
            assert is_dtensor(tensor)
            check_held(tensor)
            together.append((tensor, law.numbers[0], key))
            continue
        if scattered:
            check_held(tensor)
            in_pieces.append((tensor, law, key))
            continue
        for piece in pieces:
            views.append(piece.view)
            of_views.append(law)
            places.append(piece.place(key, tensor.shape))
    _ops.fill_(views, of_views, places)
    for tensor, gain, key in together:
        if not tensor.is_meta:
            fill_orthogonal(tensor, gain, key)
    for tensor, law, key in in_pieces:
        if not tensor.is_meta:
            _fill_in_pieces(tensor, law, key)
    for tensor in tensors:
        if is_dtensor(tensor):
            increment_version(tensor)


def _is_scattered(law: Law, pieces: Sequence[Piece]) -> bool:
    """Say whether filling the pieces one by one would make the same many times: a matrix, or its columns' zeros."""
    several = len(pieces) > 1
    return several and (law.kind == "orthogonal" or (law.kind == "sparse" and len({at[0] for _, at in pieces}) > 1))


def _fill_in_pieces(tensor: Tensor, law: Law, key: Key | KeyShard) -> None:
    """Make what all pieces are parts of, once, and copy them from it: sparse matrices a few columns at a time."""
    rows, columns = tensor.shape[:2]
    step = max(1, _FEW // rows) if law.kind == "sparse" else columns
    pieces = pieces_of(tensor)
    for begin in range(0, columns, step):
        end = min(begin + step, columns)
        shape = (rows, end - begin, *tensor.shape[2:])
        part = Piece(torch.empty(shape, dtype=tensor.dtype, device=tensor.device), (0, begin, *[0] * (len(shape) - 2)))
        _ops.fill_([part.view], [law], [part.place(key, tensor.shape)])
        for piece in pieces:
            held = piece.within((slice(0, rows, 1), slice(begin, end, 1)))
            if held is not None:
                held.view.copy_(held.of(part.view))


def sharding_of(tensor: "DTensor", law: Law | None) -> Sharding:
    """Return how it is cut, and of an orthogonal matrix which way it is made."""
    way = None
    if law is not None and law.kind == "orthogonal":
        way = "distributed" if is_distributed(tensor) else "whole"
    placements = tuple(map(repr, tensor.placements))
    return Sharding(tuple(tensor.device_mesh.shape), placements, local_of(tensor).shape, way)


def check_held(tensor: Tensor) -> None:
    """Raise what filling a DTensor would raise whatever the law, and write nothing."""
    for view, _ in pieces_of(tensor):
        if not is_plain(view) or view.device.type not in ("cpu", "cuda", "meta"):
            kind = f"{type(view).__name__} of layout {view.layout} on {view.device}"
            raise TypeError(f"the local part of a DTensor must be a plain CPU or CUDA tensor, and it is a {kind}")
        if view.dtype in _ops.DTYPES:  # all others are torch's own functions' to fill, or the user's
            _ops.check(view, constant(view.shape, 0.0))
