"""What fastinit asks of the device, as the emulated one (torch_device.cpp) has it: test_whole.py runs this there."""

import ctypes

import pytest
import torch

import fastinit
from fastinit import Key, _ops, laws

DEVICE = ctypes.CDLL(None)  # what LD_PRELOAD brought into this process
DEVICE.emulated_launch_stream.restype = ctypes.c_void_p
KEY = Key(5)


def test_a_fill_goes_to_the_current_stream_of_the_tensors_device() -> None:
    for index in (1, 0):
        stream, tensor = torch.cuda.Stream(device=index), torch.empty(7, device=f"cuda:{index}")
        assert stream.cuda_stream != 0
        with torch.cuda.stream(stream):
            torch.cuda.set_device(1 - index)
            fastinit.normal_(tensor, generator=KEY)
        assert DEVICE.emulated_launch_stream() == stream.cuda_stream
        assert DEVICE.emulated_launch_device() == index
        assert torch.equal(tensor.cpu(), fastinit.normal_(torch.empty(7), generator=KEY))
    fastinit.normal_(tensor, generator=KEY)
    assert DEVICE.emulated_launch_stream() is None  # the default one


def test_the_current_device_stays() -> None:
    torch.cuda.set_device(0)
    fastinit.normal_(torch.empty(7, device="cuda:1"), generator=KEY)
    assert torch.cuda.current_device() == 0


def test_many_tensors_take_few_launches() -> None:
    tensors = [torch.empty(n % 50 + 1, device="cuda") for n in range(1000)]
    law = laws.normal((), 0.0, 1.0)
    before = DEVICE.emulated_launches()
    _ops.fill_(tensors, [law] * 1000, KEY.split(1000))
    assert DEVICE.emulated_launches() - before <= 100
    for tensor, key in zip(tensors, KEY.split(1000), strict=True):
        assert torch.equal(tensor.cpu(), fastinit.normal_(torch.empty(tensor.shape), generator=key))


def test_one_tensor_takes_one_launch() -> None:
    tensor = torch.empty(100_003, dtype=torch.bfloat16, device="cuda")
    before = DEVICE.emulated_launches()
    fastinit.normal_(tensor, generator=KEY)
    assert DEVICE.emulated_launches() - before == 1


def test_nothing_is_launched_for_nothing() -> None:
    before = DEVICE.emulated_launches()
    fastinit.normal_(torch.empty(0, 3, device="cuda"), generator=KEY)
    with pytest.raises(ValueError, match="std must be at least 0"):
        fastinit.normal_(torch.empty(3, device="cuda"), std=-1.0, generator=KEY)
    assert DEVICE.emulated_launches() == before


def test_a_launch_that_fails_is_an_error_and_the_next_one_is_not() -> None:
    tensor = torch.empty(7, device="cuda")
    DEVICE.emulated_fail_next()
    with pytest.raises(RuntimeError, match="launching the kernel dense_normal_float32 failed: invalid configuration"):
        fastinit.normal_(tensor, generator=KEY)
    fastinit.normal_(tensor, generator=KEY)
    assert torch.equal(tensor.cpu(), fastinit.normal_(torch.empty(7), generator=KEY))


def test_a_kernel_of_torchs_own_is_an_error_here() -> None:
    """Otherwise what it should have written would go unnoticed."""
    with pytest.raises(RuntimeError, match="CUDA error"):
        torch.empty(3, device="cuda").fill_(1.0)
