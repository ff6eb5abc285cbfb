"""Write the three tables and the page of a comparison from its records."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from recbole_lightgnn.comparison.figures import pictures
from recbole_lightgnn.comparison.forms import full_csv, latex, markdown
from recbole_lightgnn.comparison.layout import CSV, LATEX, MARKDOWN, PAGE
from recbole_lightgnn.comparison.page import page
from recbole_lightgnn.comparison.results import Comparison
from recbole_lightgnn.comparison.table import Table, table
from recbole_lightgnn.utils.files import whole_file


def report(folder: Path, rows: Sequence[str] | None = None) -> str:
    """Write ``table.md``, ``table.csv``, ``table.tex`` and ``index.html`` of a comparison.

    Args:
        folder: folder of the comparison.
        rows: keys of the records' rows to show, as for `Comparison`.

    Returns:
        The table, as Markdown.

    Raises:
        InputError: as `Comparison`.
    """
    comparison = Comparison(folder, rows)
    content = table(comparison)
    files = _tables(comparison, content)
    files[PAGE] = page(comparison, content, pictures(comparison))
    _write(folder, files)
    return files[MARKDOWN]


def report_tables(folder: Path, rows: Sequence[str] | None = None) -> str:
    """Write the three tables as `report` does, but not the page, which takes longer to make."""
    comparison = Comparison(folder, rows)
    files = _tables(comparison, table(comparison))
    _write(folder, files)
    return files[MARKDOWN]


def _tables(comparison: Comparison, content: Table) -> dict[str, str]:
    return {
        MARKDOWN: markdown(content),
        CSV: full_csv(comparison),
        LATEX: latex(content),
    }


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        with whole_file(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")
