"""Rung 6: bugs put into a copy of csrc/, one at a time, are caught, and by the rung that the list says."""

import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import ladder
import pytest
from seeded_bugs import BUGS, Bug, table
from toolkit import BUILD, ROOT

ARCHITECTURE = 90

pytestmark = pytest.mark.cuda_ladder


def copy_with(bug: Bug, csrc: Path = ROOT / "csrc") -> Path:
    """A copy of csrc/ with the bug. An error if its text is not there once, or if nothing changes."""
    folder = BUILD / "seeded" / re.sub(r"\W+", "_", bug.name)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(csrc, folder / "csrc")
    if bug.file:
        file = folder / "csrc" / bug.file
        before = file.read_text()
        if (times := before.count(bug.text)) != 1:
            raise ValueError(f"{bug.name}: its text stands {times} times in {bug.file}, not once")
        if bug.text == bug.replacement:
            raise ValueError(f"{bug.name}: nothing changes")
        file.write_text(before.replace(bug.text, bug.replacement))
    elif not bug.flags:
        raise ValueError(f"{bug.name}: nothing changes")
    return folder / "csrc"


@pytest.fixture(scope="module")
def caught(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[str | None]]]:
    """The rung that catches each bug that is asked for; two are tried at a time, while the tests wait for one."""
    asked = [item.callspec.params["bug"] for item in request.session.items if item.name.startswith("test_bug_is")]
    lock = threading.Lock()
    plans = table()

    def first_to_catch(bug: Bug) -> str | None:
        with lock:
            csrc = copy_with(bug)
        return ladder.first_to_catch(csrc, ARCHITECTURE, bug.flags, plans)

    with ThreadPoolExecutor(2) as pool:
        yield {bug.name: pool.submit(first_to_catch, bug) for bug in asked}
        pool.shutdown(cancel_futures=True)


def test_nothing_is_found_without_a_bug() -> None:
    assert ladder.first_to_catch(ROOT / "csrc", ARCHITECTURE, (), table()) is None


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_bug_is_caught(bug: Bug, caught: dict[str, Future[str | None]]) -> None:
    found = BUILD / "seeded" / re.sub(r"\W+", "_", bug.name) / "found.txt"
    rung = caught[bug.name].result()
    assert rung == bug.rung, found.read_text() if rung else "it survives"


def test_names_are_different_and_enough() -> None:
    assert len({re.sub(r"\W+", "_", bug.name) for bug in BUGS}) == len(BUGS) >= 20
    assert {bug.rung for bug in BUGS} == {"shim", "nvcc", "ptx", "sass", "budget"}


@pytest.mark.parametrize("bug", [
    Bug("no such text", "cuda/dense.cu", "there is no such text", "", "shim"),
    Bug("twice the text", "cuda/dense.cu", "int64_t", "int32_t", "shim"),
    Bug("the same text", "cuda/dense.cu", " && !wraps)", " && !wraps)", "shim"),
    Bug("no change at all", "", "", "", "shim"),
], ids=lambda bug: bug.name)  # fmt: skip
def test_a_bug_that_changes_nothing_is_an_error(bug: Bug) -> None:
    with pytest.raises(ValueError, match=r"not once|nothing changes"):
        copy_with(bug)
