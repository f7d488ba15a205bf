"""check_model finds what is wrong and flags nothing that is right.

Right fills: 60 keys a law and type, with each of the tests in fastinit/check/probes.py (TESTS) at the rate ALPHA
instead of the model's. Defects: 10^5 elements, judged as check_model judges them, with one small thing wrong each.
"""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import fastinit
from fastinit import Key, Recipe, Rule, check_model, init_model_
from fastinit.check.measure import reader
from fastinit.check.model import FALSE_ALARMS, alpha_of
from fastinit.check.scan import Subject, scan
from fastinit.laws import KEYLESS, KINDS, Law
from fastinit.rule import Rule as AnyRule

pytestmark = pytest.mark.one_torch

ALPHA = 0.01
KEYS = 60
MOST = 21  # alarms: TESTS * ALPHA * KEYS = 4.2 expected at most, more than 21 with a probability below 1e-9
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float8_e5m2]
RULES = {
    "uniform": Rule(fastinit.uniform_, a=-0.05, b=0.05),
    "one-sided uniform": Rule(fastinit.uniform_, a=0.0, b=1.0),
    "normal": Rule(fastinit.normal_, std=0.02),
    "normal about 1": Rule(fastinit.normal_, mean=1.0, std=0.02),
    "truncated": Rule(fastinit.trunc_normal_, std=1.0, a=-2.0, b=2.0),
    "truncated to the tail": Rule(fastinit.trunc_normal_, std=1.0, a=3.0, b=5.0),
    "wide": Rule(fastinit.trunc_normal_, std=0.02),
    "sparse": Rule(fastinit.sparse_, sparsity=0.3),
    "orthogonal": Rule(fastinit.orthogonal_, gain=1.5),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RULES)
def test_right_fills_are_flagged_no_more_often_than_stated(name: str, dtype: torch.dtype) -> None:
    rule = RULES[name]
    shape = torch.Size((24, 50))
    law = rule.law(shape, rule.kwargs)
    alarms = []
    for seed in range(KEYS):
        tensor = torch.empty(shape, dtype=dtype)
        rule.initialiser(tensor, **rule.kwargs, generator=Key(seed))
        (finding,) = scan(reader(tensor), dtype, [Subject((), shape, law)], ALPHA)
        assert finding is not None
        if finding.verdict != "ok":
            alarms.append(finding.note)
    assert len(alarms) <= (0 if name == "orthogonal" else MOST), alarms[:3]


@pytest.mark.parametrize("name", RULES)
def test_right_models_are_ok(name: str) -> None:
    """A false alarm has a probability below 1e-6 in each of these models."""
    for seed in range(20):
        model = nn.Sequential(*[nn.Linear(50, 40 + seed, bias=False) for _ in range(5)])
        recipe = Recipe([RULES[name]])
        init_model_(model, recipe, key=seed)
        report = check_model(model, recipe)
        assert report.ok, report


def half(values: Tensor) -> Tensor:
    """The first half of the elements, over and over."""
    flat = values.reshape(-1)
    return torch.cat([flat[: len(flat) // 2]] * 2).reshape(values.shape)


def outlier(values: Tensor) -> Tensor:
    values = values.clone()
    values[77, 13] = 0.3
    return values


def normal(std: float, mean: float = 0.0) -> Callable[[Tensor], Tensor]:
    return lambda values: fastinit.normal_(torch.empty(values.shape), mean, std, generator=Key(5))


def uniform(a: float) -> Callable[[Tensor], Tensor]:
    return lambda values: fastinit.uniform_(torch.empty(values.shape), -a, a, generator=Key(5))


def truncated(std: float, a: float) -> Callable[[Tensor], Tensor]:
    return lambda values: fastinit.trunc_normal_(torch.empty(values.shape), 0.0, std, -a, a, generator=Key(5))


NORMAL = Rule(fastinit.normal_, std=0.02)
UNIFORM = Rule(fastinit.uniform_, a=-0.05, b=0.05)
TRUNCATED = Rule(fastinit.trunc_normal_, std=0.02, a=-0.04, b=0.04)
# Which sentence must be among those of the note.
DEFECTS: dict[str, tuple[AnyRule, Callable[[Tensor], Tensor], str]] = {
    "a std 5% too large": (NORMAL, normal(0.021), "std"),
    "a std 5% too small": (NORMAL, normal(0.019), "std"),
    "fan_out for fan_in": (NORMAL, normal(0.02 * math.sqrt(400 / 250)), "KS"),
    "a mean that is off by a thirtieth of a std": (NORMAL, normal(0.02, 0.02 / 30), "mean"),
    "a uniform law of the same std": (NORMAL, uniform(0.02 * math.sqrt(3)), "KS"),
    "truncated at two std, but of the right std": (NORMAL, truncated(0.02 / 0.8796, 0.04 / 0.8796), "KS"),
    "one value that is far too large": (NORMAL, outlier, "a value lies 15.0 std"),
    "absolute values": (NORMAL, Tensor.abs, "mean"),
    "a normal law of the same std": (UNIFORM, normal(0.1 / math.sqrt(12)), "above"),
    "bounds 5% too small": (UNIFORM, uniform(0.0475), "std"),
    "bounds a hundredth too large": (UNIFORM, uniform(0.0505), "above"),
    "truncation forgotten": (TRUNCATED, normal(0.02), "below"),
    "truncated at one std": (TRUNCATED, truncated(0.02, 0.02), "KS"),
    "a uniform law on the window": (TRUNCATED, uniform(0.04), "KS"),
    "all zero": (NORMAL, torch.zeros_like, "all are 0"),
    "all equal": (NORMAL, lambda values: torch.full_like(values, 0.01), "all are 0.01"),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("defect", DEFECTS)
def test_defects_are_found(defect: str, dtype: torch.dtype) -> None:
    rule, make, sentence = DEFECTS[defect]
    model = nn.Linear(250, 400, bias=False)
    recipe = Recipe([rule])
    init_model_(model, recipe, key=1)
    model.weight = nn.Parameter(make(model.weight.detach()).to(dtype))
    report = check_model(model, recipe)
    (row,) = report.rows
    assert row.verdict == ("all zero" if defect == "all zero" else "out of law")
    assert sentence in row.note
    assert not report.ok
    assert report.failures == [row]


def test_every_law_that_is_drawn_takes_its_share_of_the_false_alarms() -> None:
    for kind in KINDS.keys() - KEYLESS:
        assert alpha_of([Law(kind, (0.0, 1.0, 0.0, 0.0))] * 10) == pytest.approx(FALSE_ALARMS / 70), kind


def test_a_defect_in_one_tensor_of_many_is_found_there() -> None:
    model = nn.Sequential(*[nn.Linear(250, 400) for _ in range(30)])
    recipe = Recipe([Rule(fastinit.normal_, params="weight", std=0.02), Rule(fastinit.zeros_)])
    init_model_(model, recipe)
    with torch.no_grad():
        model[17].weight *= 1.05
        model[3].bias[5] = 1e-9
    assert [row.name for row in check_model(model, recipe).failures] == ["3.bias", "17.weight"]


def test_more_elements_than_the_sample_are_all_looked_at() -> None:
    """Two million elements: one NaN, one value too large, and a std wrong in one row of sixteen."""
    recipe = Recipe([Rule(fastinit.normal_, std=0.02)])
    for place, value, verdict in (((1999, 1023), math.nan, "nan"), ((5, 7), 0.2, "out of law")):
        model = nn.Linear(1024, 2000, bias=False)
        init_model_(model, recipe)
        with torch.no_grad():
            model.weight[place] = value
        assert [row.verdict for row in check_model(model, recipe).rows] == [verdict]
    init_model_(model, recipe)
    with torch.no_grad():
        model.weight[::16] *= 1.2
    (row,) = check_model(model, recipe).rows
    assert "std" in row.note


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_torch_draws_is_of_the_law_too(dtype: torch.dtype) -> None:
    """Its uniform values of 16-bit types lie on a coarse grid, for which there is an allowance."""
    torch.manual_seed(0)
    for rule in (
        Rule(nn.init.uniform_, a=0.0, b=1.0),
        Rule(nn.init.uniform_, a=-0.0321, b=0.0543),
        Rule(nn.init.normal_, std=0.02),
        Rule(nn.init.trunc_normal_, std=1.0, a=-2.0, b=1.97),
        Rule(nn.init.kaiming_uniform_, a=math.sqrt(5)),
        Rule(nn.init.sparse_, sparsity=0.3),
    ):
        model = nn.Linear(1024, 2048, bias=False, dtype=dtype)
        rule.initialiser(model.weight, **rule.kwargs)
        report = check_model(model, Recipe([rule]))
        assert report.ok, report
