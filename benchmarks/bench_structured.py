"""eye_, dirac_ and sparse_ against torch.nn.init, in one process; orthogonal_ has a script of its own.

    python benchmarks/bench_structured.py --json FILE
    FASTINIT_ISA=avx2 python benchmarks/bench_structured.py --only sparse_ --threads 1

Method: memory touched beforehand; all contestants take turns, the fastest of each counts; eye_ and dirac_ are called up
to 300 times a turn, so that each finds in the caches what itself has left there. `zero_` over the same memory is the
floor.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from timing import against, fastest

import fastinit
from fastinit import machine

CONTESTANTS: dict[str, Callable[..., object]] = {
    "torch": lambda name, tensor, arguments: getattr(torch.nn.init, name)(tensor, **arguments),
    "fastinit": lambda name, tensor, arguments: getattr(fastinit, name)(tensor, **arguments),
    "keyed": lambda name, tensor, arguments: getattr(fastinit, name)(tensor, **arguments, generator=fastinit.Key(7)),
    "zero_": lambda _name, tensor, _arguments: tensor.zero_(),
}


class Case(NamedTuple):
    function: str
    arguments: dict[str, Any]
    shape: tuple[int, ...]
    least: Mapping[str, float] = MappingProxyType({})  # on two threads, the ratio to torch that was aimed at
    most: float | None = None  # and that to zero_
    dtype: torch.dtype = torch.float32
    channels_last: bool = False

    def __str__(self) -> str:
        given = ", ".join(f"{key}={value}" for key, value in self.arguments.items())
        return f"{self.function}({given}){', channels last' if self.channels_last else ''}"

    def contestants(self) -> list[str]:
        return [who for who in CONTESTANTS if who != "keyed" or self.function == "sparse_"]


CASES = [
    Case("sparse_", {"sparsity": sparsity}, (size, size), least)
    for size, least in ((1024, {"fastinit": 10.0}), (4096, {"fastinit": 8.0, "keyed": 6.0}))
    for sparsity in (0.1, 0.5, 0.9)
]
CASES += [
    Case("sparse_", {"sparsity": 0.5}, (4096, 4096), dtype=torch.bfloat16),
    Case("dirac_", {}, (1024, 1024, 3, 3), most=1.3),
    Case("dirac_", {}, (1024, 1024, 3, 3), dtype=torch.bfloat16),
    Case("dirac_", {}, (1024, 1024, 3, 3), channels_last=True),
    Case("dirac_", {"groups": 1024}, (1024, 1, 7, 7)),
    Case("dirac_", {}, (512, 512, 3, 3)),
    Case("dirac_", {}, (64, 64, 3, 3)),
    Case("dirac_", {}, (16, 16, 3)),
    Case("eye_", {}, (4096, 4096)),
    Case("eye_", {}, (64, 64)),
]


def measured(case: Case, threads: int) -> dict[str, Any]:
    tensor = torch.ones(case.shape, dtype=case.dtype)
    if case.channels_last:
        tensor = tensor.to(memory_format=torch.channels_last)
    calls = 1 if case.function == "sparse_" else min(300, 2**26 // tensor.numel())

    def contestant(who: str) -> Callable[[], None]:
        def run() -> None:
            for _ in range(calls):
                CONTESTANTS[who](case.function, tensor, case.arguments)

        return run

    seconds = fastest({who: contestant(who) for who in case.contestants()}, rounds=7)
    ms = {who: each / calls * 1e3 for who, each in seconds.items()}
    return {
        "function": str(case),
        "dtype": str(case.dtype).removeprefix("torch."),
        "shape": case.shape,
        "threads": threads,
        "ms": ms,
        "times_faster_than_torch": {who: ms["torch"] / ms[who] for who in ("fastinit", "keyed") if who in ms},
        "least_times_faster": dict(case.least) if threads > 1 else {},
        "times_zero_": ms["fastinit"] / ms["zero_"],
        "most_times_zero_": case.most if threads > 1 else None,
    }


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
    names = [*CONTESTANTS, "fastinit, × torch", "keyed, × torch", "fastinit, × zero_"]
    print(f"| function | type | shape | threads | {' | '.join(names)} |\n|{'---|' * (len(names) + 4)}")
    for case in CASES:
        if options.only not in (None, case.function):
            continue
        for threads in options.threads:
            torch.set_num_threads(threads)
            row = measured(case, threads)
            result["structured"].append(row)
            cells = [row["function"], row["dtype"], " × ".join(map(str, case.shape)), str(row["threads"])]
            cells += [f"{row['ms'][who]:.3g} ms" if who in row["ms"] else "" for who in CONTESTANTS]
            for who in ("fastinit", "keyed"):
                ratio = row["times_faster_than_torch"].get(who)
                cells += ["" if ratio is None else against(ratio, row["least_times_faster"].get(who), "at least")]
            cells += [against(row["times_zero_"], row["most_times_zero_"], "at most")]
            print("| " + " | ".join(cells) + " |", flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
