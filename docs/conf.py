"""The site of `make docs`: Sphinx, Markdown by MyST, the API reference from docstrings. Nothing is fetched."""

import re

from sphinx.application import Sphinx

from fastinit import __version__

project = "fastinit"
author = "the authors of fastinit"
copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["**/_*"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3  # `page.md#a-heading`, as code-hosting sites have it

default_role = "code"  # `this` in a docstring, as in Markdown
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
# What has no page here: other projects' names, whose inventories would have to be fetched, and what a module of
# fastinit does not export.
nitpick_ignore_regex = [
    ("py:.*", r"(torch|nn|numpy|collections|contextlib|pathlib|os|typing)(\..*)?"),
    ("py:.*", r"ProcessGroup|_GeneratorContextManager|fastinit(\.\w+){2,}"),
]

html_theme = "furo"
html_title = f"fastinit {release}"
html_copy_source = False
html_theme_options = {"footer_icons": []}


def setup(app: Sphinx) -> None:
    app.connect("source-read", _pages_beside_the_site)


def _pages_beside_the_site(app: Sphinx, page: str, source: list[str]) -> None:
    """Have MyST link to the file where a Markdown file lies outside this folder, and is no page of the site."""
    source[0] = re.sub(r"\]\((\.\./[^)#]+\.md)(#[^)]*)?\)", r"](path:\1)", source[0])
