"""Functions run as every rank of a real process group: gloo between processes of this machine, no port, a hard limit.

The processes are forked from a server that has imported torch once, so that a launch costs a tenth of a second. One
launch runs many cases: what fails is told for each of them, and a case that hangs is killed with a traceback of
every rank.
"""

import datetime
import faulthandler
import multiprocessing
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.tensor.debug import _clear_sharding_prop_cache

Case = Callable[[], None]
# Of one collective. A rank that fails leaves its group, and the others' collectives fail at once; this is for others.
TIMEOUT = 20
_PRELOADED = [
    "fastinit",
    "pytest",
    "torch.distributed.fsdp",
    "torch.distributed.tensor.debug",
    "torch.distributed.tensor.parallel",
    "torch.testing._internal.distributed.fake_pg",
]


@cache
def _processes() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def run(world: int, cases: Sequence[Case], seconds: float = 100) -> dict[str, str]:
    """Run module-level functions, one after another, on `world` ranks; return for each name what went wrong or ""."""
    said: dict[str, list[str]] = {case.__name__: [] for case in cases}
    with tempfile.TemporaryDirectory() as folder:
        ranks, pipes = _start(world, _run_all, (cases, folder))
        try:
            deadline = time.monotonic() + seconds
            reading = dict(zip(pipes, range(world), strict=True))
            turns = [0] * world
            while reading and (left := deadline - time.monotonic()) > 0:
                for pipe in wait([*reading], left):
                    assert isinstance(pipe, Connection)
                    rank = reading[pipe]
                    try:
                        error = pipe.recv()
                    except EOFError:
                        del reading[pipe]
                        continue
                    if error:
                        said[cases[turns[rank]].__name__].append(f"rank {rank}: {error}")
                    turns[rank] += 1
        finally:
            if stopped := _stop(ranks):  # with where each of them stands
                time.sleep(0.5)
        for rank, turn in enumerate(turns):
            if turn < len(cases):
                how = f"did not end within {seconds} s" if rank in stopped else f"ended with {ranks[rank].exitcode}"
                where = Path(folder, f"{rank}.txt").read_text()
                for case in cases[turn:]:
                    said[case.__name__].append(f"rank {rank} {how} in {cases[turn].__name__}\n{where}")
    return {name: "\n".join(lines) for name, lines in said.items()}


def exits(world: int, case: Case, seconds: float, timeout: float) -> list[tuple[int | None, str]]:
    """Run one function where ranks may die; return each rank's exit status, None if it hung, and its traceback."""
    with tempfile.TemporaryDirectory() as folder:
        ranks, pipes = _start(world, _run_one, (case, folder, timeout))
        deadline = time.monotonic() + seconds
        for process in ranks:
            process.join(max(0.0, deadline - time.monotonic()))
        hung = _stop(ranks)
        said = []
        for rank, (process, pipe) in enumerate(zip(ranks, pipes, strict=True)):
            try:
                error = pipe.recv() if pipe.poll() else ""
            except EOFError:
                error = ""
            said.append((None if rank in hung else process.exitcode, error))
    return said


def _start(world: int, target: Callable[..., None], arguments: tuple[object, ...]) -> tuple[list, list[Connection]]:
    context = _processes()
    ranks, pipes = [], []
    for rank in range(world):
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=target, args=(rank, world, there, *arguments), daemon=True)
        process.start()
        there.close()  # so that the end of the process is the end of the pipe
        ranks.append(process)
        pipes.append(here)
    return ranks, pipes


def _stop(ranks: list) -> set[int]:
    """Kill those that still run and return which they were."""
    for process in ranks:
        process.join(0.2)
    running = {rank for rank, process in enumerate(ranks) if process.is_alive()}
    for rank in running:  # faulthandler writes where it stands
        os.kill(ranks[rank].pid, signal.SIGUSR1)
    if running:
        time.sleep(0.5)
    for rank in running:
        ranks[rank].kill()
        ranks[rank].join()
    return running


def _run_all(rank: int, world: int, pipe: Connection, cases: Sequence[Case], folder: str) -> None:
    with open(Path(folder, f"{rank}.txt"), "w") as where:
        faulthandler.register(signal.SIGUSR1, file=where)
        torch.set_num_threads(1)
        meeting = dist.FileStore(str(Path(folder, "meeting")), world)
        group = ""
        for turn, case in enumerate(cases):
            if not group:
                _join(rank, world, group := str(Path(folder, f"group {turn}")), TIMEOUT)
            error = ""
            try:
                case()
            except BaseException:
                error = traceback.format_exc()
                dist.destroy_process_group()  # so that no other waits for this one
            # Not by the group, which may be out of step.
            meeting.set(f"{turn} {rank}", error and "failed")
            states = [meeting.get(f"{turn} {other}") for other in range(world)]  # waits for each
            if any(states):
                if not error:
                    dist.destroy_process_group()
                group = ""
            pipe.send(error)
        if group:
            dist.destroy_process_group()


def _run_one(rank: int, world: int, pipe: Connection, case: Case, folder: str, timeout: float) -> None:
    torch.set_num_threads(1)
    _join(rank, world, str(Path(folder, "group")), timeout)
    try:
        case()
    except BaseException:
        pipe.send(traceback.format_exc())
        os._exit(1)  # at once: what torch does at a proper end may wait for the dead
    pipe.send("")
    os._exit(0)


def _join(rank: int, world: int, path: str, timeout: float) -> None:
    _clear_sharding_prop_cache()  # in which a mesh of an earlier group may be
    store = dist.FileStore(path, world)
    limit = datetime.timedelta(seconds=timeout)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=limit)
