"""A rank that is lost while a matrix is made together leaves the others with an error, and not waiting."""

import os
import time
from typing import Any

import gloo
import pytest
import torch
import torch.distributed as dist
from sharded_cases import KEY, cut
from test_sharded_orthogonal import together
from torch.distributed.tensor import Shard
from torch.utils._python_dispatch import TorchDispatchMode

from fastinit import orthogonal_

DEAD = 7  # its exit status
LOST = 1  # the rank


class DiesAt(TorchDispatchMode):
    """Ends the process at one of its all-reduces."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.left = number

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "c10d" in func.namespace and "reduce" in str(func):
            self.left -= 1
            if self.left == 0:
                os._exit(DEAD)
        return func(*args, **(kwargs or {}))


def made_together() -> None:
    one = cut((500, 330), (dist.get_world_size(),), Shard(0))
    tensor = one.tensor(one.make_mesh())
    with together():
        orthogonal_(tensor, generator=KEY)


def dies_before() -> None:
    one = cut((500, 330), (dist.get_world_size(),), Shard(0))
    one.make_mesh()
    if dist.get_rank() == LOST:
        os._exit(DEAD)
    made_together()


def dies_at_the_first() -> None:
    with DiesAt(1 if dist.get_rank() == LOST else 0):
        made_together()


def dies_in_the_middle() -> None:
    with DiesAt(4 if dist.get_rank() == LOST else 0):
        made_together()


def never_comes() -> None:
    if dist.get_rank() == LOST:
        time.sleep(2.5)
        os._exit(DEAD)
    made_together()


@pytest.mark.parametrize("case", [dies_before, dies_at_the_first, dies_in_the_middle, never_comes])
def test_the_others_have_an_error_and_do_not_wait(case: Any) -> None:
    said = gloo.exits(3, case, seconds=40, timeout=1)
    assert [status for status, _ in said] == [1, DEAD, 1]
    for rank in (0, 2):
        assert "orthogonal" in said[rank][1], "the error comes from elsewhere"
        assert "Error" in said[rank][1].splitlines()[-1]


def test_all_end_well_where_none_is_lost() -> None:
    assert gloo.exits(3, made_together, seconds=40, timeout=5) == [(0, "")] * 3


def raises_on_one_rank() -> None:
    one = cut((40, 8), (dist.get_world_size(),), Shard(0))
    mesh = one.make_mesh()
    tensor = one.tensor(mesh, local=torch.zeros(5, 8)) if dist.get_rank() == LOST else one.tensor(mesh)
    with together():
        orthogonal_(tensor, generator=KEY)


def test_what_one_rank_refuses_ends_the_others_too() -> None:
    said = gloo.exits(3, raises_on_one_rank, seconds=40, timeout=5)
    assert [status for status, _ in said] == [1, 1, 1]
    assert "ValueError" in said[LOST][1]
