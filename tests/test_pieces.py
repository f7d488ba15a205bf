"""Pieces of tensors that are nowhere whole: the same bits as in the whole, for every law, cut anywhere."""

from typing import Any

import pytest
import torch
from small_model import on_meta
from torch import Tensor, nn

import fastinit
from fastinit import Key, Part, Recipe, RecipeError, Rule, chunk, init_model_, keep, normal_, zeros_
from fastinit.buffers import make_buffers
from fastinit.fill import unit, write_piece
from fastinit.plan import Plan, make_plan

KEY = Key(11)
SHAPE = (9, 5, 4)


def drawn(tensor: Tensor) -> Tensor:
    return tensor.uniform_()


def pieced(plan: Plan, step: int) -> dict[str, Tensor]:
    """Write every tensor in pieces of `step` units."""
    written = {}
    for entry in plan.entries:
        out = torch.full((entry.shape.numel(),), 99, dtype=entry.dtype)
        size = unit(plan, entry) * step
        for first in range(0, len(out), size):
            write_piece(plan, entry, out[first : first + size], first, KEY)
        written[entry.name] = out.view(entry.shape)
    return written


RULES = {
    "constant": (Rule(fastinit.constant_, val=0.3), 1),
    "uniform": (Rule(fastinit.uniform_, a=-1.0), 1),
    "normal": (Rule(normal_, std=0.02), 1),
    "trunc_normal": (Rule(fastinit.trunc_normal_), 1),
    "kaiming": (Rule(fastinit.kaiming_normal_), 1),
    "dirac": (Rule(fastinit.dirac_, groups=3), 20),
    "orthogonal": (Rule(fastinit.orthogonal_), 180),
    "callable": (Rule(drawn), 180),
    "computed": (Rule(normal_, std=lambda module, name, parameter: parameter.numel() ** -0.5), 1),
    "row": (Rule(normal_, parts=Part(zeros_, 3)), 20),
    "rows": (Rule(normal_, parts=[Part(fastinit.uniform_, slice(1, 8, 3)), Part(zeros_, slice(4, 5))]), 20),
    "column": (Rule(normal_, parts=Part(fastinit.uniform_, (slice(None), 2))), 20),
    "box": (Rule(normal_, parts=Part(fastinit.kaiming_uniform_, (slice(2, 9, 2), slice(1, 4)))), 20),
    "all": (Rule(keep, parts=[Part(normal_, chunk(i, 3), std=i + 1.0) for i in range(3)]), 20),
    "dirac and rows": (Rule(fastinit.dirac_, parts=Part(normal_, (slice(2, 6), 1))), 20),
    "orthogonal part": (Rule(normal_, parts=Part(fastinit.orthogonal_, slice(2, 6))), 180),
    "called part": (Rule(normal_, parts=Part(drawn, slice(2, 6))), 180),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rule", "size"), RULES.values(), ids=RULES)
def test_pieces_are_the_whole(rule: Rule, size: int, dtype: torch.dtype) -> None:
    model = nn.ParameterDict({"w": torch.zeros(SHAPE, dtype=dtype)})
    plan = make_plan(on_meta(lambda: nn.ParameterDict({"w": torch.zeros(SHAPE)})), Recipe([rule]), dtype=dtype)
    init_model_(model, Recipe([rule]), KEY)
    assert unit(plan, plan.entries[0]) == size
    for step in (1, 2, 7, 1000):
        assert torch.equal(pieced(plan, step)["w"], model.w), step


@pytest.mark.parametrize(("law", "size"), [("eye_", 5), ("sparse_", 45), ("normal_", 1)])
def test_pieces_of_a_matrix(law: str, size: int) -> None:
    given = {"sparsity": 0.4} if law == "sparse_" else {}
    recipe = Recipe([Rule(getattr(fastinit, law), **given)])
    model = nn.ParameterDict({"w": torch.zeros(9, 5)})
    plan = make_plan(model, recipe)
    init_model_(model, recipe, KEY)
    assert unit(plan, plan.entries[0]) == size
    for step in (1, 4):
        assert torch.equal(pieced(plan, step)["w"], model.w)


@pytest.mark.parametrize(
    ("rule", "shape"),
    [
        (Rule(fastinit.eye_), (5, 1)),
        (Rule(fastinit.dirac_), (5, 1, 1)),
        (Rule(fastinit.orthogonal_), (1, 1)),
        (Rule(fastinit.sparse_, sparsity=0.5), (1, 1)),
        (Rule(fastinit.eye_, parts=Part(normal_, 2)), (5, 1)),
        (Rule(normal_, parts=Part(fastinit.uniform_, slice(1, 4))), (5, 1)),
    ],
)
def test_pieces_of_tensors_with_rows_of_one_element(rule: Rule, shape: tuple[int, ...]) -> None:
    model = nn.ParameterDict({"w": torch.full(shape, 99.0)})
    plan = make_plan(model, Recipe([rule]))
    init_model_(model, Recipe([rule]), KEY)
    for step in (1, 2, 9):
        assert torch.equal(pieced(plan, step)["w"], model.w), step


def test_what_the_recipe_leaves_alone_is_copied() -> None:
    model = nn.BatchNorm2d(7)
    with torch.no_grad():
        model.running_mean.uniform_()
    plan = make_plan(model, Recipe([Rule(keep, params="weight"), Rule(normal_, params="bias")]))
    written = pieced(plan, 3)
    assert torch.equal(written["weight"], model.weight)
    assert torch.equal(written["running_mean"], model.running_mean)
    assert torch.equal(written["bias"], normal_(torch.empty(7), generator=KEY.fold_in("bias")))
    transposed = nn.ParameterDict({"w": torch.rand(5, 4).T})
    assert torch.equal(pieced(make_plan(transposed, Recipe([Rule(keep)])), 3)["w"], transposed.w)


def test_a_kept_part_of_a_parameter_is_copied_too() -> None:
    model = nn.Linear(3, 4)
    recipe = Recipe([Rule(keep, params="weight", parts=Part(zeros_, 1)), Rule(keep)])
    written = pieced(make_plan(model, recipe), 1)
    init_model_(model, recipe)
    assert torch.equal(written["weight"], model.weight)


def test_buffers_that_modules_make_and_types_that_the_kernels_leave_out() -> None:
    model: Any = on_meta(lambda: nn.BatchNorm2d(7))
    recipe = Recipe([Rule(fastinit.ones_, buffers="num_batches_tracked"), Rule(normal_)])
    plan = make_plan(model, recipe, buffers="reset")
    make_buffers(model, plan, KEY)
    written = pieced(plan, 1)
    assert written["num_batches_tracked"].item() == 1
    assert torch.equal(written["running_var"], torch.ones(7))


def test_there_is_nothing_to_copy_on_meta() -> None:
    plan = make_plan(on_meta(lambda: nn.Linear(2, 3)), Recipe([Rule(keep)]))
    with pytest.raises(ValueError, match=r"'weight' .*meta"):
        pieced(plan, 1)


@pytest.mark.parametrize(
    "rule",
    [Rule(drawn), Rule(keep, parts=Part(drawn, slice(1, 6))), Rule(normal_, parts=Part(drawn, (slice(None), 2)))],
)
def test_a_callable_draws_the_same_whatever_the_layout(rule: Rule) -> None:
    written = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        weight = torch.zeros(8, 5, 3, 2).to(memory_format=memory_format)
        model = nn.ParameterDict({"w": weight})
        plan = make_plan(model, Recipe([rule]), in_place=False)
        written.append(pieced(plan, 1)["w"])
        init_model_(model, Recipe([rule]), KEY)
        assert model.w.stride() == weight.stride()
        written.append(model.w.detach())
    assert all(torch.equal(one, written[0]) for one in written)


def test_a_callable_finds_what_the_parameter_held() -> None:
    def first_row_only(tensor: Tensor) -> None:
        tensor[0].zero_()

    model = nn.ParameterDict({"w": torch.rand(5, 4)})
    recipe = Recipe([Rule(first_row_only)])
    written = pieced(make_plan(model, recipe, in_place=False), 1)["w"]
    init_model_(model, recipe, KEY)
    assert torch.equal(written, model.w)


def test_a_callable_that_fails_names_the_parameter() -> None:
    plan = make_plan(nn.Linear(2, 3), Recipe([Rule(torch.linalg.cholesky, params="weight"), Rule(zeros_)]))
    with pytest.raises(RecipeError, match="'weight' by Rule"):
        pieced(plan, 1)


def test_plans_out_of_place_take_any_type_and_layout() -> None:
    model = nn.Linear(3, 4)
    model.weight = nn.Parameter(torch.zeros(3, 4).T)
    recipe = Recipe([Rule(normal_)])
    plan = make_plan(model, recipe, dtype=torch.bfloat16, in_place=False)
    assert {entry.dtype for entry in plan.entries} == {torch.bfloat16}
    expected = normal_(torch.empty(4, 3, dtype=torch.bfloat16), generator=KEY.fold_in("weight"))
    assert torch.equal(pieced(plan, 5)["weight"], expected)
