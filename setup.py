"""Builds `fastinit._C` and, where torch is a CUDA build and nvcc is found, `fastinit._C_cuda`.

Everything that is not about the extension modules stands in pyproject.toml.
"""

import os
import re
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from setuptools import Extension, setup

try:
    import torch
    from torch.utils import cpp_extension
except ModuleNotFoundError as missing:
    raise SystemExit(
        f"fastinit: cannot build, because Python found no module '{missing.name}'. The extension is compiled "
        "against the torch that it will run with: pip install torch first, then build beside it: "
        "pip install --no-build-isolation torch-fastinit (in a checkout: -e . in place of the name)."
    ) from None

ROOT = Path(__file__).resolve().parent

# The numbers are a promise: no contraction into fused multiply-adds, no fast-math, nothing of the build host
# (-march=native): the instruction set is chosen at run time. -fno-math-errno makes sqrt one instruction.
FLAGS = ["-O3", "-std=c++20", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden"]
WERROR = os.environ.get("FASTINIT_WERROR") == "1"
WARNINGS = ["-Wall", "-Wextra", *(["-Werror"] if WERROR else [])]
# The same promise of nvcc, whose default is to contract.
NVCC_FLAGS = ["-std=c++20", "-O3", "--fmad=false", "-ftz=false", "-prec-div=true", "-prec-sqrt=true"]
NVCC_WARNINGS = ["-Werror=all-warnings"] if WERROR else []
OLDEST_COMPILERS = {"Clang": 14, "GCC": 11}
# What PyPI has of nvcc, each package with the version of CUDA behind its name.
NVCC_PACKAGES = ("nvidia-cuda-nvcc", "nvidia-cuda-crt", "nvidia-nvvm", "nvidia-cuda-runtime", "nvidia-cuda-cccl")


def check_compiler() -> str:
    """Name and version of the C++ compiler, after seeing that it is one and knows C++20."""
    command = shlex.split(os.environ.get("CXX", "c++"))
    found = command and shutil.which(command[0])
    print_macros = [*command, "-dM", "-E", "-x", "c++", os.devnull]
    macros = subprocess.run(print_macros, capture_output=True, text=True).stdout if found else ""
    problem = "it is neither GCC nor Clang" if found else "there is no such C++ compiler"
    for name, macro in (("Clang", "__clang_major__"), ("GCC", "__GNUC__")):  # Clang defines both
        if version := re.search(rf"#define {macro} (\d+)", macros):
            if int(version[1]) >= OLDEST_COMPILERS[name]:
                return f"{name} {version[1]}"
            problem = f"{name} {version[1]} is too old for C++20"
            break
    raise SystemExit(
        f"fastinit: cannot build with '{shlex.join(command)}': {problem}. Install GCC 11 or Clang 14, or "
        "newer (Debian and Ubuntu: apt-get install g++), or name one in the environment variable CXX."
    )


def check_python_headers() -> None:
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.is_file():
        raise SystemExit(
            f"fastinit: cannot build, because {header} is not there: install the headers of this Python "
            "(Debian and Ubuntu: apt-get install python3-dev)."
        )


class Cuda(NamedTuple):
    """An nvcc that compiles for this torch."""

    home: Path
    version: tuple[int, ...]
    library: Path  # the runtime's

    @property
    def architectures(self) -> str:
        default = "8.0;9.0;10.0;12.0+PTX" if self.version >= (12, 8) else "8.0;9.0+PTX"
        return os.environ.get("TORCH_CUDA_ARCH_LIST") or default

    def __str__(self) -> str:
        return f"nvcc {'.'.join(map(str, self.version))} for {self.architectures}"


def find_cuda() -> Cuda | None:
    """Return what to compile the CUDA kernels with, or None where there is to be none, as FASTINIT_CUDA says."""
    wanted = os.environ.get("FASTINIT_CUDA", "auto")
    if wanted not in ("auto", "0", "1"):
        raise SystemExit(f"fastinit: cannot build, because FASTINIT_CUDA must be auto, 0 or 1, and is '{wanted}'.")
    if wanted == "0":
        return None
    if torch.version.cuda is None:
        missing = (
            f"the torch here, {torch.__version__}, is no CUDA build: install one (https://pytorch.org says how), then "
            "build beside it"
        )
    else:
        problems = []
        for nvcc in dict.fromkeys(places_of_nvcc()):
            found = try_nvcc(nvcc)
            if isinstance(found, Cuda):
                return found
            problems.append(found)
        why = "; ".join(problems) or "none in this environment, in CUDA_HOME or in PATH"
        version = ".".join(torch.version.cuda.split(".")[:2])
        missing = (
            f"there is no nvcc of CUDA {torch.version.cuda.partition('.')[0]}, for which torch is built ({why}); it is "
            f"on PyPI too: pip install {' '.join(f'{name}=={version}.*' for name in NVCC_PACKAGES)}"
        )
    if wanted == "1":
        raise SystemExit(f"fastinit: cannot build the CUDA kernels that FASTINIT_CUDA=1 asks for: {missing}.")
    print(f"fastinit: building without CUDA kernels: {missing}.", flush=True)
    return None


def places_of_nvcc() -> Iterator[Path]:
    """Yield the nvcc of this environment, where there is one, and those that the machine has."""
    packages = find_spec("nvidia")
    for folder in packages.submodule_search_locations or () if packages else ():
        own = Path(folder, f"cu{torch.version.cuda.partition('.')[0]}", "bin", "nvcc")
        if own.is_file():
            yield own
    for home in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")):
        if home:
            yield Path(home, "bin", "nvcc")
    if on_path := shutil.which("nvcc"):
        yield Path(on_path)


def try_nvcc(nvcc: Path) -> Cuda | str:
    """Return an nvcc that compiles, or what is wrong with it."""
    if not nvcc.is_file():
        return f"there is no {nvcc}"
    try:
        text = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    except OSError as error:  # no permission, or a program for another processor
        return f"{nvcc} does not run ({error.strerror})"
    release = re.search(r"\bV(\d+(?:\.\d+)+)", text)
    if not release:
        return f"{nvcc} is no nvcc"
    version = tuple(map(int, release[1].split(".")))
    major = torch.version.cuda.partition(".")[0]
    if str(version[0]) != major:
        return f"{nvcc} is of CUDA {release[1]}"
    with tempfile.TemporaryDirectory() as folder:  # what of it comes in packages of their own is in use here
        source = Path(folder, "empty.cu")
        source.write_text("__global__ void empty() {}\n")
        command = [nvcc, "-arch=sm_80", "-c", source, "-o", source.with_suffix(".o")]
        trial = subprocess.run(command, capture_output=True, text=True)
    if trial.returncode != 0:
        return f"{nvcc} cannot compile an empty kernel ({' '.join((trial.stderr or trial.stdout).split())})"
    home = nvcc.resolve().parents[1]
    beside_torch = Path(torch.__file__).parents[1] / "nvidia"
    folders = [home / "lib", home / "lib64", beside_torch / f"cu{major}" / "lib", beside_torch / "cuda_runtime" / "lib"]
    for folder in folders:  # the one of PyPI has this name alone
        if (library := folder / f"libcudart.so.{major}").is_file():
            return Cuda(home, version, library)
    return f"{nvcc} has no libcudart.so.{major} in {folders[0]} or {folders[1]}"


def default_jobs() -> int:
    """One compiler a core, but no more than fit in memory: a file that includes torch takes up to 2 GB."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(len(os.sched_getaffinity(0)), memory // 2**31))


def extension(name: str, sources: list[Path]) -> Extension:
    return cpp_extension.CppExtension(
        name,
        sorted(str(source.relative_to(ROOT)) for source in sources),
        extra_compile_args={
            "cxx": [
                *FLAGS,
                *WARNINGS,
                "-g0",  # Python's own flags ask for -g, which makes the module 50 times larger
                # at::parallel_for is a template and runs on one thread without this. Not at the link: torch
                # has its own OpenMP library, and a second one would bring a second thread pool.
                "-fopenmp",
                *(f"-isystem{path}" for path in cpp_extension.include_paths()),  # its warnings are not ours
            ],
            "nvcc": [*NVCC_FLAGS, *NVCC_WARNINGS],
        },
    )


class BuildExtension(cpp_extension.BuildExtension):
    """torch's, with checks before it, objects kept between builds, and _build_info.py beside the modules."""

    def finalize_options(self) -> None:
        super().finalize_options()
        # pip gives each build a new folder; with one for each torch, ninja compiles only what changed.
        self.build_temp = str(ROOT / "build" / f"objects-{self.plat_name}-torch-{torch.__version__}")

    def run(self) -> None:
        compiler = check_compiler()
        check_python_headers()
        os.environ.setdefault("MAX_JOBS", str(default_jobs()))
        cuda = find_cuda()
        in_source_tree = self.inplace or self.editable_mode
        package = ROOT / "fastinit" if in_source_tree else Path(self.build_lib, "fastinit")
        if cuda:
            self.use(cuda)
        else:
            self.extensions.remove(WITH_CUDA)
            for left in package.glob("_C_cuda.*.so"):  # by another environment, for another torch
                left.unlink()
        super().run()
        info = {
            "TORCH_VERSION": torch.__version__,
            "COMPILER": compiler,
            "FLAGS": " ".join(FLAGS),
            "CUDA": str(cuda) if cuda else "",
        }
        (package / "_build_info.py").write_text("".join(f'{name} = "{info[name]}"\n' for name in info))

    def use(self, cuda: Cuda) -> None:
        """Have torch compile the CUDA part with this nvcc and no other."""
        cpp_extension.CUDA_HOME = str(cuda.home)
        os.environ["TORCH_CUDA_ARCH_LIST"] = cuda.architectures  # unset, torch asks the devices, and there may be none
        WITH_CUDA.extra_compile_args["cxx"].append(f"-isystem{cuda.home / 'include'}")
        # By its path, since PyPI's lacks the name that -lcudart looks for. torch has loaded the same one before the
        # module; the run path, as that of torch's own libraries, is for who looks at the module alone.
        WITH_CUDA.libraries.append("c10_cuda")
        WITH_CUDA.extra_link_args += [str(cuda.library), f"-Wl,-rpath,$ORIGIN/../nvidia/cu{cuda.version[0]}/lib"]


# torch looks for ninja in PATH, where a virtual environment that is not activated has none.
os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])

CSRC = ROOT / "csrc"
NATIVE = [source for folder in (".", "batched", "cpu") for source in CSRC.glob(f"{folder}/*.cpp")]
WITH_CUDA = extension("fastinit._C_cuda", [*CSRC.glob("cuda/*.cpp"), *CSRC.glob("cuda/*.cu")])
setup(
    ext_modules=[extension("fastinit._C", NATIVE), WITH_CUDA],
    cmdclass={"build_ext": BuildExtension},
)
