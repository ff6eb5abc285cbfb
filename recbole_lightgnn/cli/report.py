"""The command ``recbole-lightgnn report``.

Heavy libraries are imported only in `run`.
"""

import argparse
from pathlib import Path
from typing import Any

from recbole_lightgnn.errors import InputError


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add ``report`` to the command line's subparsers; returns its parser in a list."""
    parser = commands.add_parser(
        "report",
        help="records of one split, several seeds, as a table and pictures; or the folder of a "
        "comparison, whose tables and page are made anew",
    )
    parser.set_defaults(handler=run)
    parser.add_argument("records", nargs="+", type=Path, metavar="RECORD.json|DIR")
    parser.add_argument("--rows", default="", metavar="KEY,KEY", help="show these (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all records into one")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="accuracy against size")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="of a comparison: copy there what lasts, its records, tables and page, and no "
        "checkpoints; `compare --out DIR` goes on with it",
    )
    return [parser]


def run(options: argparse.Namespace) -> int:
    """Write, and print the table.

    Args:
        options: what the parser read.

    Returns:
        The exit status.

    Raises:
        InputError: if a record or folder cannot be read, or a file not be written.
    """
    from recbole_lightgnn.comparison import seeds_report
    from recbole_lightgnn.comparison.report import report

    first, *others = options.records
    if first.is_dir() and not (others or options.json or options.plot):
        rows = options.rows.split(",") if options.rows else None
        if options.keep:
            from recbole_lightgnn.comparison.archive import keep
            from recbole_lightgnn.comparison.results import Comparison

            keep(Comparison(first, rows), options.keep)
            first = options.keep
        print(report(first, rows))
        return 0
    if options.keep:
        raise InputError("--keep is for the folder of one comparison: give that alone")
    return seeds_report.run(options)
