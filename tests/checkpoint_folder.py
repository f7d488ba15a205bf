"""A small checkpoint for tests of what its folder holds."""

import os
from pathlib import Path
from typing import Any

import pytest
from small_model import RECIPE, Small

from fastinit import save_checkpoint
from fastinit.checkpoint import shards

SHARD = 400  # makes four shards of Small


def save(folder: Path, **changes: Any) -> None:
    arguments = {"key": 1, "max_shard_size": SHARD} | changes
    save_checkpoint(Small(), arguments.pop("recipe", RECIPE), folder, **arguments)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


def fail_after(monkeypatch: pytest.MonkeyPatch, writes: int, number: int) -> None:
    """Let the disk be full, or broken, from the given write on."""
    done = 0

    class File(shards.FileIO):
        def write(self, data: Any) -> int:
            nonlocal done
            done += 1
            if done > writes:
                raise OSError(number, os.strerror(number))
            return super().write(data[: len(data) // 2 + 1])

    monkeypatch.setattr(shards, "FileIO", File)
