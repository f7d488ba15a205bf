"""Figures of a run: medians of all passes, ratios within a turn, and the same from the file that was written."""

from pathlib import Path

import bench_runs
import pytest

from fastinit.bench import figures
from fastinit.bench.figures import Spread

pytestmark = pytest.mark.one_torch


def test_medians_and_quartiles_are_of_all_passes() -> None:
    case = bench_runs.run(bench_runs.goes()).cases[0]
    torch = case.contestants["torch.nn.init"]
    assert torch.passes == 6
    assert torch.least == 4.0e-3
    # 4.0 4.0 4.2 4.2 8.0 8.4
    assert torch.seconds == pytest.approx((4.2e-3, 4.05e-3, 7.05e-3), rel=1e-3)
    assert case.ns("torch.nn.init") == pytest.approx(4.2e6 / 2**20, rel=1e-3)


def test_a_ratio_is_taken_within_a_turn() -> None:
    """In the second turn all are half as fast, and the ratio of pooled medians would be another."""
    stream = bench_runs.run(bench_runs.goes()).cases[0].contestants["torch stream"]
    assert stream.times_faster == pytest.approx((8.2, 8.2, 10.25))
    assert stream.of_floor == pytest.approx((5, 4, 5))
    medians = (
        bench_runs.run(bench_runs.goes()).cases[0].contestants["torch.nn.init"].seconds.median / stream.seconds.median
    )
    assert abs(medians - 8.2) > 0.1


def test_without_torch_there_is_no_ratio_to_it() -> None:
    kept = {"keyed stream": bench_runs.SECONDS["keyed stream"]}
    figure = bench_runs.run(bench_runs.goes(kept)).cases[0].contestants["keyed stream"]
    assert figure.times_faster is None
    assert figure.of_floor is None


def test_one_pass_has_no_spread() -> None:
    figure = bench_runs.run(bench_runs.goes({"torch.nn.init": ((2.0,),)})).cases[0].contestants["torch.nn.init"]
    assert figure.seconds == Spread(2.0, 2.0, 2.0)


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = bench_runs.everything()
    path = tmp_path / "report.json"
    path.write_text(figures.to_json(run))
    again = figures.read(path)
    assert again.about == run.about
    assert again.cases == run.cases
    assert figures.to_json(again) == path.read_text()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "\x80",
        '{"format": 99}',
        '{"format": 1, "about": {}, "cases": []}',
        '{"format": 1, "about": {}, "cases": [{}]}',
        '{"format": 1, "about": {}, "cases": [{"contestants": []}]}',
    ],
)
def test_another_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"other\.json"):
        figures.read(path)
