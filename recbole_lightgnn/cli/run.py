"""The command ``recbole-lightgnn run``."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_lightgnn.cli.options import add_model_flag, add_run_options
from recbole_lightgnn.cli.text import aligned, cell
from recbole_lightgnn.errors import InputError


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add ``run`` to the subparsers ``commands``; return its parser in a list."""
    parser = commands.add_parser(
        "run",
        allow_abbrev=False,
        help="train, test and record a model",
        description="Train a model, RecBole's or ours, choose its best epoch by validation, and "
        "test it.",
        epilog="Any other setting is given as --key=value (YAML), e.g. --epochs=5 --recipe=paper "
        "--teacher_settings.n_layers=8; `recbole-lightgnn settings MODEL` lists them.",
    )
    parser.set_defaults(handler=run, takes_settings=True)
    add_model_flag(parser)
    add_run_options(parser)
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        metavar="FOLDER",
        help="resume an interrupted run: this run folder, or without FOLDER the latest",
    )
    parser.add_argument("--result_file", help="path of the JSON record")
    for flag in ("nproc", "world_size", "ip", "port", "group_offset"):
        parser.add_argument(f"--{flag}", help=argparse.SUPPRESS)
    return [parser]


def run(options: argparse.Namespace, settings: Mapping[str, Any]) -> int:
    """Train, test and record a model, and print its results.

    Args:
        options: flags of the command, as parsed.
        settings: settings given as ``--key=value``.

    Returns:
        The exit status, 0.

    Raises:
        InputError: see `recbole_lightgnn.quick_start.run`; also if more than one process is asked
            for.
    """
    for flag in ("nproc", "world_size"):
        if (getattr(options, flag) or "1") not in ("1", "-1"):
            raise InputError(
                f"--{flag}={getattr(options, flag)}: more than one process is not supported yet; "
                f"leave --{flag} out"
            )
    from recbole_lightgnn import quick_start  # imported here, because it loads torch and RecBole

    record = quick_start.run(
        options.model,
        options.dataset,
        config_files=options.config_files.split(),
        settings=settings,
        resume=options.resume,
        result_file=options.result_file,
    )
    print(results_table(record["rows"]))
    print(f"record: {record['result_file']}")
    return 0


def results_table(rows: Sequence[dict[str, Any]]) -> str:
    """Format the rows of a run's record as a table: one line for each stage and pruning run.

    Args:
        rows: rows of the record; the last row belongs to the final model.
    """
    names = list(rows[-1]["test"])
    shown = [n for n in ("recall@20", "ndcg@20") if n in names] or names[:2]
    head = ["stage", "run", "epochs", "seconds", "interactions", "kept", "entries", "kept", "bytes"]
    head += [f"{split} {name}" for split in ("valid", "test") for name in shown]
    keys = ["stage", "run", "epochs", "seconds", "interactions", "interactions_kept"]
    keys += ["entries", "entries_kept", "bytes"]
    lines = [head]
    for row in rows:
        cells = [cell(row.get(key), ".3f" if key.endswith("_kept") else ".1f") for key in keys]
        for split in ("valid", "test"):
            cells += [cell((row.get(split) or {}).get(name), ".4f") for name in shown]
        lines.append(cells)
    return aligned(lines)
