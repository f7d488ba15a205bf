"""Orthogonal matrices too large for one process, made together by those that hold them, as in csrc/orthogonal.cpp.

Where a matrix is cut along its longer side, each process draws its own rows of every panel of Householder vectors and
applies them to its own rows of Q. What a panel needs of the other processes are sums of products, an all-reduce of
(vectors of the panel) x (columns of Q so far): columns^2 / 2 numbers in all. Cholesky's factor of the Gram matrix,
twice for its precision, would send and compute more, and lead to another matrix than that of one process.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor

from fastinit import _C, _ops
from fastinit.key import Key
from fastinit.laws import normal
from fastinit.sharding import Run, held, is_dtensor, length, local_of, runs_of

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.tensor import DTensor

# Elements: 256 MiB of float32. Larger matrices are made together where their placements allow it.
WHOLE_AT_MOST = 2**26
_PANEL = 160  # vectors, as in csrc/orthogonal.cpp
_FEW = 2**17  # elements that a float64 copy of is no matter


def is_distributed(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Say whether the processes of its mesh make an orthogonal matrix of this tensor together."""
    return is_dtensor(tensor) and tensor.numel() > WHOLE_AT_MOST and bool(_mesh_dims(tensor))


def fill_orthogonal(tensor: "DTensor", gain: float, key: Key) -> None:
    """Fill what this process holds of it, while all others of its mesh do the same."""
    runs = runs_of(tensor)
    if runs is None:
        return
    local = local_of(tensor)
    rows, columns = tensor.shape[0], tensor.numel() // tensor.shape[0]
    wide = rows < columns  # then all that follows is of its transpose
    inner = math.prod(tensor.shape[2:]) if wide else 1
    own = [(begin * inner, end * inner) for begin, end in runs[wide]]
    count = length(own)
    shape = (rows, count) if wide else (count, columns)
    numbers = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    exact = torch.float64 if _C.products_are_reduced(local) else numbers
    in_place = local.dtype == exact and local.is_contiguous()
    values = local.view(shape) if in_place else local.new_empty(shape, dtype=exact)

    def draw(part: Tensor, row: int, column: int) -> None:
        """Write the numbers of the matrix from this element on."""
        start = (column, row) if wide else (row, column)
        drawn = (part.t() if wide else part).to(numbers)  # `part` itself, but where products are reduced
        _ops.fill_one(drawn, normal(drawn.shape), key.shard((rows, columns), start))
        if numbers != exact:
            part.copy_(drawn.t() if wide else drawn)

    # A gain far from 1 would take the products out of the type's range.
    ordinary = 2**-32 < abs(gain) < 2**32
    groups = [tensor.device_mesh.get_group(dim) for dim in _mesh_dims(tensor)]
    with torch.no_grad(), torch.autocast(local.device.type, enabled=False):
        q = values.t() if wide else values
        _accumulate(q, own, max(rows, columns), gain if ordinary else 1.0, draw, partial(_sum, groups))
        if not ordinary:
            values.mul_(gain)
        if not in_place:
            local.copy_(values.view(local.shape))


def _mesh_dims(tensor: "DTensor") -> list[int]:
    """Return the dimensions of the mesh that cut the matrix along its longer side; none, if any cuts it otherwise."""
    mesh, placements = tensor.device_mesh, tensor.placements
    cutting = [dim for dim, one in enumerate(placements) if not one.is_replicate() and mesh.size(dim) > 1]
    longer = 0 if tensor.shape[0] ** 2 >= tensor.numel() else 1
    return cutting if all(getattr(placements[dim], "dim", None) == longer for dim in cutting) else []


def _sum(groups: "list[ProcessGroup]", tensor: Tensor) -> None:
    from torch.distributed import all_reduce

    for group in groups:
        all_reduce(tensor, group=group)


def _accumulate(
    q: Tensor,
    rows: list[Run],
    n: int,
    gain: float,
    draw: Callable[[Tensor, int, int], None],
    reduce: Callable[[Tensor], None],
) -> None:
    """Fill q, these rows of an n x m matrix, n >= m.

    From the last panel to the first, with V its vectors, T^-1 + T^-T = V'V and D the signs times the gain:
    Q <- (1 - V T V') [D 0; 0 Q]
    """
    m = q.shape[1]
    for begin in reversed(range(0, m, _PANEL)):
        end = min(begin + _PANEL, m)
        count = end - begin
        # Of V, every process has the triangle at its top, and of what is below it its own rows.
        head = q.new_empty(count, count)
        draw(head, begin, begin)
        head.tril_()
        above, inside, below = _between(rows, 0, begin), _between(rows, begin, end), _between(rows, end, n)
        own = torch.cat([torch.arange(*run, device=q.device) for run in inside or [(0, 0)]]) - begin
        first = length(above)
        last = first + len(own)
        tail = q.new_empty(len(q) - last, count)
        for here, row in held(below):
            draw(tail[here], row, begin)

        # A vector x becomes v = x + sign(x0) |x| e0; |v|^2 follows without another pass.
        squares = _squares(tail)
        reduce(squares)
        squares += _squares(head)
        diagonal = head.diagonal()
        x0 = diagonal.to(torch.float64, copy=True)
        sign = torch.where(x0 < 0, -1.0, 1.0).double()
        diagonal.copy_(x0 + sign * squares.sqrt())
        d = (sign * -gain).to(q.dtype)
        half = (squares - x0**2) / 2 + diagonal.double() ** 2 / 2
        if end == n:  # the last of a square matrix is one number, which needs no reflection: its sign is all
            diagonal[-1] = 0
            half[-1] = 1
            d[-1].neg_()

        # W = T V' [D 0; 0 Q]
        products = q.new_empty(count, count + m - end)
        torch.mm(tail.t(), tail, out=products[:, :count])
        torch.mm(tail.t(), q[last:, end:], out=products[:, count:])
        reduce(products)
        inverse = products[:, :count].addmm(head.t(), head)
        inverse.diagonal().copy_(half)
        products[:, :count] = head.t() * d
        w = torch.linalg.solve_triangular(inverse, products, upper=True)

        q[first:, begin:end] = 0
        q[first:last, end:] = 0
        q[first + torch.arange(len(own), device=q.device), begin + own] = d[own]
        q[first:last, begin:].addmm_(head[own], w, alpha=-1)
        q[last:, begin:].addmm_(tail, w, alpha=-1)


def _between(runs: list[Run], begin: int, end: int) -> list[Run]:
    clipped = [(max(a, begin), min(b, end)) for a, b in runs]
    return [(a, b) for a, b in clipped if a < b]


def _squares(v: Tensor) -> Tensor:
    """Return the squares of the columns' norms, a few columns at a time: each makes a float64 copy."""
    step = max(1, _FEW // max(1, len(v)))
    return torch.cat([part.double().square().sum(0) for part in torch.split(v, step, dim=1)])
