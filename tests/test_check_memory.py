"""check_model looks at tensors piece by piece: what it takes of memory does not grow with them."""

import subprocess
import sys

import pytest

MEMORY = """
import torch
from pathlib import Path
from torch import nn
import fastinit
from fastinit import Part, Recipe, Rule, check_model, init_model_

def kib(field):
    return int(Path("/proc/self/status").read_text().split(field + ":")[1].split()[0])

recipe = Recipe([
    Rule(fastinit.normal_, names="0.weight", std=0.02, parts=Part(fastinit.zeros_, (slice(None), 5))),
    Rule(fastinit.sparse_, names="1.weight", sparsity=0.2),
    Rule(fastinit.orthogonal_, names="2.weight"),
    Rule(fastinit.uniform_, names="3.weight"),
])
model = nn.Sequential(nn.Linear(SIZE, SIZE, bias=False), nn.Linear(SIZE, SIZE, bias=False),
                      nn.Linear(256, SIZE * SIZE // 256, bias=False), nn.Linear(SIZE, SIZE, bias=False))
model[3].weight = nn.Parameter(model[3].weight.detach().t())
init_model_(model, recipe)
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = kib("VmRSS")
assert check_model(model, recipe).ok
print(kib("VmHWM") - before)
"""


@pytest.mark.one_torch
def test_memory_does_not_grow_with_the_tensors() -> None:
    """4 tensors of 16 MiB, and of 100: a copy of one would show, beside what threads hold at a time."""
    peaks = []
    for size in (2048, 5120):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY.replace("SIZE", str(size))], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout) / 1024)
    assert max(peaks) < 300, peaks  # MiB
    assert peaks[1] - peaks[0] < 65, peaks
