"""What the machine and the build are: for `python -m fastinit info` and beside every benchmark's figures."""

import os
import platform
import re
from pathlib import Path

import torch

from fastinit import _ops
from fastinit._build_info import CUDA
from fastinit._version import __version__
from fastinit.self_check import by_law


def describe() -> dict[str, str | int | list[str]]:
    return {
        "fastinit": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": _cpu_model(),
        "cores": _cores(),
        "threads": torch.get_num_threads(),
        "isa": _ops.isa(),
        "isas": _ops.available_isas(),
        "cuda": _cuda(),
        "torch_stream": by_law(native=True),
    }


def available_memory() -> int | None:
    """Bytes free to take, by the kernel and by the container's limit; None where unknown."""
    bounds = []
    if kib := re.search(r"^MemAvailable:\s+(\d+) kB", _read("/proc/meminfo"), re.MULTILINE):
        bounds.append(int(kib[1]) * 1024)
    limit, used = _read("/sys/fs/cgroup/memory.max").strip(), _read("/sys/fs/cgroup/memory.current").strip()
    if limit.isdigit() and used.isdigit():
        bounds.append(int(limit) - int(used))
    return min(bounds, default=None)


def _cuda() -> str:
    """Return what compiled the CUDA kernels, and the devices that there are, whose names initialise CUDA."""
    if torch.version.cuda is None:
        return "no kernels: torch is no CUDA build"
    kernels = f"kernels by {CUDA}" if CUDA else "no kernels: built without nvcc or with FASTINIT_CUDA=0"
    count = torch.cuda.device_count()
    try:
        devices = ", ".join(map(torch.cuda.get_device_name, range(count))) or "none"
    except RuntimeError as error:  # counting needs no working driver, names do; and no forked child has them
        devices = f"{count} that do not answer ({str(error).partition(chr(10))[0]})"
    return f"{kernels}; devices: {devices}"


def _cpu_model() -> str:
    named = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return named[1] if named else platform.processor() or platform.machine()


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # Linux's; a container may own a part of the machine
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
