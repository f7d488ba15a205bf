"""Runs the code of a Markdown page as its reader would: every block, in order.

Blocks are found by markdown-it, on which the site's own parser stands: what is shown as code there is code here. What
is done with a block follows from its language, and one with another language, or none, is an error:

- `python` runs, all blocks of a page in one namespace and in an empty folder;
- `sh` runs there command by command, but for those that NOT_RUN lists, with what is checked of them;
- `toml` is read as a recipe;
- `output` is what the block before printed, where `...` stands for anything;
- `text` is no code. Nor are Sphinx's directives, of which few are let through: they could hide code.
"""

import ast
import contextlib
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from libraries import library
from markdown_it import MarkdownIt

import fastinit
from fastinit import __main__ as command_line

ROOT = Path(__file__).parents[1]
DIRECTIVES = re.compile(r"\{(toctree|eval-rst|currentmodule|auto\w+)\}")


class Block(NamedTuple):
    language: str
    text: str
    line: int  # of the page, that of the fence
    argument: str = ""  # of a directive


def blocks(page: str) -> list[Block]:
    tokens = MarkdownIt("commonmark").parse(page)
    return [
        Block(language, token.content, (token.map or [0])[0] + 1, argument.strip())
        for token in tokens
        if token.type in ("fence", "code_block")  # the latter is indented, and has no language
        for language, _, argument in [token.info.partition(" ")]
    ]


def run_page(path: Path, folder: Path) -> None:
    """Raise what is wrong with a page, whose code runs in `folder`, the working directory."""
    namespace: dict[str, Any] = {"__name__": path.name}
    printed = ""
    for block in blocks(path.read_text(encoding="utf-8")):
        where = f"{path.name}:{block.line}"
        if block.language == "python":
            printed = _python(block, path, namespace)
        elif block.language == "sh":
            printed = "".join(run_command(command, folder) for command in commands(block.text))
        elif block.language == "{include}":
            included = (path.parent / block.argument).read_text(encoding="utf-8")
            assert not blocks(included), f"{where}: {block.argument} has code, which would not run"
        elif block.language == "toml":
            fastinit.Recipe.from_dict(tomllib.loads(block.text))
        elif block.language == "output":
            assert printed, f"{where}: the block before printed nothing"
            assert matches(printed, block.text), f"{where}: printed was\n{printed}"
        else:
            known = block.language == "text" or DIRECTIVES.fullmatch(block.language)
            assert known, f"{where}: nothing is known about the language {block.language!r}"


def _python(block: Block, path: Path, namespace: dict[str, Any]) -> str:
    tree = ast.parse(block.text)
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names:
            library(name)  # skips the test where it is not installed
    ast.increment_lineno(tree, block.line)  # tracebacks show the line of the page
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(tree, path, "exec", dont_inherit=True), namespace)
    return out.getvalue()


def matches(printed: str, shown: str) -> bool:
    lines = [re.escape(line.rstrip()).replace(r"\.\.\.", ".*") for line in shown.splitlines()]
    found = "\n".join(line.rstrip() for line in printed.splitlines())
    return re.fullmatch("\n".join(lines), found.rstrip(), re.DOTALL) is not None


def commands(text: str) -> list[str]:
    lines = text.replace("\\\n", " ").splitlines()
    return [line for line in lines if shlex.split(line, comments=True)]


def run_command(command: str, folder: Path) -> str:
    """Return what a command prints; one of NOT_RUN is checked instead."""
    words = shlex.split(command, comments=True)
    for pattern, (_, check) in NOT_RUN.items():
        if re.match(pattern, " ".join(words)):
            check(words)
            return ""
    if words[:3] == ["python", "-m", "fastinit"]:
        return _in_this_process(words[3:])
    here = ROOT if words[0] == "pytest" else folder
    return _finished(["bash", "-c", command], here)


def _in_this_process(arguments: list[str]) -> str:
    """Return what `python -m fastinit` prints, without the seconds that a process takes to import torch."""
    status = None
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            command_line.main(arguments)
        except SystemExit as end:
            status = end.code
    assert not status, f"{shlex.join(arguments)} ended with {status}:\n{out.getvalue()}"
    return out.getvalue()


def _finished(command: list[str], here: Path) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    python_path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PATH": path, "PYTHONPATH": python_path}
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def _make(words: list[str]) -> None:
    _finished([words[0], "-n", *words[1:]], ROOT)


def _pip(words: list[str]) -> None:
    """All that is installed is this project, with extras that it has, or pinned in requirements/, or torch."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pinned = "\n".join(path.read_text() for path in (ROOT / "requirements").glob("*.txt"))
    for what in words[2:]:
        name, version, chosen = re.fullmatch(r"([\w.-]+)(==[\d.*]+)?(?:\[([\w,-]+)\])?", what).groups()
        if name == ".":
            assert set((chosen or "").split(",")) <= {"", *extras}, what
        elif not what.startswith("-"):
            wanted = re.escape(f"{name}{version or '=='}").replace(r"\*", "")
            assert name == "torch" or re.search(f"^{wanted}", pinned, re.MULTILINE), what


def _arguments(words: list[str]) -> None:
    """The command line of `python -m fastinit` takes these arguments."""
    command_line._parser().parse_args(words[3:])


def _help(words: list[str]) -> None:
    """The script has these options."""
    script = ROOT / words[1]
    path = [str(script.parent), *sys.path]  # as Python has it for a script
    as_a_script = patch.multiple(sys, argv=[str(script), "--help"], path=path)
    with as_a_script, contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        runpy.run_path(str(script), run_name="__main__")
    options = [word.partition("=")[0] for word in words[2:] if word.startswith("-")]
    said = out.getvalue()
    assert "usage:" in said and all(one in said for one in options), f"{shlex.join(words)}: not among its options"


def _script(words: list[str]) -> None:
    _finished(["bash", "-n", words[0]], ROOT)


def _tested_apart(words: list[str]) -> None:
    tests = (ROOT / "tests" / "test_sharded_example.py").read_text()
    assert (ROOT / words[-1]).is_file() and Path(words[-1]).name in tests, f"{words[-1]} has no test"


# What is not run, by its beginning: why, and what is checked instead.
NOT_RUN: dict[str, tuple[str, Callable[[list[str]], None]]] = {
    r"(\w+=\S+ )*make\b": ("installs an environment, builds, runs all tests or takes minutes", _make),
    r"pip install\b": ("downloads, and changes the environment", _pip),
    r"python -m fastinit bench\b": ("takes gigabytes and a minute; tests/test_bench_cli.py runs it", _arguments),
    r"python benchmarks/": ("takes minutes", _help),
    r"torchrun\b": ("four processes and a minute; tests/test_sharded_example.py runs it", _tested_apart),
    r"tests/compute_sanitizer\.sh\b": ("needs a GPU and NVIDIA's tools", _script),
}
