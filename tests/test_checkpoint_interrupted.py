"""Whatever stops a checkpoint leaves no torn file under a final name, and the same call goes on from there."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_folder import content, fail_after, save, stamps
from small_model import RECIPE
from torch import Tensor, nn

import fastinit
from fastinit import Recipe, Rule, save_checkpoint
from fastinit.checkpoint import shards, writer

pytestmark = pytest.mark.one_torch

HERE = Path(__file__).parent
IMPORT = f"import sys; sys.path.insert(0, {str(HERE)!r}); import test_checkpoint_interrupted as t; "


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("reference")
    save(folder)
    written = content(folder)
    assert len([name for name in written if name.startswith("model-")]) == 4
    return written


# Killed


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_a_step_of_it_it_leaves_nothing_torn_and_goes_on(tmp_path: Path, every: int) -> None:
    run = subprocess.run(
        [sys.executable, HERE / "checkpoint_killed.py", tmp_path, str(every)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    killed, *shards_left = map(int, run.stdout.split())
    assert killed > 100 // every
    assert shards_left == [0, 1, 2, 3, 4]


def finished(folder: Path) -> dict[str, bytes]:
    left = content(folder) if folder.exists() else {}
    return {name: held for name, held in left.items() if not name.startswith(".")}


def save_large(folder: Path, progress: Callable[[int, int], object] | None = None) -> None:
    with torch.device("meta"):
        model = nn.Sequential(*[nn.Linear(2048, 2048, bias=False) for _ in range(12)])
    save_checkpoint(model, Recipe([Rule(fastinit.normal_)]), folder, max_shard_size="32MiB", progress=progress)


@pytest.mark.slow
def test_killed_at_any_time_it_leaves_nothing_torn_and_goes_on(tmp_path: Path) -> None:
    code = IMPORT + "t.save_large(t.Path(sys.argv[1]), lambda done, total: print(done, flush=True))"
    save_large(tmp_path / "reference")
    expected = content(tmp_path / "reference")
    assert len(expected) == 8  # six shards, the index, fastinit.json
    rng = random.Random(0)
    for number in range(4):
        folder = tmp_path / str(number)
        process = subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(rng.randrange(11)):  # of twelve lines: a header and a buffer for each shard
            assert process.stdout.readline()
        time.sleep(rng.uniform(0, 0.02))
        process.kill()
        assert process.wait() == -signal.SIGKILL
        left = finished(folder)
        assert all(held == expected[name] for name, held in left.items())
        assert shards.INDEX not in left or len(left) == 8
        before = {name: stamp for name, stamp in stamps(folder).items() if name in left} if left else {}
        save_large(folder)
        assert content(folder) == expected
        assert before.items() <= stamps(folder).items()
        shutil.rmtree(folder)


def test_interrupted_by_the_user_it_goes_on(tmp_path: Path, reference: dict[str, bytes]) -> None:
    def interrupt(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, progress=interrupt)
    left = content(tmp_path)
    assert left.items() < reference.items()
    assert 1 <= len(left) - 1 < 4
    before = stamps(tmp_path)
    save(tmp_path)
    assert content(tmp_path) == reference
    assert before.items() <= stamps(tmp_path).items()


def test_a_callable_that_raises_leaves_what_is_finished(tmp_path: Path) -> None:
    def fails(tensor: Tensor) -> None:
        raise RuntimeError("no such luck")

    with pytest.raises(ValueError, match="no such luck"):
        save(tmp_path, recipe=Recipe([Rule(fails, names="head.weight")]) + RECIPE)
    assert shards.INDEX not in content(tmp_path)
    assert not any(name.endswith("partial") for name in content(tmp_path))


def test_each_file_is_on_the_disk_before_it_has_its_name_and_the_index_is_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, str]] = []

    def noted(what: str, function: Callable[..., Any], where: Callable[..., str]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            events.append((what, where(*arguments)))
            return function(*arguments)

        return call

    def name_of(file: Any) -> str:
        path = os.readlink(f"/proc/self/fd/{file if isinstance(file, int) else file.fileno()}")
        return os.path.basename(path)

    monkeypatch.setattr(shards, "write", noted("write", shards.write, lambda file, data: name_of(file)))
    monkeypatch.setattr(writer, "write", shards.write)
    monkeypatch.setattr(os, "fsync", noted("fsync", os.fsync, name_of))
    monkeypatch.setattr(os, "replace", noted("replace", os.replace, lambda old, new: os.path.basename(old)))
    save(tmp_path)
    partials = [where for what, where in events if what == "replace"]
    assert [name.split(".")[1] for name in partials[:2]] == ["fastinit", "model-00001-of-00004"]
    assert partials[-1].startswith(f".{shards.INDEX}.")
    for number, (what, where) in enumerate(events):
        if what == "replace":
            assert events[number - 1] == ("fsync", where)
            assert events[number + 1] == ("fsync", tmp_path.name)
            assert ("write", where) in events[: number - 1]
            assert not any(event == ("write", where) for event in events[number:])


# A full disk


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("writes", [0, 1, 10, 11, 20, 30])
def test_a_disk_that_is_full_leaves_nothing_torn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: dict[str, bytes], writes: int, number: int
) -> None:
    with monkeypatch.context() as patched:
        fail_after(patched, writes, number)
        with pytest.raises(OSError, match="the same call goes on") as said:
            save(tmp_path)
    assert said.value.errno == number
    assert os.strerror(number) in str(said.value)
    left = content(tmp_path)
    assert left.items() < reference.items()
    save(tmp_path)
    assert content(tmp_path) == reference


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk]).returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


def megabyte_model() -> tuple[nn.Module, Recipe]:
    with torch.device("meta"):
        model = nn.Sequential(*[nn.Linear(500, 500, bias=False) for _ in range(3)])  # of a million bytes each
    return model, Recipe([Rule(fastinit.normal_)])


def test_a_real_disk_that_fills_up_meanwhile(small_disk: Path) -> None:
    ballast = small_disk / "ballast"

    def fill_up(done: int, total: int) -> None:
        if done > 1e6 and not ballast.exists():
            free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
            ballast.write_bytes(bytes(free - 300_000))

    model, recipe = megabyte_model()
    out = small_disk / "out"
    with pytest.raises(OSError, match=r"No space left on device.*the same call goes on") as said:
        save_checkpoint(model, recipe, out, max_shard_size="1MB", progress=fill_up)
    assert said.value.errno == errno.ENOSPC
    assert set(content(out)) == {"fastinit.json", "model-00001-of-00003.safetensors"}
    before = stamps(out)
    ballast.unlink()
    save_checkpoint(model, recipe, out, max_shard_size="1MB")
    assert len(list(out.glob("*.safetensors"))) == 3
    assert before.items() <= stamps(out).items()


def test_too_little_space_is_said_before_anything_is_written(small_disk: Path) -> None:
    model, recipe = megabyte_model()
    model.extend([nn.Linear(500, 500, bias=False, device="meta") for _ in range(2)])
    with pytest.raises(
        OSError, match=r"5,000,\d{3} bytes are still to be written in .*out, and 4,1\d\d,\d{3} are free"
    ):
        save_checkpoint(model, recipe, small_disk / "out")
    assert content(small_disk / "out") == {}


def test_what_is_finished_needs_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path)
    monkeypatch.setattr(shards.Folder, "free", lambda folder: 0)
    save(tmp_path)
    (tmp_path / "model-00002-of-00004.safetensors").unlink()
    with pytest.raises(OSError, match="bytes are still to be written in") as said:
        save(tmp_path)
    assert said.value.errno == errno.ENOSPC


# A folder that cannot be


def test_a_folder_that_cannot_be_written_is_said(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for out in (small_disk, small_disk / "out"):
        with pytest.raises(OSError, match=rf"out: cannot write in {out}: Read-only file system") as said:
            save(out)
        assert said.value.errno == errno.EROFS


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="out: cannot write in"):
        save(tmp_path)


@pytest.mark.parametrize("below", ["", "out", "deep/out"])
def test_a_file_in_the_place_of_the_folder_is_said(tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(NotADirectoryError, match="out must be a folder, and a file is in its place"):
        save(file / below)
    assert file.read_text() == "mine"


def test_another_process_that_writes_there_is_refused(tmp_path: Path, reference: dict[str, bytes]) -> None:
    code = IMPORT + "t.save(t.Path(sys.argv[1]))"
    refused = []

    def meanwhile(done: int, total: int) -> None:
        if not refused:
            refused.append(subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True))

    save(tmp_path, progress=meanwhile)
    assert refused[0].returncode == 1
    assert f"out: another process is writing a checkpoint in {tmp_path}" in refused[0].stderr
    assert "process_group" in refused[0].stderr  # as for ranks that all call it without
    assert content(tmp_path) == reference  # the lock is gone too


def test_of_many_threads_at_once_one_writes(tmp_path: Path, reference: dict[str, bytes]) -> None:
    results: list[str] = []
    ready = threading.Barrier(8)

    def run() -> None:
        ready.wait()
        try:
            save(tmp_path)
            results.append("saved")
        except BlockingIOError:
            results.append("refused")

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8 and "saved" in results
    assert content(tmp_path) == reference
