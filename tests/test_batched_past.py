"""What `fastinit.batched` must see although it hardly passes torch's dispatcher, or stands above its kernels."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from batched_plain import Logs, same, succeeds
from torch import Tensor, nn

import fastinit
from fastinit import batching


def pending_index(*numbers: int) -> Tensor:
    """An index that is yet to be filled, in memory that held other numbers."""
    index = torch.full((len(numbers),), 77, dtype=torch.int64)
    index.sum()
    for i, number in enumerate(numbers):
        index[i].fill_(number)
    return index


TENSORS_IN_LISTS: dict[str, Callable[[Tensor], Any]] = {
    "tensor": lambda t: torch.tensor([t[0], t[1]]),
    "nested": lambda t: torch.tensor([[t[0]], [t[1]]]),
    "as_tensor": lambda t: torch.as_tensor([t[0], t[1]]),
    "asarray": lambda t: torch.asarray([t[0], t[1]]),
    "new_tensor": lambda t: t.new_tensor([t[1]]),
    "by type": lambda t: torch.Tensor([t[0], t[1]]),
    "index": lambda t: torch.arange(24).view(4, 6)[[[*pending_index(1, 2)], [*pending_index(3, 4)]]],
}


@pytest.mark.parametrize("make", TENSORS_IN_LISTS)
def test_a_tensor_made_of_tensors_in_a_list(make: str) -> None:
    succeeds(lambda: [TENSORS_IN_LISTS[make](torch.full((2,), 7.0).uniform_(2, 4))])


def test_views_that_other_tensors_cut() -> None:
    def program() -> list[Tensor]:
        x, cuts = torch.arange(24.0).view(4, 6), pending_index(1, 3)
        sizes = torch.zeros(2, 2, dtype=torch.int64).fill_(2)
        strides = torch.zeros(2, 2, dtype=torch.int64).fill_(1)
        strides[:, 0].fill_(2)
        nested = torch._nested_view_from_buffer(torch.ones(8), sizes, strides, pending_index(0, 4))
        return [*torch.tensor_split(x, cuts), *(part.clone() for part in nested.unbind())]

    succeeds(program)


def test_tensors_that_hold_others() -> None:
    def program() -> list[Tensor]:
        scales = torch.full((3,), 0.5, dtype=torch.float64)
        ones = torch.ones(3, 2, dtype=torch.int8)
        quantized = torch._make_per_channel_quantized_tensor(ones, scales, torch.zeros(3, dtype=torch.int64), 0)
        scales.fill_(2)
        inner = torch.zeros(5)
        wrapped = torch._to_functional_tensor(inner)
        inner.fill_(4)
        torch._enable_functionalization(reapply_views=True)
        try:
            more = wrapped + 1
        finally:
            torch._disable_functionalization()
        return [quantized.dequantize(), torch._from_functional_tensor(more)]

    succeeds(program)


def test_a_python_operator() -> None:
    def program() -> list[Tensor]:
        x, seen = torch.zeros(3).fill_(2), torch.zeros(3).fill_(3)
        found = torch.ops.higher_order.cond(True, lambda a: (a + seen,), lambda a: (a - seen,), (x,))
        x.normal_()
        return [*found, x, torch.cond(x.sum() > 9, lambda a: a + 1, lambda a: a - 1, (x,))]

    succeeds(program)


def test_both_names_of_a_capsule() -> None:
    with fastinit.batched():
        for make in (torch.to_dlpack, torch.utils.dlpack.to_dlpack):
            x = torch.zeros(4)
            other = torch.from_dlpack(make(x))
            x.fill_(1)
            assert other.eq(1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_bits_of_a_nan(dtype: torch.dtype) -> None:
    """Which they are depends on how torch's threads divide a tensor."""

    def program() -> list[Tensor]:
        nan = float("nan")
        filled = torch.empty(40_003, dtype=dtype).fill_(nan).mul_(2)
        return [filled, torch.empty(40_003, dtype=dtype).uniform_().mul_(nan).add_(-nan)]

    succeeds(program)


def test_a_mode_does_not_see_what_was_called_before_it() -> None:
    with fastinit.batched():
        chain = torch.empty(40_000).uniform_().mul_(2).erfinv_()
        apart = torch.empty(50, 50)[:, ::2].fill_(3)
        with Logs() as logs:
            chain.tolist(), apart + 1
    assert logs.calls == ["aten.add.Tensor"]


# Memory


def test_large_tensors_of_every_kind() -> None:
    n = 1 << 20

    def program() -> list[Any]:
        x = torch.empty(n).fill_(1)
        other = torch._lazy_clone(x)
        x.fill_(2)
        graph = torch.jit.trace(lambda a: a + torch.empty(n).fill_(2), (torch.ones(n),), check_trace=False).graph
        return [x, other, str(graph).count("aten::empty("), torch.empty(4 * n, dtype=torch.qint8).is_quantized]

    succeeds(program)
    same(lambda: torch.empty(-2000, -2000))
    same(lambda: torch.empty(n, -1))


@pytest.mark.parametrize("left", [0, 4])
def test_memory_taken_from_under_a_fill(left: int) -> None:
    x = torch.ones(1 << 20)
    storage = x.untyped_storage()
    with fastinit.batched():
        x.fill_(2)
        storage.resize_(left)
    assert storage.nbytes() == left


def test_tens_of_thousands_of_fills_do_not_all_wait() -> None:
    with fastinit.batched() as block:
        held = [torch.empty(1).uniform_() for _ in range((1 << 16) + 1)]
        assert block.computed == 1 << 16
    assert len(held) == block.computed


# Keys and ends


@pytest.mark.parametrize("times", [1, 2, 5])
def test_parameters_of_one_name_count_in_their_order(times: int) -> None:
    def program(looks: bool) -> list[Tensor]:
        model, filled = nn.Linear(4, 4, bias=False), []
        with fastinit.batched(model, key=3) as block:
            for i in range(times + 1):
                model.weight = nn.Parameter(torch.empty(4, 4))
                nn.init.normal_(model.weight)
                assert block.computed == i
                filled.append(model.weight.data)
                if looks:
                    model.weight.sum()
        return filled

    assert all(map(torch.equal, program(False), program(True)))


def test_a_block_that_another_thread_would_end_stays_open() -> None:
    block, errors = fastinit.batched(), []

    def end() -> None:
        try:
            block.__exit__(None, None, None)
        except RuntimeError as error:
            errors.append(str(error))

    with block:
        x = torch.zeros(3).fill_(1)
        thread = threading.Thread(target=end)
        thread.start()
        thread.join()
        assert "belongs to the thread" in errors[0] and batching._open == 1
        assert x.numpy().tolist() == [1, 1, 1]
    assert batching._open == 0 and block.recorded == 2
