"""save_checkpoint against the disk and against the fill: which of them is what it waits for.

Three ways, taking turns, the fastest of each: `save_checkpoint`; files of the same lengths written with os.write and
fsync from a buffer that is ready; and the fill alone, into the buffer that save_checkpoint would fill. Deleting the
files of the round before is not on the clock.

    python benchmarks/bench_checkpoint.py --json checkpoint.json
"""

import argparse
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastinit import Key, Recipe, Rule, machine, normal_, save_checkpoint
from fastinit.fill import write_piece
from fastinit.plan import make_plan

SIDE = 8192  # of the square matrices, as large as those of models that fill several shards
BUFFER = 2**26  # bytes, save_checkpoint's
RECIPE = Recipe([Rule(normal_, std=0.02)])


def save(model: nn.Module, folder: Path, shard: str) -> None:
    save_checkpoint(model, RECIPE, folder, dtype=torch.bfloat16, max_shard_size=shard)


def plain_write(lengths: list[int], folder: Path, buffer: memoryview) -> None:
    folder.mkdir()
    for number, length in enumerate(lengths):
        descriptor = os.open(folder / str(number), os.O_WRONLY | os.O_CREAT)
        while length > 0:
            length -= os.write(descriptor, buffer[:length])
        os.fsync(descriptor)
        os.close(descriptor)


def fill(model: nn.Module, buffer: torch.Tensor) -> None:
    plan = make_plan(model, RECIPE, dtype=torch.bfloat16, in_place=False)
    for entry in plan.entries:
        for first in range(0, entry.shape.numel(), len(buffer)):
            write_piece(plan, entry, buffer[: entry.shape.numel() - first], first, Key(0))


def times(ways: dict[str, Callable[[], object]], folder: Path, rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            shutil.rmtree(folder, ignore_errors=True)
            os.sync()
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--matrices", type=int, default=32, help=f"{SIDE} × {SIDE}, bfloat16: 134 MB each")
    parser.add_argument("--max-shard-size", default="5GB")
    parser.add_argument("--folder", default=".", help="on the disk to be measured")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()

    with torch.device("meta"):
        model = nn.Sequential(*[nn.Linear(SIDE, SIDE, bias=False) for _ in range(given.matrices)])
    data = bytearray(BUFFER)
    buffer = torch.frombuffer(data, dtype=torch.bfloat16)
    with tempfile.TemporaryDirectory(dir=given.folder) as temporary:
        folder = Path(temporary, "checkpoint")
        save(model, folder, given.max_shard_size)
        lengths = [path.stat().st_size for path in sorted(folder.glob("*.safetensors"))]
        ways: dict[str, Callable[[], object]] = {
            "save_checkpoint": lambda: save(model, folder, given.max_shard_size),
            "os.write and fsync": lambda: plain_write(lengths, folder, memoryview(data)),
            "the fill alone": lambda: fill(model, buffer),
        }
        seconds = times(ways, folder, given.repeat)
    size = sum(lengths)
    best = {name: min(all_seconds) for name, all_seconds in seconds.items()}
    rows: list[dict[str, Any]] = [
        {
            "what": name,
            "seconds": least,
            "all_seconds": seconds[name],
            "gb_per_second": size / least / 1e9,
            "share_of_save_checkpoint": least / best["save_checkpoint"],
        }
        for name, least in best.items()
    ]
    print(f"{size / 1e9:.2f} GB in {len(lengths)} files")
    print(f"{'':20}{'seconds':>10}{'GB/s':>8}{'of save_checkpoint':>20}")
    for row in rows:
        print(
            f"{row['what']:20}{row['seconds']:10.2f}{row['gb_per_second']:8.2f}{row['share_of_save_checkpoint']:20.2f}"
        )
    if given.json is not None:
        about = {"command": shlex.join(["python", *sys.argv]), "machine": machine.describe(), **vars(given)}
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump({**about, "bytes": size, "files": len(lengths), "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
