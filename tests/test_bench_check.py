"""`bench --check` names ratios that fell by more than the noise, twice over, and nothing else."""

from pathlib import Path

import bench_runs
import pytest

from fastinit.bench import compare, figures, suite
from fastinit.bench.figures import Run

pytestmark = pytest.mark.one_torch
SAME = bench_runs.run(bench_runs.goes(), bench_runs.goes(name="uniform_"))
FALLEN = bench_runs.run(bench_runs.goes(bench_runs.slower("keyed stream", 2)), bench_runs.goes(name="uniform_"))


def test_what_fell_is_found_with_its_ratios() -> None:
    (fall,) = compare.falls(SAME, FALLEN)
    assert (fall.case.name, fall.contestant) == ("normal_", "keyed stream")
    assert fall.before.median / fall.now.median == pytest.approx(2)


def test_a_slower_machine_is_no_fall() -> None:
    """All take three times as long: no ratio changed."""
    slow = {who: tuple(tuple(3 * one for one in turn) for turn in turns) for who, turns in bench_runs.SECONDS.items()}
    assert compare.falls(SAME, bench_runs.run(bench_runs.goes(slow), bench_runs.goes(slow, name="uniform_"))) == []


@pytest.mark.parametrize(("times", "found"), [(1 / (1 - compare.NOISE) - 0.02, 0), (1 / (1 - compare.NOISE) + 0.02, 1)])
def test_the_margin_is_the_one_that_is_stated(times: float, found: int) -> None:
    steady = {who: (turns[0],) * 3 for who, turns in bench_runs.SECONDS.items()}
    slower = steady | {"keyed stream": ((2e-4 * times,) * 2,) * 3}
    before, now = bench_runs.run(bench_runs.goes(steady)), bench_runs.run(bench_runs.goes(slower))
    assert len(compare.falls(before, now)) == found


def test_strided_writes_are_not_compared() -> None:
    now = bench_runs.goes(bench_runs.slower("keyed stream", 2), layout="transposed")
    assert compare.falls(bench_runs.run(bench_runs.goes(layout="transposed")), bench_runs.run(now)) == []


def test_one_good_turn_is_enough() -> None:
    good = bench_runs.slower("keyed stream", 2)
    good["keyed stream"] = (*good["keyed stream"][:2], (2e-4, 2e-4))
    assert compare.falls(SAME, bench_runs.run(bench_runs.goes(good))) == []


def check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *runs: Run) -> None:
    path = tmp_path / "report.json"
    path.write_text(figures.to_json(SAME))
    ahead = list(runs)
    monkeypatch.setattr(suite, "measured", lambda *_: ahead.pop(0))
    compare.check(str(path))
    assert not ahead


def test_nothing_fell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(monkeypatch, tmp_path, SAME)
    assert "4 ratios compared" in (out := capsys.readouterr().out)
    assert "none fell by more than 30%" in out


def test_another_machine_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = SAME._replace(about=SAME.about | {"machine": SAME.about["machine"] | {"cores": 64, "isa": "scalar"}})
    check(monkeypatch, tmp_path, other)
    out = capsys.readouterr().out
    assert "measured with cores 2, and here it is 64" in out
    assert "measured with isa avx2, and here it is scalar" in out
    assert out.count("Note:") == 2


def test_what_fell_once_is_measured_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check(monkeypatch, tmp_path, FALLEN, SAME)
    assert "none fell" in capsys.readouterr().out


def test_what_fell_twice_is_named_and_ends_with_status_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        check(monkeypatch, tmp_path, FALLEN, FALLEN)
    assert ended.value.code == 1
    out = capsys.readouterr().out
    assert "FELL normal_, float32, 1,048,576 elements, 2 threads, warm memory: keyed stream, 20.5 -> 10.2 times" in out
    assert "uniform_" not in out


def test_runs_without_a_common_case_cannot_be_compared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"report\.json has no case of the quick suite with 64 threads"):
        check(monkeypatch, tmp_path, bench_runs.run(bench_runs.goes(threads=64)))
