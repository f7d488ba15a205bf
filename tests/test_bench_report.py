"""A report says what was measured, needs nothing else, and is written whole or not at all."""

import re
import subprocess
import sys
from itertools import combinations, pairwise
from pathlib import Path
from types import SimpleNamespace

import bench_runs
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fastinit import __main__
from fastinit.bench import figures, pictures, suite
from fastinit.bench.figures import Run

pytestmark = pytest.mark.one_torch
FILES = {"report.md", "report.html", "report.json"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    suite.write(bench_runs.everything(), folder)
    return folder


def test_the_text_has_the_machine_the_method_and_the_figures(written: Path) -> None:
    text = (written / "report.md").read_text()
    for said in (
        "A CPU",
        "avx2",
        "torch 2.0",
        "0123abc and changes",
        "python -m fastinit bench --report out",
        "numpy 2.0",
    ):
        assert said in text
    for chapter in (
        "Method",
        "Whole models",
        "How cost grows",
        "Threads",
        "Fresh memory",
        "Instruction sets",
        "Every case",
    ):
        assert f"\n## {chapter}\n" in text
    row = next(line for line in text.splitlines() if line.startswith("| `normal_` | float32 | 16,777,216 |"))
    # ns an element: 4.2 ms a million by torch, 0.2 by the keyed stream, whose ratio is 20.5 in every turn.
    assert row.split(" | ")[3:] == ["4.01", "0.477, **8.2×** (8.2–10.2)", "0.191, **20.5×** (20.5–20.5)", "0.0954 |"]


def test_every_picture_is_named_once_and_there(written: Path) -> None:
    named = re.findall(r"!\[[^]]+\]\((.+?)\)", (written / "report.md").read_text())
    assert sorted(named) == sorted(path.name for path in written.glob("*.svg"))
    assert len(named) == 9
    assert {path.name for path in written.iterdir()} == FILES | set(named)


def test_the_page_needs_nothing_else(written: Path) -> None:
    page = (written / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<script" not in page
    assert "url(" not in page
    assert page.count("data:image/svg+xml;base64,") == 9
    assert page.count("<table>") == page.count("</table>") == page.count('<div class="wide"') > 9
    assert "display: block" not in page  # or a screen reader would not say rows and columns
    assert page.count("<details>") == page.count("</details>") == 5


def test_a_run_of_little_is_a_report_too(tmp_path: Path) -> None:
    suite.write(bench_runs.run(bench_runs.goes(threads=1)), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    assert "Whole models" not in (tmp_path / "report.md").read_text()


def unreadable(figure: Figure) -> list[str]:
    """Return the texts that lie over one another or outside of the picture."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [text for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        texts += [*axes.texts, axes.title]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = zip(
                axis.get_majorticklocs(), axis.get_majorticklabels(), strict=False
            )  # inner panels have no labels
            texts += [label for at, label in ticks if low <= at <= high]
    boxes = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in texts if text.get_text()]
    assert len(boxes) > 5
    over = [
        f"{one!r} over {other!r}"
        for (one, a), (other, b) in combinations(boxes, 2)
        if a.padded(-1).overlaps(b.padded(-1))
    ]
    return over + [f"{one!r} is cut off" for one, box in boxes if box.x0 < 0 or box.x1 > figure.bbox.x1]


def test_labels_of_the_pictures_can_be_read() -> None:
    drawn = {name: figure for name, _, figure in pictures.pictures(bench_runs.everything())}
    for name, figure in drawn.items():
        assert not unreadable(figure), name
    figure = drawn["models-warm"]
    figure.axes[0].text(*figure.axes[0].texts[0].get_position(), "a text over another")
    assert "a text over another" in str(unreadable(figure))


def test_many_threads_have_room() -> None:
    counts = (1, 2, 4, 8, 16, 32, 64, 96)
    many = bench_runs.run(*(bench_runs.goes(elements=2**24, threads=count) for count in counts))
    ((_, _, figure),) = [one for one in pictures.pictures(many) if one[0] == "threads"]
    assert not unreadable(figure)
    ticks = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert ticks == list(map(str, counts))


def test_a_model_that_some_skipped_is_in_the_text_alone(tmp_path: Path) -> None:
    """Memory may be short for one contestant and not for the next: half an hour's figures must not be lost by that."""
    model = {"kind": "model", "shape": []}
    some = {who: turns for who, turns in bench_runs.SECONDS.items() if who != "keyed stream"}
    half = bench_runs.goes(some, name="llama-8b", elements=2**33, **model)
    run = bench_runs.run(half, bench_runs.goes(name="c3d", **model))
    suite.write(run, tmp_path)
    assert "| llama-8b |" in (tmp_path / "report.md").read_text()
    ((_, _, figure),) = pictures.pictures(run)
    assert ["c3d" in label.get_text() for label in figure.axes[0].get_yticklabels()] == [True]


def test_a_single_turn_has_no_spread(tmp_path: Path) -> None:
    once = {who: ((turns[0][0],),) for who, turns in bench_runs.SECONDS.items()}
    suite.write(bench_runs.run(bench_runs.goes(once, kind="model", name="llama-8b", shape=[])), tmp_path)
    row = next(line for line in (tmp_path / "report.md").read_text().splitlines() if line.startswith("| llama-8b"))
    assert "**20×** |" in row and "–" not in row


def test_colours_differ_without_red_or_green() -> None:
    """Luminances of the lines differ, so that a print in black and white can be read."""

    def luminance(colour: str) -> float:
        channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    shades = sorted(luminance(colour) for colour in pictures._COLOURS.values())
    assert len(set(pictures._MARKERS.values())) == len(shades)
    assert all(b - a > 0.02 for a, b in pairwise(shades)), shades


def bench(*arguments: str) -> None:
    __main__.main(["bench", *arguments])


def test_a_report_is_written_anew_from_its_figures(tmp_path: Path, written: Path) -> None:
    bench("--report", str(tmp_path), "--from", str(written / "report.json"))
    assert (tmp_path / "report.json").read_text() == (written / "report.json").read_text()
    for name in ("ns-float32.svg", "models-warm.svg"):
        assert (tmp_path / name).read_bytes() == (written / name).read_bytes()


def test_what_fails_leaves_the_old_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, written: Path) -> None:
    bench("--report", str(tmp_path), "--from", str(written / "report.json"))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for status, message in ((1, "status 1"), (2, "status 2")):
        monkeypatch.setattr(subprocess, "run", lambda *_, status=status, **__: SimpleNamespace(returncode=status))
        with pytest.raises(SystemExit, match=rf"{message}.*nothing was written"):
            bench("--report", str(tmp_path))

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", interrupted)
    with pytest.raises(SystemExit, match="interrupted; nothing was written"):
        bench("--report", str(tmp_path))

    def full(run: Run) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figures, "to_json", full)
    with pytest.raises(SystemExit, match=r"cannot write into .*: No space left on device"):
        bench("--report", str(tmp_path), "--from", str(written / "report.json"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), ValueError("a picture that cannot be drawn")]
)
def test_what_was_measured_is_kept_where_it_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    run = bench_runs.everything()
    monkeypatch.setattr(suite, "measured", lambda *_: run)
    monkeypatch.setattr(suite.tempfile, "tempdir", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()

    def failed(*_: object) -> str:
        raise error

    monkeypatch.setattr(suite, "markdown", failed)
    with pytest.raises((SystemExit, ValueError)) as ended:
        bench("--report", str(tmp_path / "out"))
    said = f"{ended.value} {getattr(ended.value, '__notes__', '')}"
    (kept,) = (tmp_path / "elsewhere").glob("*.json")
    assert f"--from {kept} writes the report" in said
    assert figures.read(kept) == run
    assert not list((tmp_path / "out").iterdir())


def test_a_folder_that_cannot_be_written_is_said_before_measuring(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it measured"))
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"--report: cannot write into .*file.*"):
        bench("--report", str(tmp_path / "file"))


def test_without_a_checkout_or_an_extra_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(suite, "_BENCHMARKS", tmp_path / "benchmarks")
        with pytest.raises(SystemExit, match="run this in a checkout"):
            bench("--report", str(tmp_path))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(suite, "find_spec", lambda name: None if name == "matplotlib" else True)
    with pytest.raises(SystemExit, match=r"need matplotlib: pip install 'torch-fastinit\[bench\]'"):
        bench("--report", str(tmp_path))


def test_another_file_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no\.json"):
        bench("--report", str(tmp_path), "--from", str(tmp_path / "no.json"))
