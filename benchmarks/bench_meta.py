"""Whole models from the meta device to ready: memory, its first touch, and values.

Three ways, taking turns in one process, each from a copy of the same meta model, the fastest of each: torch's to_empty
and torch.nn.init.normal_ for every matrix, to_empty and fill_(0.3), and init_model_. A virtual machine may give free
memory back to its host, and to get it again then costs more than all the rest: before each pass, as much memory as
it takes is touched and freed.

    python benchmarks/bench_meta.py --json meta.json
    python benchmarks/bench_meta.py --device cuda        memory of the device, from an empty cache each time
    python benchmarks/bench_meta.py --model llama-8b --dtype bfloat16 --rounds 1 --json meta_8b.json    # alone: 16 GB
"""

import argparse
import copy
import json
import shlex
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timing import add_device, against, wall_seconds
from torch import nn

from fastinit import init_model_, machine
from fastinit.materialise import new_tensor
from fastinit.recipes import llama

SIZES = {
    "llama-1b": {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": True,
    },
    "llama-8b": {
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": False,
    },
}
# Times faster than torch.nn.init.normal_, and seconds as a multiple of fill_'s.
TARGETS = {"llama-1b": (None, 1.1), "llama-8b": (7.0, None)}


def on_meta(name: str, dtype: torch.dtype) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        return LlamaForCausalLM(LlamaConfig(**SIZES[name])).to(dtype)


def to_empty(model: nn.Module, device: torch.device) -> None:
    model.to_empty(device=device)
    model.tie_weights()


@torch.no_grad()
def by_torch(model: nn.Module, device: torch.device) -> None:
    to_empty(model, device)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.02)
        else:
            torch.nn.init.ones_(parameter)


@torch.no_grad()
def by_fill(model: nn.Module, device: torch.device) -> None:
    to_empty(model, device)
    for parameter in model.parameters():
        parameter.fill_(0.3)


def by_fastinit(model: nn.Module, device: torch.device) -> None:
    init_model_(model, llama(), device=device, buffers="reset")


def at_hand(size: int, device: torch.device) -> None:
    if device.type == "cuda":
        return torch.cuda.empty_cache()
    new_tensor(torch.empty(size, device="meta"), torch.uint8).fill_(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SIZES, default="llama-1b")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    add_device(parser)
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()

    model = on_meta(given.model, getattr(torch, given.dtype))
    size = sum(parameter.nbytes for parameter in model.parameters())
    ways: dict[str, Callable[[nn.Module, torch.device], None]] = {
        "to_empty, torch.nn.init": by_torch,
        "to_empty, fill_": by_fill,
        "fastinit.init_model_": by_fastinit,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(given.rounds):
        for name, run in ways.items() if turn % 2 == 0 else reversed(ways.items()):
            one = copy.deepcopy(model)
            at_hand(size, given.device)
            times[name].append(wall_seconds(partial(run, one, given.device), given.device))
            del one
    best = {name: min(seconds) for name, seconds in times.items()}
    ours = best["fastinit.init_model_"]
    faster, of_fill = TARGETS[given.model] if given.device.type == "cpu" else (None, None)
    print(f"{given.model}, {given.dtype}, {size / 1e9:.2f} GB")
    for name, seconds in best.items():
        print(f"{name:26}{seconds:8.3f} s{size / seconds / 1e9:8.2f} GB/s")
    print(f"times faster than torch.nn.init: {against(best['to_empty, torch.nn.init'] / ours, faster, 'at least')}")
    print(f"of to_empty and fill_: {against(ours / best['to_empty, fill_'], of_fill, 'at most')}")
    if given.json is not None:
        command = shlex.join(["python", *sys.argv])
        about: dict[str, Any] = {"command": command, "machine": machine.describe(), **vars(given)}
        about["device"] = str(given.device)
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump({**about, "bytes": size, "seconds": best, "all_seconds": times}, file, indent=1)


if __name__ == "__main__":
    main()
