"""What a run of the suite measured: for each case the times of its contestants, and their ratios turn by turn.

Read from pytest-benchmark's JSON or from a report.json. Seconds everywhere.
"""

import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

TORCH, TORCH_STREAM, KEYED_STREAM, FLOOR = "torch.nn.init", "torch stream", "keyed stream", "fill_"
FORMAT = 1


class Spread(NamedTuple):
    """Of passes the quartiles, of turns the extremes."""

    median: float
    low: float
    high: float


class Figure(NamedTuple):
    seconds: Spread
    least: float
    passes: int
    times_faster: Spread | None  # than torch.nn.init, where that took part
    of_floor: Spread | None  # as a multiple of `fill_`


class Case(NamedTuple):
    """A piece of work, by the fields of the suite's own Case, and what each contestant took for it."""

    kind: str
    name: str
    dtype: str
    elements: int
    threads: int
    shape: tuple[int, ...]
    arguments: tuple[tuple[str, Any], ...]
    memory: str
    layout: str
    contestants: dict[str, Figure]

    @property
    def work(self) -> tuple[Any, ...]:
        """What was done: equal for cases that may be compared over runs."""
        return self[:-1]

    def __str__(self) -> str:
        given = ", ".join(f"{key}={value}" for key, value in self.arguments)
        what = [f"{self.name}({given})" if given else self.name, self.dtype, f"{self.elements:,} elements"]
        unusual = [self.layout] if self.layout != "contiguous" else []
        return ", ".join([*what, f"{self.threads} threads", f"{self.memory} memory", *unusual])

    def ns(self, contestant: str) -> float:
        return self.contestants[contestant].seconds.median / self.elements * 1e9


class Run(NamedTuple):
    """A run of the suite. `about`: command, suite, date, commit, machine, versions of libraries."""

    about: dict[str, Any]
    cases: list[Case]

    def select(self, **fields: Any) -> list[Case]:
        return [case for case in self.cases if all(getattr(case, name) == value for name, value in fields.items())]

    @staticmethod
    def usual(cases: list[Case]) -> list[Case]:
        """Return those with each function's first arguments: other windows of a law are for a table of their own."""
        first = {case.name: case.arguments for case in reversed(cases)}
        return [case for case in cases if case.arguments == first[case.name]]

    @property
    def most_threads(self) -> int:
        return max(case.threads for case in self.cases)


def from_pytest(measured: dict[str, Any], suite: str, command: str) -> Run:
    """Return the run that pytest-benchmark wrote down."""
    passes: dict[tuple[Any, ...], dict[str, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(dict))
    for one in measured["benchmarks"]:
        about = one["extra_info"]
        work = tuple(_hashable(about[field]) for field in Case._fields[:-1])
        passes[work][about["contestant"]][about["turn"]] = one["stats"]["data"]
    machine, commit = measured["machine_info"], measured["commit_info"]
    return Run(
        {
            "command": command,
            "suite": suite,
            "date": measured["datetime"],
            "commit": commit["id"] + (" and changes" if commit.get("dirty") else ""),
            "machine": machine["fastinit"],
            "libraries": machine["libraries"],
        },
        [Case._make([*work, _figures(contestants)]) for work, contestants in passes.items()],
    )


def _figures(contestants: dict[str, dict[int, list[float]]]) -> dict[str, Figure]:
    turns = {who: {turn: statistics.median(data) for turn, data in of.items()} for who, of in contestants.items()}
    return {
        who: Figure(
            _quartiles([seconds for data in of.values() for seconds in data]),
            _four(min(map(min, of.values()))),
            sum(map(len, of.values())),
            _ratios(turns.get(TORCH, {}), turns[who]),
            _ratios(turns[who], turns.get(FLOOR, {})),
        )
        for who, of in contestants.items()
    }


def _quartiles(seconds: list[float]) -> Spread:
    if len(seconds) == 1:
        return _spread(seconds[0], seconds[0], seconds[0])
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return _spread(median, low, high)


def _ratios(dividend: dict[int, float], divisor: dict[int, float]) -> Spread | None:
    """Return the ratio of what lay next to each other in time: turn by turn, then the middle one."""
    ratios = [dividend[turn] / divisor[turn] for turn in dividend.keys() & divisor.keys()]
    return _spread(statistics.median(ratios), min(ratios), max(ratios)) if ratios else None


def _spread(*values: float) -> Spread:
    return Spread(*map(_four, values))


def _four(value: float) -> float:
    """Return four digits: more than any figure is worth, and what a file holds is what was in memory."""
    return float(f"{value:.4g}")


def to_json(run: Run) -> str:
    """Return the text of a report.json: one case a line, so that two runs can be compared by eye."""
    lines = ",\n".join(json.dumps(_plain(case)) for case in run.cases)
    return f'{{"format": {FORMAT},\n"about": {json.dumps(run.about, indent=1)},\n"cases": [\n{lines}\n]}}\n'


def read(path: str | Path) -> Run:
    """Read a report.json.

    Raises:
        OSError: where it cannot be read
        ValueError: where it is none

    """
    try:
        text = json.loads(Path(path).read_text(encoding="utf-8"))
        if text["format"] != FORMAT:
            raise ValueError(f"{path} has format {text['format']}, and this fastinit knows {FORMAT}")
        if not text["cases"]:
            raise ValueError(f"{path} has no figures")
        return Run(text["about"], [_case(case) for case in text["cases"]])
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no report.json of python -m fastinit bench --report: {error!r}") from error


def _plain(case: Case) -> dict[str, Any]:
    return case._asdict() | {"contestants": {who: figure._asdict() for who, figure in case.contestants.items()}}


def _case(plain: dict[str, Any]) -> Case:
    def spread(values: list[float] | None) -> Spread | None:
        return None if values is None else Spread(*values)

    contestants = {
        who: Figure(
            Spread(*one["seconds"]),
            one["least"],
            one["passes"],
            spread(one["times_faster"]),
            spread(one["of_floor"]),
        )
        for who, one in plain["contestants"].items()
    }
    return Case._make([*(_hashable(plain[field]) for field in Case._fields[:-1]), contestants])


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, (list, tuple)) else value
