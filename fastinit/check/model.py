"""`check_model`: whether each tensor of a model holds what a recipe says that it holds."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from fastinit.check.held import held_of
from fastinit.check.measure import At, reader
from fastinit.check.probes import TESTS
from fastinit.check.scan import Finding, Subject, scan
from fastinit.laws import KEYLESS, Law
from fastinit.parameters import is_plain
from fastinit.plan import Entry, make_plan
from fastinit.recipe import Recipe
from fastinit.sharding import is_dtensor
from fastinit.tables import Table, Tabular, dtype_text, shape_text

FALSE_ALARMS = 1e-6  # probability that anything at all is flagged where every value is right


class CheckRow(NamedTuple):
    name: str  # of a part: "embedding.weight[0]"
    tied: tuple[str, ...]
    shape: torch.Size
    dtype: torch.dtype
    law: Law | None  # None: measured, and compared with nothing
    elements: int  # without those that have a row of their own as parts
    mean: float | None  # of the finite elements, as are the next three
    std: float | None
    min: float | None
    max: float | None
    ks: float | None  # largest distance between the distribution functions of the values and of the law
    verdict: str  # "ok", "meta" (never initialised), "nan", "inf", "all zero", "out of law" or "not measured"
    note: str


class CheckReport(Tabular):
    """`rows` in the model's order; `failures`, those whose verdict is not "ok"; `ok`, whether there are none.

    `problems`: what is wrong besides, such as files that are missing. `print` shows it as plain text, `show` and rich's
    own print as a table. `check_model` makes it of these.

    Args:
        rows: one a tensor, and one a part
        problems: in words

    """

    def __init__(self, rows: list[CheckRow], problems: Sequence[str] = ()) -> None:
        self.rows = rows
        self.problems = list(problems)

    @property
    def failures(self) -> list[CheckRow]:
        """The rows whose verdict is not "ok"."""
        return [row for row in self.rows if row.verdict != "ok"]

    @property
    def ok(self) -> bool:
        """Whether every tensor holds what the recipe says."""
        return not self.failures and not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, as `to_json` writes them."""
        rows = []
        for row in self.rows:
            law = row.law and row.law.to_dict()
            plain = {"tied": list(row.tied), "shape": list(row.shape), "dtype": dtype_text(row.dtype), "law": law}
            # JSON has no infinities: an extreme is one only where the law is.
            numbers = {
                name: value if value is None or math.isfinite(value) else str(value)
                for name, value in row._asdict().items()
                if name in ("mean", "std", "min", "max", "ks")
            }
            rows.append(row._asdict() | plain | numbers)
        return {"ok": self.ok, "problems": self.problems, "rows": rows}

    def tables(self) -> list[Table]:
        head = ("tensor", "shape", "type", "mean", "std", "min", "max", "KS", "verdict")
        rows = [
            (
                row.name + "".join(f" = {name}" for name in row.tied),
                shape_text(row.shape),
                dtype_text(row.dtype),
                *(_number(value) for value in (row.mean, row.std, row.min, row.max)),
                "" if row.ks is None else f"{row.ks:.4f}",
                row.verdict,
            )
            for row in self.rows
        ]
        styles = ["" if row.verdict == "ok" else "bold red" for row in self.rows]
        return [Table(head, rows, "<<<>>>>><", styles)]

    def under(self) -> list[str]:
        lines = [
            f"{row.name}, {row.law or 'no law'}: {row.verdict}{': ' if row.note else ''}{row.note}"
            for row in self.failures
        ]
        lines += self.problems
        if lines:
            lines.append("")
        compared = sum(row.law is not None for row in self.rows)
        total = sum(row.elements for row in self.rows)
        wrong = f"{len(self.failures)} wrong" if self.failures else "none wrong"
        lines.append(f"{len(self.rows)} tensors, {total:,} elements: {compared} compared with their laws, {wrong}")
        lines.append(f"(KS over 2^20 elements at most; any false alarm: probability below {FALSE_ALARMS:g})")
        return lines

    def __repr__(self) -> str:
        return f"<CheckReport: {len(self.rows)} tensors, {len(self.failures)} failures>"


def check_model(model: nn.Module, recipe: Recipe, *, only: str | Sequence[str] | None = None) -> CheckReport:
    """Measure what the model holds against what the recipe's rules give, and write nothing.

    Mean, standard deviation and extremes are those of all elements, taken in pieces; the distance of Kolmogorov and
    Smirnov is over 2^20 of them at most, one from each of as many equal stretches. Laws are those of the rounded values
    of the tensor's type. What holds a constant, ones (`eye_`, `dirac_`) or counted zeros (`sparse_`) is compared
    exactly; orthogonal matrices by the products of up to 256 of their rows or columns; parts by themselves, and the
    rest of their tensor without them. What has no law (keep, a callable of yours, no rule) fails for NaN and infinities
    only. Of the buffers, those that a rule takes and those on the meta device are looked at. Of a DTensor, what this
    process holds: without orthogonal, sparse, eye and dirac, unless that is all of it, and without a row where it is
    nothing.

    The probability that anything is flagged in a model whose values are right is below 1e-6.

    Args:
        model: any module
        recipe: the rules that it should have been filled by
        only: canonical names, or globs over them

    Raises:
        RecipeError: what `init_model_` refuses a rule for
        TypeError: a model that is no module, a recipe or an `only` of another kind

    """
    plan = make_plan(model, recipe, strict=False, only=only, in_place=False)
    entries = [entry for entry in plan.entries if not entry.buffer or entry.rule is not None or entry.tensor.is_meta]
    alpha = alpha_of([law for entry in entries for law in (entry.law, *(part.law for part in entry.parts))])
    with torch.no_grad():
        return CheckReport([row for entry in entries for row in _rows(entry, alpha)])


def alpha_of(laws: Sequence[Law | None]) -> float:
    """Return the false-alarm rate of one test among all those of tensors with these laws."""
    return FALSE_ALARMS / max(1, TESTS * sum(law is not None and law.kind not in KEYLESS for law in laws))


def rows_of(
    name: str,
    tied: tuple[str, ...],
    dtype: torch.dtype,
    subjects: Sequence[Subject],
    parts: Sequence[str],
    findings: Sequence[Finding | None],
) -> list[CheckRow]:
    """Return the rows of a tensor and of its parts."""
    return [
        CheckRow(own, tied if own is name else (), torch.Size(subject.shape), dtype, subject.law, *finding)
        for own, subject, finding in zip((name, *parts), subjects, findings, strict=True)
        if finding is not None
    ]


def _rows(entry: Entry, alpha: float) -> list[CheckRow]:
    tensor = entry.tensor
    if tensor.is_meta:
        return [_unmeasured(entry, "meta", "it is on the meta device: never initialised")]
    local, parts = tensor, list[At](part.at for part in entry.parts)
    if is_dtensor(tensor):
        try:
            local, parts = held_of(tensor, parts)
        except ValueError as error:
            return [_unmeasured(entry, "not measured", str(error))]
    if not is_plain(local) or local.is_quantized:
        kind = f"a {type(tensor).__name__} of layout {tensor.layout} has no elements to look at one by one"
        return [_unmeasured(entry, "not measured", kind)]
    subjects = [
        Subject((), tensor.shape, entry.law),
        *(Subject(part, one.shape, one.law) for part, one in zip(parts, entry.parts, strict=True)),
    ]
    findings = scan(reader(local), tensor.dtype, subjects, alpha, local.shape)
    return rows_of(entry.name, entry.tied, tensor.dtype, subjects, [part.name for part in entry.parts], findings)


def _unmeasured(entry: Entry, verdict: str, note: str) -> CheckRow:
    tensor, nothing = entry.tensor, (None,) * 5
    return CheckRow(
        entry.name, entry.tied, tensor.shape, tensor.dtype, entry.law, tensor.numel(), *nothing, verdict, note
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
