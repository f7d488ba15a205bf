"""Keyed fills on a CUDA device beside torch's own and `fill_` there, in one process; and a model from meta to ready.

    python benchmarks/bench_cuda.py --device cuda --json cuda.json

Method: 1 GiB, many times the second-level cache, timed by events on the stream; contestants take nine turns, the
fastest of each counts. Small tensors and the model: by the clock, until the device is done, which counts what the calls
cost.
"""

import argparse
import copy
import json
import shlex
import sys
from collections.abc import Callable
from typing import Any

import torch
from timing import add_device, fastest, wall_seconds
from torch import nn

import fastinit
from fastinit import Key, machine
from fastinit.bench.architectures import ARCHITECTURES, on_meta
from fastinit.bench.model import calls_of, fill_each, one_by_one

BYTES = 2**30
LAWS: dict[str, tuple[str, dict[str, float]]] = {
    "uniform": ("uniform_", {"a": -0.1, "b": 0.1}),
    "normal": ("normal_", {"std": 0.02}),
    "truncated at 2 std": ("trunc_normal_", {}),
    "truncated at 100 std": ("trunc_normal_", {"std": 0.02}),
}
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def large(law: str, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    name, arguments = LAWS[law]
    tensor = torch.zeros(BYTES // dtype.itemsize, dtype=dtype, device=device)
    runs: dict[str, Callable[[], object]] = {
        "torch": lambda: getattr(torch.nn.init, name)(tensor, **arguments),
        "fastinit": lambda: getattr(fastinit, name)(tensor, **arguments, generator=Key(1)),
        "fill_": lambda: tensor.fill_(0.3),
    }
    best = fastest(runs, 9, device)
    return {
        "law": law,
        "dtype": str(dtype).removeprefix("torch."),
        "gigabytes_per_second": {who: tensor.nbytes / seconds / 1e9 for who, seconds in best.items()},
        "times_faster_than_torch": best["torch"] / best["fastinit"],
        "times_fill": best["fastinit"] / best["fill_"],
    }


def small(size: int, device: torch.device) -> dict[str, Any]:
    tensor, key, calls = torch.empty(size, device=device), Key(1), max(20, 20_000 // (1 + size // 500))

    def repeat(function: Callable[..., object], **arguments: Any) -> Callable[[], None]:
        def run() -> None:
            for _ in range(calls):
                function(tensor, **arguments)

        return run

    runs = {"fastinit": repeat(fastinit.normal_, generator=key), "torch": repeat(torch.nn.init.normal_)}
    best = fastest(runs, 15, device, clock="wall")
    return {"size": size, "us_per_call": {who: least / calls * 1e6 for who, least in best.items()}}


def from_meta(name: str, dtype: torch.dtype, device: torch.device) -> dict[str, float]:
    """Return the least seconds of five from the meta device to ready, from an empty cache of memory each time."""
    model, recipe = on_meta(name, dtype), ARCHITECTURES[name].recipe
    calls = calls_of(model, recipe)

    def empty(one: nn.Module) -> nn.Module:
        one.to_empty(device=device)
        one.tie_weights()
        return one

    ways: dict[str, Callable[[nn.Module], object]] = {
        "to_empty, torch.nn.init": lambda one: one_by_one(torch.nn.init, calls, empty(one), 7),
        "to_empty, fill_": lambda one: fill_each(empty(one).parameters()),
        "fastinit.init_model_": lambda one: fastinit.init_model_(one, recipe, 7, device=device, buffers="reset"),
    }
    best = dict.fromkeys(ways, float("inf"))
    for turn in range(5):
        for way, run in ways.items() if turn % 2 == 0 else reversed(ways.items()):
            one = copy.deepcopy(model)
            if device.type == "cuda":
                torch.cuda.empty_cache()
            best[way] = min(best[way], wall_seconds(lambda run=run, one=one: run(one), device))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_device(parser)
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    if given.device.type != "cuda":
        print("bench_cuda.py: no --device cuda was given, and there is nothing to do without one")
        return
    result: dict[str, Any] = {"command": shlex.join(["python", *sys.argv]), "machine": machine.describe(), "large": []}
    print("| law | type | torch, GB/s | fastinit, GB/s | fill_, GB/s | × torch | × fill_ |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for law in LAWS:
        for dtype in DTYPES:
            result["large"].append(row := large(law, dtype, given.device))
            speeds = (f"{speed:.0f}" for speed in row["gigabytes_per_second"].values())
            cells = [law, row["dtype"], *speeds, f"{row['times_faster_than_torch']:.2f}", f"{row['times_fill']:.2f}"]
            print("| " + " | ".join(cells) + " |", flush=True)
    print("\n| normal_, elements | torch, µs | fastinit, µs |\n|---|---:|---:|")
    result["small"] = [small(size, given.device) for size in (10, 1_000, 100_000, 1_000_000)]
    for row in result["small"]:
        print(f"| {row['size']:,} | {row['us_per_call']['torch']:.2f} | {row['us_per_call']['fastinit']:.2f} |")
    result["from_meta"] = from_meta("llama-1b", torch.bfloat16, given.device)
    print("\nLlama 3.2 1B in bfloat16, from the meta device to ready:")
    for way, seconds in result["from_meta"].items():
        print(f"{way:26}{seconds:8.3f} s")
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
