"""Sphinx's settings for the documentation site; `make docs` builds it."""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE / "_ext"), str(_HERE.parent)]

from recbole_lightgnn import __version__  # noqa: E402

project = "recbole-lightgnn"
author = "the recbole-lightgnn authors"
copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "mathml",  # docs/_ext: equations without a script from the network
    "generated",  # docs/_ext: tables, pictures and pages made from code and results
]
exclude_patterns = ["_build", "_generated", "_ext", "**/README.md"]
source_suffix = {".md": "markdown"}
smartquotes = False  # a flag such as --key stays as it is

# --- pages --------------------------------------------------------------------------------------

myst_enable_extensions = [
    "dollarmath",
    "amsmath",
    "attrs_block",
    "attrs_inline",
    "colon_fence",
    "deflist",
]
myst_heading_anchors = 3
myst_links_external_new_tab = True
# Prompts are not copied with a command.
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"

# --- the Python API -----------------------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
# `name` in a docstring is a link where there is something of this name, and plain text elsewhere.
default_role = "py:obj"
python_use_unqualified_type_names = True
viewcode_line_numbers = True

# --- look ---------------------------------------------------------------------------------------

html_theme = "furo"
html_title = f"recbole-lightgnn {release}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_show_copyright = False
