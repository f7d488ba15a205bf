"""A report's Markdown as one HTML page that needs nothing else: no script, no network, pictures within it."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 78rem; margin: 2rem auto }
h1, h2 { line-height: 1.2 }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
table { display: block; overflow-x: auto }
th, td { padding: .2rem .6rem; border-bottom: 1px solid #e5e5e5; white-space: nowrap }
th { background: #f6f6f6 }
img { max-width: 100% }
em { color: #555 }
code { background: #f4f4f4; padding: 0 .2em }
summary { cursor: pointer; font-family: monospace; padding: .2rem 0 }
"""


def html(markdown: str, title: str, pictures: Mapping[str, bytes]) -> str:
    """Return the page. pictures: the contents of the SVG files that the Markdown names."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": True}).enable("table")  # html: the folded tables of our own text

    def image(tokens: Sequence[Any], index: int, *_: Any) -> str:
        token = tokens[index]
        data = base64.b64encode(pictures[str(token.attrs["src"])]).decode()
        return f'<img alt="{escape(token.content)}" src="data:image/svg+xml;base64,{data}">'

    parser.renderer.rules["image"] = image  # type: ignore[attr-defined]
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f"<style>\n{_STYLE}</style>\n{parser.render(markdown)}</html>\n"
    )
