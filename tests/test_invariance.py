"""The keyed stream's promise: the bits of an element depend on (key, index) alone."""

import pytest
import torch
from cases import DTYPES, LAWS, LAYOUTS, filled, raw
from hypothesis import given, settings
from hypothesis import strategies as st

import fastinit
from fastinit import _C, Key, _ops

KEY = Key(0x0123456789ABCDEF, 7)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("law", LAWS)
def test_every_instruction_set_gives_the_same_bits(law, dtype):
    shape = (4099,)
    chosen, results = _ops.isa(), {}
    try:
        for isa in _ops.available_isas():
            _C.use_isa(isa)
            results[isa] = raw(filled(law, shape, dtype, KEY))
    finally:
        _C.use_isa(chosen)
    assert len(set(results.values())) == 1, list(results)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("law", LAWS)
def test_threads_do_not_matter(law, dtype):
    before = torch.get_num_threads()
    shape = (3, 70_001)
    try:
        results = set()
        for threads in range(1, 9):
            torch.set_num_threads(threads)
            results.add(raw(filled(law, shape, dtype, KEY)))
    finally:
        torch.set_num_threads(before)
    assert len(results) == 1


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(37, 41), (5, 3, 7, 11), (2, 600, 3), (1, 9, 1)], ids=str)
def test_layout_does_not_matter_and_nothing_else_is_written(isa, shape, layout, dtype):
    function, arguments = LAWS["normal"]
    tensor = LAYOUTS[layout](*shape, dtype=dtype)
    memory = torch.empty(0, dtype=dtype).set_(tensor.untyped_storage())
    memory.fill_(-5)
    function(tensor, **arguments, generator=KEY)
    assert raw(tensor) == raw(filled("normal", shape, dtype, KEY))
    untouched = memory.clone()
    untouched.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).fill_(-5)
    assert raw(untouched) == raw(torch.full_like(memory, -5))


@pytest.mark.parametrize("law", LAWS)
def test_large_layouts_run_on_several_threads(law):
    function, arguments = LAWS[law]
    whole = raw(filled(law, (700, 500), torch.float32, KEY))
    for make in LAYOUTS.values():
        assert raw(function(make(700, 500, dtype=torch.float32), **arguments, generator=KEY)) == whole


@pytest.mark.parametrize("size", [*range(70), 95, 96, 97, 127, 129, 383, 385, 1023, 1025])
def test_a_prefix_is_a_prefix(isa, size):
    for law in LAWS:
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float8_e5m2):
            whole = filled(law, (1100,), dtype, KEY)
            assert raw(filled(law, (size,), dtype, KEY)) == raw(whole[:size])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_arbitrary_shards_put_together_give_the_whole(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 23), min_size=1, max_size=4)))
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    size = tuple(data.draw(st.integers(0, n - s)) for n, s in zip(shape, start, strict=True))
    dtype = data.draw(st.sampled_from(DTYPES))
    layout = data.draw(st.sampled_from(["contiguous", "transposed", "every second column"]))
    law = data.draw(st.sampled_from(list(LAWS)))
    function, arguments = LAWS[law]
    part = LAYOUTS[layout](*size, dtype=dtype)
    function(part, **arguments, generator=KEY.shard(shape, start))
    window = tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))
    assert raw(part) == raw(filled(law, shape, dtype, KEY)[window])


@pytest.mark.parametrize(("per_block", "dtype"), [(4, torch.float32), (2, torch.float64)])
@pytest.mark.parametrize("law", LAWS)
def test_indices_beyond_2_to_the_32_and_blocks_across_it(isa, law, per_block, dtype):
    """A key's offset and an element's index meet in the block number: the same block, the same values."""
    function, arguments = LAWS[law]
    for block in (2**30 - 5, 2**32 - 5, 2**32 + 3, 2**40 + 1, 2**59):
        far = torch.empty(300, dtype=dtype)
        function(far, **arguments, generator=Key(9).shard((2**62,), (block * per_block + 1,)))
        near = filled(law, (301,), dtype, Key(9, block))
        assert raw(far) == raw(near[1:])


def test_block_numbers_wrap_at_2_to_the_64(isa):
    whole = filled("uniform", (80,), torch.float32, Key(3, 2**64 - 10))
    assert raw(whole[40:]) == raw(filled("uniform", (40,), torch.float32, Key(3)))


def test_flushing_subnormals_changes_nothing(isa):
    arguments = {"a": 0.0, "b": 2.0**-127, "generator": KEY}
    expected = fastinit.uniform_(torch.empty(5000), **arguments)
    assert (expected > 0).any()
    torch.set_flush_denormal(True)
    try:
        flushed = fastinit.uniform_(torch.empty(5000), **arguments)
        assert (torch.tensor([2.0**-127]) * 0.5).item() == 0.0, "the setting must still be on, on this thread"
    finally:
        torch.set_flush_denormal(False)
    assert raw(flushed) == raw(expected)


def test_neighbouring_keys_and_offsets_differ():
    tensors = [filled("uniform", (64,), torch.float32, key) for key in (Key(1), Key(2), Key(1, 16), Key(1 << 32))]
    assert len({raw(t) for t in tensors}) == len(tensors)
    assert raw(tensors[2]) == raw(filled("uniform", (128,), torch.float32, Key(1))[64:])
