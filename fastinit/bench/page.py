"""A report's Markdown as one HTML page that needs nothing else: no script, no network, pictures within it."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff }
main { max-width: 78rem; margin: 2rem auto; padding: 0 1rem }
h1, h2 { line-height: 1.2 }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
.wide { overflow-x: auto }
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

    rules: dict[str, Any] = parser.renderer.rules  # type: ignore[attr-defined]
    rules["image"] = image
    # Tables scroll in boxes that the keyboard reaches too; the tables themselves stay tables for a screen reader.
    rules["table_open"] = lambda *_: '<div class="wide" tabindex="0">\n<table>\n'
    rules["table_close"] = lambda *_: "</table>\n</div>\n"
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<style>\n{_STYLE}</style>\n<main>\n{parser.render(markdown)}</main>\n</html>\n"
    )
