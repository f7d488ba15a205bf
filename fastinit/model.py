"""Whole models: `init_model_` plans every tensor by a recipe, checks it all, and only then writes."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import nn

from fastinit import _ops
from fastinit.buffers import make_buffers
from fastinit.fill import fill_jobs, no_collection
from fastinit.key import Key
from fastinit.materialise import Holders, device_for, new_tensor
from fastinit.parameters import reshard
from fastinit.plan import Job, Plan, make_plan
from fastinit.prefix import Prefix
from fastinit.recipe import Recipe
from fastinit.report import InitReport, Timing
from fastinit.sharding import copy_held, is_dtensor

# Elements in one native call: long enough for every thread to run at full speed, short enough (tenths of a
# second) for a progress bar and for Ctrl-C.
_GROUP = 2**28
_ORTHOGONAL_GROUP = 2**24  # each element of which costs hundreds of operations


def init_model_(
    model: nn.Module,
    recipe: Recipe,
    key: int | Key = 0,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    strict: bool = True,
    only: str | Sequence[str] | None = None,
    buffers: Literal["error", "reset"] = "error",
    progress: Callable[[int, int], object] | None = None,
    prefix: Prefix = "",
) -> InitReport:
    """Fill every parameter of `model` in place, as the first rule of `recipe` that matches it says.

    The values of a parameter depend on `key` and its canonical name alone: they are those of the rule's
    initialiser with `generator=Key(key).fold_in(name)`. A callable of the user's draws from torch's default
    CPU generator, seeded from that key and put back afterwards, and writes by rows and on CPU whatever the layout and
    the device, which gets a copy. Tied parameters are filled once, under the first of their names.

    Parameters on the meta device get memory and values in one pass: new Parameter objects, with the old ones'
    requires_grad, class, attributes and ties, in all the modules that hold them. Make optimisers afterwards.

    Of a DTensor (fully_shard, parallelize_module) each process writes what it holds, the values that the whole has
    there, without communication, and on the meta device that alone gets memory. FSDP2's modules are resharded first.
    Only large orthogonal matrices may be made by the processes of a mesh together (see `orthogonal_`), and a callable
    of the user's needs the whole tensor in each process, gathered where it has values. FullyShardedDataParallel and
    parameters partitioned by DeepSpeed's ZeRO-3 are refused.

    Args:
        model: any module on CPU, CUDA or the meta device, whose parameters may be DTensors
        recipe: the rules
        key: the seed of the keyed stream, or a Key
        device: of what is made for the meta device: "cpu", "cuda" or "cuda:1"; None is "cpu", or for a DTensor what its
            mesh is of. What has memory stays where it is, on CPU or CUDA. The report's seconds are those until CUDA has
            all its work, not until it is done.
        dtype: of the floating-point parameters made for the meta device; their own if None. Buffers keep theirs.
        strict: a parameter, or a buffer on the meta device, that no rule matches is an error; otherwise it is left
            alone.
        only: a canonical name or a glob over them, or a list of such, as the missing keys that `load_state_dict`
            returns; what they do not name is left alone and needs no rule. Names in a list choose a tied tensor where
            all of its names are among them: `load_state_dict` has it missing under one name when it is in the file
            under another.
        buffers: a buffer on the meta device, or one that `only` names whole, which no rule (with `buffers=`) takes is
            an "error"; with "reset", its module makes it by its own reset_buffers, init_non_persistent_buffers (timm),
            reset_running_stats, the _init_weights of the module above it (transformers, timm) or reset_parameters, and
            if none of them does it is an error.
        progress: called as progress(elements done, elements in all) after each group, of this process.
        prefix: what the model is in a larger one, as a stage of a pipeline: "layers.4" if it is that module, or for its
            modules what each is there, {"0": "layers.4", "1": "layers.5"}. Keys, rules, `only` and the report go by the
            names in the larger one, and the values are the same as there, but where a rule asks for what is not here:
            of the modules that a tensor stands in (`inside=`), those of this model alone are seen.

    Returns:
        What wrote what, and how long it took

    Raises:
        RecipeError: before anything is written, whatever a rule or a parameter is refused for
        TypeError: a model that is no module; a recipe, a key, an `only`, a prefix or a progress of another kind
        ValueError: a key outside of [0, 2^64), a dtype that is not of floating point, a word that `buffers` does not
            know, a prefix of what the model has not
        Exception: what a callable of the user's raises itself when its turn comes

    """
    begun = time.perf_counter()
    base = key if isinstance(key, Key) else Key(key)
    to = None if device is None else torch.device(device)
    if not (progress is None or callable(progress)):
        raise TypeError(f"progress must be called as progress(elements done, elements in all), got {progress!r}")
    if isinstance(model, nn.Module):  # make_plan says so where it is none
        reshard(model)
    with no_collection():
        plan = make_plan(model, recipe, dtype=dtype, strict=strict, only=only, buffers=buffers, prefix=prefix)
    for where in {device_for(tensor, to) for tensor, *_ in plan.tensors if tensor.is_meta}:
        _ops.check_device(where)
    make_buffers(model, plan, base)
    on_meta = {row[0]: row[3] for row, (tensor, *_) in zip(plan.rows, plan.tensors, strict=True) if tensor.is_meta}
    holders = Holders(model, {row[0]: row[1] for row in plan.rows if row[1]}, prefix) if on_meta else None
    _put_buffers(plan, holders, to)
    total = sum(_elements(of_rule) for of_rule in plan.jobs.values())
    done = 0
    groups = []
    for index in sorted(plan.jobs):
        rule = recipe.rules[index]
        for jobs in _groups(plan.jobs[index]):
            started = time.perf_counter()
            with torch.inference_mode(False):  # an inference tensor could never be trained
                tensors = [
                    new_tensor(one, on_meta[name], device_for(one, to)) if name in on_meta else one
                    for name, one, *_ in jobs
                ]
            fill_jobs(plan, rule, jobs, tensors, base)
            if holders is not None:
                with torch.inference_mode(False):
                    for (name, *_), new in zip(jobs, tensors, strict=True):
                        if name in on_meta:
                            holders.adopt(name, new)
            done += _elements(jobs)
            if progress is not None:
                progress(done, total)
            seconds = time.perf_counter() - started
            groups.append(Timing(index, len(jobs), _elements(jobs), seconds))
    seconds = time.perf_counter() - begun
    return InitReport(recipe, plan.report_rows(), groups, seconds, model, shardings=plan.shardings, prefix=prefix)


def _put_buffers(plan: Plan, holders: Holders | None, device: torch.device | None) -> None:
    """Give the model the buffers that its modules made, those of the meta device on `device`."""
    tensors = {row[0]: tensor for row, (tensor, *_) in zip(plan.rows, plan.tensors, strict=True)} if plan.made else {}
    for name, made in plan.made.items():
        buffer = tensors[name]
        if holders is None or not buffer.is_meta:
            copy_held(made, buffer)
            continue
        where = device_for(buffer, device)
        with torch.inference_mode(False):
            if is_dtensor(buffer):
                buffer = new_tensor(buffer, made.dtype, where)
                copy_held(made, buffer)
            else:
                buffer = made.to(where)
            holders.adopt(name, buffer)


def _elements(jobs: list[Job]) -> int:
    return sum(elements for _, _, _, elements in jobs)


def _groups(jobs: list[Job]) -> Iterator[list[Job]]:
    group: list[Job] = []
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
