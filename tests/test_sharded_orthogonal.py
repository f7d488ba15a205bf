"""orthogonal_ on a DTensor: every rank computes the whole matrix, or all compute a large one together.

Whole, the bits are those of a single process. Together, the values equal them to rounding, the matrix is as
orthonormal, and what the ranks send each other is of the size of the small side squared.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import gloo
import numpy as np
import pytest
import torch
import torch.distributed as dist
from settings import default_dtype, deterministic, matmul_precision
from sharded_cases import KEY, Cut, as_rank, cut, elements, on_every_rank, strided, unlike
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate, Shard
from torch.utils._python_dispatch import TorchDispatchMode

import fastinit
from fastinit import Recipe, Rule, init_model_, orthogonal_, sharded_orthogonal

# Of the largest difference between two ways to sum the same products, as in test_orthogonal.py.
ROUNDING = {torch.float32: 3e-6, torch.float64: 6e-15}
PANEL = 160  # vectors that are applied at once


@contextmanager
def together() -> Iterator[None]:
    """Inside, no matrix is too small to be made together."""
    before = sharded_orthogonal.WHOLE_AT_MOST
    sharded_orthogonal.WHOLE_AT_MOST = 0
    try:
        yield
    finally:
        sharded_orthogonal.WHOLE_AT_MOST = before


class Sent(TorchDispatchMode):
    """Counts the elements of each all-reduce."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.others: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace in ("c10d", "_c10d_functional"):
            if "reduce" in str(func):
                self.sizes.append(
                    sum(tensor.numel() for tensor in (args[0] if isinstance(args[0], list) else args[:1]))
                )
            elif "wait" not in str(func):
                self.others.append(str(func))
        return func(*args, **(kwargs or {}))


def defect(matrix: Tensor) -> float:
    """The largest element of |Q'Q - 1|."""
    q = matrix.double().reshape(len(matrix), -1).numpy()
    q = q.T if q.shape[0] < q.shape[1] else q
    return float(abs(q.T @ q - np.eye(q.shape[1])).max())


# Whole


@pytest.mark.parametrize(
    "one",
    [
        cut((331, 170), (4,), Shard(0)),
        cut((170, 331), (3,), Shard(1)),
        cut((331, 170), (4,), Shard(1)),
        cut((331, 170), (2, 2), strided(0, 2), Shard(0)),
        cut((331, 170), (2, 2), Shard(1), Shard(0)),
        cut((40, 9, 3, 3), (2, 2), Shard(0), Shard(2)),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_whole_the_bits_are_those_of_a_single_process(one: Cut, dtype: torch.dtype) -> None:
    whole = orthogonal_(torch.empty(one.shape, dtype=dtype), 1.5, KEY)

    def look(rank: int) -> str:
        mesh = one.make_mesh()
        return unlike(orthogonal_(one.tensor(mesh, dtype), 1.5, KEY).to_local(), whole, one.places(mesh))  # type: ignore[attr-defined]

    assert [text for text in on_every_rank(one.world, look) if text] == []


def test_large_ones_are_made_together_where_that_is_possible_and_the_report_says_so() -> None:
    assert sharded_orthogonal.WHOLE_AT_MOST >= 2**24, "what fits is made as on a single process"

    def way(one: Cut) -> str | None:
        with as_rank(0, one.world):
            model = nn.ParameterDict(
                {"w": one.tensor(one.make_mesh(), local=one.places(one.make_mesh()).to("meta").float())}
            )
            return init_model_(model, Recipe([Rule(orthogonal_)]), KEY).rows[0].sharding.way  # type: ignore[union-attr]

    rows, columns = cut((40, 8), (2,), Shard(0)), cut((8, 40), (2,), Shard(1))
    crosswise = [cut((40, 8), (2,), Shard(1)), cut((8, 40), (2,), Shard(0)), cut((40, 8), (2, 2), Shard(0), Shard(1))]
    assert {way(one) for one in (rows, columns, *crosswise)} == {"whole"}
    with together():
        assert [way(rows), way(columns)] == ["distributed", "distributed"]
        assert {way(one) for one in crosswise} == {"whole"}
        assert way(cut((40, 8), (2,), Replicate())) == "whole"


# Together

# For each number of ranks: matrices by their longer side, even and not, some with ranks that have nothing, of several
# panels, over two dimensions of the mesh.
TOGETHER: dict[int, list[Cut]] = {
    1: [cut((31, 7), (1,), Shard(0)), cut((40, 9), (1,), strided(0, 3))],
    2: [
        cut((331, 70), (2,), Shard(0)),
        cut((70, 331), (2,), Shard(1)),
        cut((500, 330), (2,), Shard(0)),
        cut((330, 500), (2,), Shard(1)),
        cut((170, 170), (2,), Shard(0)),
        cut((161, 160), (2,), Shard(0)),
        cut((1, 1), (2,), Shard(0)),
        cut((300, 1), (2,), Shard(0)),
        cut((1, 300), (2,), Shard(1)),
        cut((64, 3, 3, 3), (2,), Shard(0)),
        cut((8, 15, 3, 3), (2,), Shard(1)),
        cut((97, 30), (2,), strided(0, 3)),
        cut((30, 97), (2,), strided(1, 4)),
    ],
    3: [
        cut((331, 170), (3,), Shard(0)),
        cut((170, 331), (3,), Shard(1)),
        cut((4, 3), (3,), Shard(0)),
        cut((2, 2), (3,), Shard(0)),
        cut((5, 7, 2), (3,), Shard(1)),
        cut((200, 33), (3,), strided(0, 2)),
    ],
    4: [
        cut((331, 170), (4,), Shard(0)),
        cut((170, 331), (4,), Shard(-1)),
        cut((5, 3), (4,), Shard(0)),
        cut((2, 2), (4,), Shard(0)),
        cut((331, 165), (2, 2), Shard(0), Shard(0)),
        cut((331, 165), (2, 2), strided(0, 2), Shard(0)),
        cut((165, 331), (2, 2), strided(1, 2), Shard(1)),
        cut((300, 40), (2, 2), Replicate(), Shard(0)),
        cut((300, 40), (2, 2), Shard(0), Replicate()),
        cut((301, 40), (2, 2), Shard(0), Shard(0), order=(1, 0)),
        cut((300, 40), (3,), Shard(0), outside=1),
        cut((9, 5), (4,), strided(0, 2)),
    ],
}


@cache
def _mesh(group: Any, shape: tuple[int, ...], outside: int) -> DeviceMesh:
    return Cut((), shape, (), outside=outside).make_mesh()


def mesh_of(one: Cut) -> DeviceMesh:
    """Return the mesh of the ranks that are there, made once: torch makes its groups anew each time."""
    return _mesh(dist.group.WORLD, one.mesh, one.outside)


def gathered(one: Cut, tensor: Any) -> Tensor:
    """Return the whole of what the ranks have; where several have an element, it is the same to the last bit."""
    mesh = mesh_of(one)
    inside = mesh.get_coordinate() is not None
    own = (one.places(mesh).flatten(), elements(tensor.to_local())) if inside else None
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, own)
    whole = torch.full((math.prod(one.shape), tensor.itemsize), 255, dtype=torch.uint8)
    known = torch.zeros(len(whole), dtype=torch.bool)
    for part in parts:
        if part is not None:
            places, values = part
            assert whole[places][known[places]].equal(values[known[places]]), "replicas differ"
            whole[places] = values
            known[places] = True
    assert known.all()
    return whole.view(tensor.dtype).view(one.shape)


def made_together(one: Cut, dtype: torch.dtype, gain: float = 1.0) -> tuple[Tensor, list[int]]:
    tensor = one.tensor(mesh_of(one), dtype)
    with together(), Sent() as sent:
        assert orthogonal_(tensor, gain, KEY) is tensor
    assert sent.others == []
    return gathered(one, tensor), sent.sizes


def here() -> list[Cut]:
    return TOGETHER[dist.get_world_size()]


def equal_to_one_process_to_rounding() -> None:
    for one in here():
        for dtype, bound in ROUNDING.items():
            got, sizes = made_together(one, dtype)
            expected = orthogonal_(torch.empty(one.shape, dtype=dtype), generator=KEY)
            assert (got - expected).abs().max() <= bound, (one, dtype)
            assert sizes or mesh_of(one).get_coordinate() is None or math.prod(one.mesh) == 1, f"not together: {one}"


def as_orthonormal_as_by_one_process() -> None:
    for one in here():
        for dtype in ROUNDING:
            got, _ = made_together(one, dtype)
            ours, theirs = defect(got), defect(orthogonal_(torch.empty(one.shape, dtype=dtype), generator=KEY))
            assert ours <= 2 * theirs + 2 * torch.finfo(dtype).eps, (one, dtype, ours, theirs)


def narrow_types_are_rounded_once() -> None:
    for one in here():
        got, _ = made_together(one, torch.bfloat16, 1.5)
        expected = orthogonal_(torch.empty(one.shape), 1.5, KEY)
        spread = (got.double() - expected.double()).abs() / (expected.double().abs() + 1e-2)
        assert spread.max() < torch.finfo(torch.bfloat16).eps, one


def gains_are_factors() -> None:
    for one in here():
        plain, _ = made_together(one, torch.float64)
        for gain in (-2.0, 0.0, 0.3, 1e-200, 1e200):
            got, _ = made_together(one, torch.float64, gain)
            assert ((got - plain * gain).abs() <= 2 * ROUNDING[torch.float64] * abs(gain)).all(), (one, gain)


def the_next_fill_is_the_same() -> None:
    for one in here():
        first, _ = made_together(one, torch.float32)
        assert first.equal(made_together(one, torch.float32)[0]), one


def a_transposed_local_tensor_too() -> None:
    for one in here():
        mesh = mesh_of(one)
        if len(one.shape) != 2 or mesh.get_coordinate() is None or one.order or one.outside:
            continue
        rows, columns = one.places(mesh).shape
        tensor = one.tensor(mesh, local=torch.full((columns, rows), math.nan).T)
        with together():
            orthogonal_(tensor, generator=KEY)
        expected = orthogonal_(torch.empty(one.shape), generator=KEY)
        assert (gathered(one, tensor) - expected).abs().max() <= ROUNDING[torch.float32], one


def settings_of_the_caller_change_nothing() -> None:
    one = cut((400, 200), (dist.get_world_size(),), Shard(0))
    expected = orthogonal_(torch.empty(one.shape), generator=KEY)

    def near() -> None:
        got, _ = made_together(one, torch.float32)
        assert (got - expected).abs().max() <= ROUNDING[torch.float32]

    with default_dtype(torch.float64):
        near()
    with matmul_precision("medium"):
        near()
    with deterministic():
        near()
    with torch.autocast("cpu", torch.bfloat16):
        near()
    tensor = one.tensor(mesh_of(one))
    with together(), torch.device("meta"), torch.inference_mode():
        orthogonal_(tensor, generator=KEY)
    assert (gathered(one, tensor) - expected).abs().max() <= ROUNDING[torch.float32]
    model = nn.ParameterDict({"w": one.tensor(mesh_of(one))})
    with together(), torch.device("meta"):
        init_model_(model, Recipe([Rule(orthogonal_)]), KEY)
    expected = orthogonal_(torch.empty(one.shape), generator=KEY.fold_in("w"))
    assert (gathered(one, model["w"]) - expected).abs().max() <= ROUNDING[torch.float32]


def what_is_sent_is_of_the_small_side_alone() -> None:
    world = dist.get_world_size()
    for columns in (20, 2 * PANEL):
        shapes = [((rows, columns), Shard(0)) for rows in (500, 1900)] + [((columns, 700), Shard(1))]
        sent = [made_together(cut(shape, (world,), placement), torch.float32)[1] for shape, placement in shapes]
        assert sent[0] == sent[1] == sent[2], "it depends on the long side"
        if world > 1:
            assert 0 < sum(sent[0]) <= columns * (columns + 4)
            assert len(sent[0]) <= 2 * math.ceil(columns / PANEL) + 1
        else:
            assert sent[0] == []


def whole_models_say_distributed_and_have_it() -> None:
    world = dist.get_world_size()
    one = cut((90, 20), (world,), Shard(0))
    model = nn.ParameterDict({"w": one.tensor(mesh_of(one), local=one.places(mesh_of(one)).to("meta").float())})
    with together():
        report = init_model_(model, Recipe([Rule(orthogonal_, gain=2.0)]), KEY)
    assert report.rows[0].sharding is not None
    assert report.rows[0].sharding.way == ("distributed" if world > 1 else "whole")
    expected = orthogonal_(torch.empty(90, 20), 2.0, KEY.fold_in("w"))
    assert (gathered(one, model["w"]) - expected).abs().max() <= 2 * ROUNDING[torch.float32]


CASES: list[Callable[[], None]] = [
    equal_to_one_process_to_rounding,
    as_orthonormal_as_by_one_process,
    narrow_types_are_rounded_once,
    gains_are_factors,
    the_next_fill_is_the_same,
    a_transposed_local_tensor_too,
    settings_of_the_caller_change_nothing,
    what_is_sent_is_of_the_small_side_alone,
    whole_models_say_distributed_and_have_it,
]


@cache
def outcomes(world: int) -> dict[str, str]:
    return gloo.run(world, CASES)


@pytest.mark.parametrize("world", TOGETHER)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_together(case: Callable[[], None], world: int) -> None:
    assert outcomes(world)[case.__name__] == ""


def test_the_bounds_find_a_matrix_that_is_not_orthogonal() -> None:
    matrix = orthogonal_(torch.empty(331, 170), generator=KEY)
    near = matrix + torch.where(torch.arange(331)[:, None] == 7, 2e-5, 0.0)
    assert defect(near) > 2 * defect(matrix) + 2 * torch.finfo(torch.float32).eps
    assert (near - matrix).abs().max() > ROUNDING[torch.float32]
    assert fastinit.orthogonal_ is orthogonal_
