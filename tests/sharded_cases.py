"""Ways to cut a tensor over a mesh, every rank of which takes its turn in this process, and what its part must hold.

Which elements a rank has is what torch's own distribute_tensor makes of the elements' numbers. Nothing here sends
anything: torch's fake backend stands for the other ranks.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard, distribute_tensor
from torch.distributed.tensor._dtensor_spec import DTensorSpec, ShardOrderEntry, TensorMeta
from torch.distributed.tensor.debug import _clear_sharding_prop_cache
from torch.distributed.tensor.placement_types import _StridedShard
from torch.testing._internal.distributed.fake_pg import FakeStore

import fastinit

T = TypeVar("T")
KEY = fastinit.Key(20_261_122, 3)


@contextmanager
def as_rank(rank: int, world: int) -> Iterator[None]:
    """Inside, this process is one rank of many; collectives return at once and do nothing."""
    _clear_sharding_prop_cache()  # in which another rank's mesh may be, which torch takes to be equal
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world)
    try:
        yield
    finally:
        dist.destroy_process_group()


def on_every_rank(world: int, function: Callable[[int], T]) -> list[T]:
    results = []
    for rank in range(world):
        with as_rank(rank, world):
            results.append(function(rank))
    return results


def found_by(world: int, look: Callable[[int], list[str]]) -> list[str]:
    """Return what every rank has found, with its number."""
    return [f"rank {rank}: {text}" for rank, texts in enumerate(on_every_rank(world, look)) for text in texts]


class Cut(NamedTuple):
    """A tensor's shape, a mesh's, and what is placed on it; `order` is that of dimension 0's mesh dimensions."""

    shape: tuple[int, ...]
    mesh: tuple[int, ...]
    placements: tuple[Placement, ...]
    order: tuple[int, ...] = ()
    outside: int = 0  # ranks before the first of the mesh

    @property
    def world(self) -> int:
        return self.outside + math.prod(self.mesh)

    def make_mesh(self) -> DeviceMesh:
        ranks = torch.arange(self.outside, self.world)
        return DeviceMesh("cpu", ranks.view(self.mesh))

    def places(self, mesh: DeviceMesh) -> Tensor:
        """Return the numbers in the whole of the elements that this rank has."""
        numbers = torch.arange(math.prod(self.shape)).view(self.shape)
        if not self.order:
            return distribute_tensor(numbers, mesh, self.placements, src_data_rank=None).to_local()
        coordinate = mesh.get_coordinate()
        assert coordinate is not None
        for mesh_dim in self.order:
            chunks, _ = Shard(0)._split_tensor(numbers, self.mesh[mesh_dim], with_padding=False)
            numbers = chunks[coordinate[mesh_dim]]
        return numbers

    def tensor(self, mesh: DeviceMesh, dtype: torch.dtype = torch.float32, local: Tensor | None = None) -> DTensor:
        """Return a DTensor of this rank's part, which holds NaN or is `local`."""
        if local is None:
            local = torch.full(self.places(mesh).shape, math.nan).to(dtype)
        shape, stride = torch.Size(self.shape), row_major(self.shape)
        if not self.order:
            return DTensor.from_local(local, mesh, self.placements, run_check=False, shape=shape, stride=stride)
        order = (ShardOrderEntry(0, self.order),)
        spec = DTensorSpec(mesh, self.placements, TensorMeta(shape, stride, local.dtype), shard_order=order)
        return DTensor(local, spec, requires_grad=False)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    return torch.empty(tuple(shape), device="meta").stride()


def cut(shape: tuple[int, ...], mesh: tuple[int, ...], *placements: Placement, **given: Any) -> Cut:
    return Cut(shape, mesh, placements, **given)


def strided(dim: int, factor: int) -> Placement:
    return _StridedShard(dim, split_factor=factor)


CUTS = {
    "replicated": cut((7, 5), (3,), Replicate()),
    "rows": cut((8, 5), (4,), Shard(0)),
    "uneven rows": cut((7, 5), (4,), Shard(0)),
    "columns": cut((5, 8), (4,), Shard(1)),
    "uneven columns": cut((5, 7), (4,), Shard(1)),
    "last dimension from the end": cut((5, 7), (3,), Shard(-1)),
    "first dimension from the end": cut((7, 5), (3,), Shard(-2)),
    "two rows for four": cut((2, 5), (4,), Shard(0)),
    "two columns for four": cut((5, 2), (4,), Shard(1)),
    "five rows for four": cut((5, 3), (4,), Shard(0)),
    "one rank": cut((7, 5), (1,), Shard(0)),
    "vector": cut((11,), (3,), Shard(0)),
    "vector of two for four": cut((2,), (4,), Shard(-1)),
    "vector over two dimensions": cut((11,), (2, 2), Shard(0), Shard(0)),
    "filters": cut((6, 5, 3, 3), (4,), Shard(0)),
    "channels": cut((6, 5, 3, 3), (4,), Shard(1)),
    "kernel": cut((4, 5, 3, 3), (2,), Shard(-1)),
    "filters and channels": cut((6, 5, 3, 3), (2, 2), Shard(0), Shard(1)),
    "channels and kernel": cut((4, 5, 3), (2, 3), Shard(2), Shard(1)),
    "no rows": cut((0, 5), (3,), Shard(0)),
    "no columns, rows cut": cut((4, 0), (3,), Shard(0)),
    "no elements": cut((0,), (2,), Shard(0)),
    "rows and columns": cut((7, 5), (2, 2), Shard(0), Shard(1)),
    "columns and rows": cut((7, 5), (2, 3), Shard(1), Shard(0)),
    "rows twice": cut((7, 5), (2, 2), Shard(0), Shard(0)),
    "rows twice, unevenly": cut((7, 4), (2, 3), Shard(0), Shard(0)),
    "columns twice": cut((3, 13), (3, 2), Shard(1), Shard(1)),
    "rows three times": cut((13, 3), (2, 2, 2), Shard(0), Shard(0), Shard(0)),
    "copies of rows": cut((7, 5), (2, 3), Replicate(), Shard(0)),
    "rows of copies": cut((7, 5), (3, 2), Shard(0), Replicate()),
    "rows, copies, columns": cut((7, 5), (2, 2, 2), Shard(0), Replicate(), Shard(1)),
    "FSDP over rows": cut((8, 5), (2, 2), strided(0, 2), Shard(0)),
    "FSDP over rows, unevenly": cut((11, 4), (2, 2), strided(0, 2), Shard(0)),
    "FSDP over rows, empty parts": cut((3, 4), (2, 3), strided(0, 3), Shard(0)),
    "FSDP over columns": cut((7, 5), (2, 2), Shard(0), Shard(1)),
    "FSDP by columns over columns": cut((3, 11), (3, 2), strided(1, 2), Shard(1)),
    "HSDP over rows": cut((9, 4), (2, 2, 2), Replicate(), strided(0, 2), Shard(0)),
    "three, each over the next": cut((17, 2), (2, 2, 2), strided(0, 4), strided(0, 2), Shard(0)),
    "strided of one": cut((7, 5), (3,), strided(0, 1)),
    "strided by two": cut((7, 5), (3,), strided(0, 2)),
    "strided by three": cut((17, 3), (2,), strided(0, 3)),
    "strided by more than there are": cut((4, 3), (2,), strided(0, 5)),
    "strided columns": cut((3, 17), (3,), strided(-1, 4)),
    "strided rows and columns": cut((9, 11), (2, 2), strided(0, 2), strided(1, 3)),
    "strided after rows": cut((17, 3), (2, 2), Shard(0), strided(0, 2)),
    "strided twice": cut((29, 2), (2, 3), strided(0, 3), strided(0, 2)),
    "strided kernel": cut((4, 3, 7), (2,), strided(2, 2)),
    "columns first, by order": cut((7, 5), (2, 3), Shard(0), Shard(0), order=(1, 0)),
    "the last first, by order": cut((13, 3), (2, 2, 2), Shard(0), Shard(0), Shard(0), order=(2, 0, 1)),
    "some ranks alone": cut((7, 5), (3,), Shard(0), outside=2),
    "some ranks alone, strided": cut((9, 5), (2, 2), strided(0, 2), Shard(0), outside=1),
}


def fills_of(shape: Sequence[int]) -> dict[str, Callable[[Tensor, Any], Tensor]]:
    """Return the functions that take a tensor of this shape, as functions of it and of the key."""
    fills: dict[str, Callable[[Tensor, Any], Tensor]] = {
        "uniform_": lambda tensor, key: fastinit.uniform_(tensor, -0.7, 0.9, key),
        "normal_": lambda tensor, key: fastinit.normal_(tensor, 0.3, 0.2, key),
        "trunc_normal_": lambda tensor, key: fastinit.trunc_normal_(tensor, std=0.02, generator=key),
        "trunc_normal_ of a tail": lambda tensor, key: fastinit.trunc_normal_(tensor, a=1.0, b=3.0, generator=key),
        "constant_": lambda tensor, key: fastinit.constant_(tensor, 0.3),
    }
    if len(shape) > 1:
        fills |= {
            "xavier_uniform_": lambda tensor, key: fastinit.xavier_uniform_(tensor, generator=key),
            "xavier_normal_": lambda tensor, key: fastinit.xavier_normal_(tensor, 2.0, generator=key),
            "kaiming_uniform_": lambda tensor, key: fastinit.kaiming_uniform_(tensor, generator=key),
            "kaiming_normal_": lambda tensor, key: fastinit.kaiming_normal_(tensor, mode="fan_out", generator=key),
            "orthogonal_": lambda tensor, key: fastinit.orthogonal_(tensor, 1.5, key),
        }
    if len(shape) == 2:
        fills |= {
            "sparse_": lambda tensor, key: fastinit.sparse_(tensor, 0.3, generator=key),
            "eye_": lambda tensor, key: fastinit.eye_(tensor),
        }
    elif len(shape) > 2:
        fills["dirac_"] = lambda tensor, key: fastinit.dirac_(tensor, 2)
    return fills


def drawn_fills_of(shape: tuple[int, ...]) -> dict[str, Callable[[Tensor, Any], Tensor]]:
    """Return those that take a key: eye_, dirac_ and constant_ of what is refused are torch's own."""
    return {name: fill for name, fill in fills_of(shape).items() if name not in ("constant_", "eye_", "dirac_")}


def elements(tensor: Tensor) -> Tensor:
    """Return the bytes of the elements in row-major order, a row for each element."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).view(tensor.numel(), tensor.itemsize)


def unlike(got: Tensor, whole: Tensor, places: Tensor) -> str:
    """Say how a part differs from those elements of the whole, "" if in nothing."""
    if got.shape != places.shape:
        return f"shape {tuple(got.shape)}, expected {tuple(places.shape)}"
    wrong = (elements(got) != elements(whole)[places.flatten()]).any(1)
    return f"{int(wrong.sum())} of {len(wrong)} elements" if wrong.any() else ""


def peak_growth(work: Callable[[], Any]) -> int:
    """Return by how many bytes the process was larger, at most, while it worked than before."""
    Path("/proc/self/clear_refs").write_text("5")  # the mark starts anew
    before = _in_memory("VmRSS")
    work()
    return _in_memory("VmHWM") - before


def _in_memory(which: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which))
    return int(line.split()[1]) * 1024
