"""Reports for people: plain text, tables by rich, and pictures by matplotlib."""

import copy
import gc
import io
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch
from small_model import RECIPE, Small
from torch import nn

import fastinit
from fastinit import InitReport, Part, Recipe, Rule, check_model, chunk, init_model_, padding_row
from fastinit.laws import Law
from fastinit.plot import _density

pytestmark = pytest.mark.one_torch


@pytest.fixture
def filled() -> tuple[Small, InitReport]:
    model = Small()
    return model, init_model_(model, RECIPE)


def test_rich_draws_the_reports_as_tables(filled) -> None:
    rich_console = pytest.importorskip("rich.console")
    model, report = filled
    for one, words in (
        (report, ["embedding.weight", "xavier_uniform_", "395 elements in"]),
        (check_model(model, RECIPE), ["embedding.weight", "verdict", "none wrong"]),
    ):
        for width in (200, 60):
            console = rich_console.Console(file=io.StringIO(), width=width)
            console.print(one)
            text = console.file.getvalue()
            assert max(map(len, text.splitlines())) <= width
            if width == 200:
                assert all(word in text for word in words)
                assert len(text.splitlines()) > len(one.rows)


def test_what_an_explanation_and_a_report_say_was_written(filled) -> None:
    model, report = filled
    assert str(report).splitlines()[-1].startswith("395 elements in ")
    assert str(RECIPE.explain(model)).splitlines()[-1] == "395 elements, nothing written"


def test_what_no_rule_took_is_not_counted_as_written() -> None:
    model, recipe = nn.Linear(3, 4), Recipe([Rule(fastinit.zeros_, params="bias")])
    assert str(recipe.explain(model)).endswith("4 elements, nothing written")
    assert "\n0 elements in " in str(init_model_(model, Recipe([]), strict=False))


def test_names_with_brackets_are_no_markup() -> None:
    rich_console = pytest.importorskip("rich.console")
    model = nn.ModuleDict({"e": nn.Embedding(5, 3, padding_idx=0)})
    recipe = Recipe([Rule(fastinit.normal_, parts=Part(fastinit.zeros_, padding_row))])
    init_model_(model, recipe)
    console = rich_console.Console(file=io.StringIO(), width=200)
    console.print(check_model(model, recipe))
    assert "e.weight[0]" in console.file.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_show_is_plain_text_in_a_file_and_a_table_on_a_terminal(filled, monkeypatch, capsys) -> None:
    pytest.importorskip("rich")
    _, report = filled
    report.show()
    assert capsys.readouterr().out == f"{report}\n"
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    report.show()
    assert "─" in terminal.getvalue()


def test_show_does_without_rich(filled, monkeypatch) -> None:
    _, report = filled
    for name in [*sys.modules]:
        if name == "rich" or name.startswith("rich."):
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    report.show()
    assert terminal.getvalue() == f"{report}\n"


def test_neither_rich_nor_matplotlib_is_needed_or_loaded_by_fastinit() -> None:
    code = "import sys, fastinit; print({'rich', 'matplotlib', 'safetensors', 'numpy.random'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "rich" not in done.stdout and "matplotlib" not in done.stdout


def grey(path: Path) -> torch.Tensor:
    """The picture's pixels as brightness; matplotlib's PNGs have 8 bits a channel and four channels."""
    image = pytest.importorskip("matplotlib.image").imread(path)
    return torch.from_numpy(image)[..., :3].mean(-1)


def test_pictures_are_written_where_they_are_asked_for(filled, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    model, report = filled
    written = report.plot(tmp_path / "small.png")
    assert written == [str(tmp_path / "small.png"), str(tmp_path / "small-layers.png")]
    for path in map(Path, written):
        width, height = struct.unpack(">II", path.read_bytes()[16:24])
        assert (width, height) == (1755, 1245)
        assert 0.02 < (grey(path) < 0.9).double().mean() < 0.6  # neither blank nor full
    assert report.plot(str(tmp_path / "small.svg")) == [
        str(tmp_path / "small.svg"), str(tmp_path / "small-layers.svg")
    ]  # fmt: skip
    svg = (tmp_path / "small.svg").read_text()
    assert "uniform" in svg or "path" in svg
    assert report.plot(tmp_path / "small.pdf") == [str(tmp_path / "small.pdf")]
    pdf = (tmp_path / "small.pdf").read_bytes()
    assert pdf.count(b"/Type /Page ") == 2
    del model


def test_what_is_drawn_is_what_the_model_holds_now(filled, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    model, report = filled
    report.plot(tmp_path / "before.png")
    with torch.no_grad():
        model.conv.weight.abs_()
    report.plot(tmp_path / "after.png")
    assert zlib.crc32((tmp_path / "before.png").read_bytes()) != zlib.crc32((tmp_path / "after.png").read_bytes())


def test_many_layers_are_drawn_on_several_pages_and_too_many_are_said(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("matplotlib")
    from fastinit import plot

    model = nn.ModuleList([nn.Linear(8, 8) for _ in range(50)])
    recipe = Recipe([Rule(fastinit.normal_, params="weight"), Rule(fastinit.zeros_)])
    report = init_model_(model, recipe)
    assert [Path(path).name for path in report.plot(tmp_path / "a.png")] == [
        "a.png", "a-layers.png", "a-layers-2.png"
    ]  # fmt: skip
    monkeypatch.setattr(plot, "_LAYER_PAGES", 1)
    titles = []
    monkeypatch.setattr("matplotlib.figure.Figure.suptitle", lambda self, text, **_: titles.append(text))
    assert [Path(path).name for path in report.plot(tmp_path / "b.png")] == ["b.png", "b-layers.png"]
    assert "50 of 100 tensors hold one value each and are left out" in titles[-1]
    assert "of the other 50, the 42 largest are drawn" in titles[-1]


def test_every_kind_of_law_part_and_type_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    model = nn.ModuleDict(
        {
            "embedding": nn.Embedding(30, 20, padding_idx=0),
            "lstm": nn.LSTM(20, 20),
            "eye": nn.Linear(20, 20),
            "dirac": nn.Conv1d(4, 4, 3),
            "sparse": nn.Linear(20, 20),
            "halves": nn.Linear(20, 20).half(),
            "norm": nn.BatchNorm1d(4),
        }
    )
    gates = [Part(fastinit.orthogonal_, chunk(gate, 4)) for gate in range(4)]
    recipe = Recipe(
        [
            Rule(fastinit.normal_, types=nn.Embedding, parts=Part(fastinit.zeros_, padding_row)),
            Rule(fastinit.keep, params="weight_hh*", parts=gates),
            Rule(fastinit.eye_, names="eye.weight"),
            Rule(fastinit.dirac_, names="dirac.weight"),
            Rule(fastinit.sparse_, names="sparse.weight", sparsity=0.5),
            Rule(fastinit.normal_, names="halves.weight", std=0.0),
            Rule(fastinit.trunc_normal_, names="*", params="weight*", a=0.5, b=0.6),
            Rule(fastinit.uniform_, params="bias*"),
            Rule(fastinit.zeros_, buffers="running_mean"),
        ]
    )
    report = init_model_(model, recipe)
    with torch.no_grad():
        model["lstm"].bias_hh_l0[3] = float("nan")
        model["lstm"].bias_ih_l0.fill_(float("inf"))
    assert len(report.plot(tmp_path / "all.png")) == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_what_parts_take_is_drawn_and_counted_as_theirs_alone(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("matplotlib")
    model = nn.ModuleDict({"embedding": nn.Embedding(30, 20, padding_idx=0), "lstm": nn.LSTM(20, 20, bias=False)})
    gates = [Part(fastinit.orthogonal_, chunk(gate, 4)) for gate in range(4)]
    recipe = Recipe(
        [
            Rule(fastinit.normal_, types=nn.Embedding, parts=Part(fastinit.zeros_, padding_row)),
            Rule(fastinit.keep, params="weight_hh*", parts=gates),
            Rule(fastinit.uniform_),
        ]
    )
    texts = []
    monkeypatch.setattr("matplotlib.axes.Axes.text", lambda self, x, y, text, **_: texts.append(text))
    init_model_(model, recipe).plot(tmp_path / "parts.png")
    counted = [text for text in texts if "elements" in text]
    assert counted == [
        "lstm.weight_ih_l0\n1,600 elements",
        "4 tensors\n1,600 elements",
        "embedding.weight\n580 elements",
        "embedding.weight[0]\n20 elements",
    ]


@pytest.mark.parametrize(
    ("law", "vector"),
    [
        (Law("normal", (0.5, 0.2, 0.0, 0.0)), 0),
        (Law("uniform", (-0.5, 1.5, 0.0, 0.0)), 0),
        (Law("trunc_normal", (0.0, 1.0, -0.5, 1.5)), 0),
        (Law("orthogonal", (1.5, 0.0, 0.0, 0.0)), 3),
        (Law("orthogonal", (-1.5, 0.0, 0.0, 0.0)), 64),
    ],
)
def test_densities_integrate_to_one(law: Law, vector: int) -> None:
    density = _density(law, vector)
    assert density is not None
    x = torch.linspace(-3, 3, 600_001, dtype=torch.float64)
    assert torch.trapezoid(density(x), x).item() == pytest.approx(1.0, abs=1e-4)


def test_the_density_of_orthogonal_matrices_is_that_of_their_elements() -> None:
    values = torch.cat(
        [fastinit.orthogonal_(torch.empty(12, 9), 2.0, generator=fastinit.Key(seed)).flatten() for seed in range(300)]
    ).double()
    density = _density(Law("orthogonal", (2.0, 0.0, 0.0, 0.0)), 12)
    assert density is not None
    x = torch.linspace(-2, 2, 200_001, dtype=torch.float64)
    cumulated = torch.cumulative_trapezoid(density(x), x)
    for t in (-1.0, -0.3, 0.0, 0.5, 1.2):
        expected = cumulated[int((t + 2) / 4 * 200_000) - 1].item()
        # Six standard errors of as many independent elements as there are rows (a row's are on a sphere).
        assert (values <= t).double().mean().item() == pytest.approx(expected, abs=6 * 0.5 / (300 * 12) ** 0.5)


def test_a_report_whose_model_is_gone_says_so(filled, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    model, report = filled
    for kept in (report, copy.deepcopy(report), pickle.loads(pickle.dumps(report))):
        assert str(kept) == str(report)
        if kept is not report:
            with pytest.raises(RuntimeError, match="model of this report is gone"):
                kept.plot(tmp_path / "a.png")
    del model, filled
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_a_report_does_not_keep_its_model(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report = init_model_(Small(), RECIPE)
    gc.collect()
    with pytest.raises(RuntimeError, match="model of this report is gone: keep a reference"):
        report.plot(tmp_path / "a.png")


def test_nothing_to_draw_and_unknown_types_are_errors_before_anything_is_written(filled, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with torch.device("meta"):
        model = Small()
    with pytest.raises(ValueError, match="nothing to draw"):
        RECIPE.explain(model).plot(tmp_path / "a.png")
    _, report = filled
    for name in ("a.docx", "a"):
        with pytest.raises(ValueError, match=r"path must end in .*\.pdf.*\.png"):
            report.plot(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_error_says_what_to_install(filled, tmp_path: Path, monkeypatch) -> None:
    _, report = filled
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"torch-fastinit\[plot\]"):
        report.plot(tmp_path / "a.png")


def test_large_tensors_are_sampled(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("matplotlib")
    from fastinit import plot

    model = nn.Linear(2000, 1000)
    report = init_model_(model, Recipe([Rule(fastinit.normal_)]))
    drawn = []
    histogram = plot._histogram
    monkeypatch.setattr(plot, "_histogram", lambda *given, **more: (drawn.append(given[1]), histogram(*given, **more)))
    report.plot(tmp_path / "a.png")
    assert max(len(values) for values in drawn) == 2**18
