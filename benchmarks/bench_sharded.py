"""One process's part of a 7-billion-parameter Llama cut over 64, and a 64th of the time that all of it would take.

The mesh is simulated by torch's fake backend: one process that says it is one of 64 and sends nothing, as init_model_
sends nothing. The model is built on the meta device and cut by FSDP2 (64) and by FSDP2 over tensor parallel (8 x 8);
init_model_ gives memory to this process's part alone, and fills it.

    python benchmarks/bench_sharded.py --json sharded.json

The whole, 27 GB, is nowhere: its time is that of a plain model of the same layers, an element, and there is one of each
layer and a 64th of the vocabulary, so that it fits. init_model_ fills both, warm, taking turns, the fastest pass
of each. Beside them: plain parameters of the part's own shapes; and as many parameters with next to no elements, which
say what a parameter costs, however few of its elements are here: the ratio of the elements alone is without that. The
first pass, from the meta device, is in the file too, and is in no ratio.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from timing import against, fastest
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.testing._internal.distributed.fake_pg import FakeStore

from fastinit import init_model_, machine
from fastinit.recipes import llama

RANKS, RANK = 64, 27
SIZES = {
    "vocab_size": 32_000,
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "tie_word_embeddings": False,
}
ONE_LAYER = SIZES | {"num_hidden_layers": 1, "vocab_size": 500}
TINY = SIZES | {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 64}
MESHES = {"64": (64,), "8 x 8": (8, 8)}
TARGET = 1.1  # of a 64th of the whole's time


def on_meta(sizes: dict[str, Any], dtype: torch.dtype) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        return LlamaForCausalLM(LlamaConfig(**sizes)).to(dtype)


def cut(model: Any, shape: tuple[int, ...]) -> nn.Module:
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=("data", "tensor")[: len(shape)])
    if len(shape) == 2:
        by_tensor(model, mesh["tensor"])
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh["data"])
    return fully_shard(model, mesh=mesh["data"])


def by_tensor(model: Any, mesh: DeviceMesh) -> None:
    ends = {
        "model.embed_tokens": RowwiseParallel(input_layouts=Replicate()),
        "lm_head": ColwiseParallel(output_layouts=Replicate()),
    }
    block: dict[str, Any] = {f"self_attn.{name}_proj": ColwiseParallel() for name in "qkv"}
    block |= {"mlp.gate_proj": ColwiseParallel(), "mlp.up_proj": ColwiseParallel()}
    block |= {"self_attn.o_proj": RowwiseParallel(), "mlp.down_proj": RowwiseParallel()}
    parallelize_module(model, mesh, ends)
    for layer in model.model.layers:
        parallelize_module(layer, mesh, block)


def of_local_shapes(sharded: nn.Module, sizes: dict[str, Any], dtype: torch.dtype) -> nn.Module:
    """Return the uncut model with plain parameters of the shapes that the cut one's local parts have."""
    model = on_meta(sizes, dtype)
    shapes = {name: parameter.to_local().shape for name, parameter in sharded.named_parameters()}
    for path, module in model.named_modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            shape = shapes[f"{path}.{name}" if path else name]
            setattr(module, name, nn.Parameter(torch.empty(shape, dtype=parameter.dtype, device="meta")))
    return model


def filled(model: nn.Module) -> float:
    started = time.perf_counter()
    init_model_(model, llama(), buffers="reset")
    return time.perf_counter() - started


def elements(model: nn.Module) -> int:
    """Return how many elements of the parameters this process has."""
    return sum(getattr(p, "to_local", lambda p=p: p)().numel() for p in model.parameters())


def measured(mesh: str, dtype: torch.dtype, rounds: int) -> dict[str, Any]:
    whole = sum(parameter.numel() for parameter in on_meta(SIZES, dtype).parameters())
    sharded = cut(on_meta(SIZES, dtype), MESHES[mesh])
    models = {
        "the part": sharded,
        "uncut layers": on_meta(ONE_LAYER, dtype),
        "plain, of the part's shapes": of_local_shapes(sharded, SIZES, dtype),
        "tiny, cut": cut(on_meta(TINY, dtype), MESHES[mesh]),
        "tiny, plain": on_meta(TINY, dtype),
    }
    first = {name: filled(model) for name, model in models.items()}
    runs: dict[str, Callable[[], object]] = {name: partial(filled, model) for name, model in models.items()}
    seconds = fastest(runs, rounds)
    counted = {name: elements(model) for name, model in models.items()}
    parameters = len(list(sharded.parameters()))
    a_64th = seconds["uncut layers"] / counted["uncut layers"] * whole / RANKS
    return {
        "mesh": mesh,
        "dtype": str(dtype).removeprefix("torch."),
        "parameters": parameters,
        "whole_elements": whole,
        "elements": counted,
        "seconds": seconds,
        "seconds_from_meta": first,
        "ns_per_element": {name: seconds[name] / counted[name] * 1e9 for name in list(models)[:3]},
        "a_64th_of_the_whole": a_64th,
        "ratio": seconds["the part"] / a_64th,
        "ratio_of_elements": (seconds["the part"] - seconds["tiny, cut"]) / a_64th,
        "us_per_parameter": {name: seconds[name] / parameters * 1e6 for name in ("tiny, cut", "tiny, plain")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()

    dist.init_process_group("fake", store=FakeStore(), rank=RANK, world_size=RANKS)
    rows = []
    print(
        "| mesh | type | elements of the part | part, ms | 64th of all, ms | ratio | elements alone "
        "| µs a parameter: cut | plain |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for dtype in given.dtype:
        for mesh in MESHES:
            row = measured(mesh, getattr(torch, dtype), given.rounds)
            rows.append(row)
            each = row["us_per_parameter"]
            cells = [mesh, dtype, f"{row['elements']['the part'] / 1e6:.1f} million"]
            cells += [f"{row['seconds']['the part'] * 1e3:.1f}", f"{row['a_64th_of_the_whole'] * 1e3:.1f}"]
            cells += [
                against(row["ratio"], TARGET, "at most"),
                f"{row['ratio_of_elements']:.2f}",
                f"{each['tiny, cut']:.1f}",
                f"{each['tiny, plain']:.1f}",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)
    if given.json is not None:
        command = shlex.join(["python", *sys.argv])
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump({"command": command, "machine": machine.describe(), "sharded": rows}, file, indent=1)


if __name__ == "__main__":
    main()
