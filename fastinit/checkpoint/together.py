"""Several processes that write one checkpoint: they go on together, or stop together with the error of one of them.

Values follow from (key, name, index), so any rank can write any file, and nothing is gathered: what the ranks tell each
other is what they were called with, what is missing, and how they fared.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import torch

from fastinit.checkpoint.shards import Shard

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_T = TypeVar("_T")


class Ranks:
    """The ranks of a process group, of which this process is one; without a group, this process alone.

    Every rank makes the same calls in the same order.
    """

    def __init__(self, group: "ProcessGroup | None") -> None:
        self._group = group
        self.number, self.names = 0, [0]  # in the group, and of all of it in the whole job
        if group is None:
            return
        if not torch.distributed.is_available() or not isinstance(group, torch.distributed.ProcessGroup):
            raise TypeError(f"process_group must be a torch.distributed.ProcessGroup this process is in, got {group!r}")
        self.number = torch.distributed.get_rank(group)
        self.names = torch.distributed.get_process_group_ranks(group)

    @property
    def first(self) -> bool:
        return self.number == 0

    def exchange(self, own: _T) -> list[_T]:
        """Return what each rank gives here, in their order."""
        if self._group is None:
            return [own]
        given: list[_T] = [own] * len(self.names)
        try:
            torch.distributed.all_gather_object(given, own, self._group)
        except RuntimeError as error:
            raise RuntimeError(
                f"save_checkpoint: a rank of process_group is gone, or did not come in time: {error}\n"
                "What is finished stays, and the same call goes on"
            ) from error
        return given

    @contextmanager
    def step(self) -> Iterator[None]:
        """Wait at the end of the block for all ranks; where it raised on one of them, raise on all."""
        try:
            yield
        except BaseException as error:
            self.exchange(f"{type(error).__name__}: {error}")
            raise
        for name, said in zip(self.names, self.exchange(""), strict=True):
            if said:
                raise RuntimeError(f"save_checkpoint failed on rank {name}: {said}")

    def share(self, shards: Sequence[Shard]) -> list[Shard]:
        """Return this rank's part of the shards: the largest first, each goes to the rank with the least bytes."""
        bytes_of = [0] * len(self.names)
        mine = []
        for shard in sorted(shards, key=lambda shard: -shard.nbytes):
            rank = bytes_of.index(min(bytes_of))
            bytes_of[rank] += shard.nbytes
            if rank == self.number:
                mine.append(shard)
        return sorted(mine)
