"""orthogonal_ with a Key: orthogonal to rounding in every type, shape and layout, whatever the caller's settings are.

Its values follow matrix products, so they are compared to rounding. That they are the product of the Householder
reflections of the keyed normal numbers is shown by `test_orthogonal_distribution.py`.
"""

import contextlib
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from cases import DTYPES, LAYOUTS, holds_in_a_fork, raw
from settings import default_dtype, deterministic, matmul_precision, subnormals_flushed, threads

import fastinit
from fastinit import Key, _ops, laws

SHAPES = [(1, 1), (1, 7), (7, 1), (2, 2), (5, 3), (3, 5), (64, 64), (161, 160), (160, 161), (131, 257), (300, 130)]
SHAPES += [(6, 4, 3, 3), (40, 2, 3), (3, 1, 1, 1, 2)]
TYPES = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
KEY = Key(20_261_122)
# Of the largest difference between two ways to sum the same products, in units of the type.
ROUNDING = {torch.float32: 3e-6, torch.float64: 6e-15}


def orthogonal(*shape: int, dtype: torch.dtype = torch.float32, gain: float = 1.0, key: Key = KEY) -> torch.Tensor:
    return fastinit.orthogonal_(torch.full(shape, math.nan, dtype=dtype), gain, key)


def defect(tensor: torch.Tensor) -> float:
    """The largest element of |Q'Q - 1|; sums of long columns of float64 need more than float64."""
    q = tensor.detach().double().reshape(tensor.shape[0], -1).numpy()
    q = q.T if q.shape[0] < q.shape[1] else q
    q = q.astype(np.longdouble) if q.shape[1] < 20 else q
    return float(abs(q.T @ q - np.eye(q.shape[1])).max())


def is_near(tensor: torch.Tensor, other: torch.Tensor, scale: float = 1.0) -> bool:
    return (tensor.double() - other.double()).abs().max().item() <= ROUNDING[other.dtype] * scale


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("shape", [*SHAPES, (2000, 3), (3, 2000), (1000, 700), (100_000, 2)], ids=str)
def test_as_orthogonal_as_a_factorisation(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """No worse than twice torch.linalg.qr; the mean of several, since few elements may be exact by chance."""
    many = 3 if math.prod(shape) > 10_000 else 30
    generator = torch.Generator().manual_seed(1)
    rows, columns = sorted((shape[0], math.prod(shape[1:])), reverse=True)
    ours = sum(defect(orthogonal(*shape, dtype=dtype, key=KEY.fold_in(i))) for i in range(many))
    theirs = sum(
        defect(torch.linalg.qr(torch.randn(rows, columns, dtype=dtype, generator=generator))[0]) for _ in range(many)
    )
    assert ours <= 2 * theirs


@TYPES
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_type_holds_the_same_matrix_rounded_once(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    tensor = orthogonal(*shape, dtype=dtype)
    if dtype in ROUNDING:
        assert defect(tensor) < ROUNDING[dtype]
    else:
        assert raw(tensor) == raw(orthogonal(*shape).to(dtype))


@pytest.mark.usefixtures("isa")
@TYPES
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_holds_the_same_matrix(layout: str, dtype: torch.dtype) -> None:
    for shape in [(5, 3), (3, 5), (131, 40), (40, 131), (6, 4, 3, 3)]:
        tensor = LAYOUTS[layout](*shape, dtype=dtype)
        memory = tensor.untyped_storage().nbytes() // dtype.itemsize
        around = torch.as_strided(tensor, (memory,), (1,), 0)
        before = around.double().count_nonzero().item()
        fastinit.orthogonal_(tensor, 1.5, KEY)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        expected = orthogonal(*shape, dtype=wide, gain=1.5)
        if dtype == wide:
            assert is_near(tensor, expected)
        else:  # one rounding, of numbers that may differ by another
            spread = (tensor.double() - expected.double()).abs() / (expected.double().abs() + 1e-2)
            assert spread.max().item() < torch.finfo(dtype).eps
        assert before == 0
        assert around.double().count_nonzero() == tensor.double().count_nonzero()  # nothing beside it was written


@pytest.mark.parametrize("shape", [(700, 700), (900, 300), (300, 900)])
@pytest.mark.parametrize("dtype", ROUNDING)
def test_threads_change_nothing_but_the_rounding(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    with threads(1):
        expected = orthogonal(*shape, dtype=dtype)
    for count in (2, 3):
        with threads(count):
            assert is_near(orthogonal(*shape, dtype=dtype), expected)


def test_each_key_gives_another_matrix() -> None:
    one, other, third = (orthogonal(8, 8, key=key) for key in (Key(1), Key(2), Key(1, 16)))
    assert min((one - other).abs().max(), (one - third).abs().max(), (other - third).abs().max()) > 0.1


@pytest.mark.parametrize("gain", [1.0, -1.0, 0.5, 5 / 3, 3, 0.0, -0.0, 1e-30, 1e-42, -1e30, 3e38, 2.0**-32, 2.0**32])
@pytest.mark.parametrize("dtype", ROUNDING)
def test_gain_is_a_factor(gain: float, dtype: torch.dtype) -> None:
    for shape in [(40, 40), (20, 150), (150, 20), (1, 1), (5, 1)]:
        tensor, expected = orthogonal(*shape, dtype=dtype, gain=gain), orthogonal(*shape, dtype=dtype) * gain
        least = 2e-45 if dtype == torch.float32 else 0.0
        assert (tensor.double() - expected.double()).abs().max() <= abs(gain) * ROUNDING[dtype] + least
        assert tensor.isfinite().all()
        assert tensor.double().abs().max() >= abs(gain) * 0.1 - least


@TYPES
@pytest.mark.parametrize("shape", [(7, 5), (140, 9), (4, 3, 5)])
def test_a_part_is_the_part_of_the_whole(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    whole = orthogonal(*shape, dtype=dtype)
    for d in range(len(shape)):
        for start, size in ((0, 1), (1, shape[d] - 2), (shape[d] - 1, 1)):
            offset = [0] * len(shape)
            offset[d] = start
            part = whole.narrow(d, start, size)
            for tensor in (
                torch.zeros_like(part),
                torch.zeros(part.shape[::-1], dtype=dtype).permute(*range(part.dim())[::-1]),
            ):
                fastinit.orthogonal_(tensor, generator=KEY.shard(shape, offset))
                assert raw(tensor) == raw(part)


def test_many_of_every_size_among_other_laws() -> None:
    """Small ones run side by side, large ones each on all threads; what they hold is what each call by itself gives."""
    shapes = [(33, 20), (3, 4), (700, 600), (128, 128), (1, 9), (620, 640), (5, 4, 3), (64, 64)] * 2
    tensors = [torch.zeros(shape, dtype=DTYPES[i % 2]) for i, shape in enumerate(shapes)]
    tensors += [torch.zeros(6, 6, dtype=dtype) for dtype in DTYPES[2:]]
    keys = list(KEY.split(len(tensors)))
    kinds = [laws.orthogonal(t.shape, 1 + i % 3) for i, t in enumerate(tensors)]
    others = [torch.zeros(50, 50) for _ in range(4)]
    for count in (1, 2, 5):
        with threads(count):
            _ops.fill_(
                [*others[:2], *tensors, *others[2:]],
                [laws.normal(())] * 2 + kinds + [laws.uniform(())] * 2,
                [KEY] * 2 + keys + [KEY] * 2,
            )
        for i, (tensor, key) in enumerate(zip(tensors, keys, strict=True)):
            expected = orthogonal(*tensor.shape, dtype=tensor.dtype, gain=1 + i % 3, key=key)
            if tensor.dtype in ROUNDING:
                assert is_near(tensor, expected, scale=3)
            else:
                assert raw(tensor) == raw(expected)
        assert raw(others[0]) == raw(fastinit.normal_(torch.empty(50, 50), generator=KEY))
        assert raw(others[3]) == raw(fastinit.uniform_(torch.empty(50, 50), generator=KEY))


def test_the_last_of_two_over_the_same_memory_counts() -> None:
    memory = torch.zeros(600, 640)
    small = memory[:30, :30]
    _ops.fill_([small, memory, small], [laws.orthogonal((30, 30))] * 3, KEY.split(3))
    expected = orthogonal(600, 640, key=KEY.split(3)[1])
    assert is_near(small, orthogonal(30, 30, key=KEY.split(3)[2]))
    assert is_near(memory[30:], expected[30:])


# ---- What is in force around the call


SETTINGS: dict[str, Callable[[], contextlib.AbstractContextManager[object]]] = {
    "medium": lambda: matmul_precision("medium"),
    "high": lambda: matmul_precision("high"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default dtype": lambda: default_dtype(torch.bfloat16),
    "default device": lambda: torch.device("meta"),
    "flushed subnormal numbers": subnormals_flushed,
    "deterministic": deterministic,
    "inference": torch.inference_mode,
    "no grad": torch.no_grad,
    "without mkldnn": lambda: torch.backends.mkldnn.flags(enabled=False),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")
@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_change_nothing(setting: str, dtype: torch.dtype) -> None:
    for shape in [(200, 150), (90, 200)]:
        expected = orthogonal(*shape, dtype=dtype)
        tensors = [torch.zeros(shape, dtype=dtype) for _ in range(2)]
        with SETTINGS[setting]():
            fastinit.orthogonal_(tensors[0], generator=KEY)
            others = [tensors[1], torch.zeros(9, 9, device="cpu")]
            _ops.fill_(others, [laws.orthogonal(other.shape) for other in others], [KEY] * 2)
        for tensor in tensors:
            if dtype in ROUNDING:
                assert is_near(tensor, expected)
            else:
                assert (tensor != expected).double().mean() < 0.01  # rounded to the other side


def test_where_products_may_be_reduced_they_are_of_float64() -> None:
    """Few machines have them (AMX), so this looks at what is to be seen on all: the error is smaller, not larger."""
    expected = defect(orthogonal(200, 200))
    with matmul_precision("medium"):
        assert defect(orthogonal(200, 200)) < expected / 2


def test_a_leaf_that_requires_grad_is_filled_in_place_and_counted_once() -> None:
    for shape in [(9, 5), (5, 9), (4, 3, 2)]:
        for parameter in (torch.nn.Parameter(torch.zeros(shape)), torch.nn.Parameter(torch.zeros(shape).double())):
            version, pointer = parameter._version, parameter.data_ptr()
            assert fastinit.orthogonal_(parameter, generator=KEY) is parameter
            assert (parameter._version, parameter.data_ptr()) == (version + 1, pointer)
            assert parameter.is_leaf and parameter.requires_grad and parameter.grad_fn is None
            assert defect(parameter) < 1e-5
            (parameter * 2).sum().backward()


def test_a_view_in_an_autograd_graph() -> None:
    base = torch.nn.Parameter(torch.zeros(8, 6))
    view = base.T[1:]
    version = base._version
    fastinit.orthogonal_(view, generator=KEY)
    assert base._version == version + 1
    assert is_near(view, orthogonal(5, 8))


def test_modes_see_one_operation() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Log(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    tensor = torch.zeros(20, 30)
    with Log():
        fastinit.orthogonal_(tensor, generator=KEY)
    assert seen == ["fastinit.fill_.default"]
    assert is_near(tensor, orthogonal(20, 30))


def test_a_forked_process() -> None:
    """There torch's own products would wait for ever for OpenMP's threads; NumPy's do not."""
    expected = orthogonal(300, 700).numpy()
    assert holds_in_a_fork(
        lambda: bool((abs(fastinit.orthogonal_(torch.empty(300, 700), generator=KEY).numpy() - expected) < 3e-6).all())
    )


def test_meta_and_empty_tensors() -> None:
    assert fastinit.orthogonal_(torch.empty(3, 4, device="meta"), generator=KEY).is_meta
    for shape in [(0, 4), (4, 0), (0, 0), (3, 0, 2)]:
        assert fastinit.orthogonal_(torch.empty(shape), generator=KEY).shape == shape


def test_wrong_arguments() -> None:
    tensor = torch.zeros(4, 4)
    with pytest.raises(ValueError, match="Only tensors with 2 or more dimensions are supported"):
        fastinit.orthogonal_(torch.zeros(4), generator=KEY)
    for gain in (math.inf, -math.inf, math.nan, 1e39):
        with pytest.raises(ValueError, match="gain must be a finite number that float32 can hold"):
            fastinit.orthogonal_(tensor, gain, KEY)
    with pytest.raises(TypeError, match="tensor must be of type"):
        fastinit.orthogonal_(torch.zeros(4, 4, dtype=torch.int32), generator=KEY)
    with pytest.raises(ValueError, match="shard must lie within"):
        fastinit.orthogonal_(tensor, generator=KEY.shard((6, 6), (3, 0)))
    assert tensor.count_nonzero() == 0 and tensor._version == 0


def test_in_the_keyed_stream_a_generator_gives_the_key() -> None:
    with fastinit.stream("keyed"):
        one, other = (fastinit.orthogonal_(torch.empty(6, 6), generator=torch.Generator().manual_seed(5)) for _ in "ab")
    assert raw(one) == raw(other)
    assert defect(one) < 1e-6
