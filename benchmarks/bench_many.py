"""10,000 tensors of 1,000 elements, where the cost of a call counts as much as the numbers.

Three ways, taking turns in one process, warm memory, the fastest of each: torch.nn.init.normal_ one by one,
the native call alone, and the whole init_model_ with its names, rules, keys and report.

    python benchmarks/bench_many.py --json many.json
    python benchmarks/bench_many.py --device cuda          the time until the device is done
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from typing import Any

import torch
from timing import add_device, fastest
from torch import nn

from fastinit import Key, Recipe, Rule, _ops, init_model_, machine, normal_
from fastinit.function_laws import law_of

STD = 0.02


def ways(parameters: nn.ParameterList) -> dict[str, Callable[[], object]]:
    tensors = list(parameters)
    law = law_of(normal_, tensors[0].shape, {"std": STD})
    assert law is not None
    laws = [law] * len(tensors)
    keys = [Key(0).fold_in(str(index)) for index in range(len(tensors))]
    recipe = Recipe([Rule(normal_, types=nn.ParameterList, std=STD)])

    def one_by_one() -> None:
        for tensor in tensors:
            torch.nn.init.normal_(tensor, std=STD)

    return {
        "torch.nn.init.normal_": one_by_one,
        "fastinit._ops.fill_": lambda: _ops.fill_(tensors, laws, keys),
        "fastinit.init_model_": lambda: init_model_(parameters, recipe),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tensors", type=int, default=10_000)
    parser.add_argument("--elements", type=int, default=1_000)
    parser.add_argument("--repeat", type=int, default=7)
    add_device(parser)
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()

    parameters = nn.ParameterList(torch.zeros(given.elements, device=given.device) for _ in range(given.tensors))
    seconds = fastest(ways(parameters), given.repeat, given.device, clock="wall")
    torchs = seconds["torch.nn.init.normal_"]
    rows: list[dict[str, Any]] = [
        {
            "what": name,
            "seconds": least,
            "us_per_tensor": least / given.tensors * 1e6,
            "ratio": torchs / least,
        }
        for name, least in seconds.items()
    ]
    print(f"{'':24}{'µs/tensor':>10}{'ratio':>8}")
    for row in rows:
        print(f"{row['what']:24}{row['us_per_tensor']:10.2f}{row['ratio']:8.1f}")
    if given.json is not None:
        about = {"command": shlex.join(["python", *sys.argv]), "machine": machine.describe(), **vars(given)}
        about["device"] = str(given.device)
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump({**about, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
