"""Memory for what is on the meta device: new tensors, and the model's modules made to hold them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter

from fastinit import _C
from fastinit.parameters import modules
from fastinit.prefix import Prefix
from fastinit.sharding import is_dtensor, local_of

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

_CPU = torch.device("cpu")


class Holders:
    """Every place in a model that holds a tensor of the meta device, by the canonical names of the tensors."""

    def __init__(self, model: nn.Module, tied: dict[str, Sequence[str]], whole: Prefix = "") -> None:
        first = {other: name for name, others in tied.items() for other in others}
        owners: dict[int, str] = {}
        self._places: dict[str, list[tuple[nn.Module, str, Tensor]]] = {}
        for prefix, module in modules(model, whole):
            for own, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is not None:
                    owner = owners.setdefault(id(tensor), first.get(prefix + own, prefix + own))
                    self._places.setdefault(owner, []).append((module, own, tensor))

    def adopt(self, name: str, new: Tensor) -> None:
        """Put the tensor in place of those of this name, each a parameter or a buffer as it was.

        Places that held one object hold one object again, and those of one storage share one.
        """
        made: dict[int, Tensor] = {}
        for module, own, old in self._places.pop(name):
            if id(old) not in made:
                made[id(old)] = _in_place_of(old, new)
            setattr(module, own, made[id(old)])


def device_for(like: Tensor, device: torch.device | None) -> torch.device:
    """Return where a tensor is made: on the given device, or on the CPU, or for a DTensor on what its mesh is of."""
    if device is None and is_dtensor(like):
        return torch.device(like.device_mesh.device_type)
    return device or _CPU


def new_tensor(like: Tensor, dtype: torch.dtype, device: torch.device = _CPU) -> Tensor:
    """Return a tensor of this shape and strides that holds nothing yet, large ones on CPU in huge pages."""
    if is_dtensor(like):
        new = torch.empty_like(like, dtype=dtype, device=device)  # as Module.to_empty does it
        assert is_dtensor(new)
        local = local_of(new)
        if device.type == "cpu":
            memory = _C.new_tensor(local.shape, local.stride(), dtype).untyped_storage()
            local.set_(memory, 0, local.shape, local.stride())
        return new
    if device.type == "cpu":
        return _C.new_tensor(like.shape, like.stride(), dtype)
    return torch.empty_strided(like.shape, like.stride(), dtype=dtype, device=device)


def _in_place_of(old: Tensor, new: Tensor) -> Tensor:
    if isinstance(old, Parameter):
        if is_dtensor(old):
            new = _as_dtensor(old, new)
        elif old.shape != new.shape or old.stride() != new.stride():  # tied by memory, in another shape
            new = new.as_strided(old.shape, old.stride())
        tensor: Tensor = Parameter(new, old.requires_grad)
        if type(old) is not Parameter and not is_dtensor(old):
            tensor = torch.Tensor._make_subclass(type(old), new, old.requires_grad)
    else:
        tensor = new
    tensor.__dict__.update(old.__dict__)
    return tensor


def _as_dtensor(old: "DTensor", new: Tensor) -> Tensor:
    """Return the new tensor, or where that is cut otherwise, being tied by memory, its local one cut as the old."""
    assert is_dtensor(new)
    if (new.shape, new.device_mesh, new.placements) == (old.shape, old.device_mesh, old.placements):
        return new
    view = local_of(new).as_strided(local_of(old).shape, local_of(old).stride())
    return type(old).from_local(
        view, old.device_mesh, old.placements, run_check=False, shape=old.shape, stride=old.stride()
    )
