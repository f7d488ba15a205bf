"""The suite of benchmarks/ measures what it says: every function, type, size and number of threads, side by side."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from fastinit import _ops

pytestmark = pytest.mark.one_torch
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
pytest.importorskip("transformers")


def suite(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", str(BENCHMARKS), "-q", "-p", "no:cacheprovider", "-o", "addopts="]
    # pytest-benchmark measures nothing in a worker of pytest-xdist, which this process may be and its child is not.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    return subprocess.run([*command, *options], capture_output=True, text=True, cwd=BENCHMARKS.parent, env=environment)


@pytest.fixture(scope="module")
def goes() -> dict[str, list[dict[str, str]]]:
    """Return by suite the parts of the names of its tests, in the order of running."""
    found = {}
    for size in ("quick", "full"):
        listed = suite("--suite", size, "--collect-only")
        assert listed.returncode == 0, listed.stdout + listed.stderr
        names = [line for line in listed.stdout.splitlines() if "::" in line and "competitors" not in line]
        found[size] = [parts(name) for name in names]
    return found


def parts(name: str) -> dict[str, str]:
    test, _, rest = name.partition("[")
    case, contestant, turn = rest.removesuffix("]").rsplit("-", 2)
    head, memory, layout, threads = case.rsplit("-", 3)
    head, dtype, elements = head.rsplit("-", 2)
    return {
        "test": test.partition("::")[2], "case": case, "contestant": contestant, "turn": turn, "memory": memory,
        "layout": layout, "threads": threads, "dtype": dtype, "elements": elements, "name": head.partition("-")[0],
    }  # fmt: skip


def test_the_full_suite_has_every_function_size_and_type(goes: dict[str, list[dict[str, str]]]) -> None:
    fills = [go for go in goes["full"] if go["test"] == "test_fill" and go["layout"] == "contiguous"]
    functions = {name for name in torch.nn.init.__all__ if name.endswith("_")}
    assert {go["name"] for go in fills} == functions
    sizes = defaultdict(set)
    for go in fills:
        sizes[go["name"], go["dtype"], go["contestant"]].add(int(go["elements"]))
    for name in functions - {"orthogonal_"}:
        for dtype in ("float32", "bfloat16", "float16", "float64"):
            for contestant in ("torch.nn.init", "torch stream", "fill_"):
                assert len(sizes[name, dtype, contestant]) == 10, (name, dtype, contestant)
                assert max(sizes[name, dtype, contestant]) > 0.99 * 2**28
    for name in ("uniform_", "normal_", "trunc_normal_", "kaiming_normal_", "sparse_"):
        assert {10, 2**28} <= sizes[name, "float32", "keyed stream"]
        assert {10, 2**28} <= sizes[name, "float8_e5m2", "keyed stream"]
    assert max(sizes["orthogonal_", "float32", "keyed stream"]) == 2**24
    assert "1threads" in {go["threads"] for go in fills}


@pytest.mark.parametrize("size", ["quick", "full"])
def test_contestants_take_turns(goes: dict[str, list[dict[str, str]]], size: str) -> None:
    """Those of a case run next to each other, forwards and backwards, and no case is measured twice."""
    runs: list[tuple[tuple[str, str], list[dict[str, str]]]] = []
    for go in goes[size]:
        if not runs or runs[-1][0] != (go["test"], go["case"]):
            runs.append(((go["test"], go["case"]), []))
        runs[-1][1].append(go)
    assert len({case for case, _ in runs}) == len(runs)
    for case, gone in runs:
        turns: dict[str, list[str]] = defaultdict(list)
        for go in gone:
            turns[go["turn"]].append(go["contestant"])
        huge = "llama-8b" in case[1] or f"-{2**28}-" in case[1]
        assert len(turns) == (1 if huge else 3), case
        assert all(one == other[::-1] for one, other in pairwise(turns.values())), case
        assert "fill_" in turns["0"]


def test_the_quick_suite_can_be_compared_with_the_full_one(goes: dict[str, list[dict[str, str]]]) -> None:
    cases = {size: {(go["test"], go["case"], go["contestant"]) for go in found} for size, found in goes.items()}
    assert cases["quick"] <= cases["full"]
    assert len(goes["quick"]) < 1500  # two minutes


@pytest.mark.parametrize("threads", [1, 2, 3, 8, 96])
def test_so_it_can_with_any_number_of_threads(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import suites

    monkeypatch.setattr(suites, "ALL", threads)
    parts_of_a_suite = (
        suites.fills, suites.scaling, suites.layouts, suites.other_arguments, suites.instruction_sets, suites.fresh
    )  # fmt: skip
    quick, full = ([case for part in parts_of_a_suite for case in part(size)] for size in ("quick", "full"))
    assert set(quick) <= set(full)
    for cases in (quick, full):
        assert len(set(cases)) == len(cases)
        counts = {case.threads for case in cases if case.name == "normal_" and case.elements == 2**24}
        assert counts == {1, threads} | {count for count in (2, 4, 8, 16, 32, 64) if count < threads}


def test_figures_are_of_what_ran(tmp_path: Path) -> None:
    """A tenth of a second of the suite: the small cases of one function, through to pytest-benchmark's file."""
    path = tmp_path / "measured.json"
    ran = suite("-k", "test_fill and xavier_normal_-float32-1000-", "--benchmark-quiet", f"--benchmark-json={path}")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    measured: dict[str, Any] = json.loads(path.read_text())
    assert len(measured["benchmarks"]) == 12
    for one in measured["benchmarks"]:
        about = one["extra_info"]
        assert (about["kind"], about["name"], about["elements"], about["shape"]) == (
            "fill",
            "xavier_normal_",
            1000,
            [20, 50],
        )
        assert about["threads"] == torch.get_num_threads()
        assert one["stats"]["rounds"] >= 1
        assert 1e-7 < min(one["stats"]["data"]) < 1e-2
    assert {go["extra_info"]["contestant"] for go in measured["benchmarks"]} == {
        "torch.nn.init", "torch stream", "keyed stream", "fill_",
    }  # fmt: skip
    assert measured["machine_info"]["fastinit"]["torch"] == torch.__version__
    assert "node" not in measured["machine_info"]["fastinit"]


def test_a_contestant_does_what_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import suites
    import test_fills

    import fastinit

    case = suites.fill("normal_", "float32", 1000, 1, {"std": 0.02})
    tensor = torch.empty(20, 50)
    for contestant, module, arguments in (
        ("torch.nn.init", torch.nn.init, {}),
        ("torch stream", fastinit, {}),
        ("keyed stream", fastinit, {"generator": test_fills.KEY}),
    ):
        torch.manual_seed(7)
        test_fills.filler(case, contestant, tensor)()
        torch.manual_seed(7)
        assert tensor.equal(module.normal_(torch.empty(20, 50), std=0.02, **arguments)), contestant
    test_fills.filler(case, "fill_", tensor)()
    assert (tensor == 0.3).all()
    assert test_fills.warm(case._replace(layout="transposed")).stride() == (1, 50)


def test_an_instruction_set_is_for_its_own_test(monkeypatch: pytest.MonkeyPatch, isa: str) -> None:
    """What FASTINIT_ISA chose stands for all others: a report would say one and have measured another."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import test_fills

    with test_fills.instruction_set("scalar"):
        assert _ops.isa() == "scalar"
    assert _ops.isa() == isa
