"""Builds `fastinit._C`. Everything that is not about the extension module stands in pyproject.toml."""

import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

from setuptools import setup

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
WARNINGS = ["-Wall", "-Wextra", *(["-Werror"] if os.environ.get("FASTINIT_WERROR") == "1" else [])]
OLDEST_COMPILERS = {"Clang": 14, "GCC": 11}


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


def default_jobs() -> int:
    """One compiler a core, but no more than fit in memory: a file that includes torch takes up to 2 GB."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(len(os.sched_getaffinity(0)), memory // 2**31))


class BuildExtension(cpp_extension.BuildExtension):
    """torch's, with checks before it, objects kept between builds, and _build_info.py beside the module."""

    def finalize_options(self) -> None:
        super().finalize_options()
        # pip gives each build a new folder; with one for each torch, ninja compiles only what changed.
        self.build_temp = str(ROOT / "build" / f"objects-{self.plat_name}-torch-{torch.__version__}")

    def run(self) -> None:
        compiler = check_compiler()
        check_python_headers()
        os.environ.setdefault("MAX_JOBS", str(default_jobs()))
        super().run()
        in_source_tree = self.inplace or self.editable_mode
        package = ROOT / "fastinit" if in_source_tree else Path(self.build_lib, "fastinit")
        info = {"TORCH_VERSION": torch.__version__, "COMPILER": compiler, "FLAGS": " ".join(FLAGS)}
        (package / "_build_info.py").write_text("".join(f'{name} = "{info[name]}"\n' for name in info))


# torch looks for ninja in PATH, where a virtual environment that is not activated has none.
os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])

sources = (path.relative_to(ROOT) for path in (ROOT / "csrc").rglob("*.cpp"))
setup(
    ext_modules=[
        cpp_extension.CppExtension(
            "fastinit._C",
            sorted(str(source) for source in sources if "cuda" not in source.parts),
            extra_compile_args=[
                *FLAGS,
                *WARNINGS,
                "-g0",  # Python's own flags ask for -g, which makes the module 50 times larger
                # at::parallel_for is a template and runs on one thread without this. Not at the link: torch
                # has its own OpenMP library, and a second one would bring a second thread pool.
                "-fopenmp",
                *(f"-isystem{path}" for path in cpp_extension.include_paths()),  # its warnings are not ours
            ],
        )
    ],
    cmdclass={"build_ext": BuildExtension},
)
