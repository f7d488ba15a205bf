"""Whole models of real libraries: in warm memory, and from the meta device to ready, where fresh memory counts.

torch's way is one torch.nn.init call a parameter, with the laws of the recipe; the torch stream's is the same calls of
fastinit; the keyed stream's is `init_model_`.
"""

import copy
import gc
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
import torch
from fresh import at_hand
from suites import ALL, FLOOR
from torch import nn
from turns import Case, contests, measure

import fastinit
from fastinit import machine
from fastinit.bench.architectures import ARCHITECTURES, materialised, on_meta
from fastinit.bench.model import Call, calls_of, fill_each, one_by_one

pytest.importorskip("transformers", reason="real models need transformers: pip install 'torch-fastinit[bench]'")

QUICK = {"resnet-152": ("float32",), "c3d": ("float32",), "vit-l": ("float32",)}
ONLY_BFLOAT16 = ("llama-8b",)  # 16 GB; 32 in float32
FROM_META = {
    "quick": {"vit-l": ("float32",)},
    "full": {"vit-l": ("float32",), "llama-1b": ("float32", "bfloat16"), "llama-8b": ("bfloat16",)},
}


def warm_models(suite: str) -> dict[str, tuple[str, ...]]:
    if suite == "quick":
        return QUICK
    return {name: ("bfloat16",) if name in ONLY_BFLOAT16 else ("float32", "bfloat16") for name in ARCHITECTURES}


def cases(models: dict[str, tuple[str, ...]], memory: str) -> list[Case]:
    return [
        Case("model", name, dtype, sum(one.numel() for one in meta(name, dtype).parameters()), ALL, memory=memory)
        for name, dtypes in models.items()
        for dtype in dtypes
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    suite = metafunc.config.getoption("suite")
    if metafunc.function is test_warm:
        given = cases(warm_models(suite), "warm"), ["torch.nn.init", "torch stream", "keyed stream", FLOOR]
    else:
        given = cases(FROM_META[suite], "fresh"), ["torch.nn.init", "keyed stream", FLOOR]
    metafunc.parametrize(("case", "contestant", "turn"), contests(given[0], lambda _: given[1]))


def test_warm(benchmark: Any, case: Case, contestant: str, turn: int) -> None:
    model, calls = warm(case)
    ways: dict[str, Callable[[], object]] = {
        "torch.nn.init": lambda: one_by_one(torch.nn.init, calls, model, 7),
        "torch stream": lambda: one_by_one(fastinit, calls, model, 7),
        "keyed stream": lambda: fastinit.init_model_(model, ARCHITECTURES[case.name].recipe, 7),
        FLOOR: lambda: fill_each(model.parameters()),
    }
    measure(benchmark, case, contestant, turn, ways[contestant], tensors=len(calls))


def test_from_meta(benchmark: Any, case: Case, contestant: str, turn: int) -> None:
    _held.clear()
    gc.collect()  # the model of the go before may refer to itself, and two would not fit
    require_memory(case)
    model, recipe = meta(case.name, case.dtype), ARCHITECTURES[case.name].recipe
    calls = calls_of(model, recipe)
    ways: dict[str, Callable[[nn.Module], object]] = {
        "torch.nn.init": lambda one: one_by_one(torch.nn.init, calls, materialised(one), 7),
        "keyed stream": lambda one: fastinit.init_model_(one, recipe, 7, buffers="reset"),
        FLOOR: lambda one: fill_each(materialised(one).parameters()),
    }

    def before() -> nn.Module:
        at_hand(case.elements * case.torch_dtype.itemsize)
        return copy.deepcopy(model)

    measure(benchmark, case, contestant, turn, ways[contestant], before, tensors=len(calls))


def require_memory(case: Case) -> None:
    needed, available = case.elements * case.torch_dtype.itemsize * 1.1, machine.available_memory()
    if available is not None and needed > available:
        pytest.skip(f"{case.name} in {case.dtype} needs {needed / 1e9:.1f} GB, and {available / 1e9:.1f} GB is free")


def warm(case: Case) -> tuple[nn.Module, list[Call]]:
    if (case.name, case.dtype) not in _held:
        _held.clear()
        gc.collect()
        require_memory(case)
        model = materialised(on_meta(case.name, case.torch_dtype))
        fill_each(model.parameters())
        _held[case.name, case.dtype] = model, calls_of(model, ARCHITECTURES[case.name].recipe)
    return _held[case.name, case.dtype]


@lru_cache(maxsize=1)
def meta(name: str, dtype: str) -> nn.Module:
    return on_meta(name, getattr(torch, dtype))


_held: dict[tuple[str, str], tuple[nn.Module, list[Call]]] = {}  # one at a time, or two would not fit
