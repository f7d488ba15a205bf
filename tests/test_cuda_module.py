"""The CUDA module without a device: whether it is there, when it is loaded, what is said without it, and the checks.

The kernels themselves are tests/cuda's, and on a device tests/test_gpu.py's.
"""

import os
from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch
from cases import DTYPES, LAWS
from conftest import PythonRun
from torch._subclasses import FakeTensorMode

import fastinit
from fastinit import Key, Recipe, Rule, __main__, _ops, laws, machine
from fastinit._build_info import CUDA

needs_module = pytest.mark.skipif(not CUDA, reason="built without CUDA kernels")


def test_the_module_is_where_it_should_be() -> None:
    """FASTINIT_CUDA is that of the build too: make passes it on to both."""
    there = find_spec("fastinit._C_cuda") is not None
    assert there == bool(CUDA)
    assert not (there and torch.version.cuda is None)
    choice = os.environ.get("FASTINIT_CUDA", "auto")
    assert choice == "auto" or there == (choice == "1")


def test_info_says_what_compiled_the_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    about = str(machine.describe()["cuda"])
    assert (CUDA in about) if CUDA else about.startswith("no kernels")
    __main__.main(["info"])
    assert about in capsys.readouterr().out


def test_info_does_not_fail_with_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: int) -> str:
        raise RuntimeError("CUDA unknown error\nand advice")

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", fail)
    assert str(machine.describe()["cuda"]).endswith("; devices: 2 that do not answer (CUDA unknown error)")


def test_importing_and_filling_on_cpu_leave_cuda_alone(run_python: PythonRun) -> None:
    done = run_python(
        "import sys, torch, fastinit\n"
        "fastinit.normal_(torch.empty(7), generator=fastinit.Key(1))\n"
        "fastinit.init_model_(torch.nn.Linear(3, 3), fastinit.Recipe([fastinit.Rule(fastinit.normal_)]))\n"
        "assert not torch.cuda.is_initialized()\n"
        "assert 'fastinit._C_cuda' not in sys.modules"
    )
    assert done.returncode == 0, done.stderr


@needs_module
def test_the_module_loads_without_a_driver(run_python: PythonRun) -> None:
    done = run_python(
        "import sys, torch, fastinit\n"
        "fastinit._C.require_cuda()\n"
        "assert 'FillCuda' in repr(sys.modules['fastinit._C_cuda'].fill)\n"
        "assert not torch.cuda.is_initialized()"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        ("sys.modules['fastinit._C_cuda'] = None", "they were not built"),
        ("sys.modules['fastinit._C_cuda'] = sys", "has no attribute 'fill'"),
    ],
)
def test_without_the_module_an_error_says_what_to_do(run_python: PythonRun, prepare: str, reason: str) -> None:
    done = run_python(f"import sys, fastinit\n{prepare}\nfastinit._C.require_cuda()")
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith("ValueError: the keyed stream's CUDA kernels are not here (")
    assert reason in error
    assert "FASTINIT_CUDA=1" in error
    assert "fill a CPU tensor and copy it" in error


def test_the_op_has_a_kernel_for_cuda() -> None:
    assert torch._C._dispatch_has_kernel_for_dispatch_key("fastinit::fill_", "CUDA")


# ---- Fake tensors of a CUDA device: the checks, and what a compiler sees


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("law", LAWS)
def test_fake_cuda_tensors(law: str, dtype: torch.dtype) -> None:
    function, arguments = LAWS[law]
    with FakeTensorMode():
        tensor = torch.empty(5, 7, dtype=dtype, device="cuda").t()
        version = tensor._version
        assert function(tensor, **arguments, generator=Key(1)) is tensor
        assert tensor._version == version + 1
        assert tensor.device.type == "cuda"


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (lambda t: fastinit.normal_(t, std=-1.0, generator=Key(1)), "std must be at least 0"),
        (lambda t: fastinit.uniform_(t, 2.0, 1.0, generator=Key(1)), "a must be at most b"),
        (lambda t: fastinit.normal_(t, generator=Key(1).shard((3, 3), (0, 0))), "must lie within global_shape"),
        (lambda t: fastinit.normal_(t.expand(2, 5, 7), generator=Key(1)), "must not overlap itself"),
    ],
)
def test_wrong_arguments_are_refused_on_cuda_as_on_cpu(fill: Callable[[torch.Tensor], object], message: str) -> None:
    with FakeTensorMode():
        for device in ("cuda", "cpu"):
            with pytest.raises(ValueError, match=message):
                fill(torch.empty(5, 7, device=device))


def test_a_graph_has_one_fill_for_many_cuda_tensors() -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    law, keys = laws.normal((5,), 0.0, 0.02), Key(1).split(2)

    def fill(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        _ops.fill_([one, other], [law, law], keys)
        return one + other

    with FakeTensorMode():
        tensors = [torch.empty(5, device="cuda") for _ in range(2)]
    graph = make_fx(fill)(*tensors).graph
    assert [node.target for node in graph.nodes].count(torch.ops.fastinit.fill_.default) == 1


# ---- Tensors of several devices in one call


def test_each_device_is_filled_by_itself() -> None:
    """The meta device stands for the other one: what lies there is checked, and what lies here filled."""
    shapes = [(3, 4), (5,), (2, 6), (7,)]
    devices = ["cpu", "meta", "meta", "cpu"]
    law, keys = laws.normal((), 0.0, 0.02), Key(3).split(4)
    tensors = [torch.zeros(shape, device=device) for shape, device in zip(shapes, devices, strict=True)]
    versions = [tensor._version for tensor in tensors]
    _ops.fill_(tensors, [law] * 4, keys)
    for tensor, key in zip(tensors, keys, strict=True):
        if tensor.is_cpu:
            assert torch.equal(tensor, fastinit.normal_(torch.empty(tensor.shape), std=0.02, generator=key))
    assert [tensor._version for tensor in tensors] == [version + 1 for version in versions]


def test_parts_keep_their_places_where_devices_differ() -> None:
    keys = [Key(1).shard((4, 5), (1, 2)), Key(2).shard((9,), (3,)), Key(3).shard((6, 6), (2, 0))]
    tensors = [torch.zeros(3, 3), torch.zeros(2, device="meta"), torch.zeros(2, 6)]
    _ops.fill_(tensors, [laws.normal((), 0.0, 1.0)] * 3, keys)
    assert torch.equal(tensors[0], fastinit.normal_(torch.empty(4, 5), generator=Key(1))[1:, 2:])
    assert torch.equal(tensors[2], fastinit.normal_(torch.empty(6, 6), generator=Key(3))[2:4])


def test_all_devices_are_checked_before_any_is_filled() -> None:
    here, there = torch.zeros(3), torch.zeros(3, 3, device="meta").expand(2, 3, 3)
    with pytest.raises(ValueError, match="overlap itself"):
        _ops.fill_([here, there], [laws.normal((), 0.0, 1.0)] * 2, Key(1).split(2))
    assert not here.any()
    assert here._version == 0


def test_fake_tensors_of_several_devices() -> None:
    with FakeTensorMode():
        tensors = [torch.empty(3, device=device) for device in ("cuda:0", "cpu", "cuda:1")]
        _ops.fill_(tensors, [laws.normal((), 0.0, 1.0)] * 3, Key(1).split(3))
        assert [tensor._version for tensor in tensors] == [1, 1, 1]


# ---- Models


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_a_model_for_cuda_is_refused_where_there_is_no_device() -> None:
    with torch.device("meta"):
        model = torch.nn.Linear(3, 3)
    with pytest.raises(ValueError, match="device must be one that torch finds, got 'cuda': it finds 0 CUDA devices"):
        fastinit.init_model_(model, Recipe([Rule(fastinit.normal_)]), device="cuda")
    assert model.weight.is_meta
