"""Every keyed fill against torch.nn.init and against a one-thread fill_ of the same memory, in one process.

    python benchmarks/bench_fills.py                           two threads, every instruction set
    python benchmarks/bench_fills.py --isa avx512 --json FILE
    python benchmarks/bench_fills.py --device cuda             1 GiB there, against torch and fill_ on the same device

Method: 256 MB of memory, touched beforehand; all contestants take five turns, the fastest of each counts.
Small tensors: averages over thousands of calls, turn by turn.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from typing import Any

import torch
from timing import CPU, add_device, against, fastest

import fastinit
from fastinit import _C, Key, _ops, machine

BYTES = 256 * 2**20
CUDA_BYTES = 2**30  # many times the second-level cache of any device
# law: function, arguments, least ratio to torch for float32 and bfloat16, greatest ratio to fill_ for float32
LAWS: dict[str, tuple[str, dict[str, float], float | None, float | None, float | None]] = {
    "uniform": ("uniform_", {"a": -0.1, "b": 0.1}, 14, 17, 1.3),
    "normal": ("normal_", {"mean": 0.0, "std": 0.02}, 11, 13, 1.9),
    "truncated at 2 std": ("trunc_normal_", {"std": 1.0, "a": -2.0, "b": 2.0}, 120, None, 2.2),
    "truncated at 100 std": ("trunc_normal_", {"std": 0.02, "a": -2.0, "b": 2.0}, 12, None, None),
}
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def one_thread(run: Callable[[], object]) -> Callable[[], object]:
    def inner() -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        run()
        torch.set_num_threads(threads)

    return inner


def large(isas: list[str], law: str, dtype: torch.dtype) -> list[dict[str, Any]]:
    """Return a row for each instruction set; torch, which does not know of them, is the same contestant for all."""
    name, arguments, *targets = LAWS[law]
    tensor = torch.zeros(BYTES // dtype.itemsize, dtype=dtype)
    runs: dict[str, Callable[[], object]] = {
        "torch": lambda: getattr(torch.nn.init, name)(tensor, **arguments),
        "fill_, 1 thread": one_thread(lambda: tensor.fill_(0.3)),
    }
    for isa in isas:

        def keyed(isa: str = isa) -> None:
            _C.use_isa(isa)
            getattr(fastinit, name)(tensor, **arguments, generator=Key(1))

        runs[isa] = keyed
        runs[f"{isa}, 1 thread"] = one_thread(keyed)
    ns = {what: least / tensor.numel() * 1e9 for what, least in fastest(runs, rounds=5).items()}
    to_torch = {torch.float32: targets[0], torch.bfloat16: targets[1]}.get(dtype)
    return [
        {
            "isa": isa,
            "law": law,
            "dtype": str(dtype).removeprefix("torch."),
            "ns_per_element": {
                "torch": ns["torch"],
                "fastinit": ns[isa],
                "fastinit, 1 thread": ns[f"{isa}, 1 thread"],
                "fill_, 1 thread": ns["fill_, 1 thread"],
            },
            "times_faster_than_torch": ns["torch"] / ns[isa],
            "times_fill": ns[isa] / ns["fill_, 1 thread"],
            "least_times_faster": None if to_torch is None else to_torch * (1 if isa == "avx512" else 0.5),
            "most_times_fill": targets[2] if dtype == torch.float32 and isa == "avx512" else None,
        }
        for isa in isas
    ]


def on_cuda(law: str, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    name, arguments, *_ = LAWS[law]
    tensor = torch.zeros(CUDA_BYTES // dtype.itemsize, dtype=dtype, device=device)
    runs: dict[str, Callable[[], object]] = {
        "torch": lambda: getattr(torch.nn.init, name)(tensor, **arguments),
        "fastinit": lambda: getattr(fastinit, name)(tensor, **arguments, generator=Key(1)),
        "fill_": lambda: tensor.fill_(0.3),
    }
    best = fastest(runs, 9, device)
    return {
        "law": law,
        "dtype": str(dtype).removeprefix("torch."),
        "ns_per_element": {who: seconds / tensor.numel() * 1e9 for who, seconds in best.items()},
        "gigabytes_per_second": {who: tensor.nbytes / seconds / 1e9 for who, seconds in best.items()},
        "times_faster_than_torch": best["torch"] / best["fastinit"],
        "times_fill": best["fastinit"] / best["fill_"],
    }


def small(size: int, device: torch.device = CPU) -> dict[str, Any]:
    tensor, key, calls = torch.empty(size, device=device), Key(1), max(20, 20_000 // (1 + size // 500))

    def repeat(function: Callable[..., object], **arguments: Any) -> Callable[[], None]:
        def run() -> None:
            for _ in range(calls):
                function(tensor, **arguments)

        return run

    best = fastest(
        {"fastinit": repeat(fastinit.normal_, generator=key), "torch": repeat(torch.nn.init.normal_)},
        rounds=15,
        device=device,
        clock="wall",
    )
    us = {what: least / calls * 1e6 for what, least in best.items()}
    return {"size": size, "us_per_call": us, "share_of_torch": us["fastinit"] / us["torch"]}


def table(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(f"{c:{w}}" for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


def tables_for_cpu(given: list[str] | None) -> list[dict[str, Any]]:
    rows = []
    print("| kernels | law | type | torch | fastinit | 1 thread | fill_ | × torch | × fill_ |")
    print("|---|---|---|---|---|---|---|---|---|")
    isas = given or [isa for isa in _ops.available_isas() if isa != "scalar"]
    for law in LAWS:
        for dtype in DTYPES:
            for row in large(isas, law, dtype):
                rows.append(row)
                ns = row["ns_per_element"]
                cells = [row["isa"], law, row["dtype"], f"{ns['torch']:.2f}", f"{ns['fastinit']:.3f}"]
                cells += [f"{ns['fastinit, 1 thread']:.3f}", f"{ns['fill_, 1 thread']:.3f}"]
                cells += [against(row["times_faster_than_torch"], row["least_times_faster"], "at least")]
                cells += [against(row["times_fill"], row["most_times_fill"], "at most")]
                print("| " + " | ".join(cells) + " |", flush=True)
    _C.use_isa(_ops.available_isas()[0])
    return rows


def table_for_cuda(device: torch.device) -> list[dict[str, Any]]:
    rows = []
    print(
        "| law | type | torch, GB/s | fastinit, GB/s | fill_, GB/s | × torch | × fill_ |\n|---|---|---|---|---|---|---|"
    )
    for law in LAWS:
        for dtype in DTYPES:
            rows.append(row := on_cuda(law, dtype, device))
            speeds = (f"{speed:.0f}" for speed in row["gigabytes_per_second"].values())
            cells = [law, row["dtype"], *speeds, f"{row['times_faster_than_torch']:.2f}", f"{row['times_fill']:.2f}"]
            print("| " + " | ".join(cells) + " |", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", choices=_ops.available_isas(), action="append", help="only this instruction set")
    parser.add_argument("--threads", type=int, default=2)
    add_device(parser)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result: dict[str, Any] = {
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine.describe(),
        "threads": options.threads,
        "device": str(options.device),
        "large": table_for_cuda(options.device) if options.device.type == "cuda" else tables_for_cpu(options.isa),
    }
    result["small"] = [
        small(size, options.device) for size in (10, 100, 1_000, 10_000, 32_768, 65_536, 100_000, 1_000_000)
    ]
    print("\n" + table(["normal_, elements", "torch, µs", "fastinit, µs", "share of torch"], [
        [f"{row['size']:,}", f"{row['us_per_call']['torch']:.2f}", f"{row['us_per_call']['fastinit']:.2f}",
         f"{row['share_of_torch']:.2f}"]
        for row in result["small"]
    ]))  # fmt: skip
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
