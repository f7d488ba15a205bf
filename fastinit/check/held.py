"""Where the parts of a DTensor are in what this process holds of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastinit.check.measure import At, taken_along
from fastinit.sharding import local_of, pieces_of, runs_of

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def held_of(tensor: "DTensor", parts: Sequence[At]) -> tuple[Tensor, list[At]]:
    """Return the local tensor and the places of the parts in it.

    ValueError for what is held in a way that is not known, as by Partial.
    """
    runs = runs_of(tensor) if pieces_of(tensor) else None
    if runs is None:  # outside of its mesh
        runs = [[(0, 0)]] * tensor.dim()
    entries = [torch.cat([torch.arange(*run) for run in of_dim]) for of_dim in runs]  # of the whole, that are here
    local = local_of(tensor).reshape([len(here) for here in entries])  # torch gives empty ones of one dimension
    along = [taken_along(part, tensor.shape) for part in parts]
    return local, [
        tuple(taken[here].nonzero().flatten() for taken, here in zip(of_part, entries, strict=True))
        for of_part in along
    ]
