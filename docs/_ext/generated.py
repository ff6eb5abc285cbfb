"""Pages, tables and pictures that are made from the code and from ``results/`` at build time.

They are written to ``docs/_generated`` and ``docs/reference/python-api``, which git ignores. A file
is written only if its content changed, so that a second build is fast.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import reference_pages
import result_pages
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)
_CHECKOUT = Path(__file__).resolve().parents[2]


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the generated files before Sphinx looks for its sources."""
    app.connect("builder-inited", _write_all)
    app.connect("missing-reference", _report_missing)
    app.connect("autodoc-process-docstring", _before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", _after_napoleon, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _write_all(app: Sphinx) -> None:
    docs = Path(app.srcdir)
    written = set()
    for path, content in _files():
        file = docs / path
        file.parent.mkdir(parents=True, exist_ok=True)
        written.add(file)
        if not file.is_file() or file.read_bytes() != content:
            file.write_bytes(content)
    for folder in ("_generated", "reference/python-api"):
        for file in (docs / folder).iterdir():
            if file not in written and file.name != "index.md":
                file.unlink()


def _files() -> Iterator[tuple[str, bytes]]:
    """Path below ``docs`` and content of every generated file."""
    for name, text in reference_pages.fragments():
        yield f"_generated/{name}", text.encode()
    for name in ("CHANGELOG.md", "CONTRIBUTING.md"):
        yield f"_generated/{name.lower()}", _page_of_the_top(name).encode()
    for name, text in reference_pages.api_pages():
        yield f"reference/python-api/{name}", text.encode()
    for name, content in result_pages.fragments(_CHECKOUT / "results"):
        yield f"_generated/{name}", content


def _page_of_the_top(name: str) -> str:
    """A page at the top of the checkout, with its links as the site needs them."""
    text = (_CHECKOUT / name).read_text(encoding="utf-8")
    text = text.replace("](docs/", "](").replace("](CHANGELOG.md)", "](changelog.md)")
    return text.replace("](README.md)", "](index.md)")


def _report_missing(app: Sphinx, env: Any, node: pending_xref, content: nodes.TextElement) -> None:
    """A name of the package that a page refers to and that does not exist is a warning.

    In docstrings, `name` may also be something that has no page.
    """
    target = str(node.get("reftarget"))
    page = str(node.get("refdoc", ""))
    in_docstring = page.startswith("reference/python-api/")
    if node.get("refdomain") == "py" and not in_docstring and "recbole_lightgnn" in target:
        logger.warning("nothing in the Python API is named %s", target, location=node)


_properties: dict[str, list[str]] = {}


def _before_napoleon(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    if what == "property":
        _properties[name] = list(lines)


def _after_napoleon(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Undo that napoleon reads the first line of a property as ``type: description``."""
    if what == "property" and any(line.startswith(":type:") for line in lines):
        lines[:] = _properties[name]
