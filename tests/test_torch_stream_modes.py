"""In the modes and transformations of torch, fastinit does what torch.nn.init does: the call must reach torch there.

Each is tried where the self-checks were made before, and where they must first be made: in the midst of it all.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from settings import default_dtype, deterministic, subnormals_flushed
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch_stream import compare_outcomes, describe, stand_in

from fastinit import _C

NAMES = ["uniform_", "normal_", "trunc_normal_", "kaiming_normal_"]
CALLS: list[Any] = []  # that the modes below saw

pytestmark = pytest.mark.filterwarnings("ignore")
of_every_function = pytest.mark.parametrize("name", NAMES)


class FunctionMode(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        CALLS.append(function)
        return function(*args, **(kwargs or {}))


class DispatchMode(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        CALLS.append(str(function))
        return function(*args, **(kwargs or {}))


def versions_not_counted() -> contextlib.AbstractContextManager[Any]:
    return torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.ADInplaceOrView))


@contextlib.contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


Context = Callable[[], contextlib.AbstractContextManager[Any]]

# In these fastinit itself writes nothing.
ELSEWHERE: dict[str, Context] = {
    "inference mode": torch.inference_mode,
    "dispatch mode": DispatchMode,
    "fake tensors": FakeTensorMode,
    "subnormals flushed": subnormals_flushed,
    "versions not counted": versions_not_counted,
}
# And in these it may.
HERE: dict[str, Context] = {
    "function mode": FunctionMode,
    "device cpu": lambda: torch.device("cpu"),
    "device meta": lambda: torch.device("meta"),
    "default device meta": lambda: default_device("meta"),
    "default type": lambda: default_dtype(torch.float64),
    "deterministic": deterministic,
    "no_grad": torch.no_grad,
    "enable_grad": torch.enable_grad,
    "anomalies": torch.autograd.detect_anomaly,
    "autocast": lambda: torch.autocast("cpu"),
    "saved tensors elsewhere": torch.autograd.graph.save_on_cpu,
    "profiled": lambda: torch.autograd.profiler.profile(use_kineto=False),
}


@of_every_function
@pytest.mark.parametrize("place", ["made outside", "made inside"])
@pytest.mark.parametrize("kind", [*ELSEWHERE, *HERE])
def test_contexts(kind: str, place: str, name: str) -> None:
    context = (ELSEWHERE | HERE)[kind]

    def program(module: Any) -> Any:
        tensor = torch.zeros(4, 5)
        with context():
            if place == "made inside":
                tensor = torch.zeros(4, 5)
            CALLS.clear()
            same = getattr(module, name)(tensor) is tensor
            calls = list(CALLS)
            again = getattr(module, name)(torch.zeros(30, 70, device="cpu").t())
        return same, calls, describe(tensor), describe(again), torch.is_grad_enabled()

    result = compare_outcomes(program)
    assert not kind.endswith(("function mode", "dispatch mode")) or result[1]
    if kind in ELSEWHERE:
        tensor = torch.zeros(4, 5)
        assert _C.torch_takes(tensor, None)
        with context():
            assert not _C.torch_takes(tensor, None)


@of_every_function
def test_subnormals_are_flushed_as_torch_flushes_them(name: str) -> None:
    """As numbers that are given and as values."""
    arguments = {"uniform_": (0.0, 3e-39), "normal_": (1e-40, 1e-39), "trunc_normal_": (0.0, 1e-38, -1e-38, 1e-38)}

    def program(module: Any) -> Any:
        results = []
        with subnormals_flushed():
            for shape in ((5,), (50,), (9, 5)):
                tensor = torch.zeros(shape).t() if len(shape) == 2 else torch.zeros(shape)
                getattr(module, name)(tensor, *arguments.get(name, (1e-39,)))
                results.append(describe(tensor))
        return results

    compare_outcomes(program)


def compiled(backend: str) -> Callable[[Any, str], Any]:
    def program(module: Any, name: str) -> Any:
        torch._dynamo.reset()
        whole = name != "trunc_normal_"  # torch's own breaks the graph
        tensor = torch.zeros(6, 5)
        fill = torch.compile(lambda tensor: getattr(module, name)(tensor), backend=backend, fullgraph=whole)
        return fill(tensor) is tensor, describe(tensor)

    return program


def compiled_with_a_generator(module: Any, name: str) -> Any:
    torch._dynamo.reset()
    generator, tensor = torch.Generator().manual_seed(4), torch.zeros(6, 5)
    torch.compile(lambda: getattr(module, name)(tensor, generator=generator), backend="eager")()
    return describe(tensor), generator.get_state().tolist()


def vectorised(randomness: str) -> Callable[[Any, str], Any]:
    def program(module: Any, name: str) -> Any:
        tensor = torch.zeros(3, 4, 5)
        torch.func.vmap(getattr(module, name), randomness=randomness)(tensor)
        return describe(tensor)

    return program


def differentiated(module: Any, name: str) -> Any:
    fill = getattr(module, name)
    return [
        describe(torch.func.grad(lambda tensor: fill(tensor * 2).sum())(torch.ones(4, 5))),
        [describe(t) for t in torch.func.jvp(lambda t: fill(t * 2).sin(), (torch.ones(4, 5),), (torch.ones(4, 5),))],
        describe(torch.func.functionalize(lambda tensor: fill(tensor * 2))(torch.ones(4, 5))),
    ]


def dual(module: Any, name: str) -> Any:
    with forward_ad.dual_level():
        tensor = forward_ad.make_dual(torch.ones(4, 5), torch.ones(4, 5))
        getattr(module, name)(tensor)
        return [describe(part) for part in forward_ad.unpack_dual(tensor)]


def inside_a_dual_level(module: Any, name: str) -> Any:
    with forward_ad.dual_level():
        return describe(getattr(module, name)(torch.ones(4, 5)))


def traced(module: Any, name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # one for each look at a size
        fill = torch.jit.trace(lambda t: getattr(module, name)(t.clone()), torch.zeros(4, 5), check_trace=False)
    nodes = [node.kind() for node in fill.graph.nodes() if node.kind().endswith("_")]
    torch.manual_seed(6)
    return nodes, describe(fill(torch.zeros(4, 5)))


def traced_by_dispatch(module: Any, name: str) -> Any:
    return make_fx(lambda tensor: getattr(module, name)(tensor.clone()))(torch.zeros(4, 5)).code


def traced_by_proxies(module: Any, name: str) -> Any:
    return str(torch.fx.symbolic_trace(lambda tensor: getattr(module, name)(tensor)).graph)


def exported(module: Any, name: str) -> Any:
    class Fill(torch.nn.Module):
        def forward(self, tensor: torch.Tensor) -> torch.Tensor:
            return getattr(module, name)(tensor.clone())

    try:
        return torch.export.export(Fill(), (torch.zeros(4, 5),)).graph_module.code
    except Exception as error:  # trunc_normal_ depends on the values; the message names the lines of code
        return type(error)


def distributed(module: Any, name: str) -> Any:
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor, init_device_mesh

    mesh, parts = init_device_mesh("cpu", (1,)), []
    for placement in (Shard(0), Replicate()):
        tensor = distribute_tensor(torch.zeros(4, 5), mesh, [placement])
        parts.append((getattr(module, name)(tensor) is tensor, describe(tensor.to_local())))
    return parts


@pytest.fixture
def process_group() -> Iterator[None]:
    """Of this process alone, without sockets or threads."""
    fake_pg = pytest.importorskip("torch.testing._internal.distributed.fake_pg")
    torch.distributed.init_process_group("fake", store=fake_pg.FakeStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


TRANSFORMATIONS: dict[str, Callable[[Any, str], Any]] = {
    "compiled": compiled("eager"),
    "compiled ahead of time": compiled("aot_eager"),
    "compiled with a generator": compiled_with_a_generator,
    "vectorised, all different": vectorised("different"),
    "vectorised, all the same": vectorised("same"),
    "vectorised, refused": vectorised("error"),
    "differentiated": differentiated,
    "dual numbers": dual,
    "dual level": inside_a_dual_level,
    "traced": traced,
    "traced by dispatch": traced_by_dispatch,
    "traced by proxies": traced_by_proxies,
    "exported": exported,
}


# trunc_normal_ looks at the values, which these do not know, and kaiming_normal_ at the sizes.
REFUSED = {("traced by proxies", "kaiming_normal_")}
REFUSED |= {(f"vectorised, {how}", "trunc_normal_") for how in ("all different", "all the same")}
REFUSED |= {(f"traced by {what}", "trunc_normal_") for what in ("dispatch", "proxies")}
REFUSED |= {("vectorised, refused", name) for name in NAMES}


@of_every_function
@pytest.mark.parametrize("kind", TRANSFORMATIONS)
def test_transformations(kind: str, name: str) -> None:
    result = compare_outcomes(lambda module: TRANSFORMATIONS[kind](module, name))
    raised = isinstance(result, tuple) and isinstance(result[0], type) and issubclass(result[0], Exception)
    assert raised == ((kind, name) in REFUSED)


@of_every_function
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
@pytest.mark.usefixtures("process_group")
def test_distributed_tensors(name: str) -> None:
    assert all(same for same, _ in compare_outcomes(lambda module: distributed(module, name)))


@pytest.mark.parametrize("kind", ["traced", "traced by dispatch", "vectorised, all different", "dual numbers"])
def test_a_fill_behind_torch_s_back_is_noticed(kind: str) -> None:
    """The same numbers, written into the memory: right everywhere but here."""

    def through_memory(tensor: torch.Tensor) -> torch.Tensor:
        values = torch.nn.init.normal_(torch.empty(tensor.shape))
        torch.from_numpy(tensor.detach().numpy()).copy_(values)
        return tensor

    with pytest.raises(AssertionError):
        compare_outcomes(lambda module: TRANSFORMATIONS[kind](module, "normal_"), stand_in(normal_=through_memory))
