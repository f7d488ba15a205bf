"""The drop-in promise: torch.nn.init's names, signatures, numbers and errors, and clear errors with a Key."""

import inspect
import warnings

import pytest
import torch
from cases import DRAWN, raw

import fastinit
import fastinit.function_laws
import fastinit.init
from fastinit import Key

FUNCTIONS = [name for name in torch.nn.init.__all__ if name.endswith("_")]
ARGUMENTS = {"constant_": {"val": 0.3}, "sparse_": {"sparsity": 0.2}}


def test_every_public_name_is_there():
    assert set(torch.nn.init.__all__) <= set(fastinit.__all__)
    for name in [*torch.nn.init.__all__, "_calculate_fan_in_and_fan_out", "_calculate_correct_fan"]:
        assert callable(getattr(fastinit, name))
        assert getattr(fastinit, name) is getattr(fastinit.init, name)


@pytest.mark.parametrize("name", torch.nn.init.__all__)
def test_signatures_are_torch_s(name):
    def shape(function):
        parameters = inspect.signature(function).parameters.values()
        return [(p.name, p.default, p.kind) for p in parameters]

    assert shape(getattr(fastinit, name)) == shape(getattr(torch.nn.init, name))


@pytest.mark.parametrize("given", [True, False], ids=["generator given", "default generator"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_without_a_key_the_numbers_are_torch_s(name, given):
    results = []
    for module in (fastinit, torch.nn.init):
        torch.manual_seed(5)
        arguments = dict(ARGUMENTS.get(name, {}))
        if given and "generator" in inspect.signature(getattr(module, name)).parameters:
            arguments["generator"] = torch.Generator().manual_seed(11)
        shape = (6, 4, 3) if name == "dirac_" else (6, 4)
        tensor = torch.empty(shape)
        assert getattr(module, name)(tensor, **arguments) is tensor
        version = tensor._version if name != "dirac_" else tensor._version > 0  # torch counts every one that it writes
        results.append((raw(tensor), version, raw(torch.rand(3))))
    assert results[0] == results[1]


@pytest.mark.parametrize("name", [n for n in torch.nn.init.__all__ if n not in FUNCTIONS and n != "calculate_gain"])
def test_deprecated_aliases_warn_as_torch_s(name):
    arguments = ARGUMENTS.get(name + "_", {})
    messages = []
    for module in (fastinit, torch.nn.init):
        with pytest.warns(FutureWarning) as caught:
            getattr(module, name)(torch.empty((6, 4, 3) if name == "dirac" else (6, 4)), **arguments)
        messages.append([str(w.message) for w in caught])
        assert caught[0].filename == __file__
    assert messages[0] == messages[1]


@pytest.mark.parametrize("name", DRAWN)
def test_key_fills_in_place_and_returns_the_tensor(name):
    parameter = torch.nn.Parameter(torch.zeros(6, 4))
    before = parameter._version
    assert getattr(fastinit, name)(parameter, generator=Key(1)) is parameter
    assert parameter._version > before and parameter.is_leaf and parameter.requires_grad and parameter.grad_fn is None
    assert parameter.detach().unique().numel() == 24


def test_fans_and_gains_are_torch_s(monkeypatch):
    """The keyed law of the derived functions is uniform_ or normal_ with torch's own numbers."""
    seen = []
    for method in ("uniform_", "normal_"):
        monkeypatch.setattr(torch.Tensor, method, lambda tensor, *numbers, generator: seen.append(numbers))
    for shape in [(6, 4), (8, 3, 5, 5), (2, 3, 4)]:
        for name, options in [
            ("xavier_uniform_", [{}, {"gain": 1.7}]),
            ("xavier_normal_", [{}, {"gain": 0.3}]),
            ("kaiming_uniform_", [{}, {"a": 0.2}, {"mode": "fan_out", "nonlinearity": "relu"}]),
            ("kaiming_normal_", [{}, {"a": 5**0.5}, {"mode": "FAN_OUT", "nonlinearity": "tanh"}]),
        ]:
            for arguments in options:
                getattr(torch.nn.init, name)(torch.zeros(shape), **arguments)
                law = fastinit.function_laws.law_of(getattr(fastinit, name), shape, arguments)
                assert law.numbers[:2] == seen[-1]
    assert len(seen) == 3 * 10


def test_shards_take_fans_from_the_whole():
    whole = fastinit.kaiming_normal_(torch.empty(8, 12), generator=Key(2))
    part = fastinit.kaiming_normal_(torch.empty(8, 3), generator=Key(2).shard((8, 12), (0, 6)))
    assert raw(part) == raw(whole[:, 6:9])


@pytest.mark.parametrize("name", DRAWN)
def test_torch_function_is_honoured(name):
    function, calls = getattr(fastinit, name), []

    class Logged(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            calls.append(function)
            return super().__torch_function__(function, types, args, kwargs or {})

    class Duck:
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            return function

    tensor = torch.zeros(4, 5).as_subclass(Logged)
    calls.clear()
    function(tensor, generator=Key(4))
    assert calls == [function]
    plain = function(torch.zeros(4, 5), generator=Key(4))
    assert raw(tensor.as_subclass(torch.Tensor)) == raw(plain)
    assert function(Duck(), generator=Key(4)) is function


def test_meta_and_empty_tensors_are_left_alone():
    meta = torch.empty(3, 4, device="meta")
    for name in DRAWN:
        assert getattr(fastinit, name)(meta, generator=Key(0)) is meta
    for name in ("uniform_", "normal_", "trunc_normal_"):
        empty = torch.empty(0, 4)
        assert getattr(fastinit, name)(empty, generator=Key(0)) is empty
    with pytest.warns(UserWarning, match="zero-element"):
        fastinit.kaiming_normal_(torch.empty(0, 4), generator=Key(0))
    zero_d = fastinit.normal_(torch.empty(()), generator=Key(6))
    assert raw(zero_d) == raw(fastinit.normal_(torch.empty(1), generator=Key(6)))


def quantized():
    return torch.quantize_per_tensor(torch.zeros(4), 0.1, 0, torch.qint8)


def without_memory():
    tensor = torch.zeros(4, 4)
    tensor.untyped_storage().resize_(0)
    return tensor


BAD_TENSORS = {
    "integer": (lambda: torch.zeros(4, dtype=torch.int64), TypeError, "tensor must be of type"),
    "bool": (lambda: torch.zeros(4, dtype=torch.bool), TypeError, "tensor must be of type"),
    "complex": (lambda: torch.zeros(4, dtype=torch.complex64), TypeError, "tensor must be of type"),
    "quantised": (quantized, TypeError, "tensor must be dense and not quantised"),
    "sparse": (lambda: torch.zeros(4, 4).to_sparse(), TypeError, "tensor must be dense"),
    "compressed": (lambda: torch.zeros(4, 4).to_sparse_csr(), TypeError, "tensor must be dense"),
    "expanded": (lambda: torch.zeros(1).expand(4), ValueError, "tensor must not overlap itself"),
    "overlapping": (lambda: torch.zeros(9).as_strided((4, 4), (1, 1)), ValueError, "tensor must not overlap itself"),
    "negated": (
        lambda: torch.zeros(4, dtype=torch.complex64).conj().imag,
        TypeError,
        "tensor must not be a negated view",
    ),
    "without memory": (without_memory, ValueError, "tensor must have memory"),
    "a list": (lambda: [1.0, 2.0], TypeError, "tensor must be a torch.Tensor"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("kind", BAD_TENSORS)
def test_bad_tensors(kind, name):
    make, error, message = BAD_TENSORS[kind]
    tensor = make()
    if isinstance(tensor, torch.Tensor) and tensor.dim() < 2 and not name.startswith(("uniform", "normal", "trunc")):
        error, message = ValueError, "fewer than 2 dimensions"
    with pytest.raises(error, match=message):
        getattr(fastinit, name)(tensor, generator=Key(0))


NAN, INF = float("nan"), float("inf")
BAD_NUMBERS = [
    ("uniform_", {"a": 1.0, "b": 0.0}, "a must be at most b, got a = 1 and b = 0"),
    ("uniform_", {"a": NAN}, "a must be a finite number"),
    ("uniform_", {"b": INF}, "b must be a finite number"),
    ("uniform_", {"a": -3e38, "b": 3e38}, "b - a must be at most"),
    ("normal_", {"std": -1.0}, "std must be at least 0, got -1"),
    ("normal_", {"std": NAN}, "std must be a finite number"),
    ("normal_", {"mean": -INF}, "mean must be a finite number"),
    ("normal_", {"mean": 1e39}, "mean must be a finite number that float32 can hold"),
    ("trunc_normal_", {"std": -0.5}, "std must be at least 0"),
    ("trunc_normal_", {"a": 2.0, "b": -2.0}, "a must be at most b"),
    ("trunc_normal_", {"a": -INF}, "a must be a finite number"),
    ("trunc_normal_", {"b": NAN}, "b must be a finite number"),
    ("trunc_normal_", {"a": 12.5, "b": 13.0}, r"\[a, b\] must reach within 12 std of the mean"),
    ("trunc_normal_", {"a": 1e300, "b": 1e301}, r"\[a, b\] must hold a number of type float32"),
    ("xavier_normal_", {"gain": NAN}, "std must be a finite number"),
    ("kaiming_normal_", {"mode": "fan_up"}, "Mode fan_up not supported"),
    ("kaiming_uniform_", {"nonlinearity": "softplus"}, "Unsupported nonlinearity softplus"),
    ("kaiming_uniform_", {"a": "x"}, "negative_slope x not a valid number"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), BAD_NUMBERS)
def test_bad_numbers_are_refused_before_anything_is_written(name, arguments, message):
    tensor = torch.full((6, 4), 7.0)
    version = tensor._version
    with pytest.raises(ValueError, match=message):
        getattr(fastinit, name)(tensor, **arguments, generator=Key(0))
    assert (tensor == 7.0).all() and tensor._version == version


@pytest.mark.parametrize("name", ["xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_"])
def test_fans_of_a_vector_are_refused(name):
    with pytest.raises(ValueError, match="fewer than 2 dimensions"):
        getattr(fastinit, name)(torch.zeros(5), generator=Key(0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float8_e4m3fn])
def test_bounds_must_fit_the_type(dtype):
    with pytest.raises(ValueError, match="b must be a finite number that float"):
        fastinit.uniform_(torch.zeros(4, dtype=dtype), 0.0, 1e6, generator=Key(0))
    with pytest.raises(ValueError, match="must hold a number of type float"):
        fastinit.trunc_normal_(torch.zeros(4, dtype=dtype), a=0.30001, b=0.30002, generator=Key(0))


@pytest.mark.parametrize(
    ("name", "argument"),
    [("uniform_", "a"), ("normal_", "std"), ("trunc_normal_", "b"), ("sparse_", "sparsity"), ("orthogonal_", "gain")],
)
@pytest.mark.parametrize("value", [None, 1j, "2", 10**400, torch.ones(2)], ids=lambda value: type(value).__name__)
def test_with_a_key_what_is_no_number_is_refused_by_name(name, argument, value):
    tensor = torch.ones(4, 4)
    with pytest.raises(TypeError, match=f"{argument} must be a number"):
        getattr(fastinit, name)(tensor, **{argument: value}, generator=Key(0))
    assert (tensor == 1).all()


@pytest.mark.parametrize(
    ("shape", "offset"), [((8, 8), (5, 0)), ((8, 8), (-1, 0)), ((8,), (0,)), ((2**40, 2**40), (0, 0)), ((8, 8), (0,))]
)
def test_bad_shards(shape, offset):
    with pytest.raises(ValueError, match=r"global_shape|offset"):
        fastinit.uniform_(torch.zeros(4, 4), generator=Key(0).shard(shape, offset))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("half", [4e-5, 1e-5, 1e-7, 1e-9, 1e-15])
@pytest.mark.parametrize("centre", [0.0, 3.0, -9.0])
def test_windows_much_narrower_than_std_are_level_and_full(centre, half, dtype):
    """Seen over its window, such a law is uniform: its standard deviation is half / sqrt(3), and its values differ."""
    scale = 2.0**40 if half < 1e-6 else 1.0  # so that the window holds many numbers of the type
    a, b = (-half) * scale, half * scale
    tensor = torch.empty(2**18, dtype=dtype)
    fastinit.trunc_normal_(tensor, -centre * scale, scale, a, b, generator=Key(3))
    assert ((tensor >= a) & (tensor <= b)).all()
    tilted = (tensor.double().std() / (b / 3**0.5)).item()
    assert tilted == pytest.approx(1.0, abs=0.01)
    assert tensor.unique().numel() > (500 if dtype == torch.float32 else 100_000)


def test_degenerate_laws():
    assert (fastinit.uniform_(torch.empty(9), 0.25, 0.25, generator=Key(0)) == 0.25).all()
    assert (fastinit.normal_(torch.empty(9), 1.5, 0.0, generator=Key(0)) == 1.5).all()
    assert (fastinit.trunc_normal_(torch.empty(9), 5.0, 0.0, -2.0, 2.0, generator=Key(0)) == 2.0).all()
    assert (fastinit.trunc_normal_(torch.empty(9), 0.0, 1.0, 0.5, 0.5, generator=Key(0)) == 0.5).all()


def test_no_warnings_in_ordinary_use():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in DRAWN:
            getattr(fastinit, name)(torch.empty(6, 4), generator=Key(0))
