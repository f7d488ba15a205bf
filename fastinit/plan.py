"""From a model and a recipe to what is written where, with every check made. Nothing here writes to the model."""

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from fastinit import _ops
from fastinit.laws import KEYLESS, Law
from fastinit.parameters import (
    Owned,
    canonical_name,
    is_plain,
    modules,
    owned_buffers,
    owned_parameters,
    surroundings,
    two_of_one_name,
)
from fastinit.prefix import Prefix, check_prefix, in_whole
from fastinit.recipe import Recipe
from fastinit.rule import Initialiser, Part, Rule, Source, keep
from fastinit.selection import RecipeError
from fastinit.sharded_fill import check_held, sharding_of
from fastinit.sharding import Index, Sharding, elements_held, is_dtensor, local_of


class PartOf(NamedTuple):
    """A part of one tensor of the model."""

    name: str  # of its key: "embedding.weight[0]"
    at: Index
    shape: torch.Size
    law: Law | None  # None: call the initialiser
    initialiser: Callable[..., object]
    kwargs: dict[str, Any]


class Row(NamedTuple):
    """What one tensor of the model gets, under the first of its names."""

    name: str
    tied: tuple[str, ...]  # its other names
    shape: torch.Size
    dtype: torch.dtype
    rule: int | None  # index into the recipe; None where no rule matched
    law: Law | None  # None where it was left alone, or filled by a callable without a law
    parts: tuple[PartOf, ...] = ()
    buffer: bool = False
    reset: bool = False  # a buffer that its module makes
    sharding: Sharding | None = None  # of a DTensor that a rule takes


# The same plainly, as Job is, but for the sharding: a named one takes a tenth of the time that a small parameter may.
RowTuple = tuple[str, tuple[str, ...], torch.Size, torch.dtype, int | None, Law | None, tuple[PartOf, ...], bool, bool]
_Written = tuple[Law | None, Law | None, tuple[PartOf, ...]]  # law for the report, law for the op, parts
_Checked = tuple[_Written, Sharding | None]  # and how a DTensor is cut
Job = tuple[str, Tensor, Law | None, int]  # name, tensor, law (None: call the initialiser), number of elements


class Entry(NamedTuple):
    """A row with its tensor, which may be on the meta device."""

    name: str
    tied: tuple[str, ...]
    shape: torch.Size
    dtype: torch.dtype
    rule: int | None
    law: Law | None
    parts: tuple[PartOf, ...]
    buffer: bool
    reset: bool
    tensor: Tensor
    module: nn.Module
    own: str  # its name in the module


class Plan:
    """What a recipe does to a model.

    `rows` and `tensors` are in the model's order, parameters before buffers; `jobs` are those of each rule.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.rows: list[RowTuple] = []
        self.tensors: list[Owned] = []
        self.jobs: dict[int, list[Job]] = {}
        self.kwargs: dict[str, dict[str, Any]] = {}  # where they are not the rule's own
        self.parts: dict[str, tuple[PartOf, ...]] = {}
        self.untouched: set[str] = set()  # buffers that have memory and no rule
        self.made: dict[str, Tensor] = {}  # buffers by their modules
        self.shardings: dict[str, Sharding] = {}

    @cached_property
    def entries(self) -> list[Entry]:
        return [Entry(*row, *owned) for row, owned in zip(self.rows, self.tensors, strict=True)]

    def report_rows(self) -> list[RowTuple]:
        """Return the rows without the buffers that have memory and are left alone."""
        return [row for row in self.rows if row[0] not in self.untouched] if self.untouched else self.rows

    def arguments(self, name: str, rule: Rule) -> dict[str, Any]:
        """Return the keyword arguments of the rule's initialiser for a tensor of the model."""
        return self.kwargs.get(name, rule.kwargs)


def make_plan(
    model: nn.Module,
    recipe: Recipe,
    *,
    dtype: torch.dtype | None = None,
    strict: bool = True,
    only: str | Sequence[str] | None = None,
    buffers: Literal["error", "reset"] = "error",
    in_place: bool = True,
    stored: bool = False,
    prefix: Prefix = "",
) -> Plan:
    """Return the plan; whatever a rule or a tensor is to be refused for is a RecipeError here.

    in_place: the tensors that have memory are to be written where they are; otherwise every tensor is made anew, in
    row-major order.
    stored: without the buffers that are not persistent, which a checkpoint does not hold.
    prefix: what the model's names are in the whole that it is a part of; all names are those of the whole.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe must be a fastinit.Recipe, got {type(recipe).__name__}")
    if buffers not in ("error", "reset"):
        raise ValueError(f"buffers must be 'error' or 'reset', got {buffers!r}")
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype must be a floating-point torch.dtype, got {dtype!r}")
    check_prefix(prefix, (name.rstrip(".") for name, _ in modules(model)))
    parameters, tied = owned_parameters(model, prefix)
    others, held_twice = owned_buffers(model, prefix)
    tied |= held_twice
    for name in parameters.keys() & others.keys():
        raise two_of_one_name(model, name, parameters[name][0], others[name][0])
    if stored:
        others = {name: one for name, one in others.items() if one[2] not in one[1]._non_persistent_buffers_set}
    asked: set[str] = set()  # by a name of their own in `only`
    if only is not None:
        chosen, asked = _selected(model, prefix, [*parameters, *others], tied, only)
        parameters = {name: one for name, one in parameters.items() if name in chosen}
        others = {name: one for name, one in others.items() if name in chosen}
    around = surroundings(model, prefix) if any(rule.inside is not None for rule in recipe.rules) else {}
    planner = _Planner(Plan(recipe), dtype, in_place, tied, around)
    planner.add_parameters(parameters)
    planner.add_buffers(others, asked, reset=buffers == "reset")
    if strict:
        planner.refuse_unmatched()
    return planner.plan


def _selected(
    model: nn.Module,
    prefix: Prefix,
    names: Iterable[str],
    tied: dict[str, tuple[str, ...]],
    only: str | Sequence[str],
) -> tuple[set[str], set[str]]:
    """Return the names that `only` chooses, and those among them that were given whole."""
    globs = [only] if isinstance(only, str) else list(only) if isinstance(only, Iterable) else [only]
    if not all(isinstance(glob, str) for glob in globs):
        raise TypeError(f"only must be a name, a glob over names, or a list of them, got {only!r}")
    names = [*names]
    first = {name: name for name in names} | {other: name for name in names for other in tied.get(name, ())}
    chosen: set[str] = set()
    whole: set[str] = set()
    for glob in globs:
        name = glob if glob in first else in_whole(canonical_name(model, glob), prefix)
        if name in first:
            whole.add(name)
        elif hits := [first[name] for name in first if fnmatchcase(name, glob)]:
            chosen.update(hits)
        elif name.rpartition(".")[2] != "_extra_state":  # what get_extra_state gives is a key too, and no tensor
            raise RecipeError(f"only: {glob!r} matches no parameter or buffer of the model")
    asked = {first[name] for name in whole}
    if not isinstance(only, str):  # as missing keys, among which is every name that the checkpoint has not
        asked = {name for name in asked if whole.issuperset(tied.get(name, ())) and name in whole}
    return chosen | asked, asked


class _Planner:
    """Adds a model's tensors to a plan, one by one."""

    def __init__(
        self,
        plan: Plan,
        dtype: torch.dtype | None,
        in_place: bool,
        tied: dict[str, tuple[str, ...]],
        around: dict[str, tuple[type, ...]],
    ) -> None:
        self.plan = plan
        self.dtype = dtype
        self.in_place = in_place
        self.tied = tied
        self.around = around  # empty where no rule asks
        self.unmatched: list[str] = []
        # Thousands of parameters are a handful of cases.
        self.checked: dict[tuple[object, ...], _Checked] = {}
        self.by_case = [
            not (rule.computed or rule.parts or rule.initialiser is keep or isinstance(rule.initialiser, Source))
            for rule in plan.recipe.rules
        ]

    def add_parameters(self, owned: dict[str, Owned]) -> None:
        match, rules, plan = self.plan.recipe.match, self.plan.recipe.rules, self.plan
        rows, jobs, tied = plan.rows, plan.jobs, self.tied
        plan.tensors += owned.values()
        for name, (tensor, module, own) in owned.items():
            around = self.around[name[: -len(own)]] if self.around else ()
            index = match(type(module), own, name, False, around)
            shape, dtype = tensor.shape, tensor.dtype if self.dtype is None else self._new_type(name, tensor)
            law: Law | None = None
            parts: tuple[PartOf, ...] = ()
            if index is None:
                self._miss(name, tied.get(name, ()), tensor, module)
            else:
                law, native, parts = self._checked(name, tensor, module, dtype, index)
                if parts or rules[index].initialiser is not keep:
                    jobs.setdefault(index, []).append((name, tensor, native, elements_held(tensor)))
            rows.append((name, tied.get(name, ()), shape, dtype, index, law, parts, False, False))

    def add_buffers(self, owned: dict[str, Owned], asked: set[str], reset: bool) -> None:
        plan = self.plan
        for name, (tensor, module, own) in owned.items():
            around = self.around[name[: -len(own)]] if self.around else ()
            index = plan.recipe.match(type(module), own, name, True, around)
            tied = self.tied.get(name, ())
            law: Law | None = None
            parts: tuple[PartOf, ...] = ()
            if index is not None:
                law, native, parts = self._checked(name, tensor, module, tensor.dtype, index)
                if parts or plan.recipe.rules[index].initialiser is not keep:
                    plan.jobs.setdefault(index, []).append((name, tensor, native, elements_held(tensor)))
            elif not (tensor.is_meta or name in asked):
                plan.untouched.add(name)
            elif not reset:
                self._miss(name, tied, tensor, module, kind="buffer of ")
            make = reset and index is None and name not in plan.untouched
            plan.tensors.append((tensor, module, own))
            plan.rows.append((name, tied, tensor.shape, tensor.dtype, index, law, parts, True, make))

    def refuse_unmatched(self) -> None:
        if self.unmatched:
            of_buffers = any("(buffer of " in line for line in self.unmatched)
            raise RecipeError(
                f"no rule matches {len(self.unmatched)} of the model's tensors (add rules, with fastinit.keep for what "
                "is to stay as it is, or give strict=False"
                + ("; with buffers='reset' modules make their own buffers" if of_buffers else "")
                + "):\n  "
                + "\n  ".join(self.unmatched)
            )

    def _miss(self, name: str, tied: tuple[str, ...], tensor: Tensor, module: nn.Module, kind: str = "") -> None:
        self.unmatched.append(f"{' = '.join((name, *tied))}  ({kind}{type(module).__name__}, {list(tensor.shape)})")

    def _new_type(self, name: str, tensor: Tensor) -> torch.dtype:
        if self.dtype is None or not tensor.is_floating_point():
            return tensor.dtype
        if self.in_place and not tensor.is_meta and tensor.dtype != self.dtype:
            raise RecipeError(
                f"dtype={self.dtype} is for parameters on the meta device, and {name!r} has memory, of {tensor.dtype}: "
                f"convert the model first, model.to({self.dtype})"
            )
        return self.dtype

    def _checked(self, name: str, tensor: Tensor, module: nn.Module, dtype: torch.dtype, index: int) -> _Written:
        """Return what is to be written, and note how a DTensor is cut; raise whatever is wrong with it."""
        case = self._case(tensor, dtype, index) if self.by_case[index] else None
        known = None if case is None else self.checked.get(case)
        if known is None:
            known = self._check_one(name, tensor, module, dtype, index)
            if case is not None:
                self.checked[case] = known
        written, sharding = known
        if sharding is not None:
            self.plan.shardings[name] = sharding
        return written

    def _case(self, tensor: Tensor, dtype: torch.dtype, index: int) -> tuple[object, ...]:
        """Return all that the checks look at."""
        layout = tensor.layout
        strides = tensor.stride() if layout is torch.strided else None
        kind = type(tensor), tensor.device, layout, tensor.is_inference(), tensor.is_neg()
        case: tuple[object, ...] = index, tensor.shape, strides, dtype, kind
        if is_dtensor(tensor):
            local = local_of(tensor)
            case = *case, tensor.device_mesh, tensor.placements, local.shape, local.stride(), type(local)
        return case

    def _check_one(self, name: str, tensor: Tensor, module: nn.Module, dtype: torch.dtype, index: int) -> _Checked:
        rule = self.plan.recipe.rules[index]
        law: Law | None = None
        parts: tuple[PartOf, ...] = ()
        try:
            kwargs = rule.kwargs
            if rule.computed:
                kwargs = self.plan.kwargs[name] = rule.arguments(module, name, tensor)
            if rule.initialiser is not keep:
                law = rule.law(tensor.shape, kwargs)
                self._check(name, self._target(tensor, dtype), law, rule)
            if rule.parts:
                parts = self._parts(name, tensor, module, dtype, rule)
                self.plan.parts[name] = parts
        except Exception as error:
            raise refused(name, rule, error) from error
        # What needs no key is torch's own function's to write where the op leaves the type out.
        sharding = sharding_of(tensor, law) if self.in_place and is_dtensor(tensor) else None
        return (law, law if dtype in _ops.DTYPES else None, parts), sharding

    def _target(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the tensor that is to be written, or one on the meta device in place of one to be made."""
        if is_dtensor(tensor):
            if self.in_place:
                check_held(tensor)
        elif self.in_place and not tensor.is_meta:
            return tensor
        elif not is_plain(tensor):
            raise TypeError(
                f"it is a {type(tensor).__name__} of layout {tensor.layout}, and only plain tensors are made"
            )
        strides = tensor.stride() if self.in_place else torch.empty(tensor.shape, device="meta").stride()
        return torch.empty_strided(tensor.shape, strides, dtype=dtype, device="meta")

    def _check(self, name: str, target: Tensor, law: Law | None, call: Initialiser) -> None:
        if isinstance(call.initialiser, Source):
            call.initialiser.check(name, target.shape, target.dtype)
        if law is None:
            return
        if law.kind in KEYLESS and target.dtype not in _ops.DTYPES:
            if law.kind == "constant":
                torch.empty((), dtype=target.dtype, device="cpu").fill_(law.numbers[0])  # refuses what the type lacks
            return
        if target.device.type not in ("cpu", "cuda", "meta") or not is_plain(target):
            kind = f"{type(target).__name__} of layout {target.layout} on {target.device}"
            raise TypeError(f"the keyed stream fills plain CPU and CUDA tensors, and it is a {kind}")
        _ops.check(target, law)

    def _parts(
        self, name: str, tensor: Tensor, module: nn.Module, dtype: torch.dtype, rule: Rule
    ) -> tuple[PartOf, ...]:
        target = self._target(tensor, dtype)
        parts = []
        for part in rule.parts:
            index = part.index(module, name, tensor)
            if index is not None:
                parts.append(self._part(name, target, index, part, part.arguments(module, name, tensor)))
        if parts and rule.initialiser is keep and tensor.is_meta and not _cover(tensor.shape, parts):
            raise ValueError("keep has nothing to keep in a tensor on the meta device that its parts do not cover")
        return tuple(parts)

    def _part(self, name: str, target: Tensor, index: Index, part: Part, kwargs: dict[str, Any]) -> PartOf:
        view = target.detach()[index]
        law = part.law(view.shape, kwargs)
        part_name = f"{name}[{', '.join(map(_text, index))}]"
        self._check(part_name, view, law, part)
        return PartOf(
            part_name, index, view.shape, law if target.dtype in _ops.DTYPES else None, part.initialiser, kwargs
        )


def _cover(shape: torch.Size, parts: Sequence[PartOf]) -> bool:
    """Say whether every element is in a part."""
    if not shape.numel():
        return True
    sides = []
    for dim, size in enumerate(shape):
        taken = torch.zeros(len(parts), size, dtype=torch.bool, device="cpu")
        kinds = torch.zeros(size, dtype=torch.int64, device="cpu")  # of entries: those that the same parts take
        for part, entries in zip(parts, taken, strict=True):
            entries[part.at[dim] if dim < len(part.at) else slice(None)] = True
            kinds = torch.unique(2 * kinds + entries, return_inverse=True)[1]
        one_of_each = {kind: entry for entry, kind in enumerate(kinds.tolist())}
        sides.append(taken[:, [*one_of_each.values()]])
    covered = torch.zeros([side.shape[1] for side in sides], dtype=torch.bool, device="cpu")
    for one in range(len(parts)):
        inside = sides[0][one]
        for side in sides[1:]:
            inside = inside.unsqueeze(-1) & side[one]
        covered |= inside
    return bool(covered.all())


def refused(name: str, rule: Rule, error: Exception) -> RecipeError:
    return RecipeError(f"parameter {name!r} by {rule!r}: {error}")


def _text(entry: int | slice) -> str:
    if isinstance(entry, int):
        return str(entry)
    return f"{entry.start}:{entry.stop}" + (f":{entry.step}" if entry.step != 1 else "")
