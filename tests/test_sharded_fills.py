"""A DTensor with a Key: each rank writes its part of the whole, whatever the placements, and nothing else is done."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sharded_cases import (
    CUTS,
    KEY,
    Cut,
    as_rank,
    cut,
    drawn_fills_of,
    elements,
    fills_of,
    on_every_rank,
    strided,
    unlike,
)
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard, distribute_tensor

import fastinit

DTYPES = [torch.float32, torch.bfloat16, torch.float64, torch.float8_e4m3fn]
DRAWN = ["uniform_", "normal_", "trunc_normal_", "xavier_uniform_", "kaiming_normal_", "sparse_", "orthogonal_"]
MEGABYTE = 2**20


@pytest.fixture(autouse=True)
def no_warnings_of_empty_tensors() -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors is a no-op")
        yield


def wrong_parts(one: Cut, fills: Sequence[str], dtypes: Sequence[torch.dtype]) -> list[str]:
    """Fill every rank's part and say where one is not what the whole has there."""
    cases = [(name, fill, dtype) for name, fill in fills_of(one.shape).items() if name in fills for dtype in dtypes]
    wholes = [fill(torch.zeros(one.shape, dtype=dtype), KEY) for _, fill, dtype in cases]

    def look(rank: int) -> tuple[Tensor, list[str]]:
        mesh = one.make_mesh()
        places = torch.empty(0, dtype=torch.int64) if mesh.get_coordinate() is None else one.places(mesh)
        wrong = []
        for (name, fill, dtype), whole in zip(cases, wholes, strict=True):
            tensor = one.tensor(mesh, dtype)
            assert fill(tensor, KEY) is tensor
            if text := unlike(tensor.to_local(), whole, places):
                wrong.append(f"{name}, {dtype}, rank {rank}: {text}")
        return places, wrong

    looked = on_every_rank(one.world, look)
    times = torch.bincount(torch.cat([places.flatten() for places, _ in looked]), minlength=math.prod(one.shape))
    copies = math.prod(n for n, placement in zip(one.mesh, one.placements, strict=True) if placement == Replicate())
    assert (times == copies).all(), "the parts are not a partition: the test is wrong"
    return [text for _, texts in looked for text in texts]


@pytest.mark.parametrize("name", CUTS)
def test_every_part_has_the_bytes_of_the_whole(name: str) -> None:
    one = CUTS[name]
    assert wrong_parts(one, [*fills_of(one.shape)], DTYPES) == []


@pytest.mark.parametrize("fill", DRAWN)
@pytest.mark.parametrize(
    "one", [cut((12, 20), (4,), Shard(0)), cut((12, 20), (2, 2), strided(1, 2), Shard(1))], ids=str
)
def test_no_two_shards_are_equal(one: Cut, fill: str) -> None:
    def local(rank: int) -> bytes:
        tensor = one.tensor(one.make_mesh(), torch.float64)
        return elements(fills_of(one.shape)[fill](tensor, KEY).to_local()).numpy().tobytes()  # type: ignore[attr-defined]

    parts = on_every_rank(one.world, local)
    assert len(set(parts)) == len(parts) == 4


@st.composite
def cuts(draw: st.DrawFn) -> Cut:
    shape = tuple(draw(st.lists(st.integers(0, 13), min_size=1, max_size=3)))
    mesh = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))

    def placement() -> Placement:
        kind = draw(st.sampled_from(["copies", "shards", "shards", "strided"]))
        dim = draw(st.integers(-len(shape), len(shape) - 1))
        if kind == "copies":
            return Replicate()
        return Shard(dim) if kind == "shards" else strided(dim, draw(st.integers(1, 6)))

    return cut(shape, mesh, *(placement() for _ in mesh))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(cuts())
def test_any_placements_at_all(one: Cut) -> None:
    assert wrong_parts(one, ["uniform_"], [torch.float32]) == []


@pytest.mark.parametrize("fill", ["normal_", "sparse_", "orthogonal_", "eye_"])
def test_any_memory_layout_of_the_local_tensor(fill: str) -> None:
    one = CUTS["FSDP over rows, unevenly"]
    whole = fills_of(one.shape)[fill](torch.empty(one.shape), KEY)

    def look(rank: int) -> list[str]:
        mesh = one.make_mesh()
        places = one.places(mesh)
        rows, columns = places.shape
        found = []
        for memory in (torch.full((columns, rows), math.nan).T, torch.full((rows, 2 * columns + 1), math.nan)[:, 1::2]):
            tensor = one.tensor(mesh, local=memory)
            fills_of(one.shape)[fill](tensor, KEY)
            found.append(unlike(memory, whole, places))
        return found

    assert [text for texts in on_every_rank(one.world, look) for text in texts if text] == []


# A DTensor that is itself a part


@pytest.mark.parametrize("fill", [fill for fill in fills_of((7, 5)) if fill not in ("eye_", "constant_")])
@pytest.mark.parametrize("name", ["uneven rows", "columns and rows", "FSDP over rows, unevenly", "strided by two"])
def test_a_key_of_a_part_is_for_the_part_that_the_whole_dtensor_is(name: str, fill: str) -> None:
    one = CUTS[name]
    above, start = (23, 9), (8, 3)
    shape = tuple(slice(first, first + size) for first, size in zip(start, one.shape, strict=True))
    write = fills_of(one.shape)[fill]
    whole = write(torch.empty(above), KEY)[shape].contiguous()

    def look(rank: int) -> str:
        mesh = one.make_mesh()
        tensor = one.tensor(mesh)
        write(tensor, KEY.shard(above, start))
        return unlike(tensor.to_local(), whole, one.places(mesh))

    assert [text for text in on_every_rank(one.world, look) if text] == []


@pytest.mark.parametrize(
    ("shape", "start"),
    [((23, 9), (17, 3)), ((23, 9), (8, 5)), ((23,), (0,)), ((23, 9, 1), (0, 0, 0)), ((23, 9), (-1, 0))],
)
def test_a_key_of_a_part_that_does_not_hold_the_tensor_is_refused_on_every_rank(
    shape: tuple[int, ...], start: tuple[int, ...]
) -> None:
    one = CUTS["uneven rows"]

    def look(rank: int) -> None:
        tensor = one.tensor(one.make_mesh())
        with pytest.raises(ValueError, match="global_shape"):
            fastinit.uniform_(tensor, generator=KEY.shard(shape, start))
        assert tensor.to_local().isnan().all()

    on_every_rank(one.world, look)


def test_a_key_of_a_part_that_starts_elsewhere_is_refused_for_what_is_made_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fastinit.sharded_orthogonal.WHOLE_AT_MOST", 0)
    with as_rank(0, 4):
        one = CUTS["uneven rows"]
        tensor = one.tensor(one.make_mesh())
        with pytest.raises(ValueError, match="global_shape"):
            fastinit.orthogonal_(tensor, generator=KEY.shard(one.shape, (2, 0)))
        assert tensor.to_local().isnan().all()


# What is refused


class _Odd(Placement):
    pass


def is_refused(tensor: DTensor, match: str) -> None:
    before = elements(tensor._local_tensor).clone()
    for name, fill in drawn_fills_of(tuple(tensor.shape)).items():
        with pytest.raises(ValueError, match=match):
            fill(tensor, KEY)
        assert elements(tensor._local_tensor).equal(before), name


@pytest.mark.parametrize("kind", ["sum", "avg", "max"])
def test_partial_is_refused_by_its_name(kind: str) -> None:
    with as_rank(1, 4):
        one = cut((7, 5), (2, 2), Shard(0), Partial(kind))
        is_refused(
            DTensor.from_local(torch.full((3, 5), 7.0), one.make_mesh(), one.placements, run_check=False), "Partial"
        )


def test_a_placement_that_is_not_known_is_refused_by_its_name() -> None:
    with as_rank(0, 2):
        tensor = cut((7, 5), (2,), Shard(0)).tensor(cut((7, 5), (2,)).make_mesh())
        tensor._spec.placements = (_Odd(),)
        is_refused(tensor, "_Odd")


@pytest.mark.parametrize("local", [(3, 5), (5, 5), (4, 4), (4,), (4, 5, 1), (0, 5)])
def test_a_local_tensor_of_another_shape_than_the_placements_say_is_refused(local: tuple[int, ...]) -> None:
    with as_rank(0, 2):
        one = cut((7, 5), (2,), Shard(0))
        tensor = one.tensor(one.make_mesh())
        tensor._local_tensor = torch.full(local, 7.0)
        is_refused(tensor, r"local.*\(4, 5\)|\(4, 5\).*local|\[4, 5\]")


def test_wrong_arguments_are_refused_as_for_any_tensor() -> None:
    with as_rank(3, 4):
        one = cut((2, 5), (4,), Shard(0))  # this rank has nothing, and yet
        tensor = one.tensor(one.make_mesh())
        with pytest.raises(ValueError, match="std"):
            fastinit.normal_(tensor, std=-1.0, generator=KEY)
        with pytest.raises(ValueError, match="sparsity"):
            fastinit.sparse_(tensor, 1.5, generator=KEY)
        with pytest.raises(ValueError, match=r"[Ff]an"):
            fastinit.xavier_uniform_(cut((8,), (4,), Shard(0)).tensor(one.make_mesh()), generator=KEY)
        whole = cut((8, 8), (4,), Shard(0)).tensor(one.make_mesh(), torch.int32, torch.zeros(2, 8, dtype=torch.int32))
        with pytest.raises((TypeError, ValueError, RuntimeError)):
            fastinit.uniform_(whole, generator=KEY)
        assert whole.to_local().count_nonzero() == 0


# As a plain tensor


def test_a_parameter_stays_a_leaf_and_its_version_counts_as_by_torch() -> None:
    with as_rank(1, 2):
        one = cut((7, 5), (2,), Shard(0))
        parameter = nn.Parameter(one.tensor(one.make_mesh()))
        assert isinstance(parameter.data, DTensor)
        for fill in fills_of(one.shape).values():
            before = parameter._version
            assert fill(parameter, KEY) is parameter
            assert parameter._version > before
        assert parameter.requires_grad
        assert parameter.is_leaf
        assert parameter.grad_fn is None
        parameter.sum().backward()
        assert isinstance(parameter.grad, DTensor)


def test_what_autograd_has_saved_is_known_to_have_changed() -> None:
    with as_rank(0, 2):
        one = cut((6, 5), (2,), Shard(0))
        weight = nn.Parameter(one.tensor(one.make_mesh(), local=torch.ones(3, 5)))
        product = weight * weight
        fastinit.uniform_(weight, generator=KEY)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            product.backward(torch.ones_like(product))


def test_without_a_key_torch_is_called_as_before() -> None:
    with as_rank(0, 2):
        one = cut((6, 5), (2,), Shard(0))
        got, expected = (one.tensor(one.make_mesh()) for _ in range(2))
        torch.manual_seed(1)
        fastinit.normal_(got)
        torch.manual_seed(1)
        nn.init.normal_(expected)
        assert got.to_local().equal(expected.to_local())
        assert not got.to_local().isnan().any()


def test_the_keyed_stream_draws_a_key_for_a_dtensor_too() -> None:
    one = CUTS["uneven rows"]
    torch.manual_seed(2)
    with fastinit.stream("keyed"):
        whole = fastinit.normal_(torch.empty(one.shape))

    def look(rank: int) -> str:
        mesh = one.make_mesh()
        tensor = one.tensor(mesh)
        torch.manual_seed(2)
        with fastinit.stream("keyed"):
            fastinit.normal_(tensor)
        return unlike(tensor.to_local(), whole, one.places(mesh))

    assert [text for text in on_every_rank(one.world, look) if text] == []


def test_a_dtensor_on_the_meta_device_stays_there() -> None:
    with as_rank(0, 2):
        one = cut((6, 5), (2,), Shard(0))
        tensor = one.tensor(one.make_mesh(), local=torch.empty(3, 5, device="meta"))
        for fill in fills_of(one.shape).values():
            assert fill(tensor, KEY) is tensor
        assert tensor.is_meta


def test_torch_compile_leaves_it_to_eager_code() -> None:
    with as_rank(1, 2):
        one = cut((7, 5), (2,), Shard(0))
        tensor = one.tensor(one.make_mesh())
        torch.compile(lambda weight: fastinit.normal_(weight, generator=KEY), backend="eager")(tensor)
        assert tensor.to_local().equal(fastinit.normal_(torch.empty(7, 5), generator=KEY)[4:])


@pytest.mark.parametrize("around", [lambda: torch.device("meta"), torch.inference_mode, fastinit.batched])
def test_whatever_it_is_called_within(around: Callable[[], Any]) -> None:
    with as_rank(1, 2):
        one = cut((7, 5), (2,), Shard(0))
        mesh = one.make_mesh()
        for name, fill in drawn_fills_of(one.shape).items():
            tensor = one.tensor(mesh)
            with around():
                fill(tensor, KEY)
            assert tensor.to_local().equal(fill(torch.empty(7, 5), KEY)[4:]), name


def test_parts_of_one_tensor_made_by_torch_and_filled_are_the_filled_tensor_distributed() -> None:
    """The same the other way around: no number of an element is looked at."""
    for one in CUTS.values():
        if one.order:
            continue
        whole = fastinit.normal_(torch.empty(one.shape), generator=KEY)

        def look(rank: int, one: Cut = one, whole: Tensor = whole) -> None:
            mesh = one.make_mesh()
            expected = distribute_tensor(whole, mesh, one.placements, src_data_rank=None)
            got = distribute_tensor(torch.zeros(one.shape), mesh, one.placements, src_data_rank=None)
            assert fastinit.normal_(got, generator=KEY).to_local().equal(expected.to_local())  # type: ignore[attr-defined]

        on_every_rank(one.world, look)
