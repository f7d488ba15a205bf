"""Whole models: `init_model_` plans every parameter by a recipe, checks it all, and only then writes."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn.parameter import Parameter

from fastinit import _ops
from fastinit.function_laws import law_of
from fastinit.key import Key
from fastinit.laws import KEYLESS, Law
from fastinit.parameters import Owned, has_memory, owned_parameters
from fastinit.recipe import Recipe
from fastinit.report import Group, InitReport, RowTuple
from fastinit.rule import Rule, keep
from fastinit.selection import RecipeError

# Elements in one native call: long enough for every thread to run at full speed, short enough (tenths of a
# second) for a progress bar and for Ctrl-C.
_GROUP = 2**28
_ORTHOGONAL_GROUP = 2**24  # each element of which costs hundreds of operations

# Name, parameter, law (None: call the initialiser) and number of elements. Plain tuples here, in the rows and
# in owned_parameters: a named one takes a tenth of the time that a small parameter may.
_Job = tuple[str, Parameter, Law | None, int]


def init_model_(
    model: nn.Module,
    recipe: Recipe,
    key: int | Key = 0,
    *,
    strict: bool = True,
    only: str | Sequence[str] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> InitReport:
    """Fill every parameter of `model` in place, as the first rule of `recipe` that matches it says.

    The values of a parameter depend on `key` and its canonical name alone: they are those of the rule's
    initialiser with `generator=Key(key).fold_in(name)`. A callable of the user's draws from torch's default
    CPU generator, seeded from that key and put back afterwards. Tied parameters are filled once, under the
    first of their names.

    strict: a parameter that no rule matches is an error; otherwise it is left as it is.
    only: globs over canonical names; the other parameters are left alone and need no rule.
    progress: called as progress(elements done, elements in all) after each group.

    Whatever a rule or a parameter is refused for is a RecipeError before anything is written, save what a callable of
    the user's raises itself when its turn comes.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe must be a fastinit.Recipe, got {type(recipe).__name__}")
    begun = time.perf_counter()
    base = key if isinstance(key, Key) else Key(key)
    with _no_collection():
        owned, tied = owned_parameters(model)
        if only is not None:
            owned = _selected(owned, tied, [only] if isinstance(only, str) else only)
        jobs, rows = _plan(owned, tied, recipe, strict)
    total = sum(_elements(of_rule) for of_rule in jobs.values())
    done = 0
    groups = []
    for index in sorted(jobs):
        for group in _groups(jobs[index]):
            started = time.perf_counter()
            for elements in _fill(group, recipe.rules[index], base):
                done += elements
                if progress is not None:
                    progress(done, total)
            seconds = time.perf_counter() - started
            groups.append(Group(index, len(group), _elements(group), seconds))
    return InitReport(recipe, rows, groups, time.perf_counter() - begun)


@contextmanager
def _no_collection() -> Iterator[None]:
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


def _selected(owned: dict[str, Owned], tied: dict[str, tuple[str, ...]], globs: Sequence[str]) -> dict[str, Owned]:
    first = {name: name for name in owned} | {other: name for name, others in tied.items() for other in others}
    chosen: set[str] = set()
    for glob in globs:
        hits = [first[glob]] if glob in first else [first[name] for name in first if fnmatchcase(name, glob)]
        if not hits:
            raise RecipeError(f"only: {glob!r} matches no parameter of the model")
        chosen.update(hits)
    return {name: one for name, one in owned.items() if name in chosen}


def _plan(
    owned: dict[str, Owned], tied: dict[str, tuple[str, ...]], recipe: Recipe, strict: bool
) -> tuple[dict[int, list[_Job]], list[RowTuple]]:
    """Return each rule's jobs and the rows of the report, with every law computed and checked."""
    jobs: dict[int, list[_Job]] = {}
    rows: list[RowTuple] = []
    unmatched: list[str] = []
    checked: dict[tuple[object, ...], tuple[Law | None, Law | None]] = {}  # for the report, for the op
    for name, (parameter, module, param) in owned.items():
        shape, dtype = parameter.shape, parameter.dtype
        index = recipe.match(module, param, name)
        law = None
        if index is None:
            unmatched.append(f"{' = '.join((name, *tied.get(name, ())))}  ({module.__name__}, {list(shape)})")
        elif (rule := recipe.rules[index]).initialiser is not keep:
            # All that the checks look at: thousands of parameters are a handful of cases.
            strides = parameter.stride() if parameter.layout is torch.strided else None
            kind = type(parameter), parameter.device, parameter.layout, parameter.is_inference(), parameter.is_neg()
            case = index, shape, strides, dtype, kind
            known = checked.get(case)
            if known is None:
                try:
                    law = _checked_law(parameter, rule)
                except Exception as error:
                    raise _refused(name, rule, error) from error
                # What needs no key is torch's own function's to write where the op leaves the type out.
                known = checked[case] = law, law if dtype in _ops.DTYPES else None
            law, native = known
            jobs.setdefault(index, []).append((name, parameter, native, shape.numel()))
        rows.append((name, tied.get(name, ()), shape, dtype, index, law))
    if unmatched and strict:
        raise RecipeError(
            f"no rule matches {len(unmatched)} of {len(owned)} parameters (add rules, with fastinit.keep for "
            "what is to stay as it is, or give strict=False):\n  " + "\n  ".join(unmatched)
        )
    return jobs, rows


def _checked_law(parameter: Parameter, rule: Rule) -> Law | None:
    """Return the law that the rule writes, None for a callable without one; raise whatever is wrong."""
    if parameter.is_meta:
        raise ValueError(
            "it is on the meta device; materialise the model first: model.to_empty(device='cpu'), then tie its "
            "weights and set its buffers again, which to_empty leaves undone"
        )
    law = law_of(rule.initialiser, parameter.shape, rule.kwargs)
    if law is None or (law.kind in KEYLESS and parameter.dtype not in _ops.DTYPES):
        return law
    if parameter.device.type != "cpu" or not has_memory(parameter):
        kind = f"{type(parameter).__name__} of layout {parameter.layout} on {parameter.device}"
        raise TypeError(f"the keyed stream fills plain CPU tensors, and it is a {kind}")
    _ops.check(parameter, law)
    return law


def _refused(name: str, rule: Rule, error: Exception) -> RecipeError:
    return RecipeError(f"parameter {name!r} by {rule!r}: {error}")


def _elements(jobs: list[_Job]) -> int:
    return sum(elements for _, _, _, elements in jobs)


def _groups(jobs: list[_Job]) -> Iterator[list[_Job]]:
    group: list[_Job] = []
    *_, law, _ = jobs[0]  # of the kind that all laws of one rule are
    most = room = _ORTHOGONAL_GROUP if law is not None and law.kind == "orthogonal" else _GROUP
    for job in jobs:
        *_, elements = job
        if group and elements > room:
            yield group
            group, room = [], most
        group.append(job)
        room -= elements
    yield group


def _fill(jobs: list[_Job], rule: Rule, base: Key) -> Iterator[int]:
    """Write, and yield the number of elements after each call."""
    laws = [law for _, _, law, _ in jobs if law is not None]
    if laws:
        native = [job for job in jobs if job[2] is not None]
        keyless = laws[0].kind in KEYLESS  # as all laws of one rule are
        with _no_collection():
            keys = [base if keyless else base.fold_in(name) for name, *_ in native]
            _ops.fill_([parameter for _, parameter, *_ in native], laws, keys)
        yield _elements(native)
    for name, parameter, law, elements in jobs:
        if law is None:
            _call(name, parameter, rule, base.fold_in(name).seed)
            yield elements


def _call(name: str, parameter: Parameter, rule: Rule, seed: int) -> None:
    generator = torch.default_generator  # torch.manual_seed would seed the accelerators too
    state = generator.get_state()
    try:
        generator.manual_seed(seed)
        with torch.no_grad():
            rule.initialiser(parameter, **rule.kwargs)
    except Exception as error:
        raise _refused(name, rule, error) from error
    finally:
        generator.set_state(state)
