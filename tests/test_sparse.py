"""sparse_ with a Key: the zeros are those that reference.py defines, exactly as many in each column, the other values
are normal_'s; the same in any layout, on any threads and instruction set, and in any part.
"""

import math

import numpy as np
import pytest
import reference
import torch
from cases import DTYPES, LAYOUTS, holds_in_a_fork, raw
from hypothesis import given, settings
from hypothesis import strategies as st

import fastinit
from fastinit import Key, _ops, laws

KEY = Key(0x0123456789ABCDEF, 2**32 - 3)
SHAPES = [(1, 1), (1, 9), (9, 1), (5, 3), (64, 64), (100, 37), (3, 700), (1500, 6), (517, 301)]
SPARSITIES = [0, 0.1, 0.34, 0.5, 0.9, 1]
# The type's smallest normal number; of those whose smallest number nothing flushes to zero, that one.
SMALLEST = {dtype: torch.finfo(dtype).smallest_normal for dtype in (torch.float32, torch.float64, torch.bfloat16)}
SMALLEST |= {torch.float16: 2.0**-24, torch.float8_e4m3fn: 2.0**-9, torch.float8_e5m2: 2.0**-16}


def sparse(shape, dtype=torch.float32, sparsity=0.5, std=0.01, key=KEY):
    return fastinit.sparse_(torch.empty(shape, dtype=dtype), sparsity, std, generator=key)


def expected(shape, dtype, sparsity, std=0.01, key=KEY):
    values = fastinit.normal_(torch.empty(shape, dtype=dtype), std=std, generator=key).double()
    values[values == 0] = SMALLEST[dtype]
    zero = reference.sparse_zeros(key.seed, key.offset, *shape, math.ceil(sparsity * shape[0]))
    values[torch.from_numpy(zero)] = 0
    return values.to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_are_the_reference_s(isa, shape, dtype):
    for sparsity in SPARSITIES:
        assert raw(sparse(shape, dtype, sparsity)) == raw(expected(shape, dtype, sparsity))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("std", [0.01, 1e-5, 1e-30, 3e38])
def test_the_zeros_can_be_counted(dtype, std):
    """Whatever is too small for the type: a value that is not among the zeros is not zero."""
    if std > torch.finfo(dtype).max:
        std = 100.0
    rows = 400
    for sparsity in SPARSITIES:
        zeros = (sparse((rows, 300), dtype, sparsity, std).double() == 0).sum(0)
        assert (zeros == math.ceil(sparsity * rows)).all()


def test_a_value_that_is_zero_by_chance_becomes_the_smallest_number():
    for dtype in (torch.float16, torch.float8_e4m3fn, torch.float8_e5m2):
        values = sparse((300, 300), dtype, 0.2, 2.0**-17 if dtype == torch.float16 else 0.01).double()
        normal = fastinit.normal_(
            torch.empty(300, 300), std=2.0**-17 if dtype == torch.float16 else 0.01, generator=KEY
        )
        chance = (normal.to(dtype).double() == 0) & (values != 0)
        assert chance.any()
        assert (values[chance] == SMALLEST[dtype]).all()


def test_no_deviation_is_all_zeros():
    assert raw(sparse((40, 30), sparsity=0.2, std=0)) == raw(torch.zeros(40, 30))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(37, 41), (130, 3), (4, 700)], ids=str)
def test_layout_does_not_matter_and_nothing_else_is_written(isa, shape, layout):
    for dtype in DTYPES:
        tensor = LAYOUTS[layout](*shape, dtype=dtype)
        memory = torch.empty(0, dtype=dtype).set_(tensor.untyped_storage())
        memory.fill_(-5)
        fastinit.sparse_(tensor, 0.3, generator=KEY)
        assert raw(tensor) == raw(sparse(shape, dtype, 0.3))
        memory.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).fill_(-5)
        assert raw(memory) == raw(torch.full_like(memory, -5))


def test_threads_do_not_matter():
    before, results = torch.get_num_threads(), set()
    try:
        for threads in range(1, 9):
            torch.set_num_threads(threads)
            results.add(raw(sparse((701, 500), sparsity=0.7)))
    finally:
        torch.set_num_threads(before)
    assert len(results) == 1


def test_a_forked_process():
    expected = sparse((500, 700)).numpy()  # by torch's threads, which the child has not: NumPy compares
    assert holds_in_a_fork(lambda: bool((sparse((500, 700)).numpy() == expected).all()))


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_parts_are_parts_of_the_whole(data):
    shape = (data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90)))
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    size = tuple(data.draw(st.integers(0, n - s)) for n, s in zip(shape, start, strict=True))
    dtype, sparsity = data.draw(st.sampled_from(DTYPES)), data.draw(st.floats(0, 1))
    part = LAYOUTS[data.draw(st.sampled_from(["contiguous", "transposed", "inner columns"]))](*size, dtype=dtype)
    fastinit.sparse_(part, sparsity, generator=KEY.shard(shape, start))
    window = tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))
    assert raw(part) == raw(sparse(shape, dtype, sparsity)[window])


def test_of_equal_draws_that_in_the_smaller_row_is_zero():
    """Columns are long enough for two draws to be equal; the number of zeros is such that they are parted."""
    rows, columns, parted = 2**17, 4, 0
    draws = reference.words32(KEY.seed, KEY.offset, np.arange(rows * columns), stream=1).reshape(rows, columns) >> 1
    for column in range(columns):
        ordered = np.sort(draws[:, column])
        for rank in np.flatnonzero(ordered[1:] == ordered[:-1]):
            zeros = int(rank) + 1
            tensor = torch.empty(rows, columns)
            _ops.fill_([tensor], [laws.Law("sparse", (float(zeros), 0.01, 0.0, 0.0))], [KEY])
            first, second = np.flatnonzero(draws[:, column] == ordered[rank])
            assert tensor[first, column] == 0
            assert tensor[second, column] != 0
            assert ((tensor == 0).sum(0) == zeros).all()
            part = torch.empty(rows - second + 1, 1)
            law, place = laws.Law("sparse", (float(zeros), 0.01, 0.0, 0.0)), (int(second) - 1, column)
            _ops.fill_([part], [law], [KEY.shard((rows, columns), place)])
            assert raw(part) == raw(tensor[second - 1 :, column : column + 1])
            parted += 1
    assert parted > 3


def test_many_at_once():
    shapes = SHAPES * 10
    tensors = [torch.empty(shape) for shape in shapes]
    keys = [Key(5).fold_in(i) for i in range(len(shapes))]
    _ops.fill_(tensors, [laws.sparse(shape, 0.4) for shape in shapes], keys)
    for tensor, key in zip(tensors, keys, strict=True):
        assert raw(tensor) == raw(sparse(tensor.shape, sparsity=0.4, key=key))


@pytest.mark.parametrize("sparsity", [-0.1, 1.0001, 5, math.nan, math.inf])
def test_a_sparsity_that_is_no_fraction_is_refused(sparsity):
    tensor = torch.ones(4, 4)
    with pytest.raises(ValueError, match=r"sparsity must be in \[0, 1\], got"):
        fastinit.sparse_(tensor, sparsity, generator=KEY)
    assert (tensor == 1).all()


@pytest.mark.parametrize("shape", [(), (4,), (2, 2, 2)], ids=str)
def test_a_tensor_that_is_no_matrix_is_refused_in_torch_s_words(shape):
    with pytest.raises(ValueError, match="Only tensors with 2 dimensions are supported") as ours:
        fastinit.sparse_(torch.ones(shape), 0.5, generator=KEY)
    with pytest.raises(ValueError, match=str(ours.value)):
        torch.nn.init.sparse_(torch.ones(shape), 0.5)


def test_other_arguments_are_checked_before_anything_is_written():
    tensor = torch.ones(4, 4)
    for std, message in ((-1.0, "std must be at least 0"), (math.nan, "std must be a finite"), (1e39, "std must be a")):
        with pytest.raises(ValueError, match=message):
            fastinit.sparse_(tensor, 0.5, std, generator=KEY)
    with pytest.raises(TypeError, match="tensor must be of type float32"):
        fastinit.sparse_(torch.ones(4, 4, dtype=torch.int32), 0.5, generator=KEY)
    for zeros in (-1.0, 5.0, 0.5, math.nan):
        with pytest.raises(ValueError, match="zeros must be a whole number"):
            _ops.fill_([tensor], [laws.Law("sparse", (zeros, 0.01, 0.0, 0.0))], [KEY])
    assert (tensor == 1).all()


def test_empty_matrices_and_meta_tensors_are_left_alone():
    for shape in ((0, 4), (4, 0), (0, 0)):
        assert sparse(shape).shape == shape
    assert fastinit.sparse_(torch.empty(4, 4, device="meta"), 0.5, generator=KEY).is_meta
