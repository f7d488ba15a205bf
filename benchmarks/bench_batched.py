"""Other people's code inside `fastinit.batched()` against the same code without it, torch stream, in one process.

Large models: built plainly and in a block, taking turns, the fastest of each. Building is everything that the
library's constructor does, its memory's first touch included, so as much as the model takes is touched and freed
before each pass (fresh.py says why); giving it back is not timed. Recording: what a fill of 16 elements costs
within a block until it is recorded, and until it has run too. Small models: as the large ones, many in a pass.

    python benchmarks/bench_batched.py --json batched.json
    python benchmarks/bench_batched.py --model llama-1b --dtype bfloat16 --rounds 1
    python benchmarks/bench_batched.py --model                      only the recording and the small models
"""

import argparse
import gc
import json
import math
import shlex
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from fresh import at_hand
from timing import against, fastest, wall_seconds
from torch import Tensor, nn

import fastinit
from fastinit import machine
from fastinit.bench.architectures import ARCHITECTURES

Build = Callable[[], nn.Module]


def bert_base() -> nn.Module:
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig())


def of_timm(name: str) -> Build:
    def build() -> nn.Module:
        import timm

        return timm.create_model(name)

    return build


def of_torchvision(name: str) -> Build:
    def build() -> nn.Module:
        import torchvision

        return getattr(torchvision.models, name)()

    return build


class Large(NamedTuple):
    build: Build
    target: float | None = None  # times faster than plain, in float32


LARGE = {
    "gpt2-xl": Large(ARCHITECTURES["gpt2-xl"].build, 5),
    "llama-1b": Large(ARCHITECTURES["llama-1b"].build, 5),
    "bert-base": Large(bert_base),
    "torchvision-vit_l_16": Large(of_torchvision("vit_l_16"), 4),
    "torchvision-resnet152": Large(of_torchvision("resnet152"), 4),
    "timm-vit_large_patch16_224": Large(of_timm("vit_large_patch16_224"), 3),
    "timm-convnext_base": Large(of_timm("convnext_base")),
}


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5))


def transformer() -> nn.Module:
    return nn.Transformer(32, 4, 2, 2, 64, batch_first=True)


SMALL = {  # and how many of them make a pass
    "mlp": (mlp, 100),
    "nn.Transformer": (transformer, 10),
    "torchvision-resnet18": (of_torchvision("resnet18"), 2),
}
FILLS: dict[str, Callable[[Tensor], object]] = {
    "normal_": lambda tensor: tensor.normal_(0, 0.02),
    "uniform_": lambda tensor: tensor.uniform_(-0.1, 0.1),
    "zero_": lambda tensor: tensor.zero_(),
    "fill_": lambda tensor: tensor.fill_(0.3),
    "torch.nn.init.normal_": lambda tensor: nn.init.normal_(tensor, 0, 0.02),
}
MOST_US_TO_RECORD = 20.0


def missing(name: str, build: Build) -> bool:
    """Import what builds the model; where that is not installed, say so."""
    try:
        with torch.device("meta"):
            build()
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision beside another torch than it was built for
        print(f"{name}: skipped: {error}")
        return True
    return False


def large(name: str, rounds: int, dtype: torch.dtype) -> dict[str, Any]:
    build, target = LARGE[name]
    with torch.device("meta"):
        size = sum(parameter.nbytes for parameter in build().parameters())
    made: list[nn.Module] = []  # kept beyond the pass
    counts = {}

    def plain() -> None:
        made.append(build())

    def batched() -> None:
        with fastinit.batched() as block:
            made.append(build())
        counts.update(recorded=block.recorded, dead=block.dead)

    times: dict[str, list[float]] = {"plain": [], "batched": []}
    order = [("plain", plain), ("batched", batched)]
    for turn in range(rounds):
        for way, run in order if turn % 2 == 0 else reversed(order):
            at_hand(size)
            torch.manual_seed(0)
            times[way].append(wall_seconds(run))
            made.clear()
            gc.collect()  # a model may refer to itself
    best = {way: min(seconds) for way, seconds in times.items()}
    return {
        "model": name,
        "bytes": size,
        "seconds": best,
        "all_seconds": times,
        "times_faster": best["plain"] / best["batched"],
        "least_times_faster": target if dtype == torch.float32 else None,
        **counts,
    }


def recording(name: str, count: int, rounds: int) -> dict[str, Any]:
    fill = FILLS[name]
    tensors = [torch.zeros(16) for _ in range(count)]
    plain = recorded = run = math.inf
    for _ in range(rounds):
        started = time.perf_counter()
        for tensor in tensors:
            fill(tensor)
        plain = min(plain, time.perf_counter() - started)
        started = time.perf_counter()
        with fastinit.batched():
            for tensor in tensors:
                fill(tensor)
            recorded = min(recorded, time.perf_counter() - started)
        run = min(run, time.perf_counter() - started)
    us = {"plain": plain, "recorded": recorded, "recorded and run": run}
    return {"fill": name, "us": {what: seconds / count * 1e6 for what, seconds in us.items()}}


def small(name: str, rounds: int) -> dict[str, Any]:
    build, count = SMALL[name]

    def plain() -> None:
        for _ in range(count):
            build()

    def batched() -> None:
        for _ in range(count):
            with fastinit.batched():
                build()

    seconds = fastest({"plain": plain, "batched": batched}, rounds)
    return {
        "model": name,
        "ms": {way: least / count * 1e3 for way, least in seconds.items()},
        "times_faster": seconds["plain"] / seconds["batched"],
        "least_times_faster": 1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=LARGE, nargs="*", default=list(LARGE), help="which large models; all")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="torch's default type")
    parser.add_argument("--rounds", type=int, default=3, help="of the large models")
    parser.add_argument("--tensors", type=int, default=2_000, help="how many are filled to time the recording")
    parser.add_argument("--repeat", type=int, default=15, help="rounds of the recording and of the small models")
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    dtype = getattr(torch, given.dtype)
    torch.set_default_dtype(dtype)

    figures: dict[str, list[dict[str, Any]]] = {"large": [], "recording": [], "small": []}
    print(f"{given.dtype}, {torch.get_num_threads()} threads")
    print(f"{'':28}{'plain s':>9}{'batched s':>11}{'fills':>8}{'dead':>8}  ratio")
    for name in given.model:
        if not missing(name, LARGE[name].build):
            row = large(name, given.rounds, dtype)
            figures["large"].append(row)
            seconds, ratio = row["seconds"], against(row["times_faster"], row["least_times_faster"], "at least")
            counts = f"{row['recorded']:8}{row['dead']:8}"
            print(f"{name:28}{seconds['plain']:9.3f}{seconds['batched']:11.3f}{counts}  {ratio}", flush=True)
    print(f"\n{'µs a fill of 16 elements':28}{'plain':>9}{'with run':>11}  recorded")
    for name in FILLS:
        row = recording(name, given.tensors, given.repeat)
        figures["recording"].append(row)
        us = row["us"]
        bound = against(us["recorded"], MOST_US_TO_RECORD, "at most")
        print(f"{name:28}{us['plain']:9.2f}{us['recorded and run']:11.2f}  {bound}")
    print(f"\n{'ms a model':28}{'plain':>9}{'batched':>11}  ratio")
    for name in SMALL:
        if not missing(name, SMALL[name][0]):
            row = small(name, given.repeat)
            figures["small"].append(row)
            ms, ratio = row["ms"], against(row["times_faster"], row["least_times_faster"], "at least")
            print(f"{name:28}{ms['plain']:9.3f}{ms['batched']:11.3f}  {ratio}")
    if given.json is not None:
        about = {"command": shlex.join(["python", *sys.argv]), "machine": machine.describe(), **vars(given)}
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump({**about, **figures}, file, indent=1)


if __name__ == "__main__":
    main()
