"""Runs the suite of benchmarks/, which is pytest-benchmark's, in a process of its own, and writes its report."""

import io
import json
import os
import shlex
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from fastinit.bench import figures, page, pictures
from fastinit.bench.figures import Run
from fastinit.bench.report import markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
_NEEDED = {
    "pytest": "pytest",
    "pytest_benchmark": "pytest-benchmark",
    "matplotlib": "matplotlib",
    "markdown_it": "markdown-it-py",
}


def report(folder: str, suite: str, source: str | None) -> None:
    """Write report.md, report.html, report.json and the pictures into `folder`.

    suite: "quick" or "full"
    source: an earlier report.json to write anew, in place of measuring
    """
    require()
    into = Path(folder)
    try:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=into):  # say now what would otherwise be said after minutes
            pass
    except OSError as error:
        _cannot_write(folder, error)
    command = shlex.join(["python", "-m", "fastinit", *sys.argv[1:]])
    run = measured(suite, command) if source is None else read(source)
    try:
        write(run, into)
    except Exception as error:
        kept = "" if source is not None else f"; {_kept(run)}"  # forty minutes of figures
        if isinstance(error, OSError):
            _cannot_write(folder, error, kept)
        error.add_note(kept)
        raise
    print(f"{into / 'report.md'}, report.html, report.json and the pictures are written")


def _cannot_write(folder: str, error: OSError, kept: str = "") -> NoReturn:
    sys.exit(f"--report: cannot write into {folder}: {error.strerror or error}{kept}")


def _kept(run: Run) -> str:
    """Put the figures where there may be room, and return what to do with them."""
    try:
        with tempfile.NamedTemporaryFile("w", prefix="fastinit-report-", suffix=".json", delete=False) as file:
            file.write(figures.to_json(run))
    except OSError as error:
        return f"nor are the figures kept: {error.strerror or error}"
    return f"the figures are kept: --from {file.name} writes the report"


def require() -> None:
    for module, package in _NEEDED.items():
        if find_spec(module) is None:
            sys.exit(f"bench --report and --check need {package}: pip install 'torch-fastinit[bench]'")


def read(path: str) -> Run:
    try:
        return figures.read(path)
    except (OSError, ValueError) as error:
        sys.exit(f"python -m fastinit bench: {error}")


def measured(suite: str, command: str) -> Run:
    """Run the suite and return its figures, or exit: no half of a run is ever taken for a whole."""
    if not (_BENCHMARKS / "conftest.py").is_file():
        sys.exit(
            f"the suite is a part of the repository and not of the package: run this in a checkout (no {_BENCHMARKS})"
        )
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "measured.json"
        options = ["-q", "-rs", "--no-header", "-p", "no:cacheprovider", "-o", "addopts="]
        options += ["--suite", suite, "--benchmark-disable-gc", "--benchmark-quiet", f"--benchmark-json={path}"]
        try:
            ended = subprocess.run([sys.executable, "-m", "pytest", str(_BENCHMARKS), *options], cwd=_BENCHMARKS.parent)
        except KeyboardInterrupt:
            sys.exit("\ninterrupted; nothing was written")
        if ended.returncode != 0:
            sys.exit(f"the suite ended with status {ended.returncode} (see above); nothing was written")
        return figures.from_pytest(json.loads(path.read_text(encoding="utf-8")), suite, command)


def write(run: Run, folder: Path) -> None:
    """Write everything beside what is there, and put it in its place when it is whole."""
    drawn: dict[str, bytes] = {}
    captions = []
    for name, caption, figure in pictures.pictures(run):
        drawn[f"{name}.svg"] = _svg(figure)
        captions.append((name, caption))
    text = markdown(run, captions)
    files = drawn | {
        "report.json": figures.to_json(run).encode(),
        "report.html": page.html(text, f"fastinit: the {run.about['suite']} suite", drawn).encode(),
        "report.md": text.encode(),
    }
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        for name, content in files.items():
            (Path(beside) / name).write_bytes(content)
        for name in files:
            os.replace(Path(beside) / name, folder / name)


def _svg(figure: "Figure") -> bytes:
    import matplotlib

    into = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "fastinit"}):  # the same picture is the same file
        figure.savefig(into, format="svg", metadata={"Date": None})
    return into.getvalue()
