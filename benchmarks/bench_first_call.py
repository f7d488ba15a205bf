"""What a process pays once: the import beside torch's own, and the self-check of the torch stream.

    python benchmarks/bench_first_call.py --json first_call.json

Method: processes of their own, five of each, the fastest counts. The self-check is what the first call of each
function and type costs more than the second, all together.
"""

import argparse
import json
import shlex
import subprocess
import sys

from timing import against

from fastinit import machine

IMPORT = """
import time, torch
started = time.perf_counter()
import fastinit
print(time.perf_counter() - started)
"""
SELF_CHECK = """
import time, torch, fastinit
tensors = [torch.ones(4, 4, dtype=getattr(torch, name)) for name in ("float32", "bfloat16", "float16", "float64")]

def every(module):
    started = time.perf_counter()
    for law in ("uniform_", "normal_", "trunc_normal_"):
        for tensor in tensors:
            getattr(module, law)(tensor)
    return time.perf_counter() - started

every(torch.nn.init)  # torch's own first calls are not ours to answer for
print(every(fastinit) - every(fastinit))
"""
MOST_MS = {"self-check": 5.0}


def milliseconds(code: str) -> float:
    runs = (subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5))
    return min(float(run.stdout) for run in runs) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    ms = {"import": milliseconds(IMPORT), "self-check": milliseconds(SELF_CHECK)}
    for what, least in ms.items():
        print(f"{what}, ms: {against(least, MOST_MS.get(what), 'at most')}")
    if given.json:
        command = shlex.join(["python", *sys.argv])
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump({"command": command, "machine": machine.describe(), "ms": ms, "most_ms": MOST_MS}, file, indent=1)


if __name__ == "__main__":
    main()
