"""Whether ratios fell: the quick suite of now against a committed run. Absolute times are never compared."""

import sys
from typing import NamedTuple

from fastinit.bench import suite
from fastinit.bench.figures import KEYED_STREAM, TORCH_STREAM, Case, Run, Spread

# Two runs of one build on one idle machine differ by up to this much; see benchmarks/README.md.
NOISE = 0.3


class Fall(NamedTuple):
    case: Case
    contestant: str
    before: Spread
    now: Spread


def check(path: str) -> None:
    """Measure, say what fell by more than the noise, twice over, and exit with status 1 if anything did."""
    suite.require()
    before = suite.read(path)
    now = suite.measured("quick", "")
    count = len(_ratios(now).keys() & _ratios(before).keys())
    if not count:
        sys.exit(f"{path} has no case of the quick suite with {now.most_threads} threads")
    for what in ("cpu", "cores", "isa", "torch"):
        if (here := now.about["machine"][what]) != (there := before.about["machine"][what]):
            print(f"Note: {path} was measured with {what} {there}, and here it is {here}: its ratios may not hold.")
    found = falls(before, now)
    if found:
        print(
            f"{len(found)} of {count} ratios fell by more than {NOISE:.0%}. Once more: a neighbour may have been busy."
        )
        again = falls(before, suite.measured("quick", ""))
        both = {(fall.case.work, fall.contestant) for fall in found}
        found = [fall for fall in again if (fall.case.work, fall.contestant) in both]
    for case, contestant, was, ratio in found:
        print(f"FELL {case}: {contestant}, {was.median:.3g} -> {ratio.median:.3g} times as fast as torch.nn.init")
    print(f"{count} ratios compared with {path}: {len(found) or 'none'} fell by more than {NOISE:.0%}")
    if found:
        sys.exit(1)


def falls(before: Run, now: Run) -> list[Fall]:
    """Return what is lower by more than the noise, and in every turn of now than in any of then."""
    old, new = _ratios(before), _ratios(now)
    return [
        Fall(case, who, was, ratio)
        for (work, who), (case, ratio) in new.items()
        if (work, who) in old
        for _, was in [old[work, who]]
        if ratio.median < was.median * (1 - NOISE) and ratio.high < was.low
    ]


def _ratios(run: Run) -> dict[tuple[object, str], tuple[Case, Spread]]:
    """Return those that may be compared over processes: strided writes go by which physical pages one was given."""
    return {
        (case.work, who): (case, figure.times_faster)
        for case in run.select(layout="contiguous")
        for who, figure in case.contestants.items()
        if who.startswith((TORCH_STREAM, KEYED_STREAM)) and figure.times_faster is not None
    }
