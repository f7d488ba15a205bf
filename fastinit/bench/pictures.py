"""The pictures of a report, each a figure of matplotlib: growth, whole models, threads, fresh memory, other fillers.

Colours are of Okabe and Ito's, which people who see no red or no green can tell apart; every line has a marker of its
own as well. Figures are made without pyplot, so that no backend and no display is needed.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from fastinit.bench.figures import FLOOR, KEYED_STREAM, TORCH, TORCH_STREAM, Case, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {TORCH: "#D55E00", TORCH_STREAM: "#0072B2", KEYED_STREAM: "#009E73", FLOOR: "#000000"}
_MARKERS = {TORCH: "o", TORCH_STREAM: "s", KEYED_STREAM: "^", FLOOR: ""}
_OTHERS = ("#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")  # for fillers that are neither torch nor fastinit
_CONTROLS = ("ones_", "zeros_")  # as constant_ is
_WIDTH = 10.0  # inches


def pictures(run: Run) -> Iterator[tuple[str, str, "Figure"]]:
    """Yield name, caption and figure of each picture that there are figures for."""
    threads = run.most_threads
    for dtype in ("float32", "bfloat16"):
        cases = _warm(run, dtype)
        if _sizes(cases) > 1:
            about = f"{dtype}, warm memory, {threads} threads"
            yield f"ns-{dtype}", f"ns an element against elements ({about})", _curves(cases, _ns, "ns an element")
            yield f"time-{dtype}", f"Time against elements ({about})", _curves(cases, _seconds, "seconds")
    for memory, way in (("warm", "in warm memory"), ("fresh", "from the meta device to ready")):
        if models := _models_by_all(run, memory):
            yield f"models-{memory}", f"Whole models {way}, {threads} threads", _models(models)
    if threads > 1 and (scaling := _scaling(run)):
        yield "threads", "Times as fast as one thread of its own (float32, warm memory)", _threads(scaling)
    if pairs := _fresh(run):
        yield (
            "fresh",
            f"Warm and fresh memory (float32, {pairs[0][0].elements:,} elements, {threads} threads)",
            _pairs(pairs),
        )
    if others := _others(run):
        caption = f"Other fillers (float32, {others[0].elements:,} elements, warm memory, {threads} threads)"
        yield "competitors", caption, _competitors(others)


def _warm(run: Run, dtype: str) -> list[Case]:
    cases = run.select(kind="fill", dtype=dtype, memory="warm", layout="contiguous", threads=run.most_threads)
    return [case for case in run.usual(cases) if case.name not in _CONTROLS]


def _sizes(cases: Sequence[Case]) -> int:
    return len({case.elements for case in cases})


def _ns(case: Case, who: str) -> float:
    return case.ns(who)


def _seconds(case: Case, who: str) -> float:
    return case.contestants[who].seconds.median


def _curves(cases: list[Case], value: Callable[[Case, str], float], unit: str) -> "Figure":
    """Return a panel for each function, all with the same axes."""
    names = list(dict.fromkeys(case.name for case in cases))
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = _figure(2.3 * rows + 0.8)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for panel, name in zip(panels, names, strict=False):
        of = sorted((case for case in cases if case.name == name), key=lambda case: case.elements)
        for who in _COLOURS:
            points = [(case.elements, value(case, who)) for case in of if who in case.contestants]
            if points:
                panel.plot(*zip(*points, strict=True), label=_label(who), **_line(who))
        panel.set(xscale="log", yscale="log")
        panel.minorticks_off()
        panel.set_title(name, fontsize=9)
        panel.grid(which="major", color="0.9")
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    figure.supxlabel("elements", fontsize=9)
    figure.supylabel(unit, fontsize=9)
    _legend(figure, figure.axes[0])
    return figure


def _models_by_all(run: Run, memory: str) -> list[Case]:
    """Return the models that all contestants have initialised: where memory is short, some are skipped."""
    cases = run.select(kind="model", memory=memory)
    everyone = {who for case in cases for who in case.contestants}
    return [case for case in cases if case.contestants.keys() == everyone]


def _models(cases: list[Case]) -> "Figure":
    """Return bars of gigabytes a second: models of all sizes on one scale, and longer is better."""
    cases = sorted(cases, key=lambda case: (case.dtype, case.elements), reverse=True)
    who = [one for one in _COLOURS if one != FLOOR and one in cases[0].contestants]
    figure = _figure(0.55 + 0.24 * len(cases) * (len(who) + 0.6))
    axes = figure.subplots()
    height = 0.8 / len(who)
    for row, case in enumerate(cases):
        size = case.elements * getattr(torch, case.dtype).itemsize
        for i, one in enumerate(who):
            taken = case.contestants[one]
            y = row + 0.4 - (i + 0.5) * height
            speed = size / taken.seconds.median / 1e9
            axes.barh(y, speed, height, color=_COLOURS[one], label=_label(one) if row == 0 else None)
            faster = "" if taken.times_faster is None or one == TORCH else f", {taken.times_faster.median:.1f}×"
            axes.text(speed, y, f" {_time(taken.seconds.median)}{faster}", va="center", fontsize=7.5)
        floor = size / case.contestants[FLOOR].seconds.median / 1e9
        axes.plot(
            [floor, floor], [row - 0.4, row + 0.4], color=_COLOURS[FLOOR], linestyle="--",
            label=_label(FLOOR) if row == 0 else None,
        )  # fmt: skip
    axes.set_yticks(
        range(len(cases)), [f"{case.name}, {case.dtype}\n{case.elements / 1e6:,.0f} million" for case in cases]
    )
    axes.tick_params(axis="y", labelsize=8, length=0)
    axes.set_ylim(-0.6, len(cases) - 0.4)
    axes.set_xlabel("GB written a second")
    axes.set_xlim(0, axes.get_xlim()[1] * 1.12)
    _legend(figure, axes)
    return figure


def _scaling(run: Run) -> dict[str, list[Case]]:
    """Return the cases of each function at the size that was measured with every number of threads."""
    counts = {case.threads for case in run.select(kind="fill")}
    found: dict[tuple[str, int], list[Case]] = {}
    for case in run.usual(run.select(kind="fill", dtype="float32", memory="warm", layout="contiguous")):
        found.setdefault((case.name, case.elements), []).append(case)
    whole = {
        key: cases for key, cases in found.items() if {case.threads for case in cases} == counts and key[1] >= 2**24
    }
    largest = {name: max(size for other, size in whole if other == name) for name, _ in whole}
    names = [name for name in ("uniform_", "normal_", "trunc_normal_") if name in largest]
    return {name: sorted(whole[name, largest[name]], key=lambda case: case.threads) for name in names}


def _threads(scaling: dict[str, list[Case]]) -> "Figure":
    figure = _figure(3.6)
    panels = figure.subplots(1, len(scaling), sharey=True, squeeze=False)[0]
    for panel, (name, cases) in zip(panels, scaling.items(), strict=True):
        counts = [case.threads for case in cases]
        panel.plot(counts, counts, color="0.6", linestyle=":", label="as many times as there are threads")
        for who in _COLOURS:
            alone = cases[0].contestants[who].seconds.median
            panel.plot(
                counts,
                [alone / case.contestants[who].seconds.median for case in cases],
                label=_label(who),
                **_line(who),
            )
        panel.set_title(f"{name}, {cases[0].elements:,} elements", fontsize=9)
        panel.set_xlabel("threads")
        for axis, set_scale in ((panel.xaxis, panel.set_xscale), (panel.yaxis, panel.set_yscale)):
            set_scale("log", base=2)  # from 1 to 64 and more
            axis.set_ticks(counts, list(map(str, counts)))
        panel.minorticks_off()
        panel.grid(color="0.9")
    panels[0].set_ylabel("times as fast")
    _legend(figure, panels[0])
    return figure


def _fresh(run: Run) -> list[tuple[Case, Case]]:
    """Return warm and fresh memory of the same work, of the largest size that has both."""
    fresh = run.select(kind="fill", memory="fresh", threads=run.most_threads)
    warm = {case.work: case for case in run.select(kind="fill", memory="warm")}
    both = [(warm[key], case) for case in fresh if (key := case._replace(memory="warm").work) in warm]
    return [pair for pair in both if pair[0].elements == max(one.elements for one, _ in both)]


def _pairs(pairs: list[tuple[Case, Case]]) -> "Figure":
    figure = _figure(3.4)
    panels = figure.subplots(1, len(pairs), sharey=True, squeeze=False)[0]
    for panel, (warm, fresh) in zip(panels, pairs, strict=True):
        who = list(fresh.contestants)
        for case, below, what in ((warm, True, "warm: touched before"), (fresh, False, "fresh: never touched")):
            for i, one in enumerate(who):
                ns, colour = case.ns(one), _COLOURS[one]
                face = colour if below else "white"
                panel.plot(i, ns, "o" if below else "D", color=colour, markerfacecolor=face, markersize=7, linestyle="")
                shift, side = ((0, -7), "top") if below else ((0, 6), "bottom")
                at = {"xytext": shift, "textcoords": "offset points", "ha": "center", "va": side, "fontsize": 7.5}
                panel.annotate(f"{ns:.2g}", (i, ns), **at)
            panel.plot(
                [], [], "o" if below else "D", color="0.3", markerfacecolor="0.3" if below else "white", label=what
            )
        panel.set_yscale("log")
        panel.set_xticks(range(len(who)), [_label(one).replace(" ", "\n") for one in who], fontsize=7.5)
        panel.set_title(warm.name, fontsize=9)
        panel.margins(0.15, 0.2)
        panel.grid(axis="y", color="0.9")
    panels[0].set_ylabel("ns an element")
    _legend(figure, panels[0])
    return figure


def _others(run: Run) -> list[Case]:
    """Return the largest common size of the contests with other libraries."""
    cases = run.select(kind="competitor", dtype="float32", threads=run.most_threads)
    return [case for case in cases if case.elements == max(one.elements for one in cases)]


def _competitors(cases: list[Case]) -> "Figure":
    names = list(dict.fromkeys(who for case in cases for who in case.contestants))
    extra = dict(zip((one for one in names if one not in _COLOURS), _OTHERS, strict=False))
    figure = _figure(0.3 * len(names) + 1.2)
    panels = figure.subplots(1, len(cases), sharey=True, squeeze=False)[0]
    for panel, case in zip(panels, cases, strict=True):
        for row, one in enumerate(reversed(names)):
            if one in case.contestants:
                ns, colour = case.ns(one), _COLOURS.get(one) or extra[one]
                panel.plot(ns, row, _MARKERS.get(one) or "D", color=colour, markersize=7)
                panel.annotate(
                    f"{ns:.2g}", (ns, row), xytext=(7, 0), textcoords="offset points", va="center", fontsize=7.5
                )
        panel.set_xscale("log")
        panel.margins(0.2, 0.08)
        panel.set_yticks(range(len(names)), list(reversed(names)))
        panel.set_title(case.name, fontsize=9)
        panel.tick_params(axis="y", labelsize=8, length=0)
        panel.grid(color="0.9")
        panel.set_xlabel("ns an element", fontsize=8)
    return figure


def _figure(height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH, height), layout="constrained")


def _legend(figure: "Figure", axes: "Axes") -> None:
    entries = sorted(zip(*axes.get_legend_handles_labels(), strict=True), key=lambda entry: entry[1] == _label(FLOOR))
    handles, labels = zip(*entries, strict=True)
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=8.5)


def _line(who: str) -> dict[str, object]:
    dashed = "--" if who == FLOOR else "-"
    return {"color": _COLOURS[who], "marker": _MARKERS[who], "markersize": 4, "linewidth": 1.4, "linestyle": dashed}


def _label(who: str) -> str:
    return {TORCH_STREAM: "fastinit, torch stream", KEYED_STREAM: "fastinit, keyed stream", FLOOR: "fill_ (floor)"}.get(
        who, who
    )


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 0.1 else f"{seconds * 1e3:.3g} ms"
