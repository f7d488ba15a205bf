"""`save_checkpoint(process_group=...)`: one checkpoint by several ranks, the same to the byte as by one process."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import gloo
import pytest
import torch.distributed as dist
from checkpoint_folder import fail_after
from small_model import RECIPE, Small
from torch import Tensor

import fastinit
from fastinit import Recipe, Rule, save_checkpoint
from fastinit.checkpoint import shards
from fastinit.checkpoint.shards import INDEX, Folder

pytestmark = pytest.mark.one_torch

SHARD = 150  # bytes: makes seven files of Small
FILES = 7


def save(folder: Path, group: Any = None, recipe: Recipe = RECIPE, **changes: Any) -> None:
    save_checkpoint(Small(), recipe, folder, **{"key": 1, "max_shard_size": SHARD, "process_group": group} | changes)


def save_together(folder: Path, **changes: Any) -> None:
    save(folder, dist.group.WORLD, **changes)


def content(folder: Path) -> dict[str, bytes]:
    """Return all but what is to go away again: the first rank may still be about to delete its lock."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def last() -> int:
    return dist.get_world_size() - 1


def fails_on(rank: int, kind: type[BaseException], text: str, run: Callable[[], None]) -> None:
    """Check that `run` raises the error itself on this rank, and on the others what names the rank and the error."""
    if dist.get_rank() == rank:
        with pytest.raises(kind, match=text):
            run()
    else:
        with pytest.raises(RuntimeError, match=rf"failed on rank {rank}: {kind.__name__}: (?s:.*){text}"):
            run()


def goes_on(folder: Path, reference: Path) -> None:
    """Check that there is no index yet, nor anything torn, and that the same call in the same group goes on."""
    left = content(folder)
    dist.barrier()
    assert INDEX not in left
    assert left.items() < content(reference).items()
    save_together(folder)
    assert content(folder) == content(reference)


# What every rank runs: a folder of its own, and that of the reference.


def same_files(folder: Path, reference: Path) -> None:
    save_together(folder)
    assert content(folder) == content(reference)
    assert len([name for name in content(folder) if name.endswith(".safetensors")]) == FILES


def each_file_is_written_once(folder: Path, reference: Path) -> None:
    written: list[str] = []
    publish = Folder.publish

    def noted(self: Folder, name: str) -> Any:
        written.append(name)
        return publish(self, name)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Folder, "publish", noted)
        save_together(folder)
        by_rank: list[list[str]] = [[] for _ in range(dist.get_world_size())]
        dist.all_gather_object(by_rank, written)
        assert sorted(name for names in by_rank for name in names) == sorted(content(reference))
        assert {"fastinit.json", INDEX} <= set(by_rank[0])
        sizes = [sum(len(content(reference)[name]) for name in names if name.startswith("model-")) for names in by_rank]
        largest = max(len(held) for name, held in content(reference).items() if name.startswith("model-"))
        assert max(sizes) - min(sizes) <= largest
        written.clear()
        save_together(folder)
        assert written == []


def progress_is_that_of_the_rank(folder: Path, reference: Path) -> None:
    seen: list[tuple[int, int]] = []
    save_together(folder, progress=lambda done, total: seen.append((done, total)))
    assert {total for _, total in seen} == {seen[-1][0]}
    totals: list[int] = [0] * dist.get_world_size()
    dist.all_gather_object(totals, seen[-1][1])
    assert sum(totals) == sum(len(held) for name, held in content(reference).items() if name.startswith("model-"))


def the_index_is_last(folder: Path, reference: Path) -> None:
    replace, names = os.replace, set(content(reference)) - {INDEX}

    def slowly(old: Any, new: Any) -> None:
        if dist.get_rank() == last():
            time.sleep(0.05)
        there = {path.name for path in folder.iterdir()}
        assert (names <= there) if Path(new).name == INDEX else INDEX not in there
        replace(old, new)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "replace", slowly)
        save_together(folder)


def another_key_on_one_rank(folder: Path, reference: Path) -> None:
    fails_on(
        last(),
        ValueError,
        r"called with other settings than rank 0 \(there\):\n  key seed: 1 there, 2 now",
        lambda: save_together(folder, key=1 + (dist.get_rank() == last())),
    )
    assert not folder.exists()
    save_together(folder)


def another_recipe_on_one_rank(folder: Path, reference: Path) -> None:
    recipe = Recipe([Rule(fastinit.ones_, names="head.bias")]) + RECIPE if dist.get_rank() == last() else RECIPE
    fails_on(last(), ValueError, "tensor head.bias law", lambda: save_together(folder, recipe=recipe))
    assert not folder.exists()


def a_recipe_that_is_refused_on_one_rank(folder: Path, reference: Path) -> None:
    recipe = Recipe([]) if dist.get_rank() == last() else RECIPE
    fails_on(last(), fastinit.RecipeError, "no rule matches", lambda: save_together(folder, recipe=recipe))
    assert not folder.exists()


@contextmanager
def full_disk(writes: int) -> Iterator[None]:
    """Let the disk be full on the last rank after so many writes."""
    with pytest.MonkeyPatch.context() as patched:
        if dist.get_rank() == last():
            fail_after(patched, writes, errno.ENOSPC)
        yield


def a_full_disk_on_one_rank(folder: Path, reference: Path) -> None:
    with full_disk(3):
        fails_on(last(), OSError, "No space left on device(?s:.*)the same call goes on", lambda: save_together(folder))
    written = [name for name in content(folder) if name.startswith("model-")]
    assert len(written) >= FILES // dist.get_world_size()  # what the other ranks had to do, they did
    goes_on(folder, reference)


def too_little_space_is_known_before(folder: Path, reference: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Folder, "free", lambda folder: 0)
        fails_on(0, OSError, "bytes are still to be written in", lambda: save_together(folder))
    assert content(folder) == {}
    dist.barrier()
    save_together(folder)


def raising_(tensor: Tensor) -> None:
    raise RuntimeError("no such luck")


def a_callable_that_raises(folder: Path, reference: Path) -> None:
    recipe = Recipe([Rule(raising_, names="head.weight")]) + RECIPE
    with pytest.raises((RuntimeError, ValueError), match="no such luck") as said:
        save_together(folder, recipe=recipe)
    own: list[bool] = [False] * dist.get_world_size()
    dist.all_gather_object(own, isinstance(said.value, fastinit.RecipeError))
    assert sum(own) == 1  # the rank whose file it is
    if not own[dist.get_rank()]:
        assert f"failed on rank {own.index(True)}: RecipeError: parameter 'head.weight'" in str(said.value)
    assert INDEX not in content(folder)


def interrupted_on_one_rank(folder: Path, reference: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if dist.get_rank() == last() and done > total / 2:
            raise KeyboardInterrupt("enough")

    fails_on(last(), KeyboardInterrupt, "enough", lambda: save_together(folder, progress=interrupt))
    goes_on(folder, reference)


def a_folder_that_is_refused(folder: Path, reference: Path) -> None:
    other = folder.with_suffix(".other")
    if dist.get_rank() == 0:
        other.mkdir()
        (other / INDEX).write_text("another's")
        folder.write_text("a file")
    dist.barrier()
    fails_on(0, ValueError, f"holds {INDEX} of another checkpoint", lambda: save_together(other))
    fails_on(0, NotADirectoryError, "out must be a folder", lambda: save_together(folder))
    assert content(other) == {INDEX: b"another's"}


def a_folder_of_other_settings(folder: Path, reference: Path) -> None:
    save_together(folder)
    fails_on(0, ValueError, "key seed: 1 there, 2 now", lambda: save_together(folder, key=2))
    assert content(folder) == content(reference)


def a_folder_that_another_process_holds(folder: Path, reference: Path) -> None:
    with shards.open_folder(folder) if dist.get_rank() == 0 else nullcontext():
        dist.barrier()
        fails_on(0, BlockingIOError, "another process is writing a checkpoint", lambda: save_together(folder))
    save_together(folder)


def the_folder_is_held_until_all_are_done(folder: Path, reference: Path) -> None:
    refused = []

    def meanwhile(done: int, total: int) -> None:
        if dist.get_rank() == last() and done == total:
            time.sleep(0.2)  # the first rank has nothing left to write
            with pytest.raises(BlockingIOError), shards.open_folder(folder):
                pass
            refused.append(done)

    save_together(folder, progress=meanwhile)
    assert len(refused) == (dist.get_rank() == last())


def another_folder_on_one_rank(folder: Path, reference: Path) -> None:
    mine = folder.with_suffix(".other") if dist.get_rank() == last() else folder
    for _ in range(2):
        fails_on(last(), ValueError, "is not the first rank's folder", lambda: save_together(mine))
        mine.mkdir(exist_ok=True)
    assert INDEX not in content(folder)
    dist.barrier()
    save_together(folder)


def a_file_that_the_first_rank_does_not_see(folder: Path, reference: Path) -> None:
    publish = Folder.publish

    @contextmanager
    def lost(self: Folder, name: str) -> Iterator[Any]:
        with publish(self, name) as file:
            yield file
        if dist.get_rank() == last():
            (self.path / name).unlink()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Folder, "publish", lost)
        fails_on(0, ValueError, "was written, and is not in", lambda: save_together(folder))
    goes_on(folder, reference)


def some_of_the_ranks(folder: Path, reference: Path) -> None:
    group = dist.new_group([1, 2])
    if dist.get_rank() > 0:
        save(folder, group)
        assert content(folder) == content(reference)
        fails_on(2, ValueError, "than rank 1 ", lambda: save(folder, group, key=dist.get_rank()))
    else:
        with pytest.raises(TypeError, match="process_group must be a"):
            save(folder, group)


def half_of_it(folder: Path, reference: Path) -> None:
    """Three ranks begin, two leave a little more of it, and one finishes it."""
    if dist.get_world_size() == 1:
        return goes_on(folder, reference)
    before = content(folder) if folder.exists() else {}
    dist.barrier()
    with full_disk(1), pytest.raises((OSError, RuntimeError), match="No space"):
        save_together(folder)
    assert before.items() < content(folder).items() < content(reference).items()


# By the number of ranks, in order.
CASES = {
    3: [
        same_files,
        each_file_is_written_once,
        progress_is_that_of_the_rank,
        the_index_is_last,
        another_key_on_one_rank,
        another_recipe_on_one_rank,
        a_recipe_that_is_refused_on_one_rank,
        a_full_disk_on_one_rank,
        too_little_space_is_known_before,
        a_callable_that_raises,
        interrupted_on_one_rank,
        a_folder_that_is_refused,
        a_folder_of_other_settings,
        a_folder_that_another_process_holds,
        the_folder_is_held_until_all_are_done,
        another_folder_on_one_rank,
        a_file_that_the_first_rank_does_not_see,
        some_of_the_ranks,
        half_of_it,
    ],
    2: [same_files, each_file_is_written_once, a_full_disk_on_one_rank, half_of_it],
    1: [same_files, each_file_is_written_once, half_of_it],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("together")
    save(root / "reference")
    return root


@pytest.fixture(scope="module")
def said(root: Path) -> dict[tuple[str, int], str]:
    """Run all cases, one launch for each number of ranks, and return what went wrong in each."""
    return {
        (name, world): text
        for world, cases in CASES.items()
        for name, text in gloo.run(world, [_at(root, world, case) for case in cases]).items()
    }


def _at(root: Path, world: int, case: Callable[[Path, Path], None]) -> Callable[[], None]:
    name = case.__name__
    bound = partial(case, root / (name if case is half_of_it else f"{name} {world}"), root / "reference")
    bound.__dict__["__name__"] = name
    return bound


@pytest.mark.parametrize(("case", "world"), [(case.__name__, world) for world in CASES for case in CASES[world]])
def test_of_ranks_that_save_together(said: dict[tuple[str, int], str], case: str, world: int) -> None:
    assert said[case, world] == ""


def dies(rank: int, folder: Path) -> None:
    """Save as one of the ranks, of which this one is gone in the middle of its second file, or of its first piece."""
    publish = Folder.publish
    begun = 0

    @contextmanager
    def killed(self: Folder, name: str) -> Iterator[Any]:
        nonlocal begun
        begun += 1
        with publish(self, name) as file:
            if dist.get_rank() == rank and begun == 2:
                os._exit(9)
            yield file

    Folder.publish = killed  # type: ignore[method-assign]
    save_together(folder)


@pytest.mark.parametrize("rank", [0, 2])
def test_a_rank_that_dies_leaves_the_others_with_an_error_and_the_same_call_goes_on(root: Path, rank: int) -> None:
    folder = root / f"dies {rank}"
    ended = gloo.exits(3, partial(dies, rank, folder), seconds=30, timeout=10)
    for number, (status, error) in enumerate(ended):
        assert status == (9 if number == rank else 1), ended
        assert number == rank or "a rank of process_group is gone, or did not come in time" in error
    left = content(folder)
    assert INDEX not in left
    assert left.items() < content(root / "reference").items()
    assert len(left) >= 3  # fastinit.json, and what the others had to do
    stamps = {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name in left}
    save(folder)
    assert {path.name for path in folder.iterdir()} == content(root / "reference").keys()
    assert content(folder) == content(root / "reference")
    assert all((folder / name).stat().st_mtime_ns == stamp for name, stamp in stamps.items())


def absent(folder: Path) -> None:
    waited = folder.with_suffix(".waited")
    if dist.get_rank() == 0:
        try:
            save_together(folder)
        finally:
            waited.touch()
    while not waited.exists():
        time.sleep(0.02)


def test_a_rank_that_does_not_come_is_waited_for_as_long_as_the_group_says(root: Path) -> None:
    (status, error), _ = gloo.exits(2, partial(absent, root / "absent"), seconds=30, timeout=3)
    assert status == 1
    assert "did not come in time" in error
    assert not (root / "absent").exists()


@pytest.mark.parametrize("group", [1, "gloo", dist.GroupMember.NON_GROUP_MEMBER])
def test_what_is_no_group_is_refused(tmp_path: Path, group: Any) -> None:
    with pytest.raises(TypeError, match=r"process_group must be a torch\.distributed\.ProcessGroup this process is in"):
        save(tmp_path / "out", group)
    assert not (tmp_path / "out").exists()
