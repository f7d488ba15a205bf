"""Rungs 1 to 5 of the ladder (README.md) for this checkout's kernels, on every architecture."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import budgets
import job_table
import ladder
import numpy as np
import ptx_to_cpp
import pytest
import reference
from jobs import DTYPES
from ptx_instructions import OPERATIONS, SEEDS
from ptx_values import VALUES
from toolkit import ARCHITECTURES, HERE, KERNEL_FLAGS, ROOT

import build

CSRC = ROOT / "csrc"

pytestmark = pytest.mark.cuda_ladder
architectures = pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: f"sm_{a}")


def test_flags_are_those_of_the_build() -> None:
    setup = (ROOT / "setup.py").read_text()
    assert [flag for flag in KERNEL_FLAGS if f'"{flag}"' not in setup] == []


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, Future[None]]]:
    """Rungs 1 and 3, whose programs run in one process each: two at a time, while the tests wait for them in turn."""
    with ThreadPoolExecutor(2) as pool:
        started = {"shim": pool.submit(ladder.shim, CSRC)}
        started |= {f"sm_{a}": pool.submit(ladder.executed, CSRC, a) for a in ARCHITECTURES}
        yield started
        pool.shutdown(cancel_futures=True)


def test_1_shim_under_sanitizers(running: dict[str, Future[None]]) -> None:
    running["shim"].result()


@architectures
def test_2_compiles_without_warnings_spills_or_local_memory(architecture: int) -> None:
    ladder.compiled(CSRC, architecture)


@architectures
def test_3_ptx_gives_the_values(architecture: int, running: dict[str, Future[None]]) -> None:
    running[f"sm_{architecture}"].result()
    program = build.ptx_program(CSRC, architecture, [])
    same = [a for a in ARCHITECTURES if a < architecture and build.ptx_program(CSRC, a, []) == program]
    if same:  # it has run once
        print(f"sm_{architecture}: nvcc's PTX is that of sm_{same[0]} but for its name")


@architectures
def test_4_machine_code_is_what_the_ptx_says(architecture: int) -> None:
    ladder.audited(CSRC, architecture)


def test_5_budgets() -> None:
    rows = budgets.measured(CSRC)
    assert budgets.exceeded(rows) == []
    committed = json.loads(budgets.RESULTS.read_text())
    assert budgets.document(rows) == committed, "python tests/cuda/budgets.py writes it anew"
    assert budgets.RESULTS.with_suffix(".md").read_text() == budgets.markdown(rows)


# --- That the ladder looks at everything ---------------------------------------------------------------------------
def test_every_kernel_is_launched_by_the_table() -> None:
    sources = build.kernel_sources(CSRC)
    kernels = {name for s in sources for name in ptx_to_cpp.translate(build.ptx(s, CSRC, 90, []).read_text())}
    program = build.ptx_program(CSRC, 90, [])
    assert ladder.launched_by(program, ladder.table_of(job_table.plans())) == kernels


def test_every_instruction_of_the_kernels_has_a_vector() -> None:
    used = set()
    for source in build.kernel_sources(CSRC):
        for kernel in ptx_to_cpp.translate(build.ptx(source, CSRC, 90, []).read_text()).values():
            used |= kernel.counts.keys()
    tested = {opcode for opcode, _, _ in VALUES} | set(SEEDS)
    computing = {opcode for opcode in used if opcode in OPERATIONS or opcode.startswith("setp")}
    assert sorted(computing - tested) == []


def test_nothing_is_missing_from_the_table() -> None:
    """The table has every law, type and golden vector, and a plan of more tensors than fit into one launch."""
    plans = job_table.plans()
    jobs = [job for plan in plans for job in plan.jobs]
    laws = {"constant", "uniform", "normal", "trunc_normal", "eye", "dirac", "sparse"}
    assert {(job.law, job.dtype) for job in jobs} == {(law, dtype) for law in laws for dtype in DTYPES}
    assert sum(bool(job.golden) for job in jobs) == len(json.loads((ROOT / "tests/golden/keyed.json").read_text()))
    assert len({plan.name for plan in plans}) == len(plans)


def test_the_tie_is_one() -> None:
    (job,) = next(p for p in job_table.plans() if p.name == "sparse_tie").jobs
    zeros, rows = int(job.numbers[0]), job.shape[0]
    draws = np.sort(reference.words32(*job.key, np.arange(rows), stream=1) >> 1)
    assert draws[zeros - 1] == draws[zeros]


def test_a_wrong_value_is_found(tmp_path: Path) -> None:
    plan = next(p for p in job_table.plans() if p.name == "dense_uniform_bfloat16")
    program = build.shim_program(CSRC)
    values = bytearray(ladder.filled(program, ladder.table_of([plan]), ("forward",)))
    assert list(ladder.expected.problems([plan], bytes(values))) == []
    values[4001] ^= 1
    assert len(list(ladder.expected.problems([plan], bytes(values)))) == 1


def test_lines_of_the_table_are_read_again() -> None:
    """The C++ side and job_table.py agree on the number of plans and jobs."""
    plans = [p for p in job_table.plans() if p.name in ("many", "golden_float32")]
    program = build.shim_program(CSRC)
    out = ladder.run([program, ladder.table_of(plans), "-", "forward"]).splitlines()
    out = [line for line in out if not line.startswith("launched ")]
    found = {name: (int(jobs), int(launches)) for name, jobs, launches in
             (re.fullmatch(r"(\w+): (\d+) jobs, (\d+) launches", line).groups() for line in out)}  # fmt: skip
    assert {name: jobs for name, (jobs, _) in found.items()} == {p.name: len(p.jobs) for p in plans}
    kernels = 30
    assert found["many"][1] > kernels, "several launches of a kernel"


def test_readme_names_every_file() -> None:
    readme = (HERE / "README.md").read_text()
    files = {path.name for path in HERE.iterdir() if path.suffix in (".py", ".h", ".cpp")}
    assert {name for name in files if name not in readme} == set()
