"""Pictures of what a model holds: a histogram for each law, and small ones for each layer. Needs matplotlib.

Figures are made without pyplot, so that there is no backend, no display and no state of the process to take care of.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from torch import Tensor

from fastinit.check.distributions import Distribution
from fastinit.check.held import held_of
from fastinit.check.measure import At, Division, Places, evenly
from fastinit.laws import Law
from fastinit.parameters import is_plain
from fastinit.plan import Row
from fastinit.sharding import is_dtensor
from fastinit.tables import dtype_text, shape_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Item = TypeVar("_Item")
_SAMPLE = 2**18  # elements of one histogram
_BINS = 64
_LAYER_PAGES = 12
_SIZE = (11.7, 8.3)  # inches: A4
# Of Okabe and Ito's colours, which people who see no red or no green can tell apart.
_VALUES, _LAW = "#56B4E9", "#D55E00"


class _Grid(NamedTuple):
    """How the pictures of a page stand: by rows and columns, within margins, in parts of the page and of a picture."""

    rows: int
    columns: int
    left: float
    bottom: float
    between_columns: float
    between_rows: float


_LAWS = _Grid(3, 4, 0.06, 0.07, 0.25, 0.5)
_LAYERS = _Grid(7, 6, 0.02, 0.03, 0.08, 0.75)


class _Sample(NamedTuple):
    name: str
    about: str  # shape and type
    law: Law | None
    vector: int  # the longer side of the matrix that it is
    size: int  # elements, without those of parts
    values: Tensor  # finite ones, float64


def plot(rows: Sequence[Row], tensors: dict[str, Tensor], path: str | os.PathLike[str]) -> list[str]:
    """Draw the tensors that the rows name, and return the paths of the files written."""
    try:
        import matplotlib.figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install torch-fastinit[plot]") from error
    target = Path(path)
    known = matplotlib.figure.Figure().canvas.get_supported_filetypes()
    if target.suffix[1:] not in known:
        raise ValueError(f"path must end in {', '.join(f'.{suffix}' for suffix in sorted(known))}, got {str(path)!r}")
    samples = [sample for row in rows for sample in _samples(row, tensors[row.name])]
    if not samples:
        raise ValueError("there is nothing to draw: no tensor of the report has memory")
    laws, layers = list(_law_pages(samples)), list(_layer_pages(samples))
    if target.suffix == ".pdf":
        from matplotlib.backends.backend_pdf import PdfPages

        with PdfPages(target) as pages:
            for figure in (*laws, *layers):
                pages.savefig(figure)
        return [str(target)]
    written = []
    for ending, figures in (("", laws), ("-layers", layers)):
        for number, figure in enumerate(figures, 1):
            file = target.with_stem(f"{target.stem}{ending}{'' if number == 1 else f'-{number}'}")
            figure.savefig(file, dpi=150)
            written.append(str(file))
    return written


def _samples(row: Row, tensor: Tensor) -> Iterator[_Sample]:
    index: list[At] = [part.at for part in row.parts]
    if is_dtensor(tensor):  # what this process holds of it
        tensor, index = held_of(tensor, index)
    if tensor.is_meta or not is_plain(tensor) or tensor.is_complex():
        return
    tensor = tensor.detach()
    if not row.parts:
        if tensor.numel() or not row.sharding:
            yield _sample(row.name, row.law, tensor, row.shape, [])
        return
    own, *counts = Division(tensor.shape, index).counts
    if own:
        parts = [Places(at, tensor.shape) for at in index]
        yield _sample(row.name, row.law, tensor, row.shape, parts)._replace(size=own)
    for part, at, count in zip(row.parts, index, counts, strict=True):
        if count:
            yield _sample(part.name, part.law, _at(tensor, at), part.shape, [])


def _at(tensor: Tensor, index: At) -> Tensor:
    if not any(isinstance(entry, Tensor) for entry in index):
        return tensor[index]
    for dim, entry in enumerate(index):
        assert isinstance(entry, Tensor)
        tensor = tensor.index_select(dim, entry.to(tensor.device))
    return tensor


def _sample(name: str, law: Law | None, tensor: Tensor, whole: torch.Size, without: Sequence[Places]) -> _Sample:
    places = _places(evenly(tensor.numel(), _SAMPLE), tensor.shape)
    values = tensor[places].cpu().double().reshape(-1)
    for part in without:
        values[part.hold(places)] = math.nan  # which is drawn apart
    about = f"{shape_text(whole)} {dtype_text(tensor.dtype)}"
    longer = max(whole[0], math.prod(whole[1:])) if whole else 1
    return _Sample(name, about, law, longer, tensor.numel(), values[values.isfinite()])


def _places(numbers: Tensor, shape: Sequence[int]) -> tuple[Tensor, ...]:
    """Return where elements stand, dimension by dimension, by their numbers in row-major order."""
    places = []
    for size in reversed(shape):
        places.append(numbers % size)
        numbers = numbers // size
    return tuple(reversed(places))


def _law_pages(samples: Sequence[_Sample]) -> Iterator["Figure"]:
    """Draw all values of a law together, the laws of most elements first."""
    groups: dict[tuple[Law, int] | None, list[_Sample]] = {}
    for sample in samples:
        # Elements of an orthogonal matrix are distributed by its size.
        key = None if sample.law is None else (sample.law, sample.vector if sample.law.kind == "orthogonal" else 0)
        groups.setdefault(key, []).append(sample)
    ordered = sorted(groups.values(), key=lambda group: -sum(sample.size for sample in group))

    def draw(axes: "Axes", group: list[_Sample]) -> None:
        count = sum(sample.size for sample in group)
        share = [max(1, _SAMPLE * sample.size // count) for sample in group]
        values = [one.values[evenly(one.values.numel(), most)] for one, most in zip(group, share, strict=True)]
        law = group[0].law
        axes.set_title("no law" if law is None else _broken(str(law)), fontsize=9, parse_math=False)
        tensors = f"{len(group)} tensors" if len(group) > 1 else _short(group[0].name, 34)
        axes.text(0.03, 0.97, f"{tensors}\n{count:,} elements", fontsize=6.5, va="top", transform=axes.transAxes,
                  parse_math=False)  # fmt: skip
        _histogram(axes, torch.cat(values), law, group[0].vector, headroom=1.3)
        axes.locator_params(axis="x", nbins=5)
        axes.tick_params(labelsize=7)

    title = "Values by law, the largest first: histogram, and the law's density as a line"
    yield from _pages(ordered, _LAWS, title, draw, ("value", "density"))


def _layer_pages(samples: Sequence[_Sample]) -> Iterator["Figure"]:
    varied = [one for one in samples if one.values.numel() and one.values.min() != one.values.max()]
    title = "Values by layer, each with its own scale; the line is the density of the law"
    same = len(samples) - len(varied)
    if same:
        title += f"\n{same} of {len(samples)} tensors hold one value each and are left out"
    most = _LAYERS.rows * _LAYERS.columns * _LAYER_PAGES
    if len(varied) > most:
        title += f"\nof the other {len(varied)}, the {most} largest are drawn"
        largest = {one.name for one in sorted(varied, key=lambda one: -one.size)[:most]}
        varied = [one for one in varied if one.name in largest]

    def draw(axes: "Axes", sample: _Sample) -> None:
        axes.set_title(f"{_short(sample.name, 46)}\n{sample.about}", fontsize=5.5, parse_math=False, pad=2)
        _histogram(axes, sample.values, sample.law, sample.vector, headroom=1.05)
        axes.locator_params(axis="x", nbins=4)
        axes.tick_params(labelsize=5.5, length=2, pad=1.5)
        axes.set_yticks([])

    yield from _pages(varied, _LAYERS, title, draw, ("", ""))


def _pages(
    items: Sequence[_Item],
    grid: _Grid,
    title: str,
    draw: Callable[["Axes", _Item], None],
    labels: tuple[str, str],
) -> Iterator["Figure"]:
    from matplotlib.figure import Figure

    on_page = grid.rows * grid.columns
    pages = math.ceil(len(items) / on_page)
    if pages == 1:  # as large as they can be
        columns = min(grid.columns, math.ceil(math.sqrt(len(items))))
        grid = grid._replace(rows=math.ceil(len(items) / columns), columns=columns)
    for page in range(pages):
        shown = items[page * on_page : (page + 1) * on_page]
        figure = Figure(figsize=_SIZE)
        figure.subplots_adjust(grid.left, grid.bottom, 1 - grid.left / 2, 0.88, grid.between_columns, grid.between_rows)
        figure.suptitle(title + (f" (page {page + 1} of {pages})" if pages > 1 else ""), fontsize=10)
        for place, item in enumerate(shown, 1):
            axes = figure.add_subplot(grid.rows, grid.columns, place)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
            draw(axes, item)
        figure.supxlabel(labels[0], fontsize=8)
        figure.supylabel(labels[1], fontsize=8)
        yield figure


def _histogram(axes: "Axes", values: Tensor, law: Law | None, vector: int, headroom: float) -> None:
    density: Callable[[Tensor], Tensor] | None = None if law is None else _density(law, vector)
    share = 1.0
    if law is not None and law.kind == "sparse":  # whose zeros would be a needle without a scale
        nonzero = values[values != 0]
        share = nonzero.numel() / max(1, values.numel())
        axes.text(0.97, 0.97, f"{1 - share:.0%} zeros,\nnot drawn", fontsize=6, ha="right", va="top",
                  transform=axes.transAxes)  # fmt: skip
        values = nonzero
    if not values.numel():
        return
    low, high = values.min().item(), values.max().item()
    if low == high:
        room = abs(low) or 1.0
        axes.bar([low], [1], width=0.2 * room, color=_VALUES)
        axes.set(xlim=(low - room, low + room), ylim=(0, headroom), yticks=[])
        axes.text(low + 0.15 * room, 0.5, f"all {low:g}", va="center", fontsize=7)
        return
    bins = min(_BINS, max(8, round(2 * values.numel() ** (1 / 3))))
    edges = torch.linspace(low, high, bins + 1, dtype=torch.float64)
    heights = torch.histc(values, bins, low, high) * (share / values.numel() / (edges[1] - edges[0]))
    axes.stairs(heights.numpy(), edges.numpy(), fill=True, color=_VALUES)
    top = heights.max().item()
    if density is not None:
        x = torch.linspace(low, high, 257, dtype=torch.float64)
        y = share * density(x)
        axes.plot(x.numpy(), y.numpy(), color=_LAW, linewidth=1.1)
        top = max(top, y.max().item())
    axes.set_ylim(0, headroom * top)


def _density(law: Law, vector: int) -> Callable[[Tensor], Tensor] | None:
    """Return the density of the values, None where there is none."""
    first, second, *_ = law.numbers
    if law.kind == "sparse":
        return Distribution(Law("normal", (0.0, second, 0.0, 0.0))).density if second else None
    if law.kind == "orthogonal" and first and vector > 2:  # that of a coordinate of a point on the sphere
        scale = math.exp(math.lgamma(vector / 2) - math.lgamma((vector - 1) / 2)) / math.sqrt(math.pi) / abs(first)
        return lambda x: torch.where(x.abs() < abs(first), scale * (1 - (x / first) ** 2) ** ((vector - 3) / 2), 0.0)
    if law.kind not in ("uniform", "normal", "trunc_normal"):
        return None
    level = first == second if law.kind == "uniform" else second == 0
    return None if level else Distribution(law).density


def _short(name: str, most: int) -> str:
    """Return the name without its middle if it is long: its begin says which layer, its end which parameter."""
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-most // 2 :]}"


def _broken(text: str) -> str:
    """Return a law's text in two lines if it is long."""
    kind, _, arguments = text.partition("(")
    return text if len(text) <= 30 else f"{kind}\n({arguments}"
