"""What one tensor holds, measured against its law, and its parts against theirs, in one pass."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch

from fastinit.check.measure import At, Division, Read, Statistics, workable
from fastinit.check.probes import Probe, probe_of
from fastinit.laws import Law


class Subject(NamedTuple):
    """A tensor or a part of one: where in the whole (empty for the whole), its shape, and its law if it has one."""

    at: At
    shape: Sequence[int]
    law: Law | None


class Finding(NamedTuple):
    elements: int
    mean: float | None  # of the finite elements, as are the next three; None where there are none
    std: float | None
    min: float | None
    max: float | None
    ks: float | None  # distance of Kolmogorov and Smirnov, of laws that have a distribution function
    verdict: str  # "ok", "nan", "inf", "all zero" or "out of law"
    note: str  # what is wrong, or what could not be looked at


def scan(
    read: Read, dtype: torch.dtype, subjects: Sequence[Subject], alpha: float, held: Sequence[int] | None = None
) -> list[Finding | None]:
    """Measure the whole, which is the first subject, without its parts, and each part without what later ones take.

    None stands for what has no elements of its own because parts have them all. alpha: the false-alarm rate of each
    single test. held: the shape of what is to be read where that is not all of it; parts are where they are in that.
    """
    # Values are looked at on CPU. Only where need be: within this block arguments live longer than they would.
    elsewhere = torch.get_default_device().type != "cpu"
    with torch.device("cpu") if elsewhere else nullcontext():
        return _scan(read, dtype, subjects, alpha, subjects[0].shape if held is None else held)


def _scan(
    read: Read, dtype: torch.dtype, subjects: Sequence[Subject], alpha: float, held: Sequence[int]
) -> list[Finding | None]:
    division = Division(held, [part.at for part in subjects[1:]])
    probes = [
        probe_of(subject.law, dtype, subject.shape, count)
        for subject, count in zip(subjects, division.counts, strict=True)
    ]
    statistics = [Statistics() for _ in subjects]
    seen = [0] * len(subjects)
    for which, values in division.split(read):
        probes[which].add(seen[which], workable(values))
        seen[which] += values.numel()
        real = torch.view_as_real(values).reshape(-1) if values.is_complex() else values
        statistics[which].add(real.to(torch.float64, copy=True))
    findings: list[Finding | None] = []
    for subject, count, measured, probe in zip(subjects, division.counts, statistics, probes, strict=True):
        taken = count == 0 and 0 not in subject.shape
        findings.append(None if taken else _finding(count, measured, probe, subject.law, alpha))
    return findings


def _finding(count: int, statistics: Statistics, probe: Probe, law: Law | None, alpha: float) -> Finding:
    zero = statistics.min == statistics.max == 0
    bad = [f"{n:,} {what}" for n, what in ((statistics.nans, "NaN"), (statistics.infinities, "infinite")) if n]
    # A constant may be NaN or infinite because the rule says so; other laws have no such values to compare.
    comparable = count > 0 and (not bad or (law is not None and law.kind == "constant"))
    faults = list(probe.faults(statistics, alpha)) if comparable else []
    if bad and (faults or not comparable):
        verdict, notes = ("nan" if statistics.nans else "inf"), bad
    elif faults:
        verdict, notes = ("all zero" if zero else "out of law"), faults
    else:
        verdict, notes = "ok", ["all zero"] if zero and law is None else []
    if probe.note:
        notes.append(probe.note)
    known = statistics.count > 0
    return Finding(
        count,
        statistics.mean if known else None,
        statistics.std if known else None,
        statistics.min if known else None,
        statistics.max if known else None,
        probe.ks,
        verdict,
        "; ".join(notes),
    )
