"""A rule's initialiser that takes each parameter from safetensors files, range by range."""

import json
import math
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastinit.checkpoint.shards import DTYPES, INDEX, SINGLE
from fastinit.rule import Source

_TYPES = {name: dtype for dtype, name in DTYPES.items()}
_PIECE = 2**24  # bytes read at a time
_LONGEST_HEADER = 10**8  # bytes, safetensors' own bound


class _Stored(NamedTuple):
    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int  # of its bytes in the file


class from_checkpoint(Source):  # in lower case as the functions that it stands beside
    """As a rule's initialiser: take the parameter named n from tensor `prefix` + n of safetensors files.

    Args:
        path: a .safetensors file, an index of such files, or a folder with model.safetensors or the index of its
            shards
        prefix: what the names in the files have before the names in the model; a TypeError if it is no str

    A name that is not there, another shape, or another kind of numbers (whole, floating point, complex) is an error
    before anything is written. Values are converted to the parameter's type.

    Examples:
        >>> import fastinit
        >>> rule = fastinit.Rule(fastinit.from_checkpoint("llama/", prefix="model."), names="layers.*")

    """

    def __init__(self, path: str | os.PathLike[str], prefix: str = "") -> None:
        if not isinstance(prefix, str):
            raise TypeError(f"prefix must be a str, got {type(prefix).__name__}")
        self.path = os.fspath(path)
        self.prefix = prefix

    def check(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> None:
        """Raise ValueError unless the parameter of this `name`, `shape` and `dtype` can be taken from the files."""
        stored = self._find(name)
        if stored.shape != tuple(shape):
            raise ValueError(
                f"{self!r}: tensor {self.prefix + name!r} has shape {list(stored.shape)}, and the parameter "
                f"{list(shape)}"
            )
        if stored.dtype not in _TYPES:
            raise ValueError(f"{self!r}: tensor {self.prefix + name!r} has the type {stored.dtype}, unknown here")
        if len({(one.is_floating_point, one.is_complex) for one in (dtype, _TYPES[stored.dtype])}) > 1:
            raise ValueError(f"{self!r}: tensor {self.prefix + name!r} is {stored.dtype}, and the parameter {dtype}")

    def read(self, name: str, out: Tensor, first: int) -> None:
        """Write elements `first`, `first` + 1, ... of the tensor for parameter `name` into `out`, of one dimension."""
        stored = self._find(name)
        dtype = _TYPES[stored.dtype]
        if out.numel() == 0:
            return
        with open(stored.file, "rb") as file:
            file.seek(stored.begin + first * dtype.itemsize)
            for part in torch.split(out, _PIECE // dtype.itemsize):
                data = bytearray(part.numel() * dtype.itemsize)
                if file.readinto(data) != len(data):
                    raise ValueError(f"{stored.file} ends inside tensor {self.prefix + name!r}")
                part.copy_(torch.frombuffer(data, dtype=dtype))

    def _find(self, name: str) -> _Stored:
        stored = self._tensors.get(self.prefix + name)
        if stored is None:
            raise ValueError(f"{self!r} has no tensor {self.prefix + name!r}")
        return stored

    @cached_property
    def _tensors(self) -> dict[str, _Stored]:
        try:
            return {name: stored for file in self._files() for name, stored in _header(file).items()}
        except OSError as error:
            raise ValueError(f"{self!r}: {error}") from error

    def _files(self) -> list[Path]:
        path = Path(self.path)
        if path.is_dir():
            found = [path / name for name in (SINGLE, INDEX) if (path / name).is_file()]
            if not found:
                raise ValueError(f"{self!r}: the folder has neither {SINGLE} nor {INDEX}")
            path = found[0]
        if path.suffix != ".json":
            return [path]
        try:
            names = set(json.loads(path.read_bytes())["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no index of safetensors files") from error
        return [path.parent / name for name in sorted(names)]

    def __repr__(self) -> str:
        return f"from_checkpoint({self.path!r}{f', prefix={self.prefix!r}' if self.prefix else ''})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, from_checkpoint) and (self.path, self.prefix) == (other.path, other.prefix)

    def __hash__(self) -> int:
        return hash((self.path, self.prefix))

    def __reduce__(self) -> tuple[Any, ...]:
        return from_checkpoint, (self.path, self.prefix)


def _header(path: Path) -> dict[str, _Stored]:
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        size = os.fstat(file.fileno()).st_size
        try:
            if length > min(_LONGEST_HEADER, size - 8):
                raise ValueError("its header is longer than the file may be")
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            return {name: _stored(path, 8 + length, size, **described) for name, described in header.items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no whole safetensors file: {error}") from error


def _stored(path: Path, start: int, size: int, dtype: str, shape: list[int], data_offsets: list[int]) -> _Stored:
    begin, end = data_offsets
    needed = math.prod(shape) * _TYPES[dtype].itemsize if dtype in _TYPES else end - begin
    if not 0 <= begin <= end <= size - start or end - begin != needed:
        raise ValueError("a tensor lies outside of it")
    return _Stored(path, dtype, tuple(shape), start + begin)
