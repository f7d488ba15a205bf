"""The rungs: each takes a copy of csrc/ and raises what it finds wrong with the kernels.

A rung is a function of the copy, an architecture and further flags for nvcc (which the seeded bugs alone have).
"""

import functools
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import budgets
import expected
import job_table
import sass
from jobs import Plan, lines
from toolkit import ROOT, run

import build

CSRC = ROOT / "csrc"
SCHEDULES = ("forward", "reverse", "20261122")  # the last one is the seed of a shuffle


class FoundError(AssertionError):
    """What a rung found wrong."""


def require_none(problems: Sequence[str]) -> None:
    if problems:
        raise FoundError(f"{len(problems)} problems:\n" + "\n".join(problems[:20]))


def table_of(plans: Sequence[Plan]) -> Path:
    text = lines(plans)
    return build.made("jobs.txt", build.digest(text), lambda out: out.write_text(text) and None)


@functools.cache
def filled(program: Path, table: Path, schedules: tuple[str, ...]) -> bytes:
    """What the program wrote, after all checks of its own."""
    with tempfile.NamedTemporaryFile() as out:
        run([program, table, out.name, *schedules])
        return Path(out.name).read_bytes()


@functools.cache
def is_passed(program: Path, table: Path, schedules: tuple[str, ...]) -> bool:
    run([program, table, "-", *schedules], seconds=60)
    return True


@functools.cache
def launched_by(program: Path, table: Path) -> frozenset[str]:
    """The kernels that a table launches."""
    out = run([program, table, "-", "forward"]).splitlines()
    return frozenset(line.split()[1] for line in out if line.startswith("launched "))


def with_barriers() -> list[Plan]:
    """The plans whose kernels have shared memory. Of the others no thread sees what another does."""
    return [plan for plan in job_table.plans() if any(job.law == "sparse" for job in plan.jobs)]


@functools.cache
def require_right(values: bytes) -> None:
    """That the values of the whole job table are the reference's and the golden vectors'."""
    require_none(list(expected.problems(job_table.plans(), values)))


def shim(csrc: Path) -> None:
    """Rung 1: the kernels as C++, under sanitizers."""
    program = build.shim_program(csrc)
    is_passed(program, table_of(with_barriers()), SCHEDULES[1:])
    require_right(filled(program, table_of(job_table.plans()), SCHEDULES[:1]))


def compiled(csrc: Path, architecture: int, flags: tuple[str, ...] = ()) -> None:
    """Rung 2: nvcc and ptxas, with every warning, spill and byte of local memory an error."""
    build.in_parallel(
        lambda source: build.device_object(source, csrc, architecture, list(flags)), build.kernel_sources(csrc)
    )


def executed(csrc: Path, architecture: int, flags: tuple[str, ...] = ()) -> None:
    """Rung 3: nvcc's PTX on this processor; in every order where that can matter, which is tested on one of them."""
    program = build.ptx_program(csrc, architecture, list(flags))
    is_passed(program, table_of(with_barriers()), SCHEDULES[:-1])
    every = SCHEDULES[::-1] if architecture == budgets.ARCHITECTURE else SCHEDULES[-1:]
    require_right(filled(program, table_of(job_table.plans()), every))


def audited(csrc: Path, architecture: int, flags: tuple[str, ...] = ()) -> None:
    """Rung 4: the machine code against the PTX."""

    def audit(source: Path) -> list[str]:
        of = (source, csrc, architecture, list(flags))
        return sass.audit(build.ptx(*of), build.device_object(*of), architecture)

    sass.expansion(architecture)
    require_none([problem for each in build.in_parallel(audit, build.kernel_sources(csrc)) for problem in each])


def affordable(csrc: Path, architecture: int = budgets.ARCHITECTURE, flags: tuple[str, ...] = ()) -> None:
    """Rung 5: what an element costs."""
    require_none(budgets.exceeded(budgets.measured(csrc, flags)))


def first_to_catch(csrc: Path, architecture: int, flags: tuple[str, ...], plans: Sequence[Plan]) -> str | None:
    """The name of the first rung that finds something in this copy; with fewer jobs, each run until it fails."""
    table = table_of(plans)
    shim_program = build.shim_program(csrc)
    only = launched_by(build.ptx_program(CSRC, architecture, []), table)
    rungs: dict[str, Callable[[], object]] = {
        "shim": lambda: is_passed(shim_program, table, SCHEDULES),
        "nvcc": lambda: compiled(csrc, architecture, flags),
        "ptx": lambda: is_passed(build.ptx_program(csrc, architecture, list(flags), only), table, SCHEDULES),
        "sass": lambda: audited(csrc, architecture, flags),
        "budget": lambda: affordable(csrc, architecture, flags),
    }
    for name, rung in rungs.items():
        try:
            rung()
        except (FoundError, sass.UncountedError, build.CommandError, build.RefusedError) as found:
            if "did not end within" in str(found):
                raise  # found by nothing but patience
            if name == "nvcc" and not re.search(r"local memory|warning", str(found), re.IGNORECASE):
                raise  # a bug that no compiler takes would show nothing
            if csrc.parent.parent == build.BUILD / "seeded":
                (csrc.parent / "found.txt").write_text(f"{name}\n{found}\n")
            return name
    return None
