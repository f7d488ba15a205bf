"""check_model: a verdict for each tensor and part, from what it holds and the recipe's law; and the report of them."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_model import RECIPE, Small, same, tied_model, values
from torch import Tensor, nn

import fastinit
from fastinit import CheckReport, Part, Recipe, RecipeError, Rule, check_model, chunk, init_model_, keep, padding_row
from fastinit.check.model import CheckRow


def one(rule: Rule, tensor: Tensor) -> CheckRow:
    """The only row of a model that holds this parameter."""
    model = nn.Module()
    model.weight = nn.Parameter(tensor, requires_grad=False)
    (row,) = check_model(model, Recipe([rule])).rows
    return row


def by_name(report: CheckReport) -> dict[str, CheckRow]:
    return {row.name: row for row in report.rows}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_what_init_model_wrote_is_ok_and_stays_as_it_is(dtype: torch.dtype) -> None:
    model = Small().to(dtype)
    init_model_(model, RECIPE, key=3)
    before = values(model)
    report = check_model(model, RECIPE)
    assert report.ok and not report.failures
    assert [row.name for row in report.rows] == list(before)
    assert same(values(model), before)
    for row in report.rows:
        exact = before[row.name].double()
        assert (row.shape, row.dtype, row.elements) == (exact.shape, dtype, exact.numel())
        assert row.mean == pytest.approx(exact.mean().item(), rel=1e-12, abs=1e-12)
        assert row.std == pytest.approx(exact.std(correction=0).item(), rel=1e-12, abs=1e-12)
        assert (row.min, row.max) == (exact.min().item(), exact.max().item())


def test_the_default_device_does_not_matter() -> None:
    model = Small()
    init_model_(model, RECIPE)
    with torch.device("meta"):
        assert check_model(model, RECIPE).ok


def test_a_model_that_torch_initialised_is_out_of_law_where_the_recipe_differs() -> None:
    torch.manual_seed(0)
    model = Small()
    verdicts = {row.name: row.verdict for row in check_model(model, RECIPE).rows}
    assert verdicts["norm.weight"] == verdicts["body.1.bias"] == "ok"  # ones and zeros in either
    assert verdicts["body.0.weight"] == verdicts["head.bias"] == verdicts["conv.bias"] == "out of law"


def test_what_was_never_initialised_is_said_to_be_on_meta() -> None:
    with torch.device("meta"):
        model = Small()
    model.head = nn.Linear(6, 5)
    init_model_(model.head, Recipe([Rule(fastinit.trunc_normal_, std=0.02)]))
    report = check_model(model, RECIPE)
    assert {row.name for row in report.rows if row.verdict != "meta"} == {"head.weight", "head.bias"}
    assert "norm.running_mean" in by_name(report)  # a buffer without a rule, which nobody has made
    assert by_name(report)["conv.weight"].mean is None
    assert not report.ok


@pytest.mark.parametrize(
    ("value", "verdict", "note"),
    [(math.nan, "nan", "1 NaN"), (math.inf, "inf", "1 infinite"), (-math.inf, "inf", "1 infinite")],
)
@pytest.mark.parametrize(
    "rule", [Rule(fastinit.normal_), Rule(keep), Rule(fastinit.zeros_), Rule(fastinit.orthogonal_)]
)
def test_what_is_no_number_fails_with_and_without_a_law(rule: Rule, value: float, verdict: str, note: str) -> None:
    tensor = torch.eye(10, 12)
    tensor[3, 4] = value
    row = one(rule, tensor)
    assert row.verdict == verdict
    assert note in row.note
    assert row.max == 1.0  # of what is finite


def test_all_zero_is_a_failure_where_the_law_is_not_and_a_note_where_there_is_none() -> None:
    zeros = torch.zeros(50, 50)
    for rule in (Rule(fastinit.normal_), Rule(fastinit.uniform_), Rule(fastinit.ones_), Rule(fastinit.eye_),
                 Rule(fastinit.orthogonal_), Rule(fastinit.sparse_, sparsity=0.5)):  # fmt: skip
        assert one(rule, zeros).verdict == "all zero", rule
    assert one(Rule(fastinit.zeros_), zeros).verdict == "ok"
    assert one(Rule(fastinit.sparse_, sparsity=1.0), zeros).verdict == "ok"
    assert one(Rule(keep), zeros)[-2:] == ("ok", "all zero")
    assert one(Rule(fastinit.normal_), torch.zeros(3)).verdict == "all zero"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int64])
def test_a_constant_is_every_element_rounded_to_the_type(dtype: torch.dtype) -> None:
    rule = Rule(fastinit.constant_, val=0.3)
    right = torch.full((1000, 3), 0.3).to(dtype)
    assert one(rule, right).verdict == "ok"
    right[999, 2] = 1
    row = one(rule, right)
    assert row.verdict == "out of law"
    assert row.note.startswith("1 elements are not 0")


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_constant_that_is_no_number_is_right_where_the_rule_says_so(value: float) -> None:
    assert one(Rule(fastinit.constant_, val=value), torch.full((5,), value)).verdict == "ok"
    assert one(Rule(fastinit.constant_, val=value), torch.full((5,), 1.0)).verdict == "out of law"


@pytest.mark.parametrize("shape", [(7, 7), (5, 9), (9, 5)])
def test_eye_is_exact(shape: tuple[int, int]) -> None:
    right = fastinit.eye_(torch.empty(shape))
    assert one(Rule(fastinit.eye_), right).verdict == "ok"
    right[2, 2] = 0
    assert "1 of the 5 ones" in one(Rule(fastinit.eye_), right[:5, :5].contiguous()).note
    right[2, 2], right[1, 3] = 1, 1e-30
    assert "1 elements are not 0" in one(Rule(fastinit.eye_), right).note


@pytest.mark.parametrize(
    ("shape", "groups"), [((8, 4, 3), 1), ((12, 3, 3, 5), 3), ((6, 8, 2, 3, 4), 2), ((4, 8, 1), 4)]
)
def test_dirac_is_exact(shape: tuple[int, ...], groups: int) -> None:
    rule = Rule(fastinit.dirac_, groups=groups)
    right = fastinit.dirac_(torch.empty(shape), groups)
    assert one(rule, right).verdict == "ok"
    places = right.nonzero()
    moved = right.clone()
    moved[tuple(places[1])] = 0
    moved[tuple(places[1] * 0 + torch.tensor([0, 1, *[0] * (len(shape) - 2)]))] = 1
    assert one(rule, moved).verdict == "out of law"
    assert one(Rule(fastinit.dirac_), right).verdict == ("ok" if groups == 1 else "out of law")


def test_sparse_has_its_zeros_in_each_column() -> None:
    rule = Rule(fastinit.sparse_, sparsity=0.3)
    right = fastinit.sparse_(torch.empty(100, 400), 0.3, generator=fastinit.Key(1))
    assert one(rule, right).verdict == "ok"
    moved = right.clone()  # as many zeros in all, and one column has one fewer
    row = int((moved[:, 7] == 0).nonzero()[0])
    other = int((moved[:, 8] != 0).nonzero()[0])
    moved[row, 7], moved[other, 8] = moved[other, 8], 0
    assert "1 columns have fewer than 30 zeros" in one(rule, moved).note
    more = right.clone()
    more[:, 7] = 0
    assert "70 zeros are there beyond 30 a column" in one(rule, more).note
    assert "std" in one(rule, right * 1.1).note


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.float8_e5m2])
@pytest.mark.parametrize("shape", [(40, 40), (20, 90), (90, 20), (16, 4, 3, 3), (700, 600), (1, 5)])
def test_orthogonal_vectors_have_their_length_and_right_angles(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    rule = Rule(fastinit.orthogonal_, gain=1.5)
    right = fastinit.orthogonal_(torch.empty(shape, dtype=dtype), 1.5, generator=fastinit.Key(2))
    row = one(rule, right)
    assert row.verdict == "ok", row
    assert ("products of 256" in row.note) == (shape == (700, 600))
    assert one(rule, (right.double() * 1.3).to(dtype)).verdict == "out of law"
    assert one(Rule(fastinit.orthogonal_, gain=2.5), right).verdict == "out of law"
    if shape != (1, 5):
        normal = fastinit.normal_(torch.empty(shape), std=right.double().std().item(), generator=fastinit.Key(0))
        assert one(rule, normal.to(dtype)).verdict == "out of law"


def test_a_wrong_vector_outside_the_sample_shows_in_the_sum_of_squares() -> None:
    right = fastinit.orthogonal_(torch.empty(700, 600), generator=fastinit.Key(2))
    looked_at = right.clone()
    for column in range(600):
        looked_at[:, column] = right[:, column] * 2
        row = one(Rule(fastinit.orthogonal_), looked_at)
        assert row.verdict == "out of law"
        if "reaches" not in row.note:  # a column whose products are not among those looked at
            assert "squares of all elements" in row.note
            return
        looked_at[:, column] = right[:, column]
    pytest.fail("every column was looked at")


@pytest.mark.parametrize(
    "layout",
    [lambda t: t, lambda t: t.t().contiguous().t(), lambda t: t.repeat(1, 2)[:, :60], lambda t: t[::1].flip(0).flip(0)],
)
def test_any_layout_is_measured_in_order(layout: Callable[[Tensor], Tensor]) -> None:
    for rule in (Rule(fastinit.eye_), Rule(fastinit.orthogonal_), Rule(fastinit.normal_, std=0.1)):
        tensor = torch.empty(50, 60)
        rule.initialiser(tensor, **rule.kwargs)
        row = one(rule, layout(tensor))
        assert row.verdict == "ok"
        assert row.mean == pytest.approx(tensor.double().mean().item(), rel=1e-9)


def parts_model() -> tuple[nn.Module, Recipe]:
    model = nn.ModuleDict({"embedding": nn.Embedding(50, 40, padding_idx=3), "lstm": nn.LSTM(40, 40)})
    gates = [Part(fastinit.orthogonal_, chunk(gate, 4)) for gate in range(4)]
    recipe = Recipe(
        [
            Rule(fastinit.normal_, types=nn.Embedding, std=0.02, parts=Part(fastinit.zeros_, padding_row)),
            Rule(keep, params="weight_hh*", parts=gates),
            Rule(fastinit.xavier_uniform_, params="weight_ih*"),
            Rule(fastinit.zeros_, params="bias_ih*", parts=Part(fastinit.ones_, chunk(1, 4))),
            Rule(fastinit.zeros_, params="bias_hh*"),
        ]
    )
    init_model_(model, recipe)
    return model, recipe


def test_parts_are_measured_apart_and_the_rest_without_them() -> None:
    model, recipe = parts_model()
    report = check_model(model, recipe)
    assert report.ok, report
    rows = by_name(report)
    assert rows["embedding.weight"].elements == 49 * 40
    assert rows["embedding.weight[3]"][2:8] == ((40,), torch.float32, rows["embedding.weight[3]"].law, 40, 0.0, 0.0)
    assert rows["lstm.bias_ih_l0"].elements == 120
    assert (rows["lstm.bias_ih_l0"].min, rows["lstm.bias_ih_l0"].max) == (0.0, 0.0)
    gates = [name for name in rows if name.startswith("lstm.weight_hh_l0")]
    assert len(gates) == 4 and "lstm.weight_hh_l0" not in rows  # whose parts cover it
    with torch.no_grad():
        model["embedding"].weight[3, 5] = 0.01
        model["lstm"].bias_ih_l0[39] = 1.0
        model["lstm"].weight_hh_l0[85] *= 1.01
    assert [row.name for row in check_model(model, recipe).failures] == [
        "embedding.weight[3]", gates[2], "lstm.bias_ih_l0"
    ]  # fmt: skip


def test_of_parts_that_overlap_the_last_one_counts() -> None:
    model = nn.Module()
    model.weight = nn.Parameter(torch.empty(60, 2000))
    columns = Part(fastinit.uniform_, (slice(None), slice(100, 900)), a=3.0, b=4.0)
    rows = Part(fastinit.constant_, slice(10, 20), val=9.0)
    recipe = Recipe([Rule(fastinit.normal_, parts=[columns, rows, Part(fastinit.zeros_, (15, 150))])])
    init_model_(model, recipe)
    report = check_model(model, recipe)
    assert report.ok, report
    assert [row.elements for row in report.rows] == [50 * 1200, 50 * 800, 10 * 2000 - 1, 1]
    assert sum(row.elements for row in report.rows) == model.weight.numel()


def test_a_structure_with_parts_over_it_is_measured_and_said_to_be_unchecked() -> None:
    model = nn.Linear(8, 8, bias=False)
    recipe = Recipe([Rule(fastinit.eye_, parts=Part(fastinit.ones_, 0))])
    init_model_(model, recipe)
    rest, part = check_model(model, recipe).rows
    assert (rest.verdict, rest.elements, rest.note) == (
        "ok",
        56,
        "eye is not checked: parts are written over it, or only some of it is here",
    )
    assert part.verdict == "ok"


def test_buffers_with_a_rule_are_measured_and_others_left_out() -> None:
    model = nn.BatchNorm2d(4)
    recipe = Recipe([Rule(keep), Rule(fastinit.constant_, buffers="running_var", val=1.0)])
    init_model_(model, recipe)
    assert list(by_name(check_model(model, recipe))) == ["weight", "bias", "running_var"]
    model.running_var[2] = 0.5
    assert [row.name for row in check_model(model, recipe).failures] == ["running_var"]


def test_buffers_that_are_not_persistent_are_looked_at_like_others() -> None:
    # Rotary frequencies are such buffers: forgotten on the meta device, they are in no state_dict that would tell.
    model = nn.Module()
    model.register_buffer("frequencies", torch.full((4,), 2.0), persistent=False)
    ones = Recipe([Rule(fastinit.ones_, buffers="frequencies")])
    assert [row.verdict for row in check_model(model, ones).rows] == ["out of law"]
    assert [row.verdict for row in check_model(model, ones, only="frequencies").rows] == ["out of law"]
    assert not check_model(model, Recipe([Rule(keep)])).rows
    model.to("meta")
    assert [row.verdict for row in check_model(model, Recipe([Rule(keep)])).rows] == ["meta"]


def test_without_a_law_there_is_nothing_to_compare_with() -> None:
    model = nn.Linear(30, 30)

    def mine(tensor: Tensor) -> Tensor:
        return tensor.fill_(1.0)

    report = check_model(model, Recipe([Rule(mine, params="weight")]))  # and no rule for the bias
    assert report.ok
    assert [(row.law, row.ks, row.verdict) for row in report.rows] == [(None, None, "ok")] * 2


def test_tied_parameters_have_one_row_with_all_their_names() -> None:
    model = tied_model()
    init_model_(model, RECIPE)
    rows = by_name(check_model(model, RECIPE))
    assert "head.weight" not in rows
    assert rows["embedding.weight"].tied == ("head.weight",)


def test_a_conjugate_view_is_measured() -> None:
    row = one(Rule(keep), torch.full((3,), 1 + 2j).conj())
    assert (row.verdict, row.min, row.max) == ("ok", -2.0, 1.0)


def test_the_mean_of_a_law_about_zero_is_told_as_zero() -> None:
    assert "mean 1 is not within 0 ±" in one(Rule(fastinit.normal_, std=0.02), torch.ones(100)).note


def test_only_selects_as_in_init_model() -> None:
    model = Small()
    assert list(by_name(check_model(model, RECIPE, only="body.*.weight"))) == ["body.0.weight", "body.1.weight"]
    with pytest.raises(RecipeError, match=r"nowhere"):
        check_model(model, RECIPE, only=["nowhere"])


def test_scalars_and_empty_tensors() -> None:
    assert one(Rule(fastinit.ones_), torch.tensor(1.0)).verdict == "ok"
    assert one(Rule(fastinit.ones_), torch.tensor(2.0)).verdict == "out of law"
    empty = one(Rule(fastinit.normal_), torch.empty(0, 5))
    assert (empty.verdict, empty.elements, empty.mean) == ("ok", 0, None)


def failing_report() -> CheckReport:
    model = Small()
    init_model_(model, RECIPE)
    with torch.no_grad():
        model.norm.bias[1] = math.nan
        model.body[0].weight *= 5
    return check_model(model, RECIPE)


def test_the_report_as_text_names_failures_with_their_reasons() -> None:
    report = failing_report()
    text = str(report)
    lines = text.splitlines()
    assert len(lines[0].split()) == 9
    assert "conv.weight" in text
    assert "norm.bias, constant(val=0): nan: 1 NaN" in lines
    said = "body.0.weight, trunc_normal(mean=0, std=0.02, a=-2, b=2): out of law: "
    assert any(line.startswith(said) for line in lines)
    assert "2 wrong" in text
    assert repr(report) == "<CheckReport: 11 tensors, 2 failures>"


def test_the_report_as_plain_types(tmp_path) -> None:
    report = failing_report()
    report.to_json(tmp_path / "report.json")
    text = (tmp_path / "report.json").read_text()

    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    plain = json.loads(text, parse_constant=refuse)  # NaN and Infinity are no JSON
    assert plain == report.to_dict()
    assert plain["ok"] is False
    assert plain["rows"][0]["name"] == "conv.weight"
    assert plain["rows"][0]["law"]["kind"] == "normal"
    assert plain["rows"][3] | {"mean": 0} == plain["rows"][3] | {"verdict": "nan", "mean": 0, "dtype": "float32"}
