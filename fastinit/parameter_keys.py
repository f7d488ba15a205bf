"""Which parameter of a model a tensor is a part of, and its key."""

import torch
from torch import Tensor, nn

from fastinit.key import Key
from fastinit.parameters import Owned, extent, owned_parameters


class ParameterKeys:
    """For any tensor the number of the parameter in whose memory it lies, and the seed and offset of its name's key."""

    def __init__(self, model: nn.Module, key: Key) -> None:
        self._model = model
        self._key = key
        self._numbers: dict[str, int] = {}
        self._look()

    def __call__(self, tensor: Tensor) -> tuple[int, int, int]:
        name = self._name_of(tensor)
        if name is None:
            self._look()  # parameters may have been replaced since
            name = self._name_of(tensor)
        if name is None:
            raise RuntimeError(
                "in fastinit.batched with a key, random numbers are for the model's parameters, by their names, and "
                f"this fill is of a tensor of shape {tuple(tensor.shape)} that is no part of one: fill it before the "
                "block, or in a call that is given a Key"
            )
        if name not in self._numbers:
            self._numbers[name] = len(self._numbers)
        return self._numbers[name], *self._words[name]

    def _look(self) -> None:
        self._owned, _ = owned_parameters(self._model)
        words = self._key.words_of(self._owned)
        self._words = dict(zip(self._owned, zip(words[::2], words[1::2], strict=True), strict=True))
        self._by_storage: dict[int, list[str]] = {}
        for name, (tensor, _, _) in self._owned.items():
            self._by_storage.setdefault(_storage(tensor), []).append(name)

    def _name_of(self, tensor: Tensor) -> str | None:
        storage, (begin, end) = _storage(tensor), extent(tensor)
        for name in self._by_storage.get(storage, ()):
            if not _is_there(self._owned[name]):
                continue
            parameter = self._owned[name][0]
            first, last = extent(parameter)
            if _storage(parameter) == storage and first <= begin and end <= last:
                return name
        return None


def _is_there(owned: Owned) -> bool:
    tensor, module, own = owned
    return module._parameters.get(own) is tensor


def _storage(tensor: Tensor) -> int:
    """Return the number of its storage, without the notice that a block of fastinit.batched takes of who asks."""
    number: int = torch._C.TensorBase.untyped_storage(tensor)._cdata
    return number
