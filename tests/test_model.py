"""Whole models: values by key and name, strictness, the user's own callables, and the report."""

import functools
import json
from typing import Any

import pytest
import torch
from small_model import RECIPE, Small, drop_in, same, tied_model, values
from torch import nn

import fastinit
import fastinit.function_laws
from fastinit import Key, Recipe, RecipeError, Rule, init_model_, keep, normal_, ones_, trunc_normal_, zeros_


def test_each_parameter_has_the_drop_in_functions_values_under_the_key_of_its_name() -> None:
    model = Small()
    report = init_model_(model, RECIPE, key=7)
    parameters = dict(model.named_parameters())
    assert [row.name for row in report.rows] == list(parameters)
    for row in report.rows:
        assert row.rule is not None
        expected = drop_in(RECIPE.rules[row.rule], torch.empty(row.shape), Key(7).fold_in(row.name))
        assert torch.equal(parameters[row.name], expected), row.name


def test_a_key_and_its_seed_are_the_same_and_other_keys_are_not() -> None:
    models = [Small() for _ in range(4)]
    for model, key in zip(models, (3, Key(3), 4, Key(3, 1)), strict=True):
        init_model_(model, RECIPE, key)
    assert same(values(models[0]), values(models[1]))
    for other in models[2:]:
        assert not torch.equal(models[0].conv.weight, other.conv.weight)


def test_the_order_of_registration_does_not_matter() -> None:
    one, other = Small(), Small()
    other._modules = dict(reversed(other._modules.items()))  # type: ignore[assignment]
    assert list(values(other)) != list(values(one))
    init_model_(one, RECIPE)
    init_model_(other, RECIPE)
    assert values(one).keys() == values(other).keys()
    assert same(dict(sorted(values(one).items())), dict(sorted(values(other).items())))


def test_training_requires_grad_and_grad_stay_and_autograd_sees_nothing() -> None:
    model = Small().eval()
    model.conv.weight.requires_grad_(False)
    model.head(torch.ones(2, 6)).sum().backward()
    grad = model.head.weight.grad
    version = model.head.weight._version
    init_model_(model, RECIPE)
    assert not model.training
    assert not model.conv.weight.requires_grad
    assert model.head.weight.requires_grad
    assert model.head.weight.is_leaf
    assert model.head.weight.grad is grad
    assert model.head.weight._version > version


# Strictness


def test_strict_names_every_unmatched_parameter_with_type_and_shape_and_writes_nothing() -> None:
    model = Small()
    before = values(model)
    with pytest.raises(RecipeError) as caught:
        init_model_(model, Recipe([Rule(ones_, types=nn.LayerNorm), Rule(zeros_, params="bias")]))
    lines = str(caught.value).split("\n")
    assert "no rule matches 5 of " in lines[0]
    assert "  conv.weight  (Conv2d, [8, 3, 3, 3])" in lines
    assert [line.split()[0] for line in lines[1:]] == [
        "conv.weight", "norm.weight", "embedding.weight", "body.0.weight", "head.weight",
    ]  # fmt: skip
    assert same(values(model), before)


def test_not_strict_leaves_the_unmatched_as_they_are_and_says_so() -> None:
    model = Small()
    before = values(model)
    report = init_model_(model, Recipe([Rule(ones_, params="bias")]), strict=False)
    assert torch.equal(model.conv.weight, before["conv.weight"])
    assert torch.equal(model.conv.bias, torch.ones(8))
    assert {row.name for row in report.rows if row.rule is None} == {n for n in before if "weight" in n}
    assert "left alone" in str(report)


def test_keep_leaves_a_parameter_as_it_is_even_on_the_meta_device() -> None:
    model = Small()
    model.extra = nn.Parameter(torch.empty(3, device="meta"))
    before = values(model)
    init_model_(model, Recipe([Rule(keep, names=("conv.*", "extra")), Rule(zeros_)]))
    assert torch.equal(model.conv.weight, before["conv.weight"])
    assert not model.head.weight.any()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Rule(normal_, names="head.weight", std=-1.0), "head.weight.*normal_.*std"),
        (Rule(trunc_normal_, names="head.weight", a=2.0, b=-2.0), "head.weight.*trunc_normal_.*"),
        (Rule(fastinit.kaiming_normal_, names="head.bias"), "head.bias.*kaiming_normal_.*"),
        (
            Rule(fastinit.kaiming_normal_, names="head.weight", mode="fan"),
            "head.weight.*kaiming_normal_.*fan",
        ),
    ],
)
def test_a_rule_that_cannot_be_names_the_parameter_and_writes_nothing(rule: Rule, message: str) -> None:
    model = Small()
    before = values(model)
    with pytest.raises(RecipeError, match=message) as caught:
        init_model_(model, Recipe([rule, *RECIPE.rules]))
    assert caught.value.__cause__ is not None
    assert same(values(model), before)


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (nn.Parameter(torch.zeros(4, dtype=torch.int64), requires_grad=False), "odd.*type float32"),
        (nn.Parameter(torch.zeros(4, dtype=torch.complex64)), "odd.*type float32"),
        (nn.Parameter(torch.zeros(1).expand(4)), "odd.*overlap itself"),
        (nn.Parameter(torch.zeros(9).as_strided((4, 4), (1, 1))), "odd.*overlap itself"),
        (nn.Parameter(torch.zeros(4, dtype=torch.complex64).conj().imag), "odd.*negated view"),
        (nn.Parameter(torch.eye(4).to_sparse()), "odd.*sparse"),
        (nn.Parameter(torch.eye(4).to_sparse_csr()), "odd.*sparse"),
        (nn.parameter.UninitializedParameter(), "odd.*lazy"),
    ],
)
def test_a_parameter_that_cannot_be_filled_is_named_before_anything_is_written(
    parameter: nn.Parameter, message: str
) -> None:
    model = Small()
    model.odd = parameter
    before = values(model.head)
    with pytest.raises(RecipeError, match=message):
        init_model_(model, Recipe([Rule(normal_)]))
    assert same(values(model.head), before)


def test_constants_fill_integers_and_complex_numbers_too() -> None:
    model = nn.Module()
    model.steps = nn.Parameter(torch.arange(3), requires_grad=False)
    model.phase = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    report = init_model_(model, Recipe([Rule(ones_)]))
    assert model.steps.tolist() == [1, 1, 1]
    assert model.phase.tolist() == [1, 1]
    assert [str(row.law) for row in report.rows] == ["constant(val=1)", "constant(val=1)"]


@pytest.mark.parametrize(("dtype", "val"), [(torch.int8, 300.0), (torch.int64, float("nan")), (torch.uint8, -1.0)])
def test_a_constant_that_a_type_lacks_is_refused_before_anything_is_written(dtype: torch.dtype, val: float) -> None:
    model = nn.Linear(2, 2)
    before = values(model)
    model.register_parameter("whole", nn.Parameter(torch.zeros(2, dtype=dtype), requires_grad=False))
    recipe = Recipe([Rule(ones_, types=nn.Linear, params=("weight", "bias")), Rule(fastinit.constant_, val=val)])
    for act in (init_model_, fastinit.check_model):
        with pytest.raises(RecipeError, match=r"'whole' by .* cannot be converted to type u?int"):
            act(model, recipe)
    assert all(torch.equal(model.get_parameter(name), value) for name, value in before.items())


def test_an_inference_tensor_is_refused_before_anything_is_written() -> None:
    model = Small()
    with torch.inference_mode():
        model.odd = nn.Parameter(torch.zeros(4), requires_grad=False)
    before = values(model.head)
    with pytest.raises(RecipeError, match=r"odd.*inference tensor"):
        init_model_(model, Recipe([Rule(normal_)]))
    assert same(values(model.head), before)


def test_other_names_of_a_drop_in_function_have_its_law() -> None:
    expected = Small()
    init_model_(expected, Recipe([Rule(normal_, std=0.5)]))
    for rule in (
        Rule(nn.init.normal_, std=0.5),
        Rule(functools.partial(normal_, std=0.5)),
        Rule(functools.partial(nn.init.normal_, std=3.0), std=0.5),
        Rule(fastinit.normal, std=0.5),
    ):
        model = Small()
        report = init_model_(model, Recipe([rule]))
        assert same(values(model), values(expected))
        assert {str(row.law) for row in report.rows} == {"normal(mean=0, std=0.5)"}


def test_constants_fill_floating_types_that_the_op_leaves_out() -> None:
    model = nn.Module()
    model.scale = nn.Parameter(torch.zeros(3, dtype=torch.float8_e4m3fnuz), requires_grad=False)
    init_model_(model, Recipe([Rule(ones_)]))
    assert model.scale.float().tolist() == [1, 1, 1]


def test_a_list_is_no_recipe() -> None:
    with pytest.raises(TypeError, match=r"recipe must be a fastinit\.Recipe, got list"):
        init_model_(Small(), [Rule(normal_)])  # type: ignore[arg-type]


# only


def test_only_fills_what_it_names_and_asks_no_rule_for_the_rest() -> None:
    model, whole = Small(), Small()
    before = values(model)
    init_model_(whole, RECIPE)
    head = Recipe(RECIPE.rules[1:4])
    report = init_model_(model, head, only=["head.*", "body.0.weight"])
    touched = {"head.weight", "head.bias", "body.0.weight"}
    assert {row.name for row in report.rows} == touched
    for name, value in values(model).items():
        assert torch.equal(value, values(whole)[name] if name in touched else before[name]), name


@pytest.mark.parametrize("only", ["haed.*", ["head.*", "haed.weight"]])
def test_a_glob_of_only_that_matches_nothing_is_an_error(only: str | list[str]) -> None:
    model = Small()
    before = values(model)
    with pytest.raises(RecipeError, match="haed"):
        init_model_(model, RECIPE, only=only)
    assert same(values(model), before)


@pytest.mark.parametrize("only", ["head.weight", ["head.wei*"], ["head.weight", "embedding.weight"]])
def test_only_takes_any_name_of_a_tied_parameter_and_of_a_list_all(only: str | list[str]) -> None:
    model = tied_model()
    assert [row.name for row in init_model_(model, RECIPE, only=only).rows] == ["embedding.weight"]
    assert not init_model_(model, RECIPE, only=["head.weight"]).rows


@pytest.mark.parametrize("only", [5, [5], ["head.bias", None]])
def test_an_only_that_is_no_names_says_so(only: Any) -> None:
    with pytest.raises(TypeError, match=r"only must be a name, .* got "):
        init_model_(Small(), RECIPE, only=only)


def test_structured_fills_are_laws_too() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(9, 7), nn.Conv1d(4, 6, 3, groups=2), nn.Linear(5, 8))
    rules = [
        Rule(fastinit.orthogonal_, names="0.weight", gain=2.0),
        Rule(fastinit.sparse_, names="1.weight", sparsity=0.3),
        Rule(torch.nn.init.dirac_, types=nn.Conv1d, params="weight", groups=2),
        Rule(fastinit.eye_, names="3.weight"),
        Rule(zeros_),
    ]
    state = torch.get_rng_state()
    report = init_model_(model, Recipe(rules), key=3)
    assert torch.get_rng_state().equal(state)
    torch.testing.assert_close(model[0].weight @ model[0].weight.T, 4 * torch.eye(6))
    for index, function, arguments in ((0, "orthogonal_", {"gain": 2.0}), (1, "sparse_", {"sparsity": 0.3})):
        alone = torch.empty_like(model[index].weight)
        getattr(fastinit, function)(alone, **arguments, generator=Key(3).fold_in(f"{index}.weight"))
        assert torch.equal(model[index].weight, alone)
    assert torch.equal(model[2].weight, torch.nn.init.dirac_(torch.empty(6, 2, 3), groups=2))
    assert torch.equal(model[3].weight, torch.eye(8, 5))
    laws = [str(row.law) for row in report.rows if row.name.endswith("weight")]
    assert laws == ["orthogonal(gain=2)", "sparse(zeros=3, std=0.01)", "dirac(groups=2)", "eye()"]


def test_structured_fills_refuse_wrong_shapes_before_anything_is_written() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Conv1d(2, 2, 1))
    before = model[0].weight.clone()
    for rule in (
        Rule(fastinit.eye_, types=nn.Conv1d, params="weight"),
        Rule(fastinit.sparse_, names="1.weight", sparsity=0.5),
    ):
        with pytest.raises(RecipeError, match=r"parameter '1.weight' by Rule\((eye|sparse)_"):
            init_model_(model, Recipe([rule, Rule(zeros_)]))
    assert torch.equal(model[0].weight, before)


# Progress and the report


def test_progress_counts_up_to_all_elements_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastinit.model._GROUP", 60)
    model, whole = Small(), Small()
    seen: list[tuple[int, int]] = []
    report = init_model_(model, RECIPE, progress=lambda done, total: seen.append((done, total)))
    total = sum(parameter.numel() for parameter in model.parameters())
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert {of for _, of in seen} == {total} == {seen[-1][0]}
    assert [group.parameters for group in report.groups if group.rule == 1] == [1, 1]  # 36 and 30 elements
    monkeypatch.undo()
    init_model_(whole, RECIPE)
    assert same(values(model), values(whole))


def test_a_progress_that_is_not_called_is_refused_before_anything_is_written(tmp_path: Any) -> None:
    model = Small()
    before = values(model)
    with pytest.raises(TypeError, match=r"progress must be called as .* got 5"):
        init_model_(model, RECIPE, progress=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"progress must be True, or called as .* got 5"):
        fastinit.save_checkpoint(model, RECIPE, tmp_path / "out", progress=5)  # type: ignore[arg-type]
    assert same(values(model), before)
    assert not (tmp_path / "out").exists()


def test_the_report_says_what_each_parameter_was_given() -> None:
    report = init_model_(Small().to(torch.bfloat16), RECIPE)
    rows = {row.name: row for row in report.rows}
    assert rows["conv.weight"].law == fastinit.function_laws.law_of(
        fastinit.kaiming_normal_, (8, 3, 3, 3), {"mode": "fan_out", "nonlinearity": "relu"}
    )
    assert str(rows["head.bias"].law) == "uniform(a=-0.5, b=0.25)"
    assert (rows["head.bias"].rule, rows["head.bias"].dtype) == (3, torch.bfloat16)
    assert sum(group.parameters for group in report.groups) == len(rows) == 11
    assert 0 < sum(group.seconds for group in report.groups) <= report.seconds
    lines = str(report).splitlines()
    assert lines[0].split() == ["parameter", "shape", "type", "rule", "values"]
    line = next(line for line in lines if line.startswith("head.bias "))
    assert line.split(maxsplit=4) == ["head.bias", "5", "bfloat16", "3", "uniform(a=-0.5, b=0.25)"]
    assert repr(RECIPE.rules[3]) in str(report)


def test_the_report_as_json_is_the_report(tmp_path: Any) -> None:
    report = init_model_(tied_model(), RECIPE)
    report.to_json(tmp_path / "report.json")
    read = json.loads((tmp_path / "report.json").read_text())
    assert read == report.to_dict()
    row = next(row for row in read["rows"] if row["name"] == "embedding.weight")
    assert row["tied"] == ["head.weight"]
    assert row["shape"] == [11, 6]
    assert row["dtype"] == "float32"
    assert read["rules"][row["rule"]] == "Rule(xavier_uniform_, types=Embedding, gain=2.0)"
    law = fastinit.function_laws.law_of(fastinit.xavier_uniform_, (11, 6), {"gain": 2.0})
    assert row["law"] == {"kind": "uniform", "numbers": list(law.numbers)}


def test_import_takes_torch_alone_and_planning_imports_no_wrapper() -> None:
    import subprocess
    import sys

    code = """
import sys, torch
before = set(sys.modules)
import fastinit
print(sorted({name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))
dynamo = "torch._dynamo" in sys.modules
fastinit.init_model_(torch.nn.Linear(2, 2), fastinit.Recipe([fastinit.Rule(fastinit.zeros_)]))
print("torch._dynamo" in sys.modules, dynamo)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported, dynamo = run.stdout.splitlines()
    assert imported == "['fastinit']"
    assert dynamo == "False False"
