"""`python -m fastinit check`: a folder of safetensors files, its index, and what fastinit.json says that it holds.

Files are read in pieces, by their headers: nothing is mapped, so that what stays in memory is one piece and not a file.
"""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastinit.check.measure import Read
from fastinit.check.model import CheckReport, CheckRow, alpha_of, rows_of
from fastinit.check.scan import Subject, scan
from fastinit.checkpoint.manifest import MANIFEST
from fastinit.checkpoint.shards import DTYPES
from fastinit.laws import KINDS, Law

_TYPES = {name: dtype for dtype, name in DTYPES.items()}
_SHOWN = 5  # names of a kind in a message
_NUMBERED = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.safetensors")


class Stored(NamedTuple):
    """A tensor of a file."""

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int  # its first byte in the file


class _Wrong(Exception):
    """What is wrong with a file."""


def check_folder(folder: str | os.PathLike[str]) -> CheckReport:
    """Measure every tensor of the folder's safetensors files, by the laws of fastinit.json where that is there.

    Without it, tensors fail for NaN and infinities only. `problems` of the report says what is wrong with the files:
    missing, torn, left over, or not as the index and fastinit.json have them.
    """
    path = Path(folder)
    if not path.is_dir():
        raise NotADirectoryError(f"DIR must be a folder, got {os.fspath(folder)!r}")
    problems: list[str] = []
    stored: dict[str, Stored] = {}
    files = sorted(path.glob("*.safetensors"))
    for file in files:
        try:
            for name, tensor in _header(file):
                if name in stored:
                    problems.append(f"{name} stands in two files: {stored[name].file.name} and {file.name}")
                stored[name] = tensor
        except _Wrong as wrong:
            problems.append(f"{file.name}: {wrong}")
    problems += _leftovers(path)
    problems += _index_problems(path, stored)
    try:
        described = _described(path)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        described = {}
        problems.append(f"{MANIFEST} cannot be read: {error}")
    problems += _described_problems(described, stored)
    if not files:
        problems.append("there are no safetensors files")
    return CheckReport(_measured(stored, described), problems)


def _header(file: Path) -> Iterator[tuple[str, Stored]]:
    """Yield the tensors of a file whose header and length are right."""
    size = file.stat().st_size
    with open(file, "rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 or length > size - 8:
            raise _Wrong(f"torn: {size:,} bytes end within the header")
        try:
            header = json.loads(opened.read(length))
            header.pop("__metadata__", None)
            tensors = [(name, one["dtype"], tuple(one["shape"]), *one["data_offsets"]) for name, one in header.items()]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _Wrong("its header is not that of a safetensors file") from None
    end = max((last for *_, last in tensors), default=0)
    if size != 8 + length + end:
        raise _Wrong(f"torn: {size:,} bytes, and its header speaks of {8 + length + end:,}")
    for name, type_name, shape, first, last in tensors:
        dtype = _TYPES.get(type_name)
        if dtype is None:
            raise _Wrong(f"tensor {name} is of type {type_name}, which is not known here")
        if last - first != math.prod(shape) * dtype.itemsize:
            raise _Wrong(f"tensor {name} has {last - first:,} bytes, which is not {type_name} of {list(shape)}")
        yield name, Stored(file, dtype, shape, 8 + length + first)


def _leftovers(path: Path) -> Iterator[str]:
    left = [
        entry.name
        for entry in sorted(path.iterdir())
        if ".safetensors." in entry.name and not entry.name.endswith(".safetensors.index.json")
    ]
    if left:
        yield f"left over by a write that did not end: {_some(left)}"


def _index_problems(path: Path, stored: Mapping[str, Stored]) -> Iterator[str]:
    indices = sorted(path.glob("*.safetensors.index.json"))
    for index in indices:
        try:
            places: dict[str, str] = dict(json.loads(index.read_bytes())["weight_map"])
        except (ValueError, KeyError, TypeError):
            yield f"{index.name} cannot be read"
            continue
        missing = {file for file in places.values() if not (path / file).is_file()}
        for file in sorted(missing):
            names = [name for name, place in places.items() if place == file]
            yield f"{file} is missing, with {_some(names)}"
        absent = [
            name
            for name, file in places.items()
            if file not in missing and (name not in stored or stored[name].file.name != file)
        ]
        if absent:
            yield f"{index.name} has tensors that are not in the files it names: {_some(absent)}"
        files = set(places.values())
        unlisted = [name for name, one in stored.items() if one.file.name in files and name not in places]
        if unlisted:
            yield f"{index.name} leaves out {_some(unlisted)}"
    if not indices:
        yield from _unindexed(path)


def _unindexed(path: Path) -> Iterator[str]:
    """Yield what numbered files say by their names."""
    there: dict[tuple[str, int], set[int]] = {}
    for file in path.glob("*.safetensors"):
        if parts := _NUMBERED.fullmatch(file.name):
            there.setdefault((parts[1], int(parts[3])), set()).add(int(parts[2]))
    for (stem, count), numbers in sorted(there.items()):
        yield f"{stem}.safetensors.index.json is missing"
        absent = [
            f"{stem}-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1) if number not in numbers
        ]
        if absent:
            yield f"missing: {_some(absent)}"


def _described(path: Path) -> dict[str, Any]:
    """Return the tensors of fastinit.json by their names; none where it is not there."""
    try:
        text = (path / MANIFEST).read_bytes()
    except FileNotFoundError:
        return {}
    described = {tensor["name"]: tensor for tensor in json.loads(text)["tensors"]}
    for tensor in described.values():
        _subjects(tensor["shape"], tensor)  # raises what is not as it should be
    return described


def _described_problems(described: Mapping[str, Any], stored: Mapping[str, Stored]) -> Iterator[str]:
    absent = [name for name in described if name not in stored]
    if absent:
        yield f"in {MANIFEST} and in no file: {_some(absent)}"
    for name, tensor in described.items():
        if name in stored:
            found = stored[name]
            there, told = (list(found.shape), DTYPES[found.dtype]), (tensor["shape"], tensor["dtype"])
            if found.shape != tuple(told[0]) or str(found.dtype) != f"torch.{told[1]}":
                yield f"{name} is {there[1]} of {there[0]}, and in {MANIFEST} {told[1]} of {told[0]}"


def _measured(stored: Mapping[str, Stored], described: Mapping[str, Any]) -> list[CheckRow]:
    subjects = {}
    for name in [*(name for name in described if name in stored), *(name for name in stored if name not in described)]:
        tensor = described.get(name)
        as_told = tensor is not None and tuple(tensor["shape"]) == stored[name].shape
        subjects[name] = _subjects(stored[name].shape, tensor if as_told else None)
    alpha = alpha_of([subject.law for several in subjects.values() for subject in several])
    rows: list[CheckRow] = []
    for name, several in subjects.items():
        dtype = stored[name].dtype
        findings = scan(_reader(stored[name]), dtype, several, alpha)
        tensor = described.get(name) or {}
        parts = [part["name"] for part in tensor.get("parts", [])][: len(several) - 1]
        rows += rows_of(name, tuple(tensor.get("tied", ())), dtype, several, parts, findings)
    return rows


def _subjects(shape: tuple[int, ...], tensor: Mapping[str, Any] | None) -> list[Subject]:
    """Return a tensor and its parts with the laws that fastinit.json gives them."""
    if tensor is None:
        return [Subject((), shape, None)]
    parts = [
        Subject(
            tuple(entry if isinstance(entry, int) else slice(*entry) for entry in part["index"]),
            tuple(part["shape"]),
            _law(part["law"]),
        )
        for part in tensor["parts"]
    ]
    return [Subject((), shape, _law(tensor["law"])), *parts]


def _law(plain: Mapping[str, Any] | None) -> Law | None:
    if plain is None:
        return None
    first, second, third, fourth = map(float, plain["numbers"])
    if plain["kind"] not in KINDS:
        raise ValueError(f"no law is called {plain['kind']!r}")
    return Law(plain["kind"], (first, second, third, fourth))


def _reader(stored: Stored) -> Read:
    shape = stored.shape or (1,)

    def read(prefix: tuple[int, ...], start: int, stop: int) -> Tensor:
        inner = shape[len(prefix) + 1 :]
        row = 0
        for entry, size in zip((*prefix, start), shape, strict=False):
            row = row * size + entry
        count = (stop - start) * math.prod(inner)
        if not count:
            return torch.empty(stop - start, *inner, dtype=stored.dtype)
        buffer = bytearray(count * stored.dtype.itemsize)
        with open(stored.file, "rb", buffering=0) as file:
            file.seek(stored.begin + row * math.prod(inner) * stored.dtype.itemsize)
            if file.readinto(buffer) != len(buffer):
                raise OSError(f"{stored.file} was cut off while it was read")
        return torch.frombuffer(buffer, dtype=stored.dtype).reshape(stop - start, *inner)

    return read


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
