"""The command ``recbole-lightgnn report``.

The command line calls `add_parser` and `run`; nothing heavy is imported before the latter.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_lightgnn.errors import InputError


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add ``report`` to the command line's subparsers; returns its parser."""
    report = commands.add_parser(
        "report",
        help="records of one split, several seeds, as a table and pictures; or the folder of a "
        "comparison, whose tables and page are made anew",
    )
    report.add_argument("records", nargs="+", type=Path, metavar="RECORD.json|DIR")
    report.add_argument("--rows", default="", metavar="KEY,KEY", help="show these (default: all)")
    report.add_argument("--json", type=Path, metavar="FILE", help="write all records into one")
    report.add_argument("--plot", type=Path, metavar="FILE.png", help="accuracy against size")
    report.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="of a comparison: copy there what lasts, its records, tables and page, and no "
        "checkpoints; `compare --out DIR` goes on with it",
    )
    return report


def run(options: argparse.Namespace) -> int:
    """Write, and print the table.

    Args:
        options: what `add_parser`'s parser read.

    Returns:
        The exit status.

    Raises:
        InputError: if a record or folder cannot be read, or a file not be written.
    """
    first, *others = options.records
    if first.is_dir() and not (others or options.json or options.plot):
        rows = options.rows.split(",") if options.rows else None
        if options.keep:
            from recbole_lightgnn.comparison.archive import keep
            from recbole_lightgnn.comparison.results import Comparison

            keep(Comparison(first, rows), options.keep)
            first = options.keep
        print(of_comparison(first, rows))
        return 0
    if options.keep:
        raise InputError("--keep is for the folder of one comparison: give that alone")
    from recbole_lightgnn.comparison import seeds_report as accuracy

    return accuracy.run(options)


def of_comparison(folder: Path, rows: Sequence[str] | None = None) -> str:
    """As `recbole_lightgnn.comparison.report.report`, which is loaded only now."""
    from recbole_lightgnn.comparison.report import report

    return report(folder, rows)
