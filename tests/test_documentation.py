"""The documentation is true: all of its code runs, and what it links to is there.

How a page's code runs is said in markdown_pages.py; here are the pages, and what must make one fail. Code about meshes
runs as torchrun would run it on one process.
"""

import doctest
import importlib
import json
import pkgutil
import re
import socket
from pathlib import Path

import markdown_pages
import pytest
import torch
from markdown_it import MarkdownIt
from markdown_pages import ROOT, blocks, commands, matches, run_page

import fastinit

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
LINKED_FROM = [*PAGES, ROOT / "CHANGELOG.md", *(ROOT / folder / "README.md" for folder in ("csrc", "benchmarks"))]
# A configuration that a reader has: that of a Llama, but small.
CONFIG = {
    "vocab_size": 128, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1,
}  # fmt: skip


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's working directory, and one process of gloo's for whoever makes a mesh."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_code_runs(page: Path, reader: Path) -> None:
    try:
        run_page(page, reader)
    finally:
        fastinit.set_default_stream("torch")
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def test_the_examples_of_docstrings_run(reader: Path) -> None:
    """Which the pages about the programming interface show."""
    attempted = 0
    for module in pkgutil.walk_packages(fastinit.__path__, "fastinit."):
        if module.name.split(".")[-1] not in ("__main__", "_C", "_C_cuda"):
            result = doctest.testmod(importlib.import_module(module.name))
            assert result.failed == 0, module.name
            attempted += result.attempted
    assert attempted > 0


GOOD = """
# A page

```python
x = 3  # no block knows another page's names
```

- in a list, and with what was printed:

  ```python
  print(f"{x} in {0.25} s")
  ```

  ```output
  3 in ... s
  ```

```sh
python -c "print(1)" \\
  && true   # a comment
make demo
```

```toml
[[rules]]
init = "zeros_"
```

```text
a → b
```
"""


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("x = 3", "x = 1 / 0", "division by zero"),
        ("x = 3", "x = (", "was never closed"),
        ("x = 3", "y = 3", "'x' is not defined"),
        ("x = 3", "x = 4", "printed was"),
        ('print(f"', 'str(f"', "printed nothing"),
        ("3 in ... s", "3 in", "printed was"),
        ('"print(1)"', '"raise SystemExit(3)"', "ended with 3"),
        ("make demo", "make no-such-target", "No rule to make target"),
        ("make demo", "pip install .[no-such-extra]", "no-such-extra"),
        ("make demo", "pip install no-such-package", "no-such-package"),
        ("make demo", "python -m fastinit bench --no-such-option", "SystemExit"),
        ("make demo", "python benchmarks/bench_many.py --no-such-option", "not among its options"),
        ("make demo", "python -m fastinit no-such-command", "ended with 2"),
        ("make demo", "torchrun no_such_file.py", "no_such_file.py"),
        ("zeros_", "no_such_function_", "no_such_function_"),
        ("```toml", "```jsonnet", "the language 'jsonnet'"),
        ("```toml", "```", "the language ''"),
        ("```text\na → b\n```", "    a → b", "the language ''"),
        ("```text", "```{literalinclude}", "{literalinclude}"),
    ],
)
@pytest.mark.one_torch
def test_a_page_that_is_wrong_fails(right: str, wrong: str, said: str, reader: Path) -> None:
    page = reader / "page.md"
    page.write_text(GOOD)
    run_page(page, reader)
    assert GOOD.count(right) == 1
    page.write_text(GOOD.replace(right, wrong, 1))
    with pytest.raises((Exception, SystemExit)) as caught:
        run_page(page, reader)
    assert said in f"{caught.typename} {caught.value}"


@pytest.mark.one_torch
def test_a_traceback_shows_the_line_of_the_page(reader: Path) -> None:
    page = reader / "page.md"
    page.write_text("# A page\n\n```python\nx = 1\nraise ValueError(x)\n```\n")
    with pytest.raises(ValueError, match="1") as caught:
        run_page(page, reader)
    assert (caught.traceback[-1].path, caught.traceback[-1].lineno + 1) == (page, 5)


@pytest.mark.one_torch
def test_output_is_compared_whole() -> None:
    assert matches("a\nb  \n\n", "a\nb\n")
    assert matches("a 3.5 s\nb\nc\n", "a ... s\n...\nc")
    assert not matches("a\nb\n", "a\n")
    assert not matches("a\n", "a\nb\n")
    assert not matches("axb\n", "a.b\n")


@pytest.mark.one_torch
def test_what_is_not_run_is_there_for_a_page() -> None:
    """An exception that no page needs any more would wait for something it was not meant for."""
    shown = [
        command
        for page in PAGES
        for block in blocks(page.read_text(encoding="utf-8"))
        if block.language == "sh"
        for command in commands(block.text)
    ]
    for pattern in markdown_pages.NOT_RUN:
        assert any(re.match(pattern, command) for command in shown), pattern


def anchors(page: Path) -> set[str]:
    """The names by which code-hosting sites, and MyST, link to a page's headings."""
    tokens = MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8"))
    titles = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", LINKED_FROM, ids=named)
@pytest.mark.one_torch
def test_links_lead_somewhere(page: Path) -> None:
    """Sphinx sees to those within docs/, and takes any file that is there; README is not its."""
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    inline = [child for token in tokens for child in token.children or []]
    given = [
        child.attrs.get("href") or child.attrs.get("src") for child in inline if child.type in ("link_open", "image")
    ]
    for link in map(str, given):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
