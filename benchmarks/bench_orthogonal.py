"""orthogonal_ of both streams against torch.nn.init, float32, in one process.

    python benchmarks/bench_orthogonal.py --json FILE
    python benchmarks/bench_orthogonal.py --device cuda    memory is not measured there

Method: memory touched beforehand; all contestants take five turns with the same seed or key, the fastest of each
counts. Many matrices: torch.nn.init and the torch stream fill them one by one, the keyed stream in one native call.
Memory: what the process's peak is above that before the call, in copies of the matrix, each in a process of its own
that has filled the same matrix before. Error: the largest element of |Q'Q - 1|, in float64.
"""

import argparse
import json
import multiprocessing
import os
import shlex
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timing import add_device, against, fastest

import fastinit
from fastinit import _ops, laws, machine

# Shape, and the least ratio of the keyed stream to torch.
SHAPES: dict[tuple[int, int], float | None] = {
    (256, 256): None,
    (1024, 1024): None,
    (2048, 2048): 2.6,
    (4096, 4096): 2.6,
    (8192, 1024): 2.0,
    (1024, 8192): None,
}
MANY, SIDE = 64, 128


def seeded(device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(7)


KEY = fastinit.Key(7)
CONTESTANTS: dict[str, Callable[[torch.Tensor], object]] = {
    "torch": lambda tensor: torch.nn.init.orthogonal_(tensor, generator=seeded(tensor.device)),
    "torch stream": lambda tensor: fastinit.orthogonal_(tensor, generator=seeded(tensor.device)),
    "keyed": lambda tensor: fastinit.orthogonal_(tensor, generator=KEY),
}


def row(what: str, seconds: dict[str, float], least: float | None, **more: Any) -> dict[str, Any]:
    ratios = {who: seconds["torch"] / seconds[who] for who in ("torch stream", "keyed")}
    return {"matrix": what, "seconds": seconds, "times_faster": ratios, "least_times_faster": least, **more}


def one(shape: tuple[int, int], least: float | None, device: torch.device) -> dict[str, Any]:
    tensors = {who: torch.ones(shape, device=device) for who in CONTESTANTS}
    runs = {who: lambda who=who: CONTESTANTS[who](tensors[who]) for who in CONTESTANTS}
    seconds = fastest(runs, rounds=5, device=device, clock="wall")
    errors = {who: error(tensor) for who, tensor in tensors.items()}
    copies = {who: peak_of(who, shape) for who in CONTESTANTS} if device.type == "cpu" else {}
    return row(f"{shape[0]} × {shape[1]}", seconds, least, error=errors, copies_of_extra_memory=copies)


def many(device: torch.device) -> dict[str, Any]:
    tensors = [torch.ones(SIDE, SIDE, device=device) for _ in range(MANY)]
    keys, kinds = KEY.split(MANY), [laws.orthogonal((SIDE, SIDE))] * MANY
    runs: dict[str, Callable[[], object]] = {
        who: lambda who=who: [CONTESTANTS[who](tensor) for tensor in tensors] for who in ("torch", "torch stream")
    }
    runs["keyed"] = lambda: _ops.fill_(tensors, kinds, keys)
    return row(f"{MANY} of {SIDE} × {SIDE}", fastest(runs, 9, device, clock="wall"), None)


def error(tensor: torch.Tensor) -> float:
    q = tensor.double().cpu()
    q = q.T if q.shape[0] < q.shape[1] else q
    return (q.T @ q - torch.eye(q.shape[1], dtype=torch.float64)).abs().max().item()


def peak(who: str, shape: tuple[int, int]) -> float:
    tensor = torch.ones(shape)
    CONTESTANTS[who](tensor)  # the first time brings in the library's own pages
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = kilobytes("VmRSS")
    CONTESTANTS[who](tensor)
    return (kilobytes("VmHWM") - before) * 1024 / tensor.nbytes


def kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def peak_of(who: str, shape: tuple[int, int]) -> float:
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"  # what is freed in the process to come is given back at once
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(peak, who, shape).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_device(parser)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    result: dict[str, Any] = {
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine.describe(),
        "threads": torch.get_num_threads(),
        "device": str(options.device),
        "rows": [],
    }
    names = [*CONTESTANTS, "torch stream, ×", "keyed, ×", "error: torch", "keyed", "memory: torch", "keyed"]
    print(f"| matrix | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
    on_cpu = options.device.type == "cpu"
    shapes = [partial(one, shape, least if on_cpu else None, options.device) for shape, least in SHAPES.items()]
    for measure in (*shapes, partial(many, options.device)):
        found = measure()
        result["rows"].append(found)
        cells = [found["matrix"], *(f"{seconds * 1e3:.1f} ms" for seconds in found["seconds"].values())]
        cells += [f"{found['times_faster']['torch stream']:.2f}"]
        cells += [against(found["times_faster"]["keyed"], found["least_times_faster"], "at least")]
        if "error" in found:
            cells += [f"{found['error'][who]:.1e}" for who in ("torch", "keyed")]
            copies = found["copies_of_extra_memory"]
            cells += [f"{copies[who]:.2f}" if copies else "" for who in ("torch", "keyed")]
        print("| " + " | ".join(cells) + " |", flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
