"""Structured fills against torch.nn.init, in one process.

    python benchmarks/bench_structured.py --json FILE
    FASTINIT_ISA=avx2 python benchmarks/bench_structured.py --only sparse_ --threads 1

Method: memory touched beforehand; the generators are seeded alike before every pass; all contestants, on one thread and
on two, take three turns, the fastest of each counts.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from timing import against, fastest

import fastinit
from fastinit import machine

CONTESTANTS = {"torch": torch.nn.init, "fastinit": fastinit}


class Case(NamedTuple):
    function: str
    arguments: dict[str, Any]
    shape: tuple[int, ...]
    least: dict[int, float]  # ratio to torch that was aimed at, by number of threads
    dtype: torch.dtype = torch.float32


CASES = [
    Case("sparse_", {"sparsity": sparsity}, (size, size), {2: least})
    for size, least in ((1024, 10.0), (4096, 8.0))
    for sparsity in (0.1, 0.9)
]


def measured(case: Case, threads: list[int]) -> list[dict[str, Any]]:
    """Return a row for each number of threads."""
    tensor = torch.ones(case.shape, dtype=case.dtype)

    def contestant(module: Any, count: int) -> Callable[[], None]:
        def run() -> None:
            torch.set_num_threads(count)
            torch.manual_seed(7)
            getattr(module, case.function)(tensor, **case.arguments)

        return run

    runs = {f"{who} {count}": contestant(CONTESTANTS[who], count) for count in threads for who in CONTESTANTS}
    seconds = fastest(runs, rounds=3)
    return [
        {
            "function": case.function,
            "arguments": case.arguments,
            "dtype": str(case.dtype).removeprefix("torch."),
            "shape": case.shape,
            "threads": count,
            "ms": {who: seconds[f"{who} {count}"] * 1e3 for who in CONTESTANTS},
            "times_faster_than_torch": seconds[f"torch {count}"] / seconds[f"fastinit {count}"],
            "least_times_faster": case.least.get(count),
        }
        for count in threads
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", choices=sorted({case.function for case in CASES}), help="one function's rows")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    result: dict[str, Any] = {
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine.describe(),
        "structured": [],
    }
    print("| function | type | shape | threads | torch, ms | fastinit, ms | × torch |\n|---|---|---|---|---|---|---|")
    for case in CASES:
        if options.only not in (None, case.function):
            continue
        given = ", ".join(f"{key}={value}" for key, value in case.arguments.items())
        for row in measured(case, options.threads):
            result["structured"].append(row)
            cells = [f"{case.function}({given})", row["dtype"], " × ".join(map(str, case.shape)), str(row["threads"])]
            cells += [f"{row['ms'][who]:.2f}" for who in CONTESTANTS]
            cells += [against(row["times_faster_than_torch"], row["least_times_faster"], "at least")]
            print("| " + " | ".join(cells) + " |", flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
