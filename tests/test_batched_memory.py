"""Who looks at memory whose fills are pending, past torch's operators too, shares it, or frees it."""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from batched_plain import same, succeeds
from batched_steps import READS
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import dlpack

import fastinit

FILLS: dict[str, Callable[[Tensor], Tensor]] = {
    "normal_": lambda t: t.normal_(),
    "constant": lambda t: t.fill_(0.3),
    "chain": lambda t: t.uniform_(-0.9, 0.9).erfinv_().mul_(2).clamp_(-1, 1),
    "part": lambda t: t.zero_()[1:].uniform_(),
}


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("how", READS)
def test_a_read_sees_what_is_pending(how: str, fill: str) -> None:
    def program() -> list[Any]:
        tensors = [torch.empty(5), torch.empty(4, 4), torch.empty(17).bfloat16(), torch.empty(8).double()]
        seen = []
        for t in tensors:
            FILLS[fill](t)
            try:
                seen.append(READS[how](t))
            except Exception as error:
                seen.append((type(error), str(error)))
            t.add_(1)
        return [one.tobytes() if isinstance(one, np.ndarray) else one for one in seen] + tensors

    same(program)


# Addresses


def test_an_array_shows_later_fills_too() -> None:
    x = torch.zeros(30)
    with fastinit.batched():
        x.fill_(1)
        array = x.numpy()
        assert (array == 1).all()
        x.fill_(2)
        assert (array == 2).all()
        x[3:].normal_()
        assert array[3:].tobytes() == x[3:].clone().numpy().tobytes()
        array[:] = 5
        assert x.eq(5).all()
        x.zero_()
        array[0] = 7
    assert x[0] == 7 and x[1:].eq(0).all()


TAKES: dict[str, Callable[[Tensor], Any]] = {
    "numpy": lambda t: t.numpy(),
    "numpy of detached": lambda t: t.detach().numpy(),
    "numpy of a view": lambda t: t.view(5, 6).numpy().reshape(-1),
    "asarray": np.asarray,
    "dlpack": np.from_dlpack,
    "capsule": lambda t: dlpack.from_dlpack(dlpack.to_dlpack(t)).numpy(),
    "address": lambda t: np.ctypeslib.as_array((ctypes.c_float * 30).from_address(t.data_ptr())),
    "address of the storage": lambda t: np.ctypeslib.as_array(
        (ctypes.c_float * 30).from_address(t.untyped_storage().data_ptr())
    ),
    "address of its data": lambda t: np.ctypeslib.as_array((ctypes.c_float * 30).from_address(t.data.data_ptr())),
}


@pytest.mark.parametrize("before", ["nothing", "a fill", "a read fill"])
@pytest.mark.parametrize("take", TAKES)
def test_who_has_the_address_sees_every_fill(take: str, before: str) -> None:
    x = torch.zeros(30)
    with fastinit.batched():
        if before != "nothing":
            x.fill_(1)
        if before == "a read fill":
            x.sum()
        array = TAKES[take](x)
        assert array.tobytes() == np.full(30, before != "nothing", np.float32).tobytes()
        x.fill_(2)
        assert (array == 2).all()
        x.normal_()
        assert array.tobytes() == x.clone().numpy().tobytes()
        x.zero_()
        if array.flags.writeable:
            array[0] = 9
            assert x[0] == 9
    assert x[1:].eq(0).all() and x[0] == (9 if array.flags.writeable else 0)


def test_two_storages_over_the_same_memory() -> None:
    with fastinit.batched():
        x = torch.empty(30).fill_(1)
        for other in (torch.from_numpy(x.numpy()), torch.from_dlpack(x), torch.frombuffer(x.numpy(), dtype=x.dtype)):
            other.fill_(2)
            assert x.eq(2).all()
            x.fill_(3)
            assert other.eq(3).all()
            other.zero_()
            x[0] = 5
            assert other[0] == 5


def test_memory_that_is_not_torchs() -> None:
    """Its owner may look at any time."""
    array, buffer = np.zeros(30, np.float32), bytearray(120)
    with fastinit.batched():
        torch.from_numpy(array).fill_(2)
        assert (array == 2).all()
        torch.frombuffer(buffer, dtype=torch.float32).fill_(1)
        assert buffer[2] == 0x80
        torch.as_tensor(array).normal_()
        assert not (array == 2).any()


def test_the_address_stays() -> None:
    x = torch.empty(30)
    address = x.data_ptr()
    with fastinit.batched():
        x.normal_()
        x.zero_()
        assert x.data_ptr() == address
        x.uniform_()
    assert x.data_ptr() == address


def test_a_storage_that_is_looked_at_and_written() -> None:
    def program() -> list[Any]:
        x = torch.empty(30).fill_(1)
        storage = x.untyped_storage()
        first = bytes(storage[:8])
        x.fill_(2)
        second = bytes(storage[:8])
        x.zero_()
        storage[3] = 64
        y = torch.empty(7).normal_()
        y.untyped_storage().copy_(x.untyped_storage()[:28])
        z = torch.empty(7).normal_()
        typed = z.storage()
        typed[2] = 9.0
        return [first, second, x, y, z, typed.tolist()]

    succeeds(program)


# Sharing


def test_tensors_that_share_a_storage() -> None:
    def program() -> list[Any]:
        a, b = torch.empty(30).normal_(), torch.empty(30)
        b.set_(a.untyped_storage(), 2, (9,), (3,))
        b.fill_(2)
        c = torch.empty(0).set_(a)
        c[:4].uniform_()
        d = nn.Parameter(torch.empty(30))
        d.data = a
        d.data.mul_(2)
        a[-1].zero_()
        e = a.view(torch.int32)
        e[5] = 0
        return [a, b, c, d]

    succeeds(program)


def test_tied_weights() -> None:
    def program() -> nn.Module:
        model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9, bias=False))
        model[1].weight = model[0].weight
        nn.init.normal_(model[0].weight)
        nn.init.xavier_uniform_(model[1].weight)
        model[0].weight.data[3].zero_()
        return model

    block = succeeds(program)
    assert block.dead >= 3  # both defaults, and the normal numbers


def test_a_padding_row() -> None:
    def program() -> list[Any]:
        embedding = nn.Embedding(9, 4, padding_idx=2)
        embedding.weight.data.normal_(0, 0.02)
        embedding.weight.data[embedding.padding_idx].zero_()
        row = embedding.weight[2].tolist()
        embedding.reset_parameters()
        return [embedding, row]

    succeeds(program)


def test_parts_in_any_order() -> None:
    def program() -> list[Any]:
        whole = torch.empty(6, 8)
        whole.normal_()
        whole[:3].uniform_()
        whole[:, 2:5].fill_(3)
        whole.t()[1].zero_()
        whole[1:5, 1:7:2].normal_()
        seen = whole[2, 3].item()
        whole.view(-1)[5:40].uniform_(-1, 0)
        whole.diagonal().zero_()
        return [whole, seen]

    succeeds(program)


def test_what_data_is_given_is_used() -> None:
    def program() -> list[Any]:
        model = nn.Linear(9, 5)
        model.bias.data = torch.ones(5)
        model.weight.data = model.weight.data.new_empty(5, 9).normal_()
        other = nn.Linear(9, 5)
        model.weight.data, other.weight.data = other.weight.data, model.weight.data
        torch.utils.swap_tensors(model.bias, other.bias)
        return [model, other]

    succeeds(program)


# What is dropped


def test_memory_of_a_dropped_tensor_is_free_at_once() -> None:
    def alive(t: Tensor) -> StorageWeakRef:
        return StorageWeakRef(torch._C.TensorBase.untyped_storage(t))  # Tensor.untyped_storage looks at the memory

    with fastinit.batched() as block:
        x, y, z = torch.empty(3_000_000).normal_(), torch.empty(40).normal_().mul_(2), torch.empty(40)
        z.copy_(torch.full((40,), 2.0))
        of = [alive(x), alive(y), alive(z)]
        view = x[3:]
        del x, y, z
        assert [one.expired() for one in of] == [False, True, True]
        del view
        assert of[0].expired()
    assert block.dead >= 3 and block.computed == 0


def test_records_of_what_is_gone_or_overwritten_do_not_add_up(run_python: Any) -> None:
    """A record of a draw holds a generator's state, of 5 KB."""
    ran = run_python(
        """
import resource, torch, fastinit

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

fastinit.normal_(torch.empty(99))
before, one = peak(), torch.empty(20)
with fastinit.batched():
    for i in range(40):
        x = torch.empty(2**22).normal_()  # 16 MB
        if i % 2:
            x[:1].sum()
    for i in range(60_000):
        torch.empty(2).normal_()
        one.normal_()
print(peak() - before)
"""
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < 200, "megabytes"


# What is not computed


def test_dead_fills_are_not_computed() -> None:
    with fastinit.batched() as block:
        x = torch.empty(100).normal_()
        x.uniform_()
        x.zero_()
        x.normal_()
        torch.empty(100).normal_()
        assert block.recorded == 5 and block.computed == 0
        x.sum()
        assert block.computed == 1
        x.uniform_()
    assert (block.recorded, block.dead, block.computed) == (6, 4, 2)


def test_a_part_does_not_kill_the_whole() -> None:
    with fastinit.batched() as block:
        x = torch.empty(100).fill_(1)
        x[:50].fill_(2)
        x[50:].fill_(3)
        assert block.dead == 0 or x.sum() == 250
    assert x.sum() == 250


def test_a_fill_that_was_seen_is_not_dead() -> None:
    with fastinit.batched() as block:
        x = torch.empty(100).normal_()
        y = x.clone()
        x.zero_()
    assert block.dead == 0 and y.abs().sum() > 0 and x.abs().sum() == 0


def test_dead_fills_of_a_large_tensor_cost_nothing() -> None:
    """Some hundred times of what the fills would take, if they were computed."""
    x = torch.empty(2**22)
    with fastinit.batched() as block:
        for _ in range(300):
            x.fill_(2)
    assert (block.dead, block.computed) == (299, 1) and x.eq(2).all()


def test_one_element_of_a_large_tensor_is_read() -> None:
    def program() -> list[Any]:
        x = torch.empty(2**21 + 37).normal_()
        element = x[2**20 + 5].item()
        x[7:].uniform_()
        y = torch.empty(1500, 1501).t().normal_()
        return [element, x[-1].item(), x, y[3, 4].item(), y]

    succeeds(program)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_long_chain_is_cut_where_it_makes_no_difference(dtype: torch.dtype) -> None:
    def program() -> list[Any]:
        results = []
        for n in (1, 15, 4097, 65_535, 100_003):
            x = torch.empty(n, dtype=dtype)
            x.uniform_(-0.99, 0.99).erfinv_().mul_(0.02 * 2**0.5).add_(0.1).clamp_(min=0.08, max=0.13)
            y = torch.empty(n, 2, dtype=dtype)[:, 0].uniform_(-0.99, 0.99).erfinv_().div_(3).sub_(0.7).neg_()
            z = torch.empty(7, n, dtype=dtype).t().uniform_(-0.99, 0.99).erfinv_().mul_(0.3)
            results += [x, y, z]
        return results

    succeeds(program)


# Versions


def test_versions_count_as_ever() -> None:
    def program() -> list[Any]:
        x = torch.empty(30)
        versions = [x._version]
        for change in (x.normal_, x.zero_, x[2:].normal_, x.data.normal_, x.detach().zero_, lambda: x.fill_(2).mul_(2)):
            change()
            versions.append(x._version)
        with torch.autograd._unsafe_preserve_version_counter(x):
            x.zero_()
        p = nn.Parameter(x)
        nn.init.trunc_normal_(p)
        nn.init.orthogonal_(p.view(5, 6))
        nn.init.constant_(p, 2)
        return [versions, x._version, p._version]

    succeeds(program)
