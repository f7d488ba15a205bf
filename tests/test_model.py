"""Whole models: keys by name, ties, wrappers, strictness, the user's own callables, and the report."""

import inspect
import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

import fastinit
from fastinit import Key, Recipe, RecipeError, Rule, init_model_, keep, normal_, ones_, trunc_normal_, zeros_

RECIPE = Recipe(
    [
        Rule(fastinit.kaiming_normal_, types=nn.Conv2d, params="weight", mode="fan_out", nonlinearity="relu"),
        Rule(trunc_normal_, types=nn.Linear, params="weight", std=0.02),
        Rule(fastinit.xavier_uniform_, types=nn.Embedding, gain=2.0),
        Rule(fastinit.uniform_, names="head.bias", a=-0.5, b=0.25),
        Rule(ones_, types=(nn.LayerNorm, nn.BatchNorm2d), params="weight"),
        Rule(zeros_, params="bias"),
    ]
)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.embedding = nn.Embedding(11, 6)
        self.body = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6))
        self.head = nn.Linear(6, 5)

    def forward(self, indices: Tensor) -> Tensor:
        return self.head(self.body(self.embedding(indices)))


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def drop_in(rule: Rule, tensor: Tensor, key: Key) -> Tensor:
    takes_key = "generator" in inspect.signature(rule.initialiser).parameters
    rule.initialiser(tensor, **rule.kwargs, **({"generator": key} if takes_key else {}))
    return tensor


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
    assert "5 of 11 parameters" in lines[0]
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
        (nn.Parameter(torch.empty(4, device="meta")), "odd.*meta device.*to_empty"),
        (nn.Parameter(torch.zeros(4, dtype=torch.int64), requires_grad=False), "odd.*type float32"),
        (nn.Parameter(torch.zeros(4, dtype=torch.complex64)), "odd.*type float32"),
        (nn.Parameter(torch.zeros(1).expand(4)), "odd.*expanded"),
        (nn.Parameter(torch.eye(4).to_sparse()), "odd.*sparse"),
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


def test_only_takes_any_name_of_a_tied_parameter() -> None:
    model = tied_model()
    assert [row.name for row in init_model_(model, RECIPE, only="head.weight").rows] == ["embedding.weight"]


# Ties and overlaps


def tied_model() -> Small:
    model = Small()
    model.head = nn.Linear(6, 11)
    model.head.weight = model.embedding.weight
    return model


def test_tied_parameters_are_filled_once_under_the_first_of_their_names() -> None:
    model = tied_model()
    report = init_model_(model, RECIPE)
    row = next(row for row in report.rows if row.name == "embedding.weight")
    assert row.tied == ("head.weight",)
    assert "head.weight" not in [row.name for row in report.rows]
    expected = drop_in(RECIPE.rules[2], torch.empty(11, 6), Key(0).fold_in("embedding.weight"))
    assert torch.equal(model.head.weight, expected)
    assert "embedding.weight = head.weight" in str(report)


def test_different_parameters_over_the_same_memory_are_tied() -> None:
    model = Small()
    flat = torch.zeros(6, 6)
    model.body[0].weight = nn.Parameter(flat)
    model.head = nn.Linear(6, 6)
    model.head.weight = nn.Parameter(flat.view(6, 6))
    model.last = nn.Parameter(flat.t())
    report = init_model_(model, Recipe([Rule(normal_, names="last"), *RECIPE.rules]))
    # A module's own parameters are registered, and so named, before its children's.
    with_ties = {row.name: row.tied for row in report.rows if row.tied}
    assert with_ties == {"last": ("body.0.weight", "head.weight")}


def test_a_shared_module_is_filled_once() -> None:
    block = nn.Linear(3, 3)
    report = init_model_(nn.Sequential(block, nn.Sequential(block)), RECIPE)
    assert [(row.name, row.tied) for row in report.rows] == [
        ("0.weight", ("1.0.weight",)),
        ("0.bias", ("1.0.bias",)),
    ]


@pytest.mark.parametrize("second", [slice(5, 15), slice(0, 5), slice(9, 10)])
def test_parameters_that_share_a_part_of_their_memory_are_an_error_that_names_both(second: slice) -> None:
    flat = torch.zeros(20)
    model = nn.ParameterDict({"one": nn.Parameter(flat[:10]), "two": nn.Parameter(flat[second])})
    with pytest.raises(RecipeError, match=r"'one' and 'two' .*memory"):
        init_model_(model, Recipe([Rule(normal_)]))
    assert not flat.any()


def test_interleaved_parameters_that_share_no_element_are_fine() -> None:
    fused = torch.zeros(4, 6)
    parts = nn.ParameterList([nn.Parameter(part) for part in fused.split(2, dim=1)])
    report = init_model_(parts, Recipe([Rule(normal_)]), key=1)
    assert len(report.rows) == 3
    assert torch.equal(parts[1], normal_(torch.empty(4, 2), generator=Key(1).fold_in("1")))
    overlapping = nn.ParameterList([nn.Parameter(fused[:, :2]), nn.Parameter(fused[:, 1:3])])
    with pytest.raises(RecipeError, match="'0' and '1'"):
        init_model_(overlapping, Recipe([Rule(normal_)]))


def test_empty_parameters_are_filled_with_nothing_and_are_not_tied() -> None:
    model = nn.ParameterList([torch.empty(0, 3), torch.empty(0), torch.empty(())])
    report = init_model_(model, Recipe([Rule(normal_)]))
    assert [row.tied for row in report.rows] == [(), (), ()]


# Wrappers


@pytest.fixture
def process_group(tmp_path: Any) -> Iterator[None]:
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def assert_same_as_unwrapped(wrapped: nn.Module, model: nn.Module) -> None:
    plain = Small()
    names = [row.name for row in init_model_(plain, RECIPE).rows]
    assert [row.name for row in init_model_(wrapped, RECIPE).rows] == names
    assert same(values(model), values(plain))


def test_names_leave_out_torch_compile_whole_and_in_part() -> None:
    model = Small()
    assert_same_as_unwrapped(torch.compile(model), model)
    part = Small()
    part.body = torch.compile(part.body)
    assert "body._orig_mod.0.weight" in dict(part.named_parameters())
    init_model_(part, RECIPE)
    init_model_(model, RECIPE)
    assert torch.equal(part.body._orig_mod[0].weight, model.body[0].weight)


def test_names_leave_out_data_parallel() -> None:
    model = Small()
    assert_same_as_unwrapped(nn.DataParallel(model), model)


@pytest.mark.usefixtures("process_group")
def test_names_leave_out_distributed_data_parallel_and_what_derives_from_it() -> None:
    class Mine(nn.parallel.DistributedDataParallel):
        pass

    model = Small()
    assert_same_as_unwrapped(torch.compile(Mine(model)), model)


def test_names_leave_out_activation_checkpoint_wrappers() -> None:
    model = Small()
    model.body[0] = checkpoint_wrapper(model.body[0])
    assert "body.0._checkpoint_wrapped_module.weight" in dict(model.named_parameters())
    assert "body.0.weight" in [row.name for row in init_model_(model, RECIPE).rows]


def test_names_leave_out_fsdp_by_its_type() -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel

    class Wrapped(FullyShardedDataParallel):
        """Its type and its child's name, without the process group and the sharding."""

        def __init__(self, module: nn.Module) -> None:
            nn.Module.__init__(self)
            self._fsdp_wrapped_module = module

    model = Small()
    assert_same_as_unwrapped(Wrapped(model), model)


def test_a_users_module_named_like_a_wrappers_child_keeps_its_name() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)
            self._orig_mod = nn.Linear(2, 2)

    names = {row.name for row in init_model_(Net(), RECIPE).rows}
    assert names == {"module.weight", "module.bias", "_orig_mod.weight", "_orig_mod.bias"}


def test_two_parameters_of_one_canonical_name_are_an_error_that_names_both() -> None:
    wrapped = nn.DataParallel(nn.Linear(2, 2))
    wrapped.weight = nn.Parameter(torch.zeros(2))
    with pytest.raises(RecipeError, match=r"'weight'.*weight and module.weight"):
        init_model_(wrapped, Recipe([Rule(ones_)]))
    assert not wrapped.weight.any()


# The user's own callables


def noise_(tensor: Tensor, *, scale: float) -> Tensor:
    return tensor.copy_(torch.randn(tensor.shape) * scale)


def test_a_users_callable_draws_by_key_and_name_alone_and_leaves_torchs_generator_as_it_was() -> None:
    recipe = Recipe([Rule(noise_, types=nn.Linear, params="weight", scale=2.0), *RECIPE.rules])
    one, other = Small(), Small()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    init_model_(one, recipe, key=5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    init_model_(other, recipe, key=5, only="head.weight")
    assert torch.equal(one.head.weight, other.head.weight)
    init_model_(other, recipe, key=6)
    assert not torch.equal(one.head.weight, other.head.weight)
    assert not torch.equal(one.head.weight[:5, :5], one.body[0].weight[:5, :5])


def test_a_function_without_a_law_is_a_callable_too() -> None:
    model = nn.Linear(6, 6)
    recipe = Recipe([Rule(fastinit.orthogonal_, params="weight", gain=2.0), Rule(zeros_)])
    report = init_model_(model, recipe)
    torch.testing.assert_close(model.weight @ model.weight.T, 4 * torch.eye(6))
    assert [row.law and row.law.kind for row in report.rows] == [None, "constant"]
    assert "orthogonal_" in str(report)


def test_an_error_of_a_callable_names_parameter_and_rule_and_the_generator_is_put_back() -> None:
    def refuses(tensor: Tensor) -> None:
        torch.randn(3)
        raise RuntimeError("not today")

    model, state = nn.Linear(2, 2), torch.get_rng_state()
    with pytest.raises(
        RecipeError, match=r"'weight' by Rule\(refuses, params='weight'\): not today"
    ) as caught:
        init_model_(model, Recipe([Rule(refuses, params="weight"), Rule(zeros_)]))
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()


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


def test_the_report_says_what_each_parameter_was_given() -> None:
    report = init_model_(Small().to(torch.bfloat16), RECIPE)
    rows = {row.name: row for row in report.rows}
    assert rows["conv.weight"].law == fastinit.init.law_of(
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
    law = fastinit.init.law_of(fastinit.xavier_uniform_, (11, 6), {"gain": 2.0})
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
