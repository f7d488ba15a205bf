"""The torch stream, bit for bit torch.nn.init's, against torch.nn.init itself, in one process.

    python benchmarks/bench_torch_stream.py --json FILE
    FASTINIT_ISA=avx2 python benchmarks/bench_torch_stream.py --elements 16777216 --threads 1

Method: memory touched beforehand; the generator is seeded alike before every pass, so that trunc_normal_ needs as many
rounds of both; all contestants, on one thread and on two, take five turns, the fastest of each counts. Small tensors:
averages over thousands of calls, turn by turn. The self-check: what the first call of each function and type costs more
than the second, in a process of its own.
"""

import argparse
import json
import multiprocessing
import shlex
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from timing import against, fastest

import fastinit
from fastinit import machine

CONTESTANTS = {"torch": torch.nn.init, "fastinit": fastinit}
f32, bf16, f16, f64 = torch.float32, torch.bfloat16, torch.float16, torch.float64
NARROW, TWO_STD, FAR = {"mean": 0.0, "std": 0.02}, {"std": 1.0, "a": -2.0, "b": 2.0}, {"std": 0.02, "a": -2.0, "b": 2.0}
# function, arguments, transposed or not, and for each type the least ratio to torch by number of threads
LARGE: list[tuple[str, dict[str, float], bool, dict[torch.dtype, dict[int, float]]]] = [
    ("uniform_", {"a": -0.1, "b": 0.1}, False, {f32: {1: 10}, bf16: {1: 8}, f16: {}, f64: {1: 6}}),
    ("normal_", NARROW, False, {**{t: {1: 4.8, 2: 9} for t in (f32, bf16, f16)}, f64: {1: 1, 2: 1}}),
    ("normal_", NARROW, True, {f32: {1: 8}}),
    ("trunc_normal_", TWO_STD, False, {f32: {1: 18, 2: 30}, bf16: {1: 18, 2: 30}}),
    ("trunc_normal_", FAR, False, {f32: {1: 6}, bf16: {1: 6}}),
]
SMALL = ("uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_")
SHAPES = ((2, 5), (4, 4), (8, 8), (10, 10), (20, 30))
CALLS = 2_000
MOST_MS_OF_SELF_CHECK = 5.0


def large(
    name: str, arguments: dict[str, float], tensor: torch.Tensor, threads: list[int], least: dict[int, float]
) -> list[dict[str, Any]]:
    """Return a row for each number of threads."""

    def contestant(module: Any, count: int) -> Callable[[], None]:
        def run() -> None:
            torch.set_num_threads(count)
            torch.manual_seed(7)
            getattr(module, name)(tensor, **arguments)

        return run

    runs = {f"{who} {count}": contestant(CONTESTANTS[who], count) for count in threads for who in CONTESTANTS}
    ns = {what: seconds / tensor.numel() * 1e9 for what, seconds in fastest(runs, rounds=5).items()}
    return [
        {
            "function": name,
            "arguments": arguments,
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "contiguous": tensor.is_contiguous(),
            "elements": tensor.numel(),
            "threads": count,
            "ns_per_element": {who: ns[f"{who} {count}"] for who in CONTESTANTS},
            "times_faster_than_torch": ns[f"torch {count}"] / ns[f"fastinit {count}"],
            "least_times_faster": least.get(count),
        }
        for count in threads
    ]


def small(name: str, shape: tuple[int, int]) -> dict[str, Any]:
    tensor = torch.ones(shape)

    def contestant(function: Callable[[torch.Tensor], object]) -> Callable[[], None]:
        def run() -> None:
            torch.manual_seed(7)
            for _ in range(CALLS):
                function(tensor)

        return run

    runs = {who: contestant(getattr(module, name)) for who, module in CONTESTANTS.items()}
    us = {who: seconds / CALLS * 1e6 for who, seconds in fastest(runs, rounds=15).items()}
    return {
        "function": name,
        "elements": tensor.numel(),
        "us_per_call": us,
        "times_faster_than_torch": us["torch"] / us["fastinit"],
        "least_times_faster": 1,
    }


def milliseconds_of_first_calls() -> float:
    """Return what the first call of each function and type costs more than the second, all together."""
    laws = ("uniform_", "normal_", "trunc_normal_")
    tensors = [torch.ones(4, 4, dtype=dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64)]

    def every(module: Any) -> float:
        started = time.perf_counter()
        for law in laws:
            for tensor in tensors:
                getattr(module, law)(tensor)
        return time.perf_counter() - started

    every(torch.nn.init)  # torch's own first calls are not ours to answer for
    return (every(fastinit) - every(fastinit)) * 1e3


def self_check() -> dict[str, Any]:
    times = []
    for _ in range(5):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            times.append(process.submit(milliseconds_of_first_calls).result())
    return {"ms": min(times), "most_ms": MOST_MS_OF_SELF_CHECK}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--elements", type=int, nargs="+", default=[2**24, 2**26], help="multiples of 4096")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    result: dict[str, Any] = {
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine.describe(),
        "large": [],
        "small": [],
    }
    print(
        "| function | type | elements | threads | torch, ns | fastinit, ns | × torch |\n|---|---|---|---|---|---|---|"
    )
    for name, arguments, transposed, types in LARGE:
        given = ", ".join(f"{key}={value:g}" for key, value in arguments.items())
        for dtype, least in types.items():
            for elements in options.elements:
                tensor = torch.ones(4096, elements // 4096, dtype=dtype)
                for row in large(name, arguments, tensor.t() if transposed else tensor, options.threads, least):
                    result["large"].append(row)
                    ns = row["ns_per_element"]
                    cells = [f"{name}({given}){', transposed' * transposed}", row["dtype"], f"{row['elements']:,}"]
                    cells += [str(row["threads"]), f"{ns['torch']:.2f}", f"{ns['fastinit']:.3f}"]
                    cells += [against(row["times_faster_than_torch"], row["least_times_faster"], "at least")]
                    print("| " + " | ".join(cells) + " |", flush=True)
    print("\n| function | elements | torch, µs | fastinit, µs | × torch |\n|---|---|---|---|---|")
    for name in SMALL:
        for shape in SHAPES:
            row = small(name, shape)
            result["small"].append(row)
            us = row["us_per_call"]
            cells = [name, str(row["elements"]), f"{us['torch']:.2f}", f"{us['fastinit']:.2f}"]
            cells += [against(row["times_faster_than_torch"], row["least_times_faster"], "at least")]
            print("| " + " | ".join(cells) + " |", flush=True)
    result["self_check"] = self_check()
    print(f"\nself-check, ms: {against(result['self_check']['ms'], MOST_MS_OF_SELF_CHECK, 'at most')}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
