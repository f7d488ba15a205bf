"""`save_checkpoint`: a model's tensors from the plan straight into safetensors files, in pieces that fit in memory."""

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from io import FileIO
from itertools import cycle
from mmap import mmap
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from fastinit.buffers import make_buffers
from fastinit.checkpoint.manifest import MANIFEST, manifest_of, refuse_different, refuse_other
from fastinit.checkpoint.shards import (
    INDEX,
    SINGLE,
    Folder,
    Shard,
    TensorSpec,
    index_of,
    layout,
    open_folder,
    parse_size,
    write,
)
from fastinit.checkpoint.together import Ranks
from fastinit.fill import check_values, unit, write_piece
from fastinit.key import Key
from fastinit.plan import Entry, Plan, make_plan
from fastinit.prefix import Prefix
from fastinit.recipe import Recipe
from fastinit.report import InitReport

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_BUFFER = 2**26  # bytes filled at a time: tens of milliseconds, beside which starting threads is nothing

Progress = Callable[[int, int], object]
_Piece = tuple[Entry, int, int]  # of a tensor: the first element, and how many


def save_checkpoint(
    model: nn.Module,
    recipe: Recipe,
    out: str | os.PathLike[str],
    key: int | Key = 0,
    *,
    dtype: torch.dtype | None = None,
    max_shard_size: int | str = "5GB",
    strict: bool = True,
    buffers: Literal["error", "reset"] = "error",
    progress: Progress | Literal[True] | None = None,
    prefix: Prefix = "",
    process_group: "ProcessGroup | None" = None,
) -> InitReport:
    """Write what `init_model_` would write into the model as safetensors files in the folder `out`.

    The files are those of Hugging Face's `save_pretrained`: model.safetensors, or shards with
    model.safetensors.index.json, with every parameter and persistent buffer under its canonical name and tied weights
    once, under the first of theirs. The model may be on the meta device, and stays as it is. What it takes of memory is
    128 MiB, and as much again as the largest tensor that can only be made whole (by `orthogonal_`, `sparse_` or a
    callable of yours) with its workspace.

    The model may be cut over ranks (DTensors): any process can write the whole of it, for values follow from the key.
    Only what the recipe leaves alone, or a callable of yours changes, comes from the model; such a tensor that has
    values and is cut is a ValueError: torch.distributed.checkpoint saves it.

    Each file appears under its name when it is whole and on the disk, the index last. After whatever stopped it, the
    same call goes on: finished files stay as they are. fastinit.json, written first, says what the folder holds; a
    call with another recipe, key, type, model or layout is a ValueError.

    Args:
        model: any module on CPU, CUDA or the meta device, which stays as it is
        recipe: the rules
        out: the folder; it is made where it is not there
        key: the seed of the keyed stream, or a Key
        dtype: of the parameters of floating point; their own if not given. Buffers keep theirs.
        max_shard_size: bytes of data in a file, as a number or as "5GB" or "2GiB". A tensor larger than that has a file
            of its own.
        strict: as for `init_model_`
        buffers: as for `init_model_`
        prefix: as for `init_model_`
        progress: True for a bar with an ETA (rich, on a terminal only), or called as progress(bytes done, bytes in
            all).
        process_group: its ranks, all with the same arguments, write one checkpoint together in one folder that they
            share, file by file: the files, and their bytes, are those of one process (whose `orthogonal_` has as many
            threads). Make `max_shard_size` small enough that each rank has files to write. An error on one rank is an
            error on every rank, when each has finished its files; what waits longest is what the group's timeout has to
            allow for. `progress` counts the bytes of its rank; the bar is the first rank's.

    Returns:
        What was written by which rule

    Raises:
        RecipeError: before anything is written, whatever a rule or a tensor is refused for
        TypeError: a model that is no module; a recipe, a key, a prefix or a progress of another kind
        ValueError: a folder of another checkpoint, a key or a size that cannot be, a dtype that is not of floating
            point, a word that `buffers` does not know, a prefix of what the model has not
        OSError: a disk that is full, or a file that cannot be written; the same call goes on later

    """
    begun = perf_counter()
    ranks = Ranks(process_group)
    with ranks.step():
        base = key if isinstance(key, Key) else Key(key)
        most = parse_size(max_shard_size)
        progress_over = _progress(progress, shown=ranks.first)
        plan = make_plan(
            model, recipe, dtype=dtype, strict=strict, buffers=buffers, in_place=False, stored=True, prefix=prefix
        )
        make_buffers(model, plan, base)
        for entry in plan.entries:
            check_values(plan, entry)
        entries = {entry.name: entry for entry in plan.entries}
        shards = layout((TensorSpec(name, one.dtype, tuple(one.shape)) for name, one in entries.items()), most)
        manifest = manifest_of(plan, entries, shards, base, most)
    refuse_different(ranks, manifest)
    with ExitStack() as until_all_are_done:
        folder, missing = Folder(Path(out)), set[str]()
        with ranks.step():
            if ranks.first:
                until_all_are_done.enter_context(open_folder(folder.path))
                missing = _begin(folder, shards, manifest)
        missing = ranks.exchange(missing)[0]
        with ranks.step():
            _refuse_elsewhere(folder, manifest)
            mine = ranks.share([shard for shard in shards if shard.file in missing])
            total = sum(shard.nbytes for shard in mine)
            with progress_over(total) as advance:
                writer = _Writer(plan, base, total, advance)
                for shard in mine:
                    with folder.publish(shard.file) as file:
                        writer.write(file, shard.header, [entries[tensor.name] for tensor in shard.tensors])
        with ranks.step():
            if ranks.first and len(shards) > 1:
                _publish_index(folder, shards)
    return InitReport(recipe, plan.rows, [], perf_counter() - begun)


def _begin(folder: Folder, shards: Sequence[Shard], manifest: bytes) -> set[str]:
    """Publish the manifest where nothing speaks against this checkpoint, and return the files that are not there."""
    refuse_other(folder, manifest)
    _refuse_strays(folder, shards)
    missing = [shard for shard in shards if not folder.holds(shard)]
    needed = sum(shard.nbytes for shard in missing)
    if needed > (free := folder.free()):
        raise OSError(
            errno.ENOSPC, f"out: {needed:,} bytes are still to be written in {folder.path}, and {free:,} are free"
        )
    folder.publish_text(MANIFEST, manifest)
    return {shard.file for shard in missing}


def _refuse_elsewhere(folder: Folder, manifest: bytes) -> None:
    """Refuse a rank whose folder is another than that of the first, which has published the manifest there."""
    if folder.read(MANIFEST) is None:
        raise ValueError(f"out: {folder.path.absolute()} is not the first rank's folder, which all ranks must share")
    refuse_other(folder, manifest)


def _publish_index(folder: Folder, shards: Sequence[Shard]) -> None:
    if folder.read(INDEX) == (index := index_of(shards)):
        return
    with folder.publish(INDEX) as file:
        # After a new file of ours in the folder, a network filesystem looks anew for those of other machines.
        for shard in shards:
            if not folder.holds(shard):
                raise ValueError(f"out: {shard.file} was written, and is not in {folder.path}: all ranks must share it")
        write(file, memoryview(index))


def _refuse_strays(folder: Folder, shards: Sequence[Shard]) -> None:
    """Refuse a folder with files that are another checkpoint's, which a reader might take for ours."""
    ours = {shard.file for shard in shards} | ({INDEX} if len(shards) > 1 else set())
    begun = folder.read(MANIFEST) is not None
    for name in sorted(ours | {SINGLE, INDEX}):
        if (folder.path / name).exists() and not (begun and name in ours):
            raise ValueError(f"out: {folder.path} holds {name} of another checkpoint; give an empty folder")


class _Writer:
    """Writes shards, filling one buffer while another goes to the disk."""

    def __init__(self, plan: Plan, key: Key, total: int, progress: Progress) -> None:
        self.plan = plan
        self.key = key
        self.total = total
        self.done = 0
        self.progress = progress
        self.buffers = cycle([mmap(-1, _BUFFER) for _ in range(2)])

    def write(self, file: FileIO, header: bytes, entries: Sequence[Entry]) -> None:
        pending: deque[Future[int]] = deque()
        with ThreadPoolExecutor(1) as disk:
            pending.append(disk.submit(write, file, memoryview(header)))
            for batch in _batches(self.plan, entries):
                size = sum(count * entry.dtype.itemsize for entry, _, count in batch)
                large = size > _BUFFER  # a tensor that is made in one piece: nothing else in memory beside it
                self._wait(pending, most=0 if large else 1)
                buffer = mmap(-1, size) if large else next(self.buffers)
                self._fill(buffer, batch)
                pending.append(disk.submit(write, file, memoryview(buffer)[:size]))
            self._wait(pending, most=0)

    def _wait(self, pending: deque[Future[int]], most: int) -> None:
        while len(pending) > most:
            self.done += pending.popleft().result()
            self.progress(self.done, self.total)

    def _fill(self, buffer: mmap, batch: Sequence[_Piece]) -> None:
        whole = torch.frombuffer(buffer, dtype=torch.uint8)
        end = 0
        for entry, first, count in batch:
            begin, end = end, end + count * entry.dtype.itemsize
            write_piece(self.plan, entry, whole[begin:end].view(entry.dtype), first, self.key)


def _batches(plan: Plan, entries: Sequence[Entry]) -> Iterator[list[_Piece]]:
    """Cut tensors into pieces and gather these in order, as many as fit in a buffer; a unit is not cut."""
    batch: list[_Piece] = []
    room = _BUFFER
    for entry in entries:
        first, total = 0, entry.shape.numel()
        step, size = unit(plan, entry), entry.dtype.itemsize
        while first < total:
            if batch and room < step * size:
                yield batch
                batch, room = [], _BUFFER
            count = min(total - first, max(room // (step * size), 1) * step)
            batch.append((entry, first, count))
            first += count
            room -= count * size
    if batch:
        yield batch


def _progress(given: Progress | Literal[True] | None, shown: bool) -> Callable[[int], AbstractContextManager[Progress]]:
    """Return what gives, for a number of bytes in all, the function to call with those done."""
    if given is True:
        return _bar(shown)
    if not (given is None or callable(given)):
        raise TypeError(f"progress must be True, or called as progress(bytes done, bytes in all), got {given!r}")
    return lambda total: nullcontext(given or (lambda done, total: None))


def _bar(shown: bool) -> Callable[[int], AbstractContextManager[Progress]]:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn
    except ImportError as error:
        raise ImportError("progress=True needs rich: pip install 'torch-fastinit[models]'") from error

    @contextmanager
    def bar(total: int) -> Iterator[Callable[[int, int], object]]:
        console = Console(stderr=True)
        columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as bar:
            task = bar.add_task("", total=total)
            yield lambda done, total: bar.update(task, completed=done)

    return bar
