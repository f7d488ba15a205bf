"""The functions and methods that a block of `fastinit.batched` replaces: who else replaces, keeps or compiles them."""

import pickle
import subprocess
import sys
import threading
from typing import Any
from unittest import mock

import pytest
import torch
from batched_plain import attributes, same, succeeds
from torch import Tensor, nn

import fastinit

NAMES = ("orthogonal_", "sparse_", "_no_grad_trunc_normal_")


@pytest.mark.parametrize("name", NAMES)
def test_a_function_of_the_users_from_before_the_block_is_called(name: str) -> None:
    """As transformers' guard is, which leaves alone what a checkpoint has filled."""

    def mine(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return tensor.data.fill_(3)

    model = nn.Linear(4, 4)
    for key in (None, 0):
        nn.init.zeros_(model.weight)
        with mock.patch.object(nn.init, name, mine), fastinit.batched(model, key=key):
            getattr(nn.init, name)(model.weight, 0.1)
            assert getattr(nn.init, name) is mine
        assert model.weight.eq(3).all()


@pytest.mark.parametrize(("owner", "name"), [(nn.init, "orthogonal_"), (Tensor, "numpy"), (Tensor, "tolist")])
def test_a_patch_that_begins_in_a_block_and_ends_after_it(owner: Any, name: str) -> None:
    """It puts back what the block had put there."""

    def program() -> list[Any]:
        weight = torch.empty(4, 4).normal_()
        nn.init.orthogonal_(weight)
        return [weight.tolist(), weight.numpy().sum(), nn.init.orthogonal_(torch.empty(2, 2, device="meta"))]

    before = attributes()
    original, own = getattr(owner, name), name in vars(owner)
    patch = mock.patch.object(owner, name)
    try:
        with fastinit.batched():
            patch.start()
        patch.stop()
        program()
        succeeds(program)
    finally:
        setattr(owner, name, original)
        if not own:
            delattr(owner, name)
    assert attributes() == before


def test_a_function_taken_in_a_block_can_be_pickled_and_called_where_there_was_none() -> None:
    with fastinit.batched():
        taken = nn.init.orthogonal_
    assert taken.__name__ == "orthogonal_"
    program = (
        f"import pickle, torch; w = pickle.loads({pickle.dumps(taken)!r})(torch.empty(3, 3)); assert w.isfinite().all()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_block_cannot_be_left_by_another_thread_or_twice() -> None:
    errors: list[BaseException] = []

    def leave() -> None:
        with pytest.raises(RuntimeError, match="thread") as caught:
            block.__exit__(None, None, None)
        errors.append(caught.value)

    before = attributes()
    with fastinit.batched() as block:
        inside = attributes()
        thread = threading.Thread(target=leave)
        thread.start()
        thread.join()
        assert len(errors) == 1 and attributes() == inside
        torch.zeros(3)
        assert block.recorded == 1
    leave()
    assert attributes() == before and block.recorded == 1


def test_compiled_code_that_takes_addresses() -> None:
    """What torch.compile makes calls the methods by their names, and must not compile ours in turn."""

    def outside(x: Tensor) -> Any:
        values = x.tolist()
        return x + values[0], x.numpy().sum(), x.sum()

    def within(x: Tensor) -> Tensor:
        return torch.from_numpy(x.numpy() + 1)

    def program() -> list[Any]:
        torch._dynamo.reset()
        x = torch.empty(5).normal_()
        graph = torch.compile(within, backend="eager", fullgraph=True)
        return [torch.compile(outside, backend="eager")(x), graph(x), x.fill_(2), graph(x)]

    same(program)
    torch._dynamo.reset()
