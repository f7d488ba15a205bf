"""The syntax of PTX, as far as ptx_to_cpp.py reads it: kernels, their parameters, statements, variables.

What is meant is the PTX ISA, chapters "Syntax" and "State Spaces, Types, and Variables". What is not understood is an
error that names the line.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator

from ptx_instructions import WIDTHS


class RefusedError(Exception):
    """PTX that must not be, or that this translator does not know."""


@dataclasses.dataclass
class Kernel:
    name: str
    line: int  # where the body starts
    parameters: list[tuple[str, int, int]]  # name, offset, bytes
    max_threads: int
    body: str

    @property
    def parameter_bytes(self) -> int:
        return max((offset + size for _, offset, size in self.parameters), default=0)


@dataclasses.dataclass
class Statement:
    text: str
    line: int


def without_comments(text: str) -> str:
    """Comments become blanks; lines keep their numbers."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)


def closing_brace(text: str, opening: int) -> int:
    depth = 0
    for i in range(opening, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return i
    raise RefusedError(f"line {line_of(text, opening)}: a brace that nothing closes")


def line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def bytes_of(kind: str) -> int:
    return WIDTHS[kind] // 8


_PARAMETER = re.compile(
    r"\.param\s+(?:\.align\s+(?P<align>\d+)\s+)?\.(?P<type>\w+)\s+"
    r"(?:\.ptr\s+(?:\.\w+\s+)?(?:\.align\s+\d+\s+)?)?(?P<name>[\w$]+)(?:\[(?P<count>\d+)\])?"
)
_VARIABLE = re.compile(
    r"\.shared\s+(?:\.align\s+(?P<align>\d+)\s+)?\.(?P<type>\w+)\s+(?P<name>[\w$]+)(?:\[(?P<count>\d+)\])?"
)


def kernels_of(text: str) -> tuple[list[Kernel], list[Statement]]:
    """The kernels of a PTX file without comments, and its statements outside of them."""
    found, outside, position = [], [], 0
    entry = re.compile(r"(?:\.(?:visible|weak|extern)\s+)?\.entry\s+([\w$]+)\s*(\(([^)]*)\))?\s*([^{;]*)\{")
    for match in entry.finditer(text):
        outside.append((position, match.start()))
        end = closing_brace(text, match.end() - 1)
        parameters, offset = [], 0
        for p in _PARAMETER.finditer(match[3] or ""):
            size = bytes_of(p["type"])
            align = int(p["align"] or size)
            offset = (offset + align - 1) // align * align
            parameters.append((p["name"], offset, size * int(p["count"] or 1)))
            offset += parameters[-1][2]
        threads = re.search(r"\.maxntid\s+([\d,\s]+)", match[4])
        limit = 1
        for size in re.findall(r"\d+", threads[1]) if threads else ["0"]:
            limit *= int(size)
        found.append(Kernel(match[1], line_of(text, match.end()), parameters, limit, text[match.end() : end]))
        position = end + 1
    outside.append((position, len(text)))
    statements = []
    for begin, end in outside:
        statements += [Statement(s, line_of(text, begin) + line - 1) for s, line in statements_of(text[begin:end])]
    return found, statements


def statements_of(text: str) -> Iterator[tuple[str, int]]:
    """Statements, labels (with their colon) and braces, each with its line. Some directives end with their line."""
    position = 0
    token = re.compile(
        r"\s*(?:(?P<brace>[{}])|(?P<label>[\w$]+:)(?!:)|(?P<line>\.(?:version|target|address_size|loc|file|section)\b[^\n;]*)"
        r"|(?P<statement>[^;{}]*(?:\{[^{};]*\}[^;{}]*)*;))"
    )
    while match := token.match(text, position):
        kind = match.lastgroup
        start = match.start(kind)
        yield " ".join(match[kind].rstrip(";").split()) if kind != "brace" else match[kind], line_of(text, start)
        position = match.end()
    if rest := text[position:].strip():
        raise RefusedError(f"line {line_of(text, position)}: not a statement: {rest.splitlines()[0]}")


def add_shared(shared: dict[str, tuple[int, int]], text: str, refuse: Callable[[str], RefusedError]) -> None:
    match = _VARIABLE.fullmatch(text)
    if match is None:
        raise refuse(f"shared memory: {text}")
    size = bytes_of(match["type"])
    align = int(match["align"] or size)
    end = max((address + held for address, held in shared.values()), default=0)
    shared[match["name"]] = ((end + align - 1) // align * align, size * int(match["count"] or 1))
