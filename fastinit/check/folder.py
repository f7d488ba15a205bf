"""`python -m fastinit check`: a folder of safetensors files, its index, and what fastinit.json says that it holds.

Files are read in pieces, by their headers: nothing is mapped, so that what stays in memory is one piece and not a file.
"""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from operator import index
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
from fastinit.tables import dtype_text

_TYPES = {name: dtype for dtype, name in DTYPES.items()}
_SHOWN = 5  # names of a kind in a message
# What reading something else than what is expected raises.
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError)
_NUMBERED = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.safetensors")


class Stored(NamedTuple):
    """A tensor of a file."""

    file: Path
    dtype: torch.dtype
    shape: torch.Size
    begin: int  # its first byte in the file


class Described(NamedTuple):
    """A tensor of fastinit.json."""

    tied: tuple[str, ...]
    dtype: str
    subjects: list[Subject]  # the whole, and parts
    parts: list[str]  # their names


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
    except _MALFORMED as error:
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
            tensors = [(name, *_placed(one)) for name, one in header.items()]
        except _MALFORMED:
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


def _placed(one: Mapping[str, Any]) -> tuple[str, torch.Size, int, int]:
    """Return a tensor's type, shape, first byte and the one after its last, as a header gives them."""
    shape, (first, last) = torch.Size(one["shape"]), map(index, one["data_offsets"])
    if min((first, *shape)) < 0:
        raise ValueError("less than nothing")
    return str(one["dtype"]), shape, first, last


def _leftovers(path: Path) -> Iterator[str]:
    left = [
        entry.name
        for entry in sorted(path.iterdir())
        if ".safetensors." in entry.name and not entry.name.endswith(".safetensors.index.json")
    ]
    if left:
        yield f"left over by a write that did not end: {_some(left)}"


def _index_problems(path: Path, stored: Mapping[str, Stored]) -> Iterator[str]:
    files = sorted(path.glob("*.safetensors.index.json"))
    for file in files:
        try:
            weight_map = json.loads(file.read_bytes())["weight_map"]
            places = {name: str(place) for name, place in weight_map.items()}
        except _MALFORMED:
            yield f"{file.name} cannot be read"
            continue
        missing = {place for place in places.values() if not (path / place).is_file()}
        for place in sorted(missing):
            yield f"{place} is missing, with {_some([name for name in places if places[name] == place])}"
        absent = [
            name
            for name, place in places.items()
            if place not in missing and (name not in stored or stored[name].file.name != place)
        ]
        if absent:
            yield f"{file.name} has tensors that are not in the files it names: {_some(absent)}"
        listed = set(places.values())
        unlisted = [name for name, one in stored.items() if one.file.name in listed and name not in places]
        if unlisted:
            yield f"{file.name} leaves out {_some(unlisted)}"
    if not files:
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


def _described(path: Path) -> dict[str, Described]:
    """Return the tensors of fastinit.json by their names; none where it is not there."""
    try:
        text = (path / MANIFEST).read_bytes()
    except FileNotFoundError:
        return {}
    return {str(tensor["name"]): _one_described(tensor) for tensor in json.loads(text)["tensors"]}


def _one_described(tensor: Mapping[str, Any]) -> Described:
    whole = torch.empty(torch.Size(tensor["shape"]), device="meta")
    subjects = [Subject((), whole.shape, _law(tensor["law"]))]
    for part in tensor["parts"]:
        at = tuple(entry if isinstance(entry, int) else slice(*entry) for entry in part["index"])
        subjects.append(Subject(at, whole[at].shape, _law(part["law"])))
    parts = [str(part["name"]) for part in tensor["parts"]]
    return Described(tuple(map(str, tensor["tied"])), str(tensor["dtype"]), subjects, parts)


def _described_problems(described: Mapping[str, Described], stored: Mapping[str, Stored]) -> Iterator[str]:
    absent = [name for name in described if name not in stored]
    if absent:
        yield f"in {MANIFEST} and in no file: {_some(absent)}"
    for name, told in described.items():
        if name in stored:
            _, dtype, shape, _ = stored[name]
            if shape != told.subjects[0].shape or dtype_text(dtype) != told.dtype:
                there = f"{DTYPES[dtype]} of {list(shape)}"
                yield f"{name} is {there}, and in {MANIFEST} {told.dtype} of {list(told.subjects[0].shape)}"


def _measured(stored: Mapping[str, Stored], described: Mapping[str, Described]) -> list[CheckRow]:
    known = {}
    for name in [*(name for name in described if name in stored), *(name for name in stored if name not in described)]:
        shape, told = stored[name].shape, described.get(name)
        # Of another shape than described, it has no law that could be looked at.
        if told is None or told.subjects[0].shape != shape:
            told = Described(told.tied if told else (), "", [Subject((), shape, None)], [])
        known[name] = told
    alpha = alpha_of([subject.law for one in known.values() for subject in one.subjects])
    rows: list[CheckRow] = []
    for name, one in known.items():
        dtype = stored[name].dtype
        findings = scan(_reader(stored[name]), dtype, one.subjects, alpha)
        rows += rows_of(name, one.tied, dtype, one.subjects, one.parts, findings)
    return rows


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
