"""A small checkpoint for tests of what its folder holds."""

from pathlib import Path
from typing import Any

from small_model import RECIPE, Small

from fastinit import save_checkpoint

SHARD = 400  # makes four shards of Small


def save(folder: Path, **changes: Any) -> None:
    arguments = {"key": 1, "max_shard_size": SHARD} | changes
    save_checkpoint(Small(), arguments.pop("recipe", RECIPE), folder, **arguments)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}
