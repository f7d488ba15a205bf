"""A block of `fastinit.batched` belongs to its thread, and a forked child has one of its own."""

import threading
from typing import Any

import pytest
import torch
from batched_plain import SEED, attributes, same, snapshot, succeeds
from cases import holds_in_a_fork
from torch import Tensor, nn

import fastinit


def small() -> nn.Module:
    model = nn.Sequential(nn.Linear(17, 5), nn.LayerNorm(5), nn.Embedding(9, 5, padding_idx=3))
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.5, 0.02)
    return model


# Threads


def in_a_thread(work: Any) -> Any:
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]


def test_another_thread_is_not_recorded() -> None:
    with fastinit.batched() as block:
        in_a_thread(lambda: nn.Linear(30, 3))
        in_a_thread(lambda: nn.init.trunc_normal_(torch.empty(30)))
        in_a_thread(lambda: nn.init.orthogonal_(torch.empty(5, 5)))
        in_a_thread(lambda: torch.empty(9).normal_().numpy())
        assert block.recorded == 0


def test_another_thread_draws_from_the_same_generator() -> None:
    """Each fill moves the generator on at once, so that what another thread draws does not depend on the block."""

    def program() -> list[Tensor]:
        a = torch.empty(40).normal_()
        b = in_a_thread(lambda: torch.empty(40).normal_())
        return [a, b, torch.empty(40).normal_()]

    assert succeeds(program).recorded == 2


def test_another_thread_in_a_keyed_block_draws_as_ever() -> None:
    model = nn.Linear(3, 3)
    torch.manual_seed(SEED)
    expected = torch.randn(20)
    torch.manual_seed(SEED)
    with fastinit.batched(model, key=0):
        assert in_a_thread(lambda: torch.randn(20)).equal(expected)
        with pytest.raises(RuntimeError):
            torch.randn(20)


def test_each_thread_has_its_own_block() -> None:
    barrier = threading.Barrier(3, timeout=30)
    results: dict[int, Any] = {}

    def work(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        with fastinit.batched() as block:
            barrier.wait()
            tensors = [torch.empty(1000).normal_(generator=generator) for _ in range(20)]
            tensors[3].zero_()
            barrier.wait()
            read = tensors[5].sum().item()
        results[seed] = tensors, read, block.recorded, block.dead

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        expected = [torch.empty(1000).normal_(generator=generator) for _ in range(20)]
        expected[3].zero_()
        tensors, read, recorded, dead = results[seed]
        assert snapshot(tensors) == snapshot(expected)
        assert (read, recorded, dead) == (expected[5].sum().item(), 21, 1)


def test_a_block_that_ends_while_another_threads_is_open() -> None:
    inside, go_on = threading.Event(), threading.Event()
    results: list[Tensor] = []

    def work() -> None:
        with fastinit.batched():
            tensor = torch.empty(50).fill_(2)
            inside.set()
            go_on.wait(30)
            results.append(tensor * 2)
            results.append(torch.from_numpy(torch.empty(50).fill_(2).numpy().copy()))
            results.append(nn.init.trunc_normal_(torch.empty(50)))

    before = attributes()
    thread = threading.Thread(target=work)
    with fastinit.batched():
        thread.start()
        assert inside.wait(30)
        mine = torch.empty(50).fill_(3)
    go_on.set()
    thread.join(30)
    assert mine.eq(3).all() and results[0].eq(4).all() and results[1].eq(2).all() and results[2].abs().max() <= 2
    assert attributes() == before


def test_a_gradient_computed_by_torchs_own_threads() -> None:
    def program() -> list[Any]:
        model = nn.Sequential(nn.Linear(9, 40), nn.ReLU(), nn.Linear(40, 2))
        torch.utils.checkpoint.checkpoint(model, torch.ones(3, 9), use_reentrant=False).sum().backward()
        return [model, *(p.grad for p in model.parameters())]

    succeeds(program)


# Forks


def test_a_child_finishes_the_block_that_it_was_born_in() -> None:
    torch.manual_seed(SEED)
    expected = [torch.empty(300_001).normal_(), torch.empty(70).normal_()]
    torch.manual_seed(SEED)
    block, unpatched = fastinit.batched(), attributes()
    block.__enter__()
    tensors = [torch.empty(300_001).normal_()]

    def claim() -> bool:
        mine = [*tensors, torch.empty(70).normal_()]
        block.__exit__(None, None, None)
        bytes_of = [t.numpy().tobytes() for t in mine]  # a large copy would wait for torch's threads
        return bytes_of == [t.numpy().tobytes() for t in expected] and attributes() == unpatched

    try:
        assert holds_in_a_fork(claim)
        tensors.append(torch.empty(70).normal_())
    finally:
        block.__exit__(None, None, None)
    assert snapshot(tensors) == snapshot(expected)


def test_a_child_of_a_process_without_a_block_may_open_one() -> None:
    with fastinit.batched():
        small()

    def claim() -> bool:
        same(small)
        return True

    assert holds_in_a_fork(claim)
