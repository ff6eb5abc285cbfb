"""Everything that is made of a comparison's records: tables in three forms, and the page."""

from collections.abc import Sequence
from pathlib import Path

from recbole_lightgnn.comparison.figures import pictures
from recbole_lightgnn.comparison.page import page
from recbole_lightgnn.comparison.results import Comparison
from recbole_lightgnn.comparison.table import full, latex, markdown, table
from recbole_lightgnn.utils.files import whole_file


def report(folder: Path, rows: Sequence[str] | None = None) -> str:
    """Write ``table.md``, ``table.csv``, ``table.tex`` and ``index.html`` of a comparison's folder.

    Args:
        folder: of the comparison.
        rows: as for `Comparison`.

    Returns:
        The table, as Markdown.

    Raises:
        InputError: as `Comparison`.
    """
    comparison = Comparison(folder, rows)
    content = table(comparison)
    files = {
        "table.md": markdown(content),
        "table.csv": full(comparison),
        "table.tex": latex(content),
        "index.html": page(comparison, content, pictures(comparison)),
    }
    for name, text in files.items():
        with whole_file(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")
    return files["table.md"]
