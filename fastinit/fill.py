"""Writes what a plan says: groups of whole tensors, and pieces of a tensor that is nowhere whole."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from threading import RLock
from typing import Any

import torch
from torch import Tensor

from fastinit import _C, _ops
from fastinit.batching import batched
from fastinit.key import Key, KeyShard
from fastinit.laws import KEYLESS
from fastinit.parameters import is_plain
from fastinit.plan import Entry, Job, PartOf, Plan, refused
from fastinit.rule import Rule, Source, keep

_GENERATOR = RLock()
_WHOLE = ("sparse", "orthogonal")  # laws whose elements are not to be had a few at a time
_BY_ROWS = ("eye", "dirac")


def fill_jobs(plan: Plan, rule: Rule, jobs: Sequence[Job], tensors: Sequence[Tensor], key: Key) -> None:
    """Write jobs of one rule into `tensors`, their own or new ones in place of those on the meta device."""
    laws = [law for _, _, law, _ in jobs if law is not None]
    if laws:
        keyless = laws[0].kind in KEYLESS  # as all laws of one rule are
        with no_collection():
            names = [name for name, _, law, _ in jobs if law is not None]
            words = [0, 0] * len(laws) if keyless else key.words_of(names)
            native = tensors
            if len(laws) < len(jobs):
                native = [tensor for tensor, (_, _, law, _) in zip(tensors, jobs, strict=True) if law is not None]
            _ops.fill_by_words_(native, laws, words)
    if len(laws) == len(jobs) and not rule.parts:
        return
    for tensor, (name, _, law, _) in zip(tensors, jobs, strict=True):
        try:
            if law is None:
                _call(rule.initialiser, name, tensor, plan.arguments(name, rule), key)
            for part in plan.parts.get(name, ()):
                _fill_part(part, tensor.detach()[part.at], key)
        except Exception as error:
            raise refused(name, rule, error) from error


def _call(initialiser: Callable[..., object], name: str, tensor: Tensor, kwargs: dict[str, Any], key: Key) -> None:
    """Have an initialiser without a law write, torch's default generator being that of the key for a while."""
    if initialiser is keep:
        return
    # By rows, as a checkpoint has it: torch draws in the order of memory. And on CPU, whose generator it draws from.
    by_rows = tensor
    if is_plain(tensor) and not (tensor.is_cpu and tensor.is_contiguous()):
        by_rows = tensor.detach().cpu().contiguous()
    if isinstance(initialiser, Source):
        initialiser.read(name, by_rows.detach().view(-1), 0)
    else:
        # What it makes must hold values, whatever the default device is.
        with seeded(key.fold_in(name)), torch.no_grad(), torch.device("cpu"):
            initialiser(by_rows, **kwargs)
    if by_rows is not tensor:
        tensor.detach().copy_(by_rows)


@contextmanager
def no_collection() -> Iterator[None]:
    """Leave garbage collection off for a while."""
    # Plans and keys are a few objects a parameter and no cycles, but enough of them to set off a full garbage
    # collection: a walk over all that importing torch made, longer than filling 10,000 small tensors.
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def seeded(key: Key) -> Iterator[None]:
    """Have torch's default generator be that of the key for a while, for one thread of ours at a time."""
    generator = torch.default_generator  # torch.manual_seed would seed the accelerators too
    with _GENERATOR:
        state = generator.get_state()
        try:
            generator.manual_seed(key.seed)
            with batched() if _C.batched_stream() == "keyed" else nullcontext():  # not the numbers of that block's key
                yield
        finally:
            generator.set_state(state)


def _fill_part(part: PartOf, view: Tensor, key: Key, row: int = 0) -> None:
    """Write the part, or its rows from `row` on, into the view of their place."""
    if part.law is None:
        _call(part.initialiser, part.name, view, part.kwargs, key)
    else:
        _ops.fill_([view], [part.law], [_rows_of(part.shape, view, row, key.fold_in(part.name))])


def _rows_of(shape: Sequence[int], rows: Tensor, first: int, key: Key) -> Key | KeyShard:
    """Return the key of rows `first` on of a tensor of this shape."""
    return key if rows.shape == shape else key.shard(shape, (first, *[0] * (len(shape) - 1)))


def unit(plan: Plan, entry: Entry) -> int:
    """Return what the sizes of pieces of a tensor must be multiples of, in elements: 1, a row, or all of it."""
    laws = [part.law for part in entry.parts]
    if entry.rule is not None:
        initialiser = plan.recipe.rules[entry.rule].initialiser
        if initialiser is not keep and not isinstance(initialiser, Source):
            laws.append(entry.law)
    kinds = {None if law is None else law.kind for law in laws}
    if not kinds.isdisjoint((None, *_WHOLE)) or (kinds and entry.dtype not in _ops.DTYPES):
        return max(1, entry.shape.numel())
    if entry.parts or not kinds.isdisjoint(_BY_ROWS):
        return max(1, entry.shape[1:].numel())
    return 1


def write_piece(plan: Plan, entry: Entry, out: Tensor, first: int, key: Key) -> None:
    """Write elements `first` to `first + len(out)` of a tensor, in row-major order, into the dense CPU tensor `out`.

    They are the same bits as in the whole. `first` and the length are multiples of `unit`. Where the recipe
    leaves the tensor alone, its elements are copied.
    """
    rule = None if entry.rule is None else plan.recipe.rules[entry.rule]
    if rule is None or (rule.initialiser is keep and not entry.parts):
        return _copy(entry.name, plan.made.get(entry.name, entry.tensor), out, first)
    own = key.fold_in(entry.name)
    try:
        if rule.initialiser is keep:
            if not entry.tensor.is_meta:
                _copy(entry.name, entry.tensor, out, first)
        elif isinstance(rule.initialiser, Source):
            rule.initialiser.read(entry.name, out, first)
        elif entry.law is None or entry.dtype not in _ops.DTYPES:
            if not entry.tensor.is_meta:
                _copy(entry.name, entry.tensor, out, first)
            _call(rule.initialiser, entry.name, out.view(entry.shape), plan.arguments(entry.name, rule), key)
        elif entry.law.kind in (*_WHOLE, *_BY_ROWS):
            rows = out.view(-1, *entry.shape[1:])
            _ops.fill_([rows], [entry.law], [_rows_of(entry.shape, rows, first // rows[0].numel(), own)])
        else:
            _ops.fill_([out], [entry.law], [own.shard((entry.shape.numel(),), (first,))])
        if entry.parts:
            _write_parts(entry, out.view(-1, *entry.shape[1:]), first // entry.shape[1:].numel(), key)
    except Exception as error:
        raise refused(entry.name, rule, error) from error


def _copy(name: str, tensor: Tensor, out: Tensor, first: int) -> None:
    if tensor.is_meta:
        raise ValueError(f"{name!r} is on the meta device and left alone by the recipe: it has no values to write")
    out.copy_(tensor.detach().reshape(-1)[first : first + out.numel()])


def _write_parts(entry: Entry, rows: Tensor, first: int, key: Key) -> None:
    """Write what `rows`, from row `first` of the tensor on, hold of its parts."""
    for part in entry.parts:
        at, *rest = part.at
        if isinstance(at, int):
            if first <= at < first + len(rows):
                _fill_part(part, rows[(at - first, *rest)], key)
            continue
        inside = range(at.start, at.stop, at.step)
        begin = max(0, -((at.start - first) // at.step))  # of the part's rows, those that are in these
        end = min(len(inside), -((at.start - first - len(rows)) // at.step))
        if begin < end:
            here = slice(inside[begin] - first, inside[end - 1] - first + 1, at.step)
            _fill_part(part, rows[(here, *rest)], key, begin)
