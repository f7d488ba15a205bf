"""Safetensors files in Hugging Face's layout, each under its final name only when it is whole and on the disk.

Which tensor goes into which file, the header of each, and a folder that one process at a time writes. Nothing here
knows of models, recipes or what the tensors hold.
"""

import errno
import fcntl
import json
import math
import os
import re
import secrets
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import torch

SINGLE = "model.safetensors"  # where there is one file, and no index
INDEX = "model.safetensors.index.json"
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
    torch.float8_e8m0fnu: "F8_E8M0",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_UNITS = {f"{letter}{unit}": base**power for power, letter in enumerate("KMGT", 1)
          for unit, base in (("B", 1000), ("IB", 1024))}  # fmt: skip
_LOCK = ".fastinit.lock"
_PARTIAL = ".fastinit-partial"  # how temporary names end


class TensorSpec(NamedTuple):
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Shard(NamedTuple):
    file: str
    tensors: tuple[TensorSpec, ...]  # as their bytes follow each other
    header: bytes

    @property
    def nbytes(self) -> int:
        return len(self.header) + sum(tensor.nbytes for tensor in self.tensors)


def parse_size(size: int | str) -> int:
    """Return bytes: a number, or one with a unit, "5GB" = 5e9 as Hugging Face reads it and "5GiB" = 5 * 2**30."""
    parts = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([KMGT]i?B)\s*", size, re.IGNORECASE) if type(size) is str else None
    number = int(float(parts[1]) * _UNITS[parts[2].upper()]) if parts else size
    if type(number) is not int or number < 1:
        raise ValueError(
            'max_shard_size must be a number of bytes of at least 1, or a string such as "5GB", "500MB" or "2GiB", '
            f"got {size!r}"
        )
    return number


def layout(tensors: Iterable[TensorSpec], max_size: int) -> list[Shard]:
    """Spread tensors over files of at most `max_size` bytes of data, in order; a larger tensor has one of its own."""
    whole: list[list[TensorSpec]] = []
    last: list[TensorSpec] = []
    room = max_size
    for tensor in tensors:
        if tensor.name == "__metadata__":
            raise ValueError("a tensor cannot be named '__metadata__': safetensors files have something else there")
        if tensor.dtype not in DTYPES:
            raise ValueError(f"tensor {tensor.name!r} is {tensor.dtype}, which safetensors files do not hold")
        if tensor.nbytes > max_size:
            whole.append([tensor])
            continue
        if tensor.nbytes > room:
            whole.append(last)
            last, room = [], max_size
        last.append(tensor)
        room -= tensor.nbytes
    files = [*whole, last] if last or not whole else whole
    return [_shard(f"model{_number(index, len(files))}.safetensors", held) for index, held in enumerate(files, 1)]


def _number(index: int, files: int) -> str:
    return f"-{index:05d}-of-{files:05d}" if files > 1 else ""


def _shard(file: str, tensors: list[TensorSpec]) -> Shard:
    # Wide types first, as safetensors itself does it: readers view the data in place, and each element must start at a
    # multiple of its size.
    ordered = sorted(tensors, key=lambda tensor: -tensor.dtype.itemsize)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in ordered:
        begin, end = end, end + tensor.nbytes
        described = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
        header[tensor.name] = described
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return Shard(file, tuple(ordered), len(text).to_bytes(8, "little") + text)


def index_of(shards: Sequence[Shard]) -> bytes:
    """Return the index that readers find each tensor's file by."""
    index = {
        "metadata": {"total_size": sum(tensor.nbytes for shard in shards for tensor in shard.tensors)},
        "weight_map": {tensor.name: shard.file for shard in shards for tensor in shard.tensors},
    }
    return json.dumps(index, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


class Folder:
    """The folder of a checkpoint, made by `open_folder`; what is read and published here is whole or not there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str) -> bytes | None:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def holds(self, shard: Shard) -> bool:
        """Say whether the shard is finished: its name, its header and its length are there."""
        try:
            with open(self.path / shard.file, "rb") as file:
                same = file.read(len(shard.header)) == shard.header
                if same and os.fstat(file.fileno()).st_size == shard.nbytes:
                    return True
        except FileNotFoundError:
            return False
        raise ValueError(f"out: {self.path / shard.file} is no file of this checkpoint: move it away or delete it")

    def free(self) -> int:
        about = os.statvfs(self.path)
        return about.f_bavail * about.f_frsize

    @contextmanager
    def publish(self, name: str) -> Iterator[FileIO]:
        """Give a new file, which gets its name when the block ends without an exception."""
        partial = self.path / f".{name}.{secrets.token_hex(4)}{_PARTIAL}"
        try:
            with FileIO(partial, "x") as file:
                yield file
                os.fsync(file)
            os.replace(partial, self.path / name)
            sync(self.path)
        except BaseException as error:
            partial.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise OSError(
                    error.errno,
                    f"out: {error.strerror}, at {self.path / name}. What is finished stays, and the same call goes on",
                ) from error
            raise

    def publish_text(self, name: str, text: bytes) -> None:
        """Publish a small file, or leave it as it is where it is there with this content."""
        if self.read(name) != text:
            with self.publish(name) as file:
                write(file, memoryview(text))


def write(file: FileIO, data: memoryview) -> int:
    """Append all of the data, and return its length."""
    length = len(data)
    while data:
        begin = file.tell()
        written = file.write(data)
        # Starts to bring it to the disk now: otherwise the disk waits until a tenth of memory is dirty, and then the
        # fsync of the whole shard waits for the disk.
        with suppress(OSError):
            os.posix_fadvise(file.fileno(), begin, written, os.POSIX_FADV_DONTNEED)
        data = data[written:]
    return length


def sync(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # what some network filesystems say of folders
            raise
    finally:
        os.close(descriptor)


@contextmanager
def open_folder(path: Path) -> Iterator[Folder]:
    """Make the folder where it is not there, keep other processes out, and clear away what killed ones left."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with suppress(PermissionError):  # a folder above, which need not be ours to read
            sync(path.absolute().parent)
        lock = _locked(path)
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(errno.ENOTDIR, f"out must be a folder, and a file is in its place: {path}") from error
    except BlockingIOError as error:
        raise BlockingIOError(
            errno.EWOULDBLOCK,
            f"out: another process is writing a checkpoint in {path}; ranks that are to write one together need "
            "process_group",
        ) from error
    except OSError as error:
        raise OSError(error.errno, f"out: cannot write in {path}: {error.strerror}") from error
    try:
        for entry in os.scandir(path):
            if entry.name.endswith(_PARTIAL):
                os.unlink(entry.path)
        yield Folder(path)
    finally:
        (path / _LOCK).unlink(missing_ok=True)
        os.close(lock)


def _locked(path: Path) -> int:
    """Return the descriptor of the lock; a file, since network filesystems lock no folders between machines."""
    while True:
        descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise
        except OSError as error:  # a filesystem without locks; every file appears whole all the same
            warnings.warn(f"out: no lock on {path}, so do not write it twice at once: {error}", stacklevel=6)
            return descriptor
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path / _LOCK)):
                return descriptor
        os.close(descriptor)  # its last holder has deleted it meanwhile
