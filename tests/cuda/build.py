"""Builds the programs of the ladder from one copy of csrc/, each object once.

An object's name is a hash of what it is made from: the command, and the source with every header. So a second
run builds nothing, and a copy of csrc/ with one seeded bug builds what the bug is in.
"""

import hashlib
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import ptx_to_cpp
from ptx_syntax import RefusedError
from toolkit import (
    BUILD,
    HERE,
    HOST_FLAGS,
    KERNEL_FLAGS,
    ROOT,
    WARNINGS_ARE_ERRORS,
    CommandError,
    host_compiler,
    run,
    toolkit,
)

__all__ = ["CommandError", "RefusedError"]

SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g1"]
KERNELS_PER_FILE = 9  # of translated code, so that there is something to compile at the same time

_workers = ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0))))
_locks: dict[Path, threading.Lock] = {}
_locks_lock = threading.Lock()


Item, Result = TypeVar("Item"), TypeVar("Result")


def in_parallel(do: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """`do` for each item, on every core; not to be used within itself."""
    return list(_workers.map(do, items))


def digest(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:24]


def made(name: str, key: str, make: Callable[[Path], None]) -> Path:
    """The file that `make` writes to the path it is given, which is kept under its key."""
    path = BUILD / "made" / f"{key}-{name}"
    with _locks_lock:
        lock = _locks.setdefault(path, threading.Lock())
    with lock:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_name(f"unfinished-{os.getpid()}-{path.name}")
            make(unfinished)
            unfinished.rename(path)
    return path


def headers_of(csrc: Path) -> str:
    """A digest of all that a kernel may include."""
    return digest(*(f"{path.name} {path.read_text()}" for path in sorted(csrc.rglob("*.h"))))


def compile_cpp(source: Path, flags: list[str]) -> Path:
    """An object, which is another one only if the preprocessed source is: a bug in device code alone is none here."""
    command = [*host_compiler(), *HOST_FLAGS, "-Wall", "-Wextra", f"-I{HERE}", f"-isystem{toolkit().include}", *flags]
    key = digest(*HOST_FLAGS, *flags, run([*command, "-E", "-P", source]))
    return made(f"{source.stem}.o", key, lambda out: run([*command, "-c", source, "-o", out]) and None)


def link(name: str, objects: list[Path], flags: list[str]) -> Path:
    key = digest(flags, *(path.name for path in objects))
    return made(name, key, lambda out: run([*host_compiler(), *flags, *objects, "-o", out]) and None)


# --- What both programs share --------------------------------------------------------------------------------------
def torch_free_sources() -> list[Path]:
    """The parts of csrc/ that need neither torch nor CUDA: the CPU kernels, to compare with."""
    everything = [*(ROOT / "csrc").glob("*.cpp"), *(ROOT / "csrc" / "cpu").glob("*.cpp")]
    return sorted(s for s in everything if not re.search(r"#include <(ATen|c10|torch)/", s.read_text()))


def host_objects(csrc: Path, flags: list[str]) -> list[Path]:
    """All but the kernels. What the kernels are compared with is this checkout's, whatever copy of csrc/ they are from.

    It is the same in both programs: tests/native runs it under sanitizers.
    """
    jobs = [(source, ["-O1"]) for source in torch_free_sources()]
    jobs += [(source, flags) for source in (HERE / "run_jobs.cpp", HERE / "emulator.cpp", csrc / "cuda" / "run.cpp")]
    return in_parallel(lambda job: compile_cpp(*job), jobs)


def kernel_sources(csrc: Path) -> list[Path]:
    sources = sorted((csrc / "cuda").glob("*.cu"))
    if not sources:
        raise RuntimeError(f"no kernels (*.cu) in {csrc / 'cuda'}")
    return sources


# --- The kernels as C++ --------------------------------------------------------------------------------------------
def shim_program(csrc: Path) -> Path:
    """run_jobs with the .cu files compiled as C++ through cuda_shim.h, under AddressSanitizer and UBSan."""
    flags = ["-O1", *SANITIZERS]
    kernel_flags = [*flags, "-Wno-unknown-pragmas", "-x", "c++"]
    objects = host_objects(csrc, flags)
    objects += in_parallel(lambda source: compile_cpp(source, kernel_flags), kernel_sources(csrc))
    objects.append(compile_cpp(HERE / "shim_memory.cpp", flags))
    return link("run_jobs_shim", objects, SANITIZERS)


def is_replaced(flag: str, others: list[str]) -> bool:
    """Whether one of the others is the same option with another value, or stands for it."""
    same = any(other.split("=")[0].lstrip("-") == flag.split("=")[0].lstrip("-") for other in others)
    return same or ("--use_fast_math" in others and flag.split("=")[0] in ("--fmad", "-ftz", "-prec-div", "-prec-sqrt"))


# --- nvcc ----------------------------------------------------------------------------------------------------------
def nvcc(source: Path, csrc: Path, name: str, flags: list[str]) -> Path:
    flags = [*(flag for flag in KERNEL_FLAGS if not is_replaced(flag, flags)), *flags]
    command = [toolkit().nvcc, f"-ccbin={shutil.which(host_compiler()[0])}", *flags]
    key = digest(*flags, source.read_text(), headers_of(csrc))
    return made(f"{source.stem}.{name}", key, lambda out: run([*command, source, "-o", out]) and None)


def ptx(source: Path, csrc: Path, architecture: int, flags: list[str]) -> Path:
    """What the compiler makes of the kernels; a warning is an error."""
    flags = [WARNINGS_ARE_ERRORS[0], "-ptx", f"-arch=compute_{architecture}", *flags]
    return nvcc(source, csrc, f"sm_{architecture}.ptx", flags)


def device_object(source: Path, csrc: Path, architecture: int, flags: list[str]) -> Path:
    """What the assembler makes of that very PTX; a warning is an error."""
    text = ptx(source, csrc, architecture, flags)
    flags = [*WARNINGS_ARE_ERRORS, "-cubin", f"-arch=sm_{architecture}", *flags]
    return nvcc(text, csrc, f"sm_{architecture}.cubin", flags)


# --- nvcc's PTX as C++ ---------------------------------------------------------------------------------------------
def translated_sources(source: Path, only: frozenset[str] | None) -> list[Path]:
    """The C++ of a PTX file, a few kernels to a file. RefusedError if there is anything that must not be.

    All kernels are translated; those not among `only`, if given, end a run that launches them.
    """
    translations = ptx_to_cpp.translate(source.read_text())
    left_out = sorted(translations.keys() - only) if only is not None else []
    kernels = [kernel for name, kernel in translations.items() if name not in left_out]
    parts = [kernels[i : i + KERNELS_PER_FILE] for i in range(0, len(kernels), KERNELS_PER_FILE)]

    def write(part: list[ptx_to_cpp.Translation]) -> Path:
        code = ptx_to_cpp.cpp_of(part)
        return made(f"{part[0].kernel.name}.cpp", digest(code), lambda out: out.write_text(code) and None)

    die = 'emulator::die("launches a kernel that was left out", 0);'
    code = '#include "emulator.h"\n' + "".join(
        f'extern "C" void {name}(const void*) {{ {die} }}\n' for name in left_out
    )
    stubs = made("left_out.cpp", digest(code), lambda out: out.write_text(code) and None)
    return [*map(write, parts), *([stubs] if left_out else [])]


def ptx_program(csrc: Path, architecture: int, flags: list[str], only: frozenset[str] | None = None) -> Path:
    """run_jobs with nvcc's PTX for the architecture. Where that says the same for two of them, so do their programs."""
    define = ["-O1", "-DFASTINIT_PTX"]
    objects = host_objects(csrc, define)
    texts = in_parallel(lambda source: ptx(source, csrc, architecture, flags), kernel_sources(csrc))
    sources = [cpp for each in in_parallel(lambda text: translated_sources(text, only), texts) for cpp in each]
    quiet = ["-O1", "-Wno-unused-label", "-Wno-unused-variable", "-Wno-unused-but-set-variable"]
    objects += in_parallel(lambda source: compile_cpp(source, quiet), sources)
    return link("run_jobs_ptx", objects, [])
