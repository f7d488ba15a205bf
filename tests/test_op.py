"""The op under torch's own machinery: opcheck, torch.compile, fake tensors, inference mode, version counters."""

import pytest
import torch
from cases import raw
from torch._subclasses.fake_tensor import FakeTensorMode

import fastinit
from fastinit import Key, _ops
from fastinit.laws import Law

NORMAL = Law("normal", (0.5, 2.0, 0.0, 0.0))
ONES = Law("constant", (1.0, 0.0, 0.0, 0.0))


def test_opcheck():
    key = [-(2**63), 2**63 - 1]  # a seed of 2^63 as the op sees it
    samples = [
        ([torch.zeros(5, 3)], [2], [0.0, 1.0, 0.0, 0.0], key, []),
        (
            [torch.zeros(6).bfloat16(), torch.zeros(3, 4).t()],
            [1, 3],
            [0.0, 1.0, 0.0, 0.0, 0.0, 1.0, -2.0, 2.0],
            key * 2,
            [],
        ),
        ([torch.zeros(2, 3)], [1], [0.0, 1.0, 0.0, 0.0], key, [4, 6, 2, 3]),
        ([torch.zeros(4, requires_grad=True)], [0], [3.0, 0.0, 0.0, 0.0], key, []),
        ([torch.zeros(4, 5), torch.zeros(4, 2, 3)], [4, 5], [0.0] * 4 + [2.0, 0.0, 0.0, 0.0], key * 2, []),
        ([torch.zeros(4, 5)], [6], [2.0, 0.01, 0.0, 0.0], key, []),
        ([torch.zeros(2, 3).half()], [6], [2.0, 0.01, 0.0, 0.0], key, [4, 6, 2, 3]),
        ([torch.zeros(4, 5)], [7], [1.0, 0.0, 0.0, 0.0], key, []),
    ]
    for sample in samples:
        torch.library.opcheck(torch.ops.fastinit.fill_.default, sample)


@pytest.mark.parametrize("seed", [0, 2**63 - 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("name", ["uniform_", "normal_", "trunc_normal_", "xavier_normal_", "kaiming_uniform_"])
def test_compiled_whole(name, seed):
    function = getattr(fastinit, name)

    def fill(tensor, key):
        return function(tensor * 2, generator=key) + 1

    torch._dynamo.reset()
    compiled = torch.compile(fill, fullgraph=True, backend="aot_eager")
    tensor = torch.zeros(6, 4)
    assert raw(compiled(tensor, Key(seed, 3))) == raw(fill(tensor, Key(seed, 3)))


@pytest.mark.parametrize(
    ("name", "arguments"), [("sparse_", {"sparsity": 0.3}), ("orthogonal_", {}), ("eye_", None), ("dirac_", None)]
)
def test_structured_fills_are_compiled_whole(name, arguments):
    function = getattr(fastinit, name)

    def fill(tensor, key):
        if arguments is None:
            return function(tensor * 2) + 1
        return function(tensor * 2, **arguments, generator=key) + 1

    torch._dynamo.reset()
    compiled = torch.compile(fill, fullgraph=True, backend="aot_eager")
    tensor = torch.zeros((6, 4, 3) if name == "dirac_" else (6, 4))
    assert raw(compiled(tensor, Key(5, 3))) == raw(fill(tensor, Key(5, 3)))


def test_compiled_in_place_on_an_input():
    torch._dynamo.reset()
    tensor = torch.zeros(6, 4)
    torch.compile(
        lambda t: fastinit.normal_(t, generator=Key(1).shard((12, 4), (6, 0))), fullgraph=True, backend="aot_eager"
    )(tensor)
    assert raw(tensor) == raw(fastinit.normal_(torch.zeros(12, 4), generator=Key(1))[6:])


def test_compiled_with_dynamic_shapes():
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda t: fastinit.normal_(t, generator=Key(8)), fullgraph=True, dynamic=True, backend="aot_eager"
    )
    for n in (50, 60, 70):
        assert raw(compiled(torch.zeros(n, 3))) == raw(fastinit.normal_(torch.zeros(n, 3), generator=Key(8)))


def test_compiled_by_inductor():
    torch._dynamo.reset()
    compiled = torch.compile(lambda t: fastinit.normal_(t, generator=Key(8)), fullgraph=True)
    assert raw(compiled(torch.zeros(50))) == raw(fastinit.normal_(torch.zeros(50), generator=Key(8)))


def test_fake_tensors():
    with FakeTensorMode():
        tensor = torch.empty(3, 4)
        assert fastinit.normal_(tensor, generator=Key(2**64 - 1)) is tensor
        with pytest.raises(ValueError, match="std must be at least 0"):
            fastinit.normal_(tensor, std=-1.0, generator=Key(0))


def test_inference_mode():
    expected = fastinit.normal_(torch.empty(20), generator=Key(3))
    with torch.inference_mode():
        tensor = torch.empty(20)
        assert raw(fastinit.normal_(tensor, generator=Key(3))) == raw(expected)
    with pytest.raises(RuntimeError, match="inference"):
        fastinit.normal_(tensor, generator=Key(4))
    assert raw(tensor) == raw(expected)


def test_version_counters_move_and_autograd_sees_it():
    leaf = torch.ones(4, requires_grad=True)
    product = (leaf * leaf).sum()
    fastinit.normal_(leaf, generator=Key(0))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_many_tensors_equal_one_by_one():
    shapes = [(3, 5), (0,), (), (70_000,), (64, 3, 7, 7), (1,), (100, 300)]
    dtypes = [torch.float32, torch.bfloat16, torch.float64, torch.float16, torch.float8_e4m3fn]
    tensors = [torch.empty(s, dtype=d) for s in shapes for d in dtypes]
    tensors[-1] = torch.empty(300, 100, dtype=dtypes[-1]).t()
    laws = [(NORMAL, ONES, Law("uniform", (-1.0, 1.0, 0.0, 0.0)))[i % 3] for i in range(len(tensors))]
    keys = [Key(5).fold_in(i) for i in range(len(tensors))]
    versions = [t._version for t in tensors]
    _ops.fill_(tensors, laws, keys)
    for tensor, law, key, version in zip(tensors, laws, keys, versions, strict=True):
        alone = torch.empty(tensor.shape, dtype=tensor.dtype)
        _ops.fill_one(alone, law, key)
        assert raw(tensor) == raw(alone)
        assert tensor._version == version + 1


def test_one_bad_tensor_and_nothing_is_written():
    good, bad = torch.full((5,), 7.0), torch.zeros(5, dtype=torch.int32)
    with pytest.raises(TypeError, match="tensor must be of type"):
        _ops.fill_([good, bad], [NORMAL, NORMAL], [Key(0), Key(1)])
    assert (good == 7.0).all() and good._version == 0


def test_tensors_that_share_memory_are_filled_in_turn():
    memory = torch.zeros(200_000)
    _ops.fill_([memory, memory[:100_000]], [NORMAL, ONES], [Key(0), Key(0)])
    assert (memory[:100_000] == 1).all() and (memory[100_000:] != 1).any()
    _ops.fill_([memory[50:], memory], [ONES, NORMAL], [Key(0), Key(0)])
    assert raw(memory) == raw(fastinit.normal_(torch.empty(200_000), 0.5, 2.0, generator=Key(0)))


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 0.3, -65504.0, 448.0, 1e-5])
def test_constants_are_fill_s(value):
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2):
        try:
            expected = torch.empty(77, 3, dtype=dtype).fill_(value)
        except RuntimeError:
            with pytest.raises(RuntimeError, match="cannot be converted"):
                _ops.fill_([torch.empty(3, dtype=dtype)], [Law("constant", (value, 0.0, 0.0, 0.0))], [Key(0)])
            continue
        for tensor in (torch.empty(77, 3, dtype=dtype), torch.empty(3, 77, dtype=dtype).t()):
            _ops.fill_([tensor], [Law("constant", (value, 0.0, 0.0, 0.0))], [Key(0)])
            assert raw(tensor) == raw(expected)


@pytest.mark.one_torch
def test_unknown_instruction_set_is_an_error_that_lists_what_there_is(run_python):
    result = run_python("import fastinit", isa="sse9")
    assert result.returncode != 0
    assert "FASTINIT_ISA must be one of" in result.stderr and "scalar" in result.stderr and "'sse9'" in result.stderr


def test_concurrent_calls_from_python_threads():
    from concurrent.futures import ThreadPoolExecutor

    expected = raw(fastinit.normal_(torch.empty(100_000), generator=Key(1)))
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda _: raw(fastinit.normal_(torch.empty(100_000), generator=Key(1))), range(16))
        assert set(results) == {expected}
