"""docs/sharded_llama.py does what it says, on four processes: it ends with 0, having compared and trained.

Its processes are forked from one that has imported everything, and not started by torchrun: imports would take longer
than all the rest together.
"""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "docs" / "sharded_llama.py"
FORKS = """
import os, runpy, socket, sys
main = runpy.run_path(sys.argv[1])["main"]
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "4", "GLOO_SOCKET_IFNAME": "lo"}
children = []
for rank in range(4):
    child = os.fork()
    if child == 0:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        same = main()
        sys.stdout.flush()
        os._exit(0 if same else 1)
    children.append(child)
raise SystemExit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


@pytest.mark.slow
@pytest.mark.one_torch
def test_the_example_runs_and_finds_no_difference() -> None:
    pytest.importorskip("transformers")
    command = [sys.executable, "-c", FORKS, EXAMPLE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert "30 of 30 parameters equal byte for byte" in done.stdout
    steps = [line.split() for line in done.stdout.split("apart\n")[1].splitlines()]
    assert [line[0] for line in steps] == [str(step) for step in range(1, 11)]
    assert float(steps[-1][1]) < float(steps[0][1]) - 1  # it learnt something
