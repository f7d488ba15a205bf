"""A model's parameters and buffers: their canonical names, and which of them share memory."""

import sys
from collections.abc import Iterator
from itertools import chain, combinations
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter, is_lazy
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from fastinit import _C
from fastinit.prefix import Prefix, in_whole
from fastinit.selection import RecipeError
from fastinit.sharding import is_dtensor, local_of

# Modules that hold another under a name of their own, which is no part of its parameters' names. Looked up
# among the modules already imported: a model can only be wrapped by a class whose module is.
_WRAPPERS = (
    ("torch._dynamo.eval_frame", "OptimizedModule", "_orig_mod"),
    ("torch.nn.parallel.data_parallel", "DataParallel", "module"),
    ("torch.nn.parallel.distributed", "DistributedDataParallel", "module"),
    (
        "torch.distributed.algorithms._checkpoint.checkpoint_wrapper",
        "ActivationWrapper",
        "_checkpoint_wrapped_module",
    ),
)


# Its parameters are slices of flat ones: their shapes, and so fans and element numbers, are not the model's.
_FLATTENS = ("torch.distributed.fsdp.fully_sharded_data_parallel", "FullyShardedDataParallel")

# A parameter or buffer, the module that holds it, and its name there.
Owned = tuple[Tensor, nn.Module, str]


def owned_parameters(model: nn.Module, prefix: Prefix = "") -> tuple[dict[str, Owned], dict[str, tuple[str, ...]]]:
    """Return the distinct parameters by canonical name, in order, and the other names of tied ones."""
    owned, tied = _owned(model, "_parameters", prefix)
    _tie_by_memory(owned, tied)
    return owned, tied


def owned_buffers(model: nn.Module, prefix: Prefix = "") -> tuple[dict[str, Owned], dict[str, tuple[str, ...]]]:
    """Return the distinct buffers by canonical name, in order, and the other names of those that are held twice."""
    return _owned(model, "_buffers", prefix)


def _owned(
    model: nn.Module, members: Literal["_parameters", "_buffers"], whole: Prefix
) -> tuple[dict[str, Owned], dict[str, tuple[str, ...]]]:
    objects: dict[str, Tensor] = {}
    first: dict[int, str] = {}
    owned: dict[str, Owned] = {}
    tied: dict[str, tuple[str, ...]] = {}
    for prefix, module in modules(model, whole):
        for own, tensor in module.__dict__[members].items():
            if tensor is None:
                continue
            name = prefix + own
            refuse_partitioned(name, tensor)
            if type(tensor) is not Parameter and type(tensor) is not Tensor and is_lazy(tensor):
                raise RecipeError(f"{members[1:-1]} {name!r} has no shape yet; call the lazy model once first")
            if objects.setdefault(name, tensor) is not tensor:
                raise two_of_one_name(model, name, objects[name], tensor)
            first_name = first.setdefault(id(tensor), name)
            if first_name is name:
                owned[name] = tensor, module, own
            elif first_name != name:
                tied[first_name] = (*tied.get(first_name, ()), name)
    return owned, tied


def surroundings(model: nn.Module, whole: Prefix = "") -> dict[str, tuple[type, ...]]:
    """Return for every module, by its name with the final dot, the classes of the modules that it stands in."""
    classes: dict[str, tuple[type, ...]] = {}  # a wrapper and what it wraps have one name
    around: dict[str, tuple[type, ...]] = {"": ()}
    for prefix, module in modules(model, whole):
        classes[prefix] = (*classes.get(prefix, ()), type(module))
        if prefix:
            above = prefix[: prefix.rfind(".", 0, -1) + 1]
            around[prefix] = around.get(above, ()) + classes.get(above, ())  # those of the whole are not there
    return around


def canonical_name(model: nn.Module, name: str) -> str:
    """Return `name`, as named_parameters has it, without the names that wrappers add."""
    parts: list[str] = []
    module: nn.Module | None = model
    for part in name.split("."):
        if module is None or part != _wrapped_child(type(module)):
            parts.append(part)
        module = None if module is None else module._modules.get(part)
    return ".".join(parts)


def modules(model: nn.Module, prefix: Prefix = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield every module under every name it has, each name with its final dot."""
    for name, module in _modules(model, ""):
        yield in_whole(name, prefix), module


def _modules(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    if issubclass(type(module), _loaded(*_FLATTENS)):
        raise RecipeError(
            f"module {prefix.rstrip('.')!r} is wrapped in FullyShardedDataParallel, which cuts its parameters up: "
            "initialise before wrapping, or shard by torch.distributed.fsdp.fully_shard in its place"
        )
    yield prefix, module
    unnamed = _wrapped_child(type(module))
    for name, child in module._modules.items():
        if child is not None:
            yield from _modules(child, prefix if name == unnamed else f"{prefix}{name}.")


def _wrapped_child(kind: type) -> str | None:
    for module, wrapper, child in _WRAPPERS:
        if issubclass(kind, _loaded(module, wrapper)):
            return child
    return None


def _loaded(module: str, name: str) -> type | tuple[()]:
    """Return a class of a module that has been imported; nothing is an instance of the others."""
    return getattr(sys.modules.get(module), name, ())


def two_of_one_name(model: nn.Module, name: str, *tensors: Tensor) -> RecipeError:
    named = chain(model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
    real = [name for name, tensor in named if any(tensor is one for one in tensors)]
    return RecipeError(f"two tensors have the canonical name {name!r}: {' and '.join(real)}")


def _tie_by_memory(owned: dict[str, Owned], tied: dict[str, tuple[str, ...]]) -> None:
    """Take parameters over the same memory as another out of `owned`, with their names to `tied`."""
    for cluster in _clusters(owned):
        for (_, one), (_, other) in combinations(sorted(cluster), 2):
            if one not in owned or other not in owned:
                continue
            shared = _shared_memory(_in_memory(owned[one][0]), _in_memory(owned[other][0]))
            if shared == "all":
                del owned[other]
                tied[one] = (*tied.get(one, ()), other, *tied.pop(other, ()))
            elif shared == "some":
                raise RecipeError(f"parameters {one!r} and {other!r} overlap in memory without being the same")


def _clusters(owned: dict[str, Owned]) -> Iterator[list[tuple[int, str]]]:
    """Yield parameters whose extents in memory overlap, two or more at a time, with their places in order."""
    spans = []
    for position, (name, (parameter, _, _)) in enumerate(owned.items()):
        if is_plain(memory := _in_memory(parameter)):
            start, stop = extent(memory)
            if start < stop:
                spans.append((start, stop, position, name))
    spans.sort()
    cluster: list[tuple[int, str]] = []
    reach = 0
    for start, stop, position, name in spans:
        if start >= reach:
            if len(cluster) > 1:
                yield cluster
            cluster = []
        cluster.append((position, name))
        if stop > reach:
            reach = stop
    if len(cluster) > 1:
        yield cluster


def _in_memory(tensor: Tensor) -> Tensor:
    return local_of(tensor) if is_dtensor(tensor) else tensor


def reshard(model: nn.Module) -> None:
    """Have FSDP2's modules hold their own parameters, and not those that they gathered for a forward pass."""
    gathering = _loaded("torch.distributed.fsdp", "FSDPModule")
    for module in model.modules():
        if isinstance(module, gathering):
            module.reshard()  # type: ignore[operator]


def refuse_partitioned(name: str, tensor: Tensor) -> None:
    """Refuse a parameter that DeepSpeed's ZeRO-3 has taken away from the model."""
    status = tensor.__dict__.get("ds_status")
    if status is not None and getattr(status, "name", "") != "AVAILABLE":
        raise RecipeError(
            f"parameter {name!r} is partitioned by DeepSpeed's ZeRO-3, which leaves nothing of it in the model: "
            "initialise before deepspeed.initialize, or within deepspeed.zero.GatheredParameters(model.parameters(), "
            "modifier_rank=0)"
        )


def is_plain(tensor: Tensor) -> bool:
    """Say whether it is a strided tensor with a storage of its own to speak of."""
    if tensor.layout is not torch.strided:
        return False
    kind = type(tensor)
    return kind is Parameter or kind is Tensor or not is_traceable_wrapper_subclass(tensor)


# Above every address, and a stretch for each storage on the meta device, which have none.
_META, _STRETCH = 2**64, 2**64


def extent(tensor: Tensor) -> tuple[int, int]:
    """Return the addresses of its first byte and of the one after its last."""
    if tensor.is_meta:
        storage: int = tensor.untyped_storage()._cdata
        start = _META + storage * _STRETCH + int(tensor.storage_offset()) * tensor.itemsize
    else:
        start = _C.address(tensor)
    if tensor.is_contiguous():  # as empty ones are
        return start, start + tensor.nbytes
    steps = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (steps + 1) * tensor.itemsize


def _shared_memory(one: Tensor, other: Tensor) -> Literal["all", "some", "none"]:
    """Say how much of their memory two tensors of overlapping extents share."""
    if one.device != other.device:
        return "none"
    extents = extent(one), extent(other)
    contiguous = one.is_contiguous() and other.is_contiguous()
    if contiguous or one.is_meta:
        same = extents[0] == extents[1] and (contiguous or one.stride() == other.stride())
    else:  # such as the columns of one matrix: mark one's bytes, and look at the other's
        origin = min(extents)[0]
        marks = torch.zeros(max(stop for _, stop in extents) - origin, dtype=torch.bool, device="cpu")
        _bytes_of(one, marks, origin).fill_(True)
        others = _bytes_of(other, marks, origin)
        if not others.any():
            return "none"
        same = bool(others.all())
        others.fill_(False)
        same = same and not marks.any()
    return "all" if same and one.dtype == other.dtype else "some"


def _bytes_of(tensor: Tensor, marks: Tensor, origin: int) -> Tensor:
    """Return the tensor's entries of `marks`, which has one for each byte from address `origin` on."""
    strides = [stride * tensor.itemsize for stride in tensor.stride()]
    sizes = [size if stride else 1 for size, stride in zip(tensor.shape, strides, strict=True)]
    return marks.as_strided((*sizes, tensor.itemsize), (*strides, 1), _C.address(tensor) - origin)
