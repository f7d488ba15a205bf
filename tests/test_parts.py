"""Rules that look closer: parts of a parameter, arguments that depend on the module, fans over chosen dimensions."""

import functools
import math
from typing import Any

import pytest
import torch
from small_model import on_meta
from torch import Tensor, nn

import fastinit
from fastinit import (
    Key,
    Part,
    Recipe,
    RecipeError,
    Rule,
    chunk,
    constant_,
    init_model_,
    kaiming_normal_,
    keep,
    normal_,
    ones_,
    orthogonal_,
    padding_row,
    uniform_,
    xavier_uniform_,
    zeros_,
)

KEY = Key(5)


def filled(model: nn.Module, *rules: Rule) -> Any:
    init_model_(model, Recipe(rules), KEY)
    return model


# Parts


@pytest.mark.parametrize("build", [lambda: nn.Embedding(11, 6, padding_idx=2), lambda: nn.Embedding(11, 6)])
def test_the_padding_row_where_there_is_one(build: Any) -> None:
    rule = Rule(normal_, types=nn.Embedding, params="weight", std=0.02, parts=Part(zeros_, padding_row))
    for model in (build(), on_meta(build)):
        filled(model, rule)
        expected = normal_(torch.empty(11, 6), std=0.02, generator=KEY.fold_in("weight"))
        if model.padding_idx is not None:
            expected[2] = 0
        assert torch.equal(model.weight, expected)


@pytest.mark.parametrize("build", [lambda: nn.LSTM(4, 5), lambda: on_meta(lambda: nn.LSTM(4, 5))])
def test_the_gates_of_an_lstm_each_with_its_law_and_the_key_of_its_name(build: Any) -> None:
    gates = [Part(orthogonal_, chunk(i, 4), gain=1.0 + i) for i in range(4)]
    model = filled(
        build(),
        Rule(keep, types=nn.LSTM, params="weight_hh_*", parts=gates),
        Rule(xavier_uniform_, types="LSTM", params="weight_ih_*", fused=4),
        Rule(zeros_, params="bias_ih_*", parts=[Part(constant_, at=chunk(1, 4), val=2.0)]),
        Rule(zeros_, params="bias_hh_*"),
    )
    for i in range(4):
        want = orthogonal_(torch.empty(5, 5), gain=1.0 + i, generator=KEY.fold_in(f"weight_hh_l0[{5 * i}:{5 * i + 5}]"))
        torch.testing.assert_close(model.weight_hh_l0[5 * i : 5 * i + 5], want)
    assert model.bias_ih_l0.tolist() == [0.0] * 5 + [2.0] * 5 + [0.0] * 10
    bound = math.sqrt(6 / (4 + 5))  # of one gate, not of the four
    want = uniform_(torch.empty(20, 4), -bound, bound, generator=KEY.fold_in("weight_ih_l0"))
    assert torch.equal(model.weight_ih_l0, want)


@pytest.mark.parametrize(
    ("at", "name", "index"),
    [
        (3, "[3]", 3),
        (-1, "[8]", 8),
        (slice(2, 5), "[2:5]", slice(2, 5)),
        (slice(None, None, 2), "[0:9:2]", slice(0, 9, 2)),
        ((slice(None), -2), "[0:9, 5]", (slice(None), 5)),
        ((slice(1, 8, 3), slice(4), 1), "[1:8:3, 0:4, 1]", (slice(1, 8, 3), slice(4), 1)),
        ((0, 0, 0), "[0, 0, 0]", (0, 0, 0)),
        (chunk(2, 3), "[6:9]", slice(6, 9)),
        (chunk(1, 2, dim=-1), "[0:9, 0:7, 1:2]", (slice(None), slice(None), slice(1, 2))),
        (lambda module, name, parameter: parameter.shape[1] - 4, "[3]", 3),
        (slice(5, 2), "[5:5]", slice(5, 5)),
    ],
)
def test_any_view_by_ints_and_slices_is_a_part_and_the_rest_is_as_without_it(at: Any, name: str, index: Any) -> None:
    def model() -> nn.ParameterDict:
        return nn.ParameterDict({"w": torch.zeros(9, 7, 2)})

    report = init_model_(model(), Recipe([Rule(normal_)]), KEY)
    plain, one = filled(model(), Rule(normal_)), model()
    report = init_model_(one, Recipe([Rule(normal_, parts=[Part(uniform_, at, a=2.0, b=3.0)])]), KEY)
    assert [part.name for part in report.rows[0].parts] == ["w" + name]
    with torch.no_grad():
        part = plain.w[index]
        part.copy_(uniform_(torch.empty(part.shape), 2.0, 3.0, generator=KEY.fold_in("w" + name)))
    assert torch.equal(one.w, plain.w)


def test_parts_come_in_order_and_count_a_version() -> None:
    model = nn.Linear(3, 4)
    version = model.bias._version
    parts = [Part(ones_, slice(0, 3)), Part(constant_, 1, val=5.0)]
    filled(model, Rule(zeros_, params="bias", parts=parts), Rule(keep))
    assert model.bias.tolist() == [1, 5, 1, 0]
    assert model.bias._version > version


def test_a_part_by_a_callable_and_beside_one() -> None:
    def mine(tensor: Tensor) -> None:
        tensor.uniform_()

    model = filled(nn.Linear(3, 4), Rule(mine, params="weight", parts=Part(mine, 1)), Rule(keep))
    torch.manual_seed(KEY.fold_in("weight").seed)
    expected = torch.rand(4, 3)
    torch.manual_seed(KEY.fold_in("weight[1]").seed)
    expected[1] = torch.rand(3)
    assert torch.equal(model.weight, expected)


def test_parts_of_types_that_the_kernels_leave_out() -> None:
    model = nn.ParameterDict({"n": nn.Parameter(torch.zeros(6, dtype=torch.int64), requires_grad=False)})
    filled(model, Rule(ones_, parts=Part(constant_, slice(1, 3), val=7)))
    assert model.n.tolist() == [1, 7, 7, 1, 1, 1]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Part(zeros_, 4), "a part at 4 of dimension 0, which has 4 entries"),
        (Part(zeros_, (0, 0, 0)), "of a tensor of 2 dimensions"),
        (Part(zeros_, slice(None, None, -1)), "step of at least 1"),
        (Part(zeros_, chunk(0, 3)), "dimension 0 has 4 entries"),
        (Part(zeros_, chunk(0, 2, dim=2)), "dim=2.* of a tensor of 2 dimensions"),
        (Part(zeros_, lambda module, name, parameter: ()), "non-empty"),
        (Part(normal_, 1, std=-1.0), "std"),
        (Part(orthogonal_, 1), "2 or more dimensions"),
        (Part(zeros_, lambda module, name, parameter: "all"), "at must be an int, a slice.*'all'"),
        (Part(zeros_, lambda module, name, parameter: module.rows), "rows"),
    ],
)
def test_a_part_that_cannot_be_names_the_parameter_and_writes_nothing(part: Part, message: str) -> None:
    model = nn.Linear(3, 4)
    before = model.weight.detach().clone()
    with pytest.raises(RecipeError, match=f"'weight' by .*{message}"):
        filled(model, Rule(ones_, parts=part, params="weight"), Rule(zeros_))
    assert torch.equal(model.weight, before)


def test_a_part_of_what_cannot_be_written_is_refused_before_anything_is() -> None:
    with torch.inference_mode():
        odd = torch.zeros(4)
    for kept in (odd, torch.eye(4).to_sparse()):
        model = nn.ParameterDict({"first": torch.zeros(3), "odd": nn.Parameter(kept, requires_grad=False)})
        with pytest.raises(RecipeError, match=r"'odd' by .*(inference tensor|sparse)"):
            filled(model, Rule(ones_, names="first"), Rule(keep, parts=Part(normal_, 0)))
        assert not model.first.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((zeros_, True), "at must be an int.*True"),
        ((zeros_, "0:3"), "at must be an int.*'0:3'"),
        ((zeros_, (0, None)), "at must be an int"),
        (("zeros_", 0), "initialiser must be a callable"),
    ],
)
def test_a_bad_part_says_so_when_it_is_made(arguments: tuple, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Part(*arguments)
    with pytest.raises(RecipeError, match=r"zeros_ .*std=0.02.*a rule's own: at"):
        Part(zeros_, 0, std=0.02)
    with pytest.raises(RecipeError, match=r"index must be in \[0, count\)"):
        chunk(4, 4)


# Arguments that depend on the module


def test_an_argument_may_be_a_function_of_module_name_and_parameter() -> None:
    seen = []

    def std(module: nn.Module, name: str, parameter: Tensor) -> float:
        seen.append((type(module), name, tuple(parameter.shape)))
        return float(name.split(".")[0]) + 1

    build = lambda: nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))  # noqa: E731
    for model in (build(), on_meta(build)):
        filled(model, Rule(normal_, params="weight", std=std), Rule(zeros_))
        for i, shape in enumerate(((3, 2), (2, 3))):
            want = normal_(torch.empty(shape), std=i + 1.0, generator=KEY.fold_in(f"{i}.weight"))
            assert torch.equal(model[i].weight, want)
    assert seen[:2] == [(nn.Linear, "0.weight", (3, 2)), (nn.Linear, "1.weight", (2, 3))]


def test_an_argument_that_fails_or_is_no_number_names_the_parameter() -> None:
    for std in (lambda m, n, p: m.no_such_thing, lambda m, n, p: "wide", lambda m: 1.0):
        with pytest.raises(RecipeError, match="'weight' by Rule"):
            filled(nn.Linear(2, 3), Rule(normal_, std=std))


def test_computed_arguments_of_callables_and_functions_for_them() -> None:
    def mine(tensor: Tensor, scale: float, then: Any = None) -> None:
        tensor.fill_(scale)
        if then is not None:
            then(tensor)

    rule = Rule(
        functools.partial(mine, then=Tensor.neg_), scale=lambda module, name, parameter: float(parameter.numel())
    )
    model = filled(nn.Linear(2, 3), rule)
    assert model.weight.tolist() == [[-6.0, -6.0]] * 3
    assert model.bias.tolist() == [-3.0] * 3


# Fans


@pytest.mark.parametrize(
    ("shape", "given", "fans"),
    [
        ((6, 4), {}, (4, 6)),
        ((6, 4), {"fused": 3}, (4, 2)),
        ((4, 6), {"fan_axes": (1, 0)}, (4, 6)),  # transformers' Conv1D
        ((4, 6), {"fan_axes": (1, 0), "fused": 3}, (4, 2)),
        ((8, 6, 4), {"fan_axes": (1, 2)}, (4, 6)),  # eight experts
        ((4, 2, 3), {"fan_axes": ((1, 2), 0)}, (4, 6)),  # heads and their width together
        ((6, 4, 3, 3), {}, (36, 54)),
        ((6, 4, 3, 3), {"fused": 2}, (36, 27)),
        ((6, 4, 3, 3), {"fan_axes": (0, 1)}, (4, 6)),
        ((6, 4, 3, 3), {"fan_axes": [-4, [1, 2, 3]]}, (36, 6)),
    ],
)
def test_fans_of_chosen_dimensions_and_of_one_of_the_fused(shape: tuple, given: dict, fans: tuple[int, int]) -> None:
    model = nn.ParameterDict({"w": torch.zeros(shape)})
    fan_in, fan_out = fans
    filled(model, Rule(xavier_uniform_, **given))
    bound = math.sqrt(3.0) * math.sqrt(2.0 / (fan_in + fan_out))
    assert torch.equal(model.w, uniform_(torch.empty(shape), -bound, bound, generator=KEY.fold_in("w")))
    for mode, fan in (("fan_in", fan_in), ("fan_out", fan_out)):
        filled(model, Rule(kaiming_normal_, mode=mode, nonlinearity="linear", **given))
        std = 1.0 / math.sqrt(fan)
        assert torch.equal(model.w, normal_(torch.empty(shape), std=std, generator=KEY.fold_in("w")))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fused": 4}, "fused=4 does not divide the 6 outputs"),
        ({"fan_axes": (0, 2)}, r"fan_axes \(0, 2\) for a tensor of 2 dimensions"),
    ],
)
def test_fans_that_cannot_be_name_the_parameter(given: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=f"'weight' by .*{message}"):
        filled(nn.Linear(4, 6), Rule(xavier_uniform_, params="weight", **given), Rule(zeros_))


def test_partials_and_torchs_own_functions_take_fans_too() -> None:
    for initialiser in (torch.nn.init.xavier_uniform_, functools.partial(xavier_uniform_, gain=2.0)):
        Rule(initialiser, fused=3)
    with pytest.raises(RecipeError, match=r"fused and fan_axes .* not normal_"):
        Rule(torch.nn.init.normal_, fused=3)


# Class names


def test_types_by_class_name_bases_included() -> None:
    class Mine(nn.Conv2d):
        pass

    def taken(types: Any, module: nn.Module) -> bool:
        return Recipe([Rule(ones_, types=types)]).match(type(module), "weight", "weight") == 0

    assert taken("Conv*", nn.Conv1d(1, 1, 1))
    assert taken("Conv2d", Mine(1, 1, 1))
    assert taken("torch.nn.*.Conv2d", Mine(1, 1, 1))
    assert taken((nn.Linear, "*Norm"), nn.LayerNorm(3))
    assert not taken("conv*", nn.Conv1d(1, 1, 1))
    assert not taken("torch.Conv*", nn.Conv1d(1, 1, 1))
    assert not taken("Conv", nn.Conv1d(1, 1, 1))


def test_recipes_add_up_and_explain_writes_nothing() -> None:
    one, other = Recipe([Rule(ones_, params="weight")]), Recipe([Rule(zeros_), Rule(normal_)])
    assert (one + other).rules == one.rules + other.rules
    with pytest.raises(TypeError):
        one + other.rules  # type: ignore[operator]
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = one.explain(model)
    assert [(row.name, row.rule) for row in report.rows] == [
        ("0.weight", 0), ("0.bias", None), ("1.weight", 0), ("1.bias", None),
    ]  # fmt: skip
    assert "left alone: no rule" in str(report)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    on_paper = one.explain(on_meta(lambda: nn.BatchNorm1d(3))).rows
    assert [(row.rule, row.buffer) for row in on_paper] == [(0, False), (None, False), *[(None, True)] * 3]
    with pytest.raises(RecipeError, match="std"):
        Recipe([Rule(fastinit.normal_, std=-1.0)]).explain(model)
