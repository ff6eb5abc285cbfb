"""Equations as MathML, which browsers draw without a script and without the network.

Where latex2mathml is not installed, Sphinx's MathJax extension is used instead; its pages load a
script from the network.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)
_NORMS = {r"\Vert": "‖", r"\|": "‖", r"\lVert": "‖", r"\rVert": "‖"}
_BOLD_A, _BOLD_a = 0x1D400, 0x1D41A  # bold letters of Unicode


def setup(app: Sphinx) -> dict[str, bool]:
    """Draw equations with MathML, or with MathJax where latex2mathml is missing."""
    if find_spec("latex2mathml") is None:
        logger.info("latex2mathml is not installed: equations need MathJax from the network")
        app.setup_extension("sphinx.ext.mathjax")
    else:
        app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
        app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def mathml(latex: str, display: str, where: nodes.Node | None = None) -> str:
    """An equation as MathML; a command that is not understood is a warning."""
    from latex2mathml.converter import convert

    text = convert(" ".join(latex.split()), display=display)
    for command, sign in _NORMS.items():
        text = text.replace(f">{command}<", f">{sign}<")
    text = re.sub(r'<mi mathvariant="bold">([A-Za-z])</mi>', _bold, text)
    if left := re.findall(r">\s*(\\[^<]*)<", text):
        logger.warning("no MathML for %s in %s", ", ".join(left), latex, location=where)
    return text


def _bold(match: re.Match[str]) -> str:
    letter = match[1]
    start = _BOLD_A - ord("A") if letter.isupper() else _BOLD_a - ord("a")
    return f"<mi>{chr(start + ord(letter))}</mi>"


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(mathml(node.astext(), "inline", node))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    number = ""
    if node.get("number"):
        number = f'<span class="eqno">({node["number"]})</span>'
    writer.body.append(
        writer.starttag(node, "div", CLASS="math") + number + mathml(node.astext(), "block", node)
    )
    writer.body.append("</div>\n")
    raise nodes.SkipNode
