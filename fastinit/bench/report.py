"""The text of a report: what a run of the suite measured, as Markdown."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fastinit.bench.figures import FLOOR, KEYED_STREAM, TORCH, TORCH_STREAM, Case, Figure, Run, Spread

_STREAMS = (TORCH_STREAM, KEYED_STREAM)
_LARGE = 2**26  # elements, or the largest that there are: many times the caches
_METHOD = """\
- **Contestants** do the same work on the same memory in one process: `torch.nn.init`; *torch stream*, fastinit
  without a Key, which writes torch's bits; *keyed stream*, fastinit with a Key; and `fill_(0.3)`, the **floor**:
  nothing that writes a tensor through the caches can be much sooner.
- **Turns**: in each of three turns (one of 2^28 elements and of Llama 3 8B) every contestant has its go, forwards
  and then backwards. Times are medians over all passes, with their quartiles in brackets; a **ratio** is taken
  within a turn, between medians that lie next to each other in time, and given as the middle one of the turns with
  the least and the greatest. Ratios are what can be compared: absolute times on shared machines drift by tens of
  percent.
- **Passes**: 20 ms of them a turn after two to warm up, timed by pytest-benchmark without garbage collection, and
  in loops of about a millisecond, whose mean counts as one, where they are shorter; one a turn, and none before it,
  where a pass takes more than 0.25 s, and of whole models; three a turn in fresh memory.
- **Warm** memory was touched before and is the same for all. **Fresh** memory is allocated on the clock, and its
  pages are zeroed by the kernel when first written; as many bytes are touched and freed before each pass, so that a
  virtual machine need not get them from its host. A model there comes from the meta device, by `to_empty` or by
  `init_model_`, which asks for huge pages and can so be sooner than `fill_` after `to_empty`.
- torch's generator is seeded alike before each go.
- `constant_`, `ones_` and `zeros_` are torch's own functions here: what their ratio differs from 1 by is noise."""


def markdown(run: Run, pictures: Sequence[tuple[str, str]]) -> str:
    """Return the report. pictures: names and captions of the files NAME.svg that lie beside it."""
    shown = dict(pictures)

    def picture(*names: str) -> str:
        return "\n\n".join(f"![{shown[name]}]({name}.svg)\n\n*{shown[name]}*" for name in names if name in shown)

    threads = run.most_threads
    chapters: list[tuple[str, str]] = [
        ("Large tensors, in ns an element", _large(run)),
        (
            "Whole models",
            "\n\n".join([_times(run.select(kind="model"), of_floor=True), picture("models-warm", "models-fresh")]),
        ),
        (
            "How cost grows",
            "\n\n".join(
                [_growth(run, "float32"), picture("ns-float32", "ns-bfloat16", "time-float32", "time-bfloat16")]
            ),
        ),
        ("Threads", "\n\n".join([_threads(run), picture("threads")]) if threads > 1 else ""),
        ("Fresh memory", "\n\n".join([_times(run.select(kind="fill", memory="fresh")), picture("fresh")])),
        ("Instruction sets", _times(run.select(kind="instruction set"), of_floor=True)),
        ("Other layouts and windows", _times(_unusual(run))),
        ("Other fillers", "\n\n".join([_times(run.select(kind="competitor"), of_floor=True), picture("competitors")])),
        ("Method", _METHOD),
        ("Every case", _every(run)),
    ]
    text = "\n\n".join(f"## {title}\n\n{body.strip()}" for title, body in chapters if body.strip())
    return f"# fastinit beside torch.nn.init: the {run.about['suite']} suite\n\n{_about(run.about)}\n\n{text}\n"


def _about(about: dict[str, Any]) -> str:
    machine, libraries = about["machine"], about["libraries"]
    rows = [
        ("command", f"`{about['command']}`"),
        ("date", about["date"][:16].replace("T", " ") + " UTC"),
        ("commit", f"`{about['commit']}`"),
        ("machine", f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}"),
        ("kernels", f"{machine['isa']} (there are: {', '.join(machine['isas'])})"),
        ("versions", ", ".join(f"{name} {machine[name]}" for name in ("fastinit", "torch", "python"))),
        ("libraries", ", ".join(f"{name} {version}" for name, version in libraries.items())),
    ]
    return _table(("", ""), rows, "ll")


def _large(run: Run) -> str:
    cases = run.usual(run.select(kind="fill", memory="warm", layout="contiguous", threads=run.most_threads))
    head = ["function", "type", "elements", TORCH, TORCH_STREAM, KEYED_STREAM, "`fill_`"]
    rows = []
    for name, dtype in dict.fromkeys((case.name, case.dtype) for case in cases):
        sizes = [case for case in cases if (case.name, case.dtype) == (name, dtype) and case.elements <= _LARGE]
        case = max(sizes, key=lambda case: case.elements)
        row = [f"`{name}`", dtype, f"{case.elements:,}"]
        for who in (TORCH, *_STREAMS, FLOOR):
            faster = "" if who == FLOOR or who not in case.contestants else _faster(case.contestants[who])
            row.append(f"{case.ns(who):.3g}{faster}" if who in case.contestants else "")
        rows.append(row)
    threads = run.most_threads
    return f"Warm memory, {threads} threads; times faster than torch.nn.init beside.\n\n" + _table(
        head, rows, "llrrrrr"
    )


def _growth(run: Run, dtype: str) -> str:
    cases = run.usual(
        run.select(kind="fill", dtype=dtype, memory="warm", layout="contiguous", threads=run.most_threads)
    )
    cases = [case for case in cases if case.name not in ("ones_", "zeros_", "dirac_")]  # dirac_ has sizes of its own
    sizes = sorted({case.elements for case in cases})
    head = ["ns an element", "", *(_power(size) for size in sizes)]
    rows = []
    for name in dict.fromkeys(case.name for case in cases):
        of = {case.elements: case for case in cases if case.name == name}
        for who in (TORCH, *_STREAMS, FLOOR):
            if any(who in case.contestants for case in of.values()):
                there = [of[size].ns(who) if size in of and who in of[size].contestants else None for size in sizes]
                rows.append([f"`{name}`", who, *("" if ns is None else f"{ns:.3g}" for ns in there)])
    return f"{dtype}, warm memory, {run.most_threads} threads, by the number of elements.\n\n" + _table(
        head, rows, "ll" + "r" * len(sizes)
    )


def _threads(run: Run) -> str:
    names = ("uniform_", "normal_", "trunc_normal_")
    cases = run.usual(run.select(kind="fill", dtype="float32", memory="warm", layout="contiguous"))
    counts = sorted({case.threads for case in cases})
    rows = []
    for name in names:
        of: dict[int, dict[int, Case]] = {}
        for case in cases:
            if case.name == name and case.elements <= _LARGE:
                of.setdefault(case.elements, {})[case.threads] = case
        whole = [elements for elements, by_count in of.items() if set(by_count) == set(counts)]
        if whole:
            by_count = of[max(whole)]
            for who in (TORCH, *_STREAMS, FLOOR):
                rows.append(
                    [f"`{name}`", f"{max(whole):,}", who, *(f"{by_count[count].ns(who):.3g}" for count in counts)]
                )
    head = [
        "float32, ns an element",
        "elements",
        "",
        *(f"{count} threads" if count > 1 else "1 thread" for count in counts),
    ]
    return _table(head, rows, "lrl" + "r" * len(counts))


def _unusual(run: Run) -> list[Case]:
    cases = run.select(kind="fill", memory="warm")
    usual = run.usual(cases)
    return [case for case in cases if case.layout != "contiguous" or case not in usual]


def _every(run: Run) -> str:
    """Return all fills, folded by function."""
    cases = run.select(kind="fill")
    parts = []
    for name in dict.fromkeys(case.name for case in cases):
        table = _times([case for case in cases if case.name == name], of_floor=True)
        parts.append(f"<details>\n<summary>{name}</summary>\n\n{table}\n\n</details>")
    return "\n\n".join(parts)


def _times(cases: Sequence[Case], of_floor: bool = False) -> str:
    """Return a row a case and a column a contestant; the fastest, the floor aside, in bold."""
    if not cases:
        return ""
    about: list[tuple[str, Callable[[Case], str]]] = [
        ("", _named),
        ("type", lambda case: case.dtype),
        ("elements", lambda case: f"{case.elements:,}"),
        ("threads", lambda case: str(case.threads)),
        ("memory", lambda case: case.memory),
        ("layout", lambda case: case.layout),
    ]
    # What is the same in all rows, but for the name and the type, need not be said in each.
    about = about[:3] + [one for one in about[3:] if len({one[1](case) for case in cases}) > 1]
    contestants = list(dict.fromkeys(who for case in cases for who in case.contestants))
    rows = [
        [*(get(case) for _, get in about), *_cells(case, contestants), *([_distance(case)] if of_floor else [])]
        for case in cases
    ]
    last = ["the fastest stream, of `fill_`"] if of_floor else []
    head = [*(name for name, _ in about), *contestants, *last]
    return _table(head, rows, "ll" + "r" * (len(head) - 2))


def _named(case: Case) -> str:
    given = ", ".join(f"{key}={value}" for key, value in case.arguments)
    return f"`{case.name}({given})`" if given else f"`{case.name}`" if case.kind != "model" else case.name


def _cells(case: Case, contestants: Sequence[str]) -> Iterator[str]:
    for who in contestants:
        if who not in case.contestants:
            yield ""
            continue
        figure = case.contestants[who]
        unit, scale = _unit(figure.seconds.median)
        median, low, high = (f"{seconds * scale:.3g}" for seconds in figure.seconds)
        spread = f" ({low}–{high})" if figure.passes > 1 else ""
        yield f"{median}{spread} {unit}" + ("" if who == FLOOR else _faster(figure))


def _faster(figure: Figure) -> str:
    ratio = figure.times_faster
    if ratio is None or ratio == Spread(1.0, 1.0, 1.0):
        return ""
    turns = f" ({_three(ratio.low)}–{_three(ratio.high)})" if figure.passes > 1 else ""
    return f", **{_three(ratio.median)}×**{turns}"


def _distance(case: Case) -> str:
    streams = [figure.of_floor for who, figure in case.contestants.items() if who.startswith(_STREAMS)]
    return f"{min(ratio.median for ratio in streams if ratio is not None):.3g}×" if any(streams) else ""


def _three(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 100 else f"{ratio:.3g}"


def _unit(seconds: float) -> tuple[str, float]:
    return ("s", 1) if seconds >= 0.1 else ("ms", 1e3) if seconds >= 1e-4 else ("µs", 1e6)


def _power(size: int) -> str:
    return f"2^{size.bit_length() - 1}" if size >= 2**20 and size.bit_count() == 1 else f"{size:,}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], sides: str) -> str:
    rules = ["---" if side == "l" else "---:" for side in sides]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rules, *rows))
