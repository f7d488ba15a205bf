"""`python -m fastinit bench`: a real model initialised by torch.nn.init and by fastinit, in one process.

Every pass writes the same parameters in memory touched beforehand, the passes take turns, and the fastest of
each counts. torch's is what its users do: one torch.nn.init call a parameter, with the laws of the recipe; the torch
stream's is the same with fastinit's functions, for the same numbers; the keyed stream's is `init_model_`.
"""

import json
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastinit import init, machine
from fastinit.bench.architectures import ARCHITECTURES, materialised, on_meta
from fastinit.model import init_model_
from fastinit.parameters import owned_parameters
from fastinit.plan import make_plan
from fastinit.recipe import Recipe


class Call(NamedTuple):
    """What a function of torch.nn.init does to a parameter or to a part of it."""

    function: str
    parameter: str
    at: tuple[Any, ...] | None
    arguments: dict[str, Any]


class Pass(NamedTuple):
    what: str
    threads: int
    run: Callable[[], object]


def bench(model: str, dtype: str, threads: int | None, repeat: int, seed: int, json_path: str | None) -> None:
    _require_extras()
    if json_path is not None:
        _require_writable(json_path)
    if threads is not None:
        torch.set_num_threads(threads)
    built = _built(model, getattr(torch, dtype))
    parameters = [parameter for parameter, _, _ in owned_parameters(built)[0].values()]
    fill_each(parameters)
    passes = _passes(built, ARCHITECTURES[model].recipe, parameters, seed)
    elements = sum(parameter.numel() for parameter in parameters)
    size = sum(parameter.nbytes for parameter in parameters)
    result: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "fastinit", *sys.argv[1:]]),
        "machine": machine.describe(),
        "model": model,
        "dtype": dtype,
        "tensors": len(parameters),
        "elements": elements,
        "bytes": size,
        "repeat": repeat,
        "seed": seed,
        "passes": _figures(passes, _times(passes, repeat), elements, size),
    }
    _print(result)
    if json_path is not None:
        with open(json_path, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)


def _require_extras() -> None:
    try:
        import rich
        import transformers
    except ImportError as error:
        sys.exit(f"bench needs {error.name}: pip install 'torch-fastinit[bench]'")
    del rich, transformers


def _require_writable(path: str) -> None:
    """Say now what would otherwise be said after minutes."""
    try:
        with open(path, "a", encoding="utf-8"):
            pass
    except OSError as error:
        sys.exit(f"--json: cannot write {path}: {error.strerror}")


def _built(name: str, dtype: torch.dtype) -> nn.Module:
    """Build the model in memory, or exit and say what would fit: asking is free on the meta device."""
    model = on_meta(name, dtype)
    needed = sum(parameter.nbytes for parameter in model.parameters()) * 11 // 10
    available = machine.available_memory()
    if available is not None and needed > available:
        half_fits = dtype == torch.float32 and needed // 2 <= available
        sys.exit(
            f"{name} in {dtype} needs {needed / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB is free; "
            + ("--dtype bfloat16 takes half of it, which fits" if half_fits else "--model resnet-50 is the smallest")
        )
    return materialised(model)


def _passes(model: nn.Module, recipe: Recipe, parameters: list[Tensor], seed: int) -> list[Pass]:
    threads = torch.get_num_threads()
    calls = calls_of(model, recipe)
    passes = [
        Pass("torch.nn.init", threads, lambda: one_by_one(torch.nn.init, calls, model, seed)),
        Pass("fastinit, torch stream", threads, lambda: one_by_one(init, calls, model, seed)),
        Pass("fastinit, keyed stream", threads, lambda: init_model_(model, recipe, seed)),
        Pass("fill_", 1, lambda: fill_each(parameters)),
    ]
    return passes if threads == 1 else [*passes, Pass("fill_", threads, lambda: fill_each(parameters))]


def calls_of(model: nn.Module, recipe: Recipe) -> list[Call]:
    """Return what the recipe does to the model, as calls of functions of torch.nn.init."""
    plan = make_plan(model, recipe, buffers="reset")
    calls: list[Call] = []
    for entry in plan.entries:
        if entry.rule is not None and not entry.buffer:
            rule = recipe.rules[entry.rule]
            calls.append(Call(rule.initialiser.__name__, entry.name, None, plan.arguments(entry.name, rule)))
        for part in entry.parts:
            calls.append(Call(part.initialiser.__name__, entry.name, part.at, part.kwargs))
    return calls


def one_by_one(functions: ModuleType, calls: list[Call], model: nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    parameters = dict(model.named_parameters())
    for name, parameter, at, arguments in calls:
        tensor = parameters[parameter]
        getattr(functions, name)(tensor if at is None else tensor.detach()[at], **arguments)


@torch.no_grad()
def fill_each(parameters: Iterable[Tensor]) -> None:
    for parameter in parameters:
        parameter.fill_(0.3)


def _times(passes: list[Pass], repeat: int) -> list[list[float]]:
    """Seconds of each pass, turn by turn. Progress is drawn between passes only, never on their clock."""
    times: list[list[float]] = [[] for _ in passes]
    with _progress(repeat * len(passes)) as advance:
        for _ in range(repeat):
            for one, seconds in zip(passes, times, strict=True):
                with _threads(one.threads):
                    started = time.perf_counter()
                    one.run()
                    seconds.append(time.perf_counter() - started)
                advance(one.what)
    return times


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("passes", total=total)
        yield lambda what: bar.update(task, advance=1, description=what)


def _figures(passes: list[Pass], times: list[list[float]], elements: int, size: int) -> list[dict[str, Any]]:
    best = [min(seconds) for seconds in times]
    return [
        {
            "what": one.what,
            "threads": one.threads,
            "seconds": least,
            "all_seconds": seconds,
            "ns_per_parameter": least / elements * 1e9,
            "gb_per_second": size / least / 1e9,
            "times_faster_than_torch": best[0] / least,
        }
        for one, least, seconds in zip(passes, best, times, strict=True)
    ]


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    about = result["machine"]
    table = Table(
        title=f"{result['model']}, {result['dtype']}: {result['elements'] / 1e6:,.1f} million parameters "
        f"in {result['tensors']} tensors, {result['bytes'] / 1e9:.2f} GB",
        caption=f"{about['cpu']}, {about['isa']}; torch {about['torch']}; fastest of {result['repeat']}, warm memory",
    )
    table.add_column("")
    for head in ("threads", "seconds", "ns/parameter", "GB/s", "× torch.nn.init"):
        table.add_column(head, justify="right")
    for one in result["passes"]:
        table.add_row(
            one["what"],
            str(one["threads"]),
            f"{one['seconds']:.4f}",
            f"{one['ns_per_parameter']:.3f}",
            f"{one['gb_per_second']:.2f}",
            f"{one['times_faster_than_torch']:.1f}",
            style="bold" if one["what"].startswith("fastinit") else "",
        )
    Console().print(table)
