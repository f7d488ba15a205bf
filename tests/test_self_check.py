"""The native torch stream is trusted where it has been seen to give torch's bits, and nowhere else."""

import functools
import math
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from threading import Event
from typing import Any

import pytest
import torch
from cases import holds_in_a_fork, raw
from settings import default_dtype, deterministic, subnormals_flushed
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

import fastinit
from fastinit import _C, __main__, _ops, self_check, torch_trunc_normal

CALLS = {
    "uniform": ("uniform_", {"a": -0.3, "b": 0.8}),
    "normal": ("normal_", {"mean": 0.2, "std": 0.5}),
    "trunc_normal": ("trunc_normal_", {"mean": 0.2, "a": -1.5, "b": 1.5}),
}
FAR = ("trunc_normal_", {"mean": 0.2, "a": 0.6, "b": 1.7})  # torch's other way to a truncated normal
# Of torch's own kernels. Elsewhere falling back is right, unless CI says that here is where it must not.
EXPECTED = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512") or os.environ.get("FASTINIT_REQUIRE_NATIVE")
native = pytest.mark.skipif(not EXPECTED, reason="torch runs other kernels than AVX2's here")


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No verdict before, none kept afterwards."""
    monkeypatch.setattr(self_check, "_warned", False)
    _C.use_isa(_ops.isa())
    assert _C.torch_verdicts() == {}
    yield
    _C.use_isa(_ops.isa())


@pytest.fixture
def torchs_own(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of torch's own functions as they are called by fastinit."""
    calls = []

    def log(name: str, function: Callable[..., torch.Tensor]) -> None:
        monkeypatch.setattr(torch.nn.init, name, lambda *a, **k: calls.append(name) or function(*a, **k))

    for name, _ in CALLS.values():
        log(name, getattr(torch.nn.init, name))
    return calls


def filled(module: object, kind: str, dtype: torch.dtype, seed: int = 4) -> tuple[bytes, bytes]:
    """Bytes of a tensor, and of the generator afterwards."""
    name, arguments = CALLS[kind]
    generator = torch.Generator().manual_seed(seed)
    tensor = getattr(module, name)(torch.empty(50, 31, dtype=dtype), **arguments, generator=generator)
    return raw(tensor), raw(generator.get_state())


def assert_all_native() -> None:
    assert self_check.by_law(native=False) == []


@native
def test_every_law_and_type_is_native_here(isa: str, torchs_own: list[str]) -> None:
    assert_all_native()
    for kind in CALLS:
        for dtype in self_check.DTYPES:
            assert filled(fastinit, kind, dtype) == filled(torch.nn.init, kind, dtype)
    assert len(torchs_own) == len(CALLS) * len(self_check.DTYPES)  # all of them called above


@native
def test_each_pair_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []
    monkeypatch.setattr(self_check, "_agrees", lambda *pair, do=self_check._agrees: checked.append(pair) or do(*pair))
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: filled(fastinit, "trunc_normal", torch.float32), range(32)))) == 1
    for kind in CALLS:
        for dtype in self_check.DTYPES:
            filled(fastinit, kind, dtype)
    assert len(checked) == 16 and set(checked) == set(self_check.verdicts())


@native
def test_a_check_cut_short_is_made_again() -> None:
    """By Ctrl-C, or in a child that was forked while its verdicts were written down."""
    _C.torch_verdict(1, torch.float32, True)
    assert filled(fastinit, "normal", torch.float64) == filled(torch.nn.init, "normal", torch.float64)
    assert_all_native()


def test_the_check_leaves_no_trace() -> None:
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        self_check.verdicts()
    assert torch.get_rng_state().equal(state)


def wrong_normal_in(dtype: torch.dtype) -> Callable[..., torch.Tensor]:
    """What tensor.normal_ would be in a torch with another kernel for one type: one bit of one number is another."""

    def normal_(tensor: torch.Tensor, *args: float, generator: torch.Generator) -> torch.Tensor:
        tensor.normal_(*args, generator=generator)
        if tensor.dtype == dtype and tensor.is_contiguous():
            memory = tensor.view(torch.uint8)
            memory[-1] ^= 1
        return tensor

    return normal_


@native
def test_a_pair_that_fails_falls_back_alone(monkeypatch: pytest.MonkeyPatch, torchs_own: list[str]) -> None:
    monkeypatch.setitem(self_check._TORCH, "normal", wrong_normal_in(torch.bfloat16))
    with pytest.warns(RuntimeWarning) as caught:
        _ = [filled(fastinit, kind, dtype) for dtype in self_check.DTYPES for kind in CALLS]
    assert torchs_own == ["normal_", "trunc_normal_"]  # in bfloat16; the second is made of the first
    assert self_check.by_law(native=False) == ["normal_ bfloat16", "trunc_normal_ bfloat16", "sparse_ bfloat16"]
    (warning,) = caught
    assert "for normal_ bfloat16, trunc_normal_ bfloat16, sparse_ bfloat16: there" in str(warning.message)
    assert filled(fastinit, "normal", torch.bfloat16) == filled(torch.nn.init, "normal", torch.bfloat16)


@pytest.mark.parametrize("name", ["uniform_", "normal_", "trunc_normal_", "xavier_normal_", "kaiming_uniform_"])
def test_the_warning_is_at_the_caller_s_line(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    with pytest.warns(RuntimeWarning, match="torch.nn.init's own code") as caught:
        getattr(fastinit, name)(torch.empty(4, 5))
    assert [warning.filename for warning in caught] == [__file__]


@native
def test_narrow_types_need_float32_s_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(self_check._TORCH, "normal", wrong_normal_in(torch.float32))
    with pytest.warns(RuntimeWarning):
        filled(fastinit, "normal", torch.float16)
    left = [f"{name} float32 bfloat16 float16" for name in ("normal_", "trunc_normal_", "sparse_")]
    assert self_check.by_law(native=False) == left


@native
def test_a_warning_made_an_error_comes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(self_check._TORCH, "normal", wrong_normal_in(torch.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning):
            filled(fastinit, "normal", torch.float32)
        assert filled(fastinit, "normal", torch.float32) == filled(torch.nn.init, "normal", torch.float32)


@native
def test_a_check_that_raises_is_a_check_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> torch.Tensor:
        raise RuntimeError("no such kernel")

    monkeypatch.setitem(self_check._TORCH, "uniform", broken)
    with pytest.warns(RuntimeWarning, match="for uniform_ float32 float64 bfloat16 float16, trunc_normal_ float32"):
        assert filled(fastinit, "uniform", torch.float32) == filled(torch.nn.init, "uniform", torch.float32)


@native
def test_trunc_normal_of_an_unknown_version_is_torch_s(
    monkeypatch: pytest.MonkeyPatch, torchs_own: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch_trunc_normal, "KNOWN_VERSIONS", frozenset(("2.11",)))
    with pytest.warns(RuntimeWarning, match="for trunc_normal_ float32 float64 bfloat16 float16: there"):
        _ = [filled(fastinit, kind, torch.float32) for kind in CALLS]
    assert torchs_own == ["trunc_normal_"]
    __main__.main(["info"])
    assert "trunc_normal_ float32 float64 bfloat16 float16: torch's own code" in capsys.readouterr().out


def names_the_generator(
    tensor: torch.Tensor, sparsity: float, std: float = 0.01, generator: torch.Generator | None = None
) -> torch.Tensor:
    """What torch.nn.init.sparse_ may yet become."""
    tensor.normal_(0, std, generator=generator)
    for column in range(tensor.shape[1]):
        tensor[torch.randperm(tensor.shape[0], generator=generator)[: math.ceil(sparsity * len(tensor))], column] = 0
    return tensor


def from_the_back(n: int, **keywords: Any) -> torch.Tensor:
    """The same words, another shuffle."""
    return torch.randperm(n, **keywords).flip(0)


def draws_once_more(n: int, **keywords: Any) -> torch.Tensor:
    permutation = torch.randperm(n, **keywords)
    torch.randperm(2, **keywords)
    return permutation


@native
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("randperm", from_the_back),
        ("randperm", draws_once_more),
        ("sparse", names_the_generator),
        ("sparse", functools.partial(torch.nn.init.sparse_)),
        ("sparse", lambda tensor, *_: torch.nn.init.normal_(tensor)),
    ],
)
def test_another_sparse_is_torch_s(
    name: str, function: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(self_check._TORCH, name, function)
    calls = []
    sparse_ = torch.nn.init.sparse_
    monkeypatch.setattr(torch.nn.init, "sparse_", lambda *a: calls.append("sparse_") or sparse_(*a))
    with pytest.warns(RuntimeWarning, match="for sparse_ float32 float64 bfloat16 float16: there") as caught:
        fastinit.sparse_(torch.empty(9, 5), 0.3)
    assert calls == ["sparse_"] and caught[0].filename == __file__
    assert self_check.by_law(native=False) == ["sparse_ float32 float64 bfloat16 float16"]
    fastinit.normal_(torch.empty(9, 5))


def test_other_kernels_of_torch_s_are_noticed(run_python: Callable[..., object]) -> None:
    """ATEN_CPU_CAPABILITY=default: kernels with other bits, which fastinit's then are too, by calling them."""
    code = """
import os
os.environ["ATEN_CPU_CAPABILITY"] = "default"
import warnings
import torch
import fastinit
from fastinit import __main__

def fill(module):
    torch.manual_seed(0)
    for name in ("uniform_", "normal_", "trunc_normal_", "xavier_uniform_", "kaiming_normal_"):
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
            yield getattr(module, name)(torch.empty(40, 30, dtype=dtype))
    yield torch.get_rng_state()

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    ours = list(fill(fastinit))
assert len(caught) == 1 and caught[0].category is RuntimeWarning, caught
assert caught[0].filename == "<string>", caught[0].filename
assert all(map(torch.equal, ours, fill(torch.nn.init)))
__main__.main(["info"])
"""
    finished = run_python(code)
    assert finished.returncode == 0, finished.stderr
    lines = [line[14:] for line in finished.stdout.splitlines() if line.startswith("torch stream")]
    types = "float32 float64 bfloat16 float16: torch's own code"
    assert lines == [f"{name} {types}" for name in ("uniform_", "normal_", "trunc_normal_", "sparse_")]


class Odd(TorchFunctionMode):
    """Spoils every tensor that is made or drawn under it."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.is_floating_point():
            result.fill_(0.25)
        return result


CONTEXTS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "device meta": lambda: torch.device("meta"),
    "default dtype": lambda: default_dtype(torch.float64),
    "flush denormal": subnormals_flushed,  # the check's thread has its own
    "deterministic": deterministic,
    "fake tensors": FakeTensorMode,
    "inference mode": torch.inference_mode,
    "function mode": Odd,
    "autocast": lambda: torch.autocast("cpu"),
    "keyed stream": lambda: fastinit.stream("keyed"),
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True),
}


@native
@pytest.mark.parametrize("context", CONTEXTS)
def test_verdicts_are_the_same_in_any_context(context: str) -> None:
    with CONTEXTS[context]():
        self_check.verdicts()
    assert_all_native()


@native
@pytest.mark.parametrize("context", [name for name in CONTEXTS if name not in ("fake tensors", "keyed stream")])
def test_first_use_in_any_context_is_torch_s(context: str) -> None:
    results = []
    for module in (fastinit, torch.nn.init):
        generator = torch.Generator().manual_seed(4)
        tensors = [torch.zeros(50, 31, dtype=dtype) for dtype in self_check.DTYPES]
        with CONTEXTS[context]():
            for tensor in tensors:
                for name, arguments in [*CALLS.values(), FAR]:
                    getattr(module, name)(tensor, **arguments, generator=generator)
        results.append([*map(raw, tensors), raw(generator.get_state())])
    assert results[0] == results[1]
    assert_all_native()


@native
def test_a_default_device_does_not_cost_the_native_fill(torchs_own: list[str]) -> None:
    tensor = torch.empty(40)
    with torch.device("meta"):
        for name, arguments in CALLS.values():
            getattr(fastinit, name)(tensor, **arguments)
    assert torchs_own == []
    with torch.device("meta"), Odd():
        fastinit.normal_(tensor)
    assert "normal_" in torchs_own and (tensor == 0.25).all()


def normal_is_torch_s() -> bool:
    return filled(fastinit, "normal", torch.float32) == filled(torch.nn.init, "normal", torch.float32)


def test_verdicts_outlive_a_fork() -> None:
    verdicts = self_check.verdicts()
    assert holds_in_a_fork(lambda: len(_C.torch_verdicts()) == len(verdicts) and normal_is_torch_s())


def test_a_fork_while_another_thread_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    checking, go_on, agrees = Event(), Event(), self_check._agrees

    def wait_first(*pair: object) -> bool:
        checking.set()
        return go_on.wait(60) and agrees(*pair)

    def claim() -> bool:
        go_on.set()
        return normal_is_torch_s()

    monkeypatch.setattr(self_check, "_agrees", wait_first)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")  # so that there is a check to make
    with ThreadPoolExecutor(1) as pool:
        filling = pool.submit(normal_is_torch_s)
        assert checking.wait(60)
        held = holds_in_a_fork(claim)
        go_on.set()
        assert held and filling.result()
