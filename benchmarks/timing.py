"""The one way in which these benchmarks compare: everything in one process, taking turns.

On a CUDA device a pass is timed by events on its stream, from the first kernel's launch to the last one's end.
"""

import argparse
import time
from collections.abc import Callable

import torch

CPU = torch.device("cpu")


def fastest(
    runs: dict[str, Callable[[], object]], rounds: int, device: torch.device = CPU, clock: str = "device"
) -> dict[str, float]:
    """Return the least seconds of each, all taking turns, forwards and backwards.

    A slow one on one thread lets the other threads fall asleep, and who comes next wakes them.

    clock: on CUDA "device" for events, or "wall" for the time until all is done, which counts what the calls cost.
    """
    seconds = seconds_on_device if device.type == "cuda" and clock == "device" else wall_seconds
    best = dict.fromkeys(runs, float("inf"))
    order = list(runs.items())
    if device.type == "cuda":
        for _, run in order:  # loads kernels and takes memory
            run()
    for turn in range(rounds):
        for name, run in order if turn % 2 == 0 else reversed(order):
            best[name] = min(best[name], seconds(run, device))
    return best


def wall_seconds(run: Callable[[], object], device: torch.device = CPU) -> float:
    """Return how long the pass takes, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def seconds_on_device(run: Callable[[], object], device: torch.device) -> float:
    with torch.cuda.device(device):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        run()
        end.record()
        end.synchronize()
    return begin.elapsed_time(end) / 1e3


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", type=device_at_hand, default=CPU, help="cpu, cuda or cuda:1; torch runs there too")


def device_at_hand(text: str) -> torch.device:
    """Return the device, or have argparse say in a line what there is."""
    try:
        device = torch.device(text)
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"must be cpu or a CUDA device, got {text}") from None
    if device.type not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"must be cpu or a CUDA device, got {text}")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise argparse.ArgumentTypeError(f"{text} is not here: torch {torch.__version__} finds {count} CUDA devices")
    return device


def against(ratio: float, target: float | None, bound: str) -> str:
    """Return the ratio with what it was meant to be: `bound` is "at least" or "at most"."""
    return f"{ratio:.2f}" if target is None else f"{ratio:.2f} ({bound} {target:g})"
