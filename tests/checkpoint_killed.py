"""Kills a checkpoint write at every N-th step of it, one child process each, and looks at what it left.

    python tests/checkpoint_killed.py FOLDER N

A step is a call that changes the folder; a child is killed by SIGKILL before it, after it, or, of a write, with half of
it done. Prints how many children were killed, and how many finished shards they left, each number once. A program of
its own, because it forks, which needs a process that has never run torch on threads.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch
from small_model import RECIPE, Small

from fastinit import save_checkpoint
from fastinit.checkpoint import shards, writer

SHARDS = 4


def save(folder: Path) -> None:
    save_checkpoint(Small(), RECIPE, folder, key=1, max_shard_size=400)


def child(folder: Path, last: int) -> NoReturn:
    """Save, and die at step number `last`; where there are fewer, write beside the folder how many."""
    steps = 0

    def step() -> None:
        nonlocal steps
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)
        steps += 1

    def around(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **kwargs: Any) -> Any:
            step()
            result = function(*arguments, **kwargs)
            step()
            return result

        return call

    class File(shards.FileIO):
        def __init__(self, *arguments: Any) -> None:
            step()
            super().__init__(*arguments)
            step()

        def write(self, data: memoryview) -> int:
            step()
            written = super().write(data[: max(64, len(data) // 2)])
            step()
            return written

    shards.FileIO = File
    for name in ("open", "fsync", "replace", "unlink", "mkdir"):
        setattr(os, name, around(getattr(os, name)))
    save(folder)
    folder.with_suffix(".steps").write_text(str(steps))
    os._exit(0)


def status_of_child(folder: Path, last: int) -> int:
    process = os.fork()
    if process == 0:
        try:
            child(folder, last)
        finally:
            os._exit(1)  # an exception, of which Python has told
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def whole(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def main() -> None:
    root = Path(sys.argv[1])
    torch.set_num_threads(1)
    writer._BUFFER = 256  # so that a shard takes several writes
    save(root / "reference")
    reference = whole(root / "reference")
    assert len([name for name in reference if name.startswith("model-")]) == SHARDS
    assert status_of_child(root / "unharmed", -1) == 0
    steps = int((root / "unharmed.steps").read_text())
    finished = []
    for last in range(0, steps, int(sys.argv[2])):
        folder = root / "killed"
        status = status_of_child(folder, last)
        assert status == -signal.SIGKILL, (last, status)
        left = whole(folder) if folder.exists() else {}
        for name, content in left.items():
            assert content == reference[name], f"torn: {name} after step {last}"
        names = [name for name in left if name.startswith("model-")]
        assert shards.INDEX not in left or len(names) == SHARDS, last
        assert "fastinit.json" in left or not names, last
        finished.append(len(names))
        before = {name: (folder / name).stat() for name in left}
        save(folder)
        assert whole(folder) == reference, last
        assert set(os.listdir(folder)) == set(reference), f"left over after step {last}: {os.listdir(folder)}"
        for name, old in before.items():
            now = (folder / name).stat()
            assert (now.st_ino, now.st_mtime_ns) == (old.st_ino, old.st_mtime_ns), f"{name} written anew, {last}"
        shutil.rmtree(folder)
    print(len(finished), *sorted(set(finished)))


if __name__ == "__main__":
    main()
