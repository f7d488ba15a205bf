"""Errors within a block of `fastinit.batched`: from the call that makes them, and nothing pending is lost."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from batched_plain import same, snapshot, succeeds
from torch import Tensor, nn

FILLS: dict[str, Callable[[Tensor], Tensor]] = {
    "normal_": lambda t: t.normal_(),
    "constant": lambda t: t.fill_(0.3),
    "chain": lambda t: t.uniform_(-0.9, 0.9).erfinv_().mul_(2).clamp_(-1, 1),
    "part": lambda t: t.zero_()[1:].uniform_(),
}


@pytest.mark.parametrize(
    "call",
    [
        lambda: torch.empty(20).normal_(0, -1),
        lambda: torch.empty(20).uniform_(1, 0),
        lambda: torch.empty(20, dtype=torch.float16).uniform_(-1e6, 1e6),
        lambda: torch.empty(20, dtype=torch.float16).fill_(1e6),
        lambda: torch.empty(20, dtype=torch.bfloat16).fill_(1e39),
        lambda: torch.zeros(20, dtype=torch.float16).add_(1e6),
        lambda: torch.empty(20, dtype=torch.int64).normal_(),
        lambda: torch.empty(20, dtype=torch.int64).fill_(2**70),
        lambda: torch.zeros(20, dtype=torch.int64).mul_(0.5),
        lambda: torch.zeros(20).mul_(1j),
        lambda: torch.zeros(20).clamp_(),
        lambda: torch.empty(20).fill_("2"),
        lambda: torch.empty(20).fill_(torch.ones(2)),
        lambda: torch.empty(20).copy_(torch.ones(3)),
        lambda: torch.empty(20).normal_(torch.ones(2), 1),
        lambda: torch.ones(1).expand(20).normal_(),
        lambda: torch.empty(20).normal_(generator=3),
        lambda: nn.init.trunc_normal_(torch.empty(20), 0, 1, 3, 2),
        lambda: nn.init.trunc_normal_(torch.empty(20), std=-1),
        lambda: nn.init.xavier_normal_(torch.empty(20)),
        lambda: nn.init.kaiming_normal_(torch.empty(4, 4), mode="fan"),
        lambda: nn.init.orthogonal_(torch.empty(20)),
        lambda: nn.init.eye_(torch.empty(20)),
    ],
)
def test_an_error_comes_from_the_call_that_makes_it(call: Callable[[], Any]) -> None:
    def program() -> list[Any]:
        x = torch.empty(30).normal_()
        try:
            result = call()
        except Exception as error:
            result = type(error), str(error)
        return [x, result, torch.empty(5).normal_()]

    same(program)


def test_a_failed_write_leaves_what_was_pending() -> None:
    def program() -> list[Any]:
        x = torch.empty(30).normal_()
        for wrong in (lambda: x.normal_(0, -1), lambda: x.copy_(torch.ones(7)), lambda: x.fill_(torch.ones(2))):
            with pytest.raises(RuntimeError):
                wrong()
        return [x, snapshot(x.clone())]

    succeeds(program)
