"""The command ``recbole-lightgnn report``.

Heavy libraries are imported only in the functions that run the command.
"""

import argparse
from pathlib import Path
from typing import Any

from recbole_lightgnn.cli.options import add_old_flag
from recbole_lightgnn.errors import InputError


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add ``report`` to the subparsers ``commands``; return its parser in a list."""
    parser = commands.add_parser(
        "report",
        help="make tables and pictures from existing records",
        description="Given records of one model on one split, with different seeds: print a table "
        "of means and standard deviations. Given the folder of a comparison: write its tables and "
        "its page again.",
    )
    parser.set_defaults(handler=run)
    parser.add_argument(
        "records",
        nargs="+",
        type=Path,
        metavar="RECORD.json|FOLDER",
        help="records, or the folder of one comparison",
    )
    parser.add_argument(
        "--rows", default="", metavar="KEY,...", help="keys of the rows to show (default: all)"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="with records: write all of them into one file"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.png", help="with records: plot accuracy against size"
    )
    parser.add_argument(
        "--archive",
        type=Path,
        metavar="FOLDER",
        help="with a comparison: copy records, tables and page there, without checkpoints; "
        "`compare --out=FOLDER` can continue the copy",
    )
    add_old_flag(parser, "--keep", "--archive")
    return [parser]


def run(options: argparse.Namespace) -> int:
    """Print the table of a comparison or of records, and write the files that the flags ask for.

    Returns:
        The exit status, 0.

    Raises:
        InputError: if a record or folder cannot be read, or a file cannot be written.
    """
    first, *others = options.records
    if first.is_dir() and not (others or options.json or options.plot):
        _report_comparison(first, options)
    elif options.archive:
        raise InputError("--archive is for the folder of one comparison: give that alone")
    else:
        _report_seeds(options)
    return 0


def _report_comparison(folder: Path, options: argparse.Namespace) -> None:
    from recbole_lightgnn.comparison.report import report

    rows = options.rows.split(",") if options.rows else None
    if options.archive:
        from recbole_lightgnn.comparison.archive import save_archive
        from recbole_lightgnn.comparison.results import Comparison

        save_archive(Comparison(folder, rows), options.archive)
        folder = options.archive
    print(report(folder, rows))


def _report_seeds(options: argparse.Namespace) -> None:
    from recbole_lightgnn.comparison.seeds_report import draw, markdown, read_records
    from recbole_lightgnn.utils.files import check_can_draw, check_writable, write_json

    if options.plot:
        check_can_draw(options.plot)
    if options.json:
        check_writable("--json", options.json)
    records = read_records(options.records)
    keys = [key for key in options.rows.split(",") if key]
    if options.json:  # written before the table is printed: `| head` may end the command there
        write_json(options.json, records)
    if options.plot:
        draw(records, options.plot)
    print(markdown(records, keys))
