"""The keyed stream on a CUDA device: the bytes of the CPU, in the order of streams, without a wait.

Skipped where there is no device; tests/compute_sanitizer.sh runs these under NVIDIA's tools, and
tests/cuda/test_whole.py on an emulated device, which runs no kernels but ours.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import DTYPES, LAWS, LAYOUTS
from torch import nn

import fastinit
from fastinit import Key, Part, Recipe, Rule, _ops, laws

pytestmark = pytest.mark.gpu

KEY = Key(0x0123456789ABCDEF, 2**32 - 3)
GOLDEN = json.loads((Path(__file__).parent / "golden" / "keyed.json").read_text())
several = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are fewer than two devices")
needs_torch_kernels = pytest.mark.skipif(
    os.environ.get("FASTINIT_EMULATED_DEVICE") == "1", reason="the emulated device runs no kernels of torch's own"
)


def base_of(view: torch.Tensor) -> torch.Tensor:
    """All the memory that the view is in, as one dense tensor."""
    count = view.untyped_storage().nbytes() // view.itemsize
    return torch.as_strided(view.detach(), (count,), (1,), 0)


def on_cuda(view: torch.Tensor, device: str = "cuda") -> torch.Tensor:
    """The same bytes in the same layout, over memory as large."""
    copy = base_of(view).to(device)
    return copy.as_strided(view.shape, view.stride(), view.storage_offset())


def same_bytes(ours: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether all the memory around is the same too."""
    one, other = (base_of(tensor).cpu().view(torch.uint8) for tensor in (ours, expected))
    return torch.equal(one, other)


@contextmanager
def no_wait() -> Iterator[None]:
    """Inside, whatever waits for the device is an error."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


# ---- Every law, type and layout


@pytest.mark.parametrize("dtype", sorted({case["dtype"] for case in GOLDEN}))
def test_golden_vectors(dtype: str) -> None:
    for case in (case for case in GOLDEN if case["dtype"] == dtype):
        tensor = torch.empty(case["shape"], dtype=getattr(torch, dtype), device="cuda")
        numbers = {name: case[name] for name in ("mean", "std", "a", "b", "sparsity") if name in case}
        part = Key(*case["key"]).shard(tuple(case["of"]), tuple(case["start"]))
        with no_wait():
            getattr(fastinit, case["law"])(tensor, **numbers, generator=part)
        assert tensor.cpu().view(torch.uint8).numpy().tobytes().hex() == case["bytes"], case


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("law", LAWS)
def test_the_bytes_of_the_cpu(law: str, dtype: torch.dtype, layout: str) -> None:
    function, arguments = LAWS[law]
    for shape in ((37, 3, 29), (3, 3, 20011)):  # less than a chunk of the kernels', and several
        expected = LAYOUTS[layout](*shape, dtype=dtype)
        ours = on_cuda(expected)
        function(expected, **arguments, generator=KEY)
        function(ours, **arguments, generator=KEY)
        assert same_bytes(ours, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_is_no_law_of_draws(dtype: torch.dtype, layout: str) -> None:
    matrices = [LAYOUTS[layout](61, 47, dtype=dtype) for _ in range(4)]
    kernel = LAYOUTS[layout](12, 5, 3, 3, dtype=dtype)
    kinds = [laws.eye((61, 47)), laws.constant((), 0.3), laws.sparse((61, 47), 0.4), laws.zeros(())]
    tensors, kinds = [*matrices, kernel], [*kinds, laws.dirac((12, 5, 3, 3), 2)]
    for tensor in tensors:
        base_of(tensor).view(torch.uint8).fill_(7)
    ours = [on_cuda(tensor) for tensor in tensors]
    _ops.fill_(tensors, kinds, KEY.split(5))
    with no_wait():
        _ops.fill_(ours, kinds, KEY.split(5))
    for mine, expected in zip(ours, tensors, strict=True):
        assert same_bytes(mine, expected)


@pytest.mark.parametrize("rows", [1, 40, 700, 9001])
@pytest.mark.parametrize("sparsity", [0.0, 0.003, 0.5, 0.999])
def test_sparse_columns(rows: int, sparsity: float) -> None:
    expected = fastinit.sparse_(torch.empty(rows, 67), sparsity, generator=KEY)
    assert same_bytes(fastinit.sparse_(torch.empty(rows, 67, device="cuda"), sparsity, generator=KEY), expected)
    shard = KEY.shard((rows, 67), (rows // 3, 11))
    part = torch.empty(rows - rows // 3, 50, device="cuda")
    assert torch.equal(fastinit.sparse_(part, sparsity, generator=shard).cpu(), expected[rows // 3 :, 11:61])


def test_many_tensors_in_one_call() -> None:
    shapes = [(n % 7 + 1, n * n % 501 + 1) for n in range(400)]
    kinds = [laws.normal((), 0.0, 0.02), laws.uniform((), -1.0, 1.0), laws.trunc_normal((), 0.0, 1.0, -2.0, 2.0)]
    dtypes = [DTYPES[n % len(DTYPES)] for n in range(400)]
    expected = [torch.zeros(shape, dtype=dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
    ours = [on_cuda(tensor) for tensor in expected]
    chosen = [kinds[n % 3] for n in range(400)]
    _ops.fill_(expected, chosen, KEY.split(400))
    with no_wait():
        _ops.fill_(ours, chosen, KEY.split(400))
    assert all(same_bytes(mine, other) for mine, other in zip(ours, expected, strict=True))


@needs_torch_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(64, 64), (300, 40), (40, 300), (5, 3, 3), (700, 700)])
def test_orthogonal_to_rounding(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    expected = fastinit.orthogonal_(torch.empty(shape, dtype=dtype), gain=1.5, generator=KEY)
    ours = fastinit.orthogonal_(torch.empty(shape, dtype=dtype, device="cuda"), gain=1.5, generator=KEY)
    error = {torch.float32: 2e-5, torch.float64: 1e-13, torch.bfloat16: 1e-2}[dtype]
    torch.testing.assert_close(ours.cpu(), expected, rtol=0, atol=error)


@needs_torch_kernels
def test_orthogonal_where_products_are_of_fewer_bits() -> None:
    precise = fastinit.orthogonal_(torch.empty(300, 300, device="cuda"), generator=KEY)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        reduced = fastinit.orthogonal_(torch.empty(300, 300, device="cuda"), generator=KEY)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    torch.testing.assert_close(reduced, precise, rtol=0, atol=2e-5)


# ---- Streams, graphs, devices


@needs_torch_kernels
def test_a_fill_is_in_the_order_of_its_stream() -> None:
    expected = fastinit.normal_(torch.empty(2**20), generator=KEY)
    tensor = torch.zeros(2**20, device="cuda")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)  # tens of milliseconds, in which nothing of the fill may come first
        tensor.fill_(3.0)
        fastinit.normal_(tensor, generator=KEY)
        copy = tensor.clone()
        tensor.fill_(4.0)
    side.synchronize()
    assert torch.equal(copy.cpu(), expected)
    assert (tensor == 4.0).all()


@needs_torch_kernels
def test_a_graph_fills_again() -> None:
    expected = [
        fastinit.normal_(torch.empty(70_001), generator=KEY),
        fastinit.sparse_(torch.empty(90, 70), 0.4, generator=KEY),
    ]
    ours = [torch.empty(one.shape, device="cuda") for one in expected]

    def fill() -> None:
        fastinit.normal_(ours[0], generator=KEY)
        fastinit.sparse_(ours[1], 0.4, generator=KEY)

    fill()  # loads what is loaded at the first call
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        fill()
    for filler in (1.0, float("nan")):
        for tensor in ours:
            tensor.fill_(filler)
        graph.replay()
        assert all(torch.equal(mine.cpu(), one) for mine, one in zip(ours, expected, strict=True))


@several
def test_the_device_is_the_tensors_own() -> None:
    expected = fastinit.normal_(torch.empty(1000), generator=KEY)
    with torch.cuda.device(0):
        tensor = fastinit.normal_(torch.empty(1000, device="cuda:1"), generator=KEY)
        assert torch.cuda.current_device() == 0
    assert torch.equal(tensor.cpu(), expected)


@several
@needs_torch_kernels
def test_orthogonal_on_a_device_that_is_not_the_current_one() -> None:
    with torch.cuda.device(0):
        ours = fastinit.orthogonal_(torch.empty(90, 90, device="cuda:1"), generator=KEY)
    torch.testing.assert_close(ours.cpu(), fastinit.orthogonal_(torch.empty(90, 90), generator=KEY), rtol=0, atol=2e-5)


@several
def test_tensors_of_several_devices_in_one_call() -> None:
    tensors = [torch.zeros(100).to(device) for device in ("cuda:1", "cpu", "cuda:0", "cuda:1")]
    _ops.fill_(tensors, [laws.normal((), 0.0, 1.0)] * 4, KEY.split(4))
    for tensor, key in zip(tensors, KEY.split(4), strict=True):
        assert torch.equal(tensor.cpu(), fastinit.normal_(torch.empty(100), generator=key))


def test_a_cpu_and_a_cuda_tensor_in_one_call() -> None:
    tensors = [torch.zeros(100).to(device) for device in ("cuda", "cpu", "cuda")]
    _ops.fill_(tensors, [laws.normal((), 0.0, 1.0)] * 3, KEY.split(3))
    for tensor, key in zip(tensors, KEY.split(3), strict=True):
        assert torch.equal(tensor.cpu(), fastinit.normal_(torch.empty(100), generator=key))


def test_compiled_fills() -> None:
    tensor = torch.empty(100, device="cuda")
    torch.compile(lambda t: fastinit.normal_(t, generator=KEY), backend="eager", fullgraph=True)(tensor)
    assert torch.equal(tensor.cpu(), fastinit.normal_(torch.empty(100), generator=KEY))


# ---- Errors, versions, the torch stream


def test_errors_write_nothing() -> None:
    tensor = torch.zeros(10).to("cuda")
    version = tensor._version
    for wrong in ({"std": -1.0}, {"mean": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            fastinit.normal_(tensor, **wrong, generator=KEY)
    with pytest.raises(TypeError, match="tensor must be of type float32"):
        fastinit.normal_(torch.empty(3, dtype=torch.int32, device="cuda"), generator=KEY)
    assert tensor._version == version
    assert not tensor.cpu().any()


def test_versions_and_gradients_as_on_cpu() -> None:
    tensor = torch.empty(10, device="cuda", requires_grad=True)
    fastinit.normal_(tensor, generator=KEY)
    assert tensor._version == 1
    assert tensor.grad_fn is None
    assert fastinit.normal_(torch.empty(0, 3, device="cuda"), generator=KEY).numel() == 0


@needs_torch_kernels
def test_the_torch_stream_is_torchs_own() -> None:
    for name in ("normal_", "trunc_normal_", "kaiming_uniform_", "orthogonal_"):
        ours, theirs = (
            getattr(module, name)(torch.empty(30, 20, device="cuda"), generator=torch.Generator("cuda").manual_seed(5))
            for module in (fastinit, nn.init)
        )
        assert torch.equal(ours, theirs)


# ---- Models


def user_made(tensor: torch.Tensor) -> None:
    with torch.no_grad():
        tensor.copy_(torch.randn(tensor.shape))


RECIPE = Recipe(
    [
        Rule(fastinit.kaiming_normal_, types=nn.Conv2d, params="weight"),
        Rule(user_made, types=nn.Linear, params="weight"),
        Rule(fastinit.trunc_normal_, types=nn.Embedding, std=0.02, parts=Part(fastinit.zeros_, (0,))),
        Rule(fastinit.ones_, params="weight"),
        Rule(fastinit.zeros_, params="bias"),
    ]
)


def model_on(device: str) -> nn.Module:
    with torch.device("meta" if device == "meta" else "cpu"):
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(40, 30), nn.Embedding(50, 16))
    return model.to(device)


def values(model: nn.Module) -> dict[str, Any]:
    return {name: tensor.cpu() for name, tensor in model.state_dict().items()}


def same_values(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = values(one), values(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", torch.device("cuda")], ids=str)
def test_a_meta_model_is_made_on_the_device(device: str | torch.device) -> None:
    ours, expected = model_on("meta"), model_on("meta")
    fastinit.init_model_(ours, RECIPE, key=3, device=device, buffers="reset")
    fastinit.init_model_(expected, RECIPE, key=3, buffers="reset")
    assert {tensor.device.type for tensor in (*ours.parameters(), *ours.buffers())} == {"cuda"}
    assert same_values(ours, expected)


def test_a_model_on_the_device_stays_there(tmp_path: Path) -> None:
    ours, expected = model_on("cuda"), model_on("cpu")
    held = list(ours.parameters())
    for model in (ours, expected):
        fastinit.init_model_(model, RECIPE, key=3)
    assert all(now is before for now, before in zip(ours.parameters(), held, strict=True))
    assert same_values(ours, expected)
    assert fastinit.check_model(ours, RECIPE).ok
    keep = Recipe([Rule(fastinit.keep)])
    for name, model in (("cuda", ours), ("cpu", expected)):
        fastinit.save_checkpoint(model, keep, tmp_path / name)
    ours_file, other_file = (tmp_path / name / "model.safetensors" for name in ("cuda", "cpu"))
    assert ours_file.read_bytes() == other_file.read_bytes()


def test_a_buffer_with_gaps_in_memory_is_made_on_the_device() -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.empty(3, 10)[:, :5])

        def reset_buffers(self) -> None:
            self.table.copy_(torch.arange(15.0).view(3, 5))

    with torch.device("meta"):
        module = Padded()
    fastinit.init_model_(module, RECIPE, device="cuda", buffers="reset")
    assert torch.equal(module.table.cpu(), torch.arange(15.0).view(3, 5))


def test_parameters_from_a_checkpoint(tmp_path: Path) -> None:
    source = model_on("cpu")
    fastinit.init_model_(source, RECIPE)
    fastinit.save_checkpoint(source, Recipe([Rule(fastinit.keep)]), tmp_path)
    model = model_on("cuda")
    fastinit.init_model_(model, Recipe([Rule(fastinit.from_checkpoint(tmp_path))]))
    assert same_values(model, source)
