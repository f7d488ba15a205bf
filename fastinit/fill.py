"""Writes what a plan says: groups of whole tensors, and pieces of a tensor that is nowhere whole."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from threading import RLock
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from fastinit import _C, _ops, sharded_fill
from fastinit.batching import batched
from fastinit.function_laws import writes_constant
from fastinit.key import Key
from fastinit.laws import KEYLESS
from fastinit.parameters import is_plain
from fastinit.plan import Entry, Job, PartOf, Plan, refused
from fastinit.rule import Rule, Source, keep
from fastinit.sharding import Piece, copy_held, is_dtensor, pieces_of

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

_GENERATOR = RLock()
_WHOLE = ("sparse", "orthogonal")  # laws whose elements are not to be had a few at a time
_BY_ROWS = ("eye", "dirac")


def fill_jobs(plan: Plan, rule: Rule, jobs: Sequence[Job], tensors: Sequence[Tensor], key: Key) -> None:
    """Write jobs of one rule into `tensors`, their own or new ones in place of those on the meta device."""
    laws = [law for _, _, law, _ in jobs if law is not None]
    if laws:
        with no_collection():
            names = [name for name, _, law, _ in jobs if law is not None]
            native = tensors
            if len(laws) < len(jobs):
                native = [tensor for tensor, (_, _, law, _) in zip(tensors, jobs, strict=True) if law is not None]
            if any(map(is_dtensor, native)):
                sharded_fill.fill_(native, laws, [key.fold_in(name) for name in names])
            else:
                keyless = laws[0].kind in KEYLESS  # as all laws of one rule are
                _ops.fill_by_words_(native, laws, [0, 0] * len(laws) if keyless else key.words_of(names))
    if len(laws) == len(jobs) and not rule.parts:
        return
    for tensor, (name, old, law, _) in zip(tensors, jobs, strict=True):
        try:
            parts = plan.parts.get(name, ())
            call = (rule.initialiser, plan.arguments(name, rule)) if law is None else None
            if is_dtensor(tensor) and _needs_whole(call, parts):
                if tensor.device_mesh.get_coordinate() is None:
                    continue  # others have it, and gather it
                whole = _whole(tensor, has_values=law is None and not old.is_meta)
                if law is not None:
                    _ops.fill_([whole], [law], [key.fold_in(name)])
                _fill_rest(call, parts, name, whole, key)
                copy_held(whole, tensor)
            else:
                _fill_rest(call, parts, name, tensor, key)
                if is_dtensor(tensor):
                    increment_version(tensor)
        except Exception as error:
            raise refused(name, rule, error) from error


def _whole(tensor: "DTensor", has_values: bool) -> Tensor:
    """Return a CPU tensor of all of it, with the values that it has."""
    with torch.no_grad():
        return tensor.full_tensor().cpu() if has_values else torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")


_Call = tuple[Callable[..., object], dict[str, Any]]


def _needs_whole(call: _Call | None, parts: Sequence[PartOf]) -> bool:
    """Say whether one of them is a callable of the user's, which cannot write a few elements of a tensor alone.

    A constant is torch's own function's to write where the op leaves the type out, and can.
    """
    calls = [part.initialiser for part in parts if part.law is None] + ([call[0]] if call else [])
    return not all(one is keep or isinstance(one, Source) or writes_constant(one) for one in calls)


def _fill_rest(call: _Call | None, parts: Sequence[PartOf], name: str, tensor: Tensor, key: Key) -> None:
    """Write what is no law of whole tensors."""
    for piece in pieces_of(tensor):
        if call:
            _call(*call, name, piece, tensor.shape, key)
        _fill_parts(parts, piece, key)


def _call(
    initialiser: Callable[..., object], kwargs: dict[str, Any], name: str, piece: Piece, shape: torch.Size, key: Key
) -> None:
    """Have an initialiser without a law write, torch's default generator being that of the key for a while.

    All but a Source write wholes.
    """
    if initialiser is keep:
        return
    # By rows, as a checkpoint has it: torch draws in the order of memory. And on CPU, whose generator it draws from.
    tensor = by_rows = piece.view
    if is_plain(tensor) and not (tensor.is_cpu and tensor.is_contiguous()):
        by_rows = tensor.detach().cpu().contiguous()
    if isinstance(initialiser, Source):
        _read(initialiser, name, Piece(by_rows.detach(), piece.start), shape)
    else:
        # What it makes must hold values, whatever the default device is.
        with seeded(key.fold_in(name)), torch.no_grad(), torch.device("cpu"):
            initialiser(by_rows, **kwargs)
    if by_rows is not tensor:
        tensor.detach().copy_(by_rows)


def _read(source: Source, name: str, piece: Piece, shape: torch.Size) -> None:
    """Read into a dense piece of a tensor of this shape, by rows of the whole."""
    view, first = piece
    if view.shape[1:] == shape[1:]:
        return source.read(name, view.view(-1), first[0] * shape[1:].numel() if first else 0)
    for row, values in enumerate(view, first[0]):
        whole = torch.empty(shape[1:], dtype=view.dtype, device="cpu")
        source.read(name, whole.view(-1), row * whole.numel())
        values.copy_(Piece(values, first[1:]).of(whole))


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


def _fill_parts(parts: Sequence[PartOf], piece: Piece, key: Key) -> None:
    """Write what a piece of the tensor holds of these parts of it."""
    for part in parts:
        held = piece.within(part.at)
        if held is None:
            continue
        if part.law is None:
            _call(part.initialiser, part.kwargs, part.name, held, part.shape, key)
        else:
            _ops.fill_([held.view], [part.law], [held.place(key.fold_in(part.name), part.shape)])


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
            whole = Piece(out.view(entry.shape), (0,) * len(entry.shape))
            _call(rule.initialiser, plan.arguments(entry.name, rule), entry.name, whole, entry.shape, key)
        elif entry.law.kind in (*_WHOLE, *_BY_ROWS):
            rows = _rows(entry, out, first)
            _ops.fill_([rows.view], [entry.law], [rows.place(own, entry.shape)])
        else:
            _ops.fill_([out], [entry.law], [own.shard((entry.shape.numel(),), (first,))])
        if entry.parts:
            _fill_parts(entry.parts, _rows(entry, out, first), key)
    except Exception as error:
        raise refused(entry.name, rule, error) from error


def _rows(entry: Entry, out: Tensor, first: int) -> Piece:
    columns = entry.shape[1:]
    return Piece(out.view(-1, *columns), (first // max(1, columns.numel()), *[0] * len(columns)))


def check_values(plan: Plan, entry: Entry) -> None:
    """Refuse a tensor whose values `write_piece` takes from the model where this process has not all of them."""
    rule = None if entry.rule is None else plan.recipe.rules[entry.rule]
    computed = entry.law is not None and entry.dtype in _ops.DTYPES
    if rule is None or not (computed or isinstance(rule.initialiser, Source)):
        _held_whole(entry.name, plan.made.get(entry.name, entry.tensor))


def _copy(name: str, tensor: Tensor, out: Tensor, first: int) -> None:
    if tensor.is_meta:
        raise ValueError(f"{name!r} is on the meta device and left alone by the recipe: it has no values to write")
    out.copy_(_held_whole(name, tensor).detach().reshape(-1)[first : first + out.numel()])


def _held_whole(name: str, tensor: Tensor) -> Tensor:
    if not is_dtensor(tensor) or tensor.is_meta:
        return tensor
    pieces = pieces_of(tensor)
    if len(pieces) != 1 or pieces[0].view.shape != tensor.shape:
        raise ValueError(
            f"{name!r} is cut over ranks, as {list(tensor.placements)}, and its values are to come from the model, of "
            "which this rank has a part: torch.distributed.checkpoint saves such models"
        )
    return pieces[0].view
