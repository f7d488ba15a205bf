"""Writes keyed.json: the keyed stream's frozen values, as hex of their bytes, for every law in every type.

The cases are those of `cases()`. A change to any value is a change of major version (CHANGELOG, "Changes to
generated numbers"), so an existing file is replaced with --force alone.
Usage: python tests/golden/make_golden.py [--force | --print]; --print computes and leaves the file as it is.
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import torch

import fastinit
import fastinit._ops

FILE = Path(__file__).with_name("keyed.json")
DTYPES = ("float32", "float64", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")
LAWS: list[tuple[str, dict[str, float]]] = [
    ("uniform_", {"a": 0.0, "b": 1.0}),
    ("uniform_", {"a": -0.05, "b": 0.05}),
    ("uniform_", {"a": 0.1, "b": 0.7}),
    ("normal_", {"mean": 0.0, "std": 1.0}),
    ("normal_", {"mean": 1.0, "std": 0.02}),
    ("trunc_normal_", {"mean": 0.0, "std": 1.0, "a": -2.0, "b": 2.0}),
    ("trunc_normal_", {"mean": 0.0, "std": 0.02, "a": -2.0, "b": 2.0}),
    ("trunc_normal_", {"mean": 1.0, "std": 2.0, "a": 0.0, "b": 100.0}),
    ("trunc_normal_", {"mean": 0.0, "std": 1.0, "a": 4.0, "b": 5.0}),
    ("trunc_normal_", {"mean": 0.0, "std": 1.0, "a": -9.0, "b": -8.0}),
]
SPARSE = {"sparsity": 0.4, "std": 0.02}  # of matrices alone
# (seed, offset), global shape, where the part starts, its shape: odd sizes, blocks and indices past 2^32
PLACES: list[tuple[tuple[int, int], list[int], list[int], list[int]]] = [
    ((0, 0), [83], [0], [83]),
    ((2**64 - 1, 2**64 - 2), [3, 7], [1, 2], [2, 5]),
    ((0x0123456789ABCDEF, 2**32 - 3), [2**17, 2**17 + 1], [2**17 - 3, 2**17 - 4], [3, 5]),
]


def cases() -> list[dict[str, Any]]:
    drawn = [(dtype, *law, place) for dtype, law, place in itertools.product(DTYPES, LAWS, PLACES)]
    sparse = [(dtype, "sparse_", SPARSE, place) for dtype, place in itertools.product(DTYPES, PLACES[1:])]
    return [
        {"law": law, **numbers, "dtype": dtype, "key": list(key), "of": of, "start": start, "shape": shape}
        for dtype, law, numbers, (key, of, start, shape) in drawn + sparse
    ]


def compute(case: dict[str, Any]) -> str:
    tensor = torch.empty(case["shape"], dtype=getattr(torch, case["dtype"]))
    numbers = {name: case[name] for name in ("mean", "std", "a", "b", "sparsity") if name in case}
    part = fastinit.Key(*case["key"]).shard(tuple(case["of"]), tuple(case["start"]))
    getattr(fastinit, case["law"])(tensor, **numbers, generator=part)
    return tensor.view(torch.uint8).numpy().tobytes().hex()


if __name__ == "__main__":
    computed = [case | {"bytes": compute(case)} for case in cases()]
    if "--print" in sys.argv:
        print(json.dumps({"isa": fastinit._ops.isa(), "cases": computed}))
    elif FILE.exists() and "--force" not in sys.argv:
        sys.exit(f"{FILE} exists; --force replaces it, and changes the numbers that users rely on")
    else:
        FILE.write_text("[\n" + ",\n".join(map(json.dumps, computed)) + "\n]\n")
