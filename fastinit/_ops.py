"""The way into the native part: loads fastinit._C and hands it fills."""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor

from fastinit._build_info import TORCH_VERSION

if torch.__version__ != TORCH_VERSION:
    raise ImportError(
        f"fastinit was compiled against torch {TORCH_VERSION}, but torch {torch.__version__} is installed. Rebuild it: "
        "pip install --no-build-isolation --force-reinstall --no-deps torch-fastinit (in a checkout: -e . in place "
        "of the name)"
    )

from fastinit import _C
from fastinit.key import Key, KeyShard
from fastinit.laws import KINDS, Law

# What the op fills; what needs no key in any other type is for torch's own function to write.
DTYPES = frozenset(
    (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)
)
available_isas = _C.available_isas
isa = _C.isa


def _signed(word: int) -> int:
    """Return the int64 with the bits of a uint64: an `int` of an op's schema holds no more."""
    return word - 2**64 if word >= 2**63 else word


def fill_one(tensor: Tensor, law: Law, key: Key | KeyShard) -> Tensor:
    """Fill one tensor, in eager code without lists in between."""
    if torch.compiler.is_compiling():
        fill_([tensor], [law], [key])
    else:
        shard = _place(tensor, key) if type(key) is KeyShard else ()
        _C.fill_one(tensor, KINDS[law.kind], *law.numbers, key.seed, key.offset, shard)
    return tensor


def check(tensor: Tensor, law: Law) -> None:
    """Raise what filling the tensor would raise, and write nothing."""
    _C.check_one(tensor, KINDS[law.kind], law.numbers)


def check_device(device: torch.device) -> None:
    """Raise what filling tensors that are still to be made there would raise for the device alone."""
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or a CUDA device, got {str(device)!r}: there are no kernels for others")
    if device.type == "cuda":
        if (device.index or 0) >= (count := torch.cuda.device_count()):
            raise ValueError(f"device must be one that torch finds, got {str(device)!r}: it finds {count} CUDA devices")
        _C.require_cuda()


def fill_(tensors: Sequence[Tensor], laws: Sequence[Law], keys: Sequence[Key | KeyShard]) -> None:
    """Fill many tensors of any shapes, types, laws and devices in one native call.

    Everything is checked before anything is written. Where tensors share memory, the last one wins. Laws in KEYLESS
    take no notice of their key. Inside torch.compile all are to lie on one device.
    """
    shards: list[int] = []
    if KeyShard in set(map(type, keys)):
        shards = [n for tensor, key in zip(tensors, keys, strict=True) for n in _place(tensor, key)]
    fill_by_words_(tensors, laws, list(chain.from_iterable([(key.seed, key.offset) for key in keys])), shards)


def fill_by_words_(
    tensors: Sequence[Tensor], laws: Sequence[Law], words: Sequence[int], shards: Sequence[int] = ()
) -> None:
    """Fill many by their keys' seeds and offsets, one after another."""
    if not tensors:
        return
    kinds = [KINDS[law.kind] for law in laws]
    numbers = list(chain.from_iterable([law.numbers for law in laws]))
    if torch.compiler.is_compiling():
        torch.ops.fastinit.fill_(list(tensors), kinds, numbers, [_signed(word) for word in words], shards)
    else:
        _C.fill_many(tensors, kinds, numbers, words, shards)


def _place(tensor: Tensor, key: Key | KeyShard) -> list[int]:
    if not isinstance(key, KeyShard):
        return [*tensor.shape, *[0] * tensor.dim()]
    if len(key.global_shape) != tensor.dim():
        raise ValueError(
            f"global_shape must have as many dimensions as the tensor, got {key.global_shape} for a tensor of shape "
            f"{tuple(tensor.shape)}"
        )
    return [*key.global_shape, *key.start]
