"""The command ``recbole-lightgnn compare``.

Heavy libraries are imported only in `run`.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_lightgnn.cli.options import add_dataset_flag, add_out_flag, count
from recbole_lightgnn.registry import properties_dir


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add ``compare`` to the command line's subparsers; returns its parser in a list."""
    compare = commands.add_parser(
        "compare",
        allow_abbrev=False,
        help="several models on one footing: a table and a page",
        description="Run each model with each seed, on the same data, masks and metrics, and write "
        "tables and a page of pictures. The same command goes on after a kill: what is done is not "
        "run again, what failed is tried again.",
        epilog="Settings for every model are given as --key=value, for one as --MODEL.key=value.",
    )
    compare.set_defaults(handler=run, takes_settings=True)
    add_dataset_flag(compare, required=True)
    compare.add_argument(
        "--models", required=True, type=_names, metavar="A,B,...", help="of models or rivals"
    )
    compare.add_argument(
        "--seeds", type=_seeds, default=[1, 2, 3], metavar="1,2,...", help="default: 1,2,3"
    )
    add_out_flag(compare)
    compare.add_argument(
        "--jobs", type=count, default=1, metavar="N", help="runs at a time (default: 1)"
    )
    compare.add_argument(
        "--rows",
        type=_names,
        metavar="KEY,...",
        help="rows of LightGNN's record to show (default: the teacher, the student nearest to a "
        "third of the entries, and the last)",
    )
    compare.add_argument(
        "--rivals",
        type=Path,
        metavar="FILE.yaml",
        help="lines `NAME: {model: MODEL, setting: value}`: what other names in --models stand for "
        "(default: properties/study/variants.yaml)",
    )
    return [compare]


def run(options: argparse.Namespace, settings: Mapping[str, Any]) -> int:
    """Do what is not done yet, then write tables and page.

    Args:
        options: what the parser read.
        settings: those given as ``--key=value``.

    Returns:
        The exit status: 1 if a run failed.

    Raises:
        InputError: if anything of it cannot be run or compared; see `Grid`.
    """
    from recbole_lightgnn.comparison.plan import Grid
    from recbole_lightgnn.comparison.progress import Progress
    from recbole_lightgnn.comparison.report import report
    from recbole_lightgnn.comparison.runner import at_work_in, reason_of, work
    from recbole_lightgnn.comparison.variants import read_rivals
    from recbole_lightgnn.registry import model_names
    from recbole_lightgnn.utils.files import check_matplotlib

    check_matplotlib("compare")
    grid = Grid(
        options.dataset,
        options.models,
        options.seeds,
        options.out,
        given=settings,
        rows=options.rows,
        rivals=read_rivals(
            options.rivals or properties_dir() / "study" / "variants.yaml", model_names()
        ),
    )
    grid.out.mkdir(parents=True, exist_ok=True)
    with at_work_in(grid.out) as lock:
        grid.begin()
        progress = Progress(grid.runs, options.jobs)
        to_do = list(progress.left)
        print(
            f"{len(grid.models)} models x {len(grid.seeds)} seeds on {grid.dataset} in {grid.out}: "
            f"{len(progress.seconds)} runs done before, {len(to_do)} to do, {options.jobs} at a "
            "time"
        )
        try:
            work(to_do, options.jobs, lock, progress)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt("continue with the same command") from stop
        print(f"\n{report(grid.out)}")
    print(f"\npage: {grid.out / 'index.html'}")
    failed = [f"{one} ({reason_of(one)})" for one in grid.runs if one.record() is None]
    if failed:
        print(
            f"error: {len(failed)} of {len(grid.runs)} runs failed: {'; '.join(failed)}; the same "
            "command tries them again",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _names(text: str) -> list[str]:
    return _distinct([name.strip() for name in text.split(",")], text)


def _seeds(text: str) -> list[int]:
    seeds = [seed.strip() for seed in text.split(",")]
    if not all(seed.isdecimal() and int(seed) < 1 << 32 for seed in seeds):
        raise argparse.ArgumentTypeError(
            f"expected whole numbers from 0 to 2^32 - 1, parted by commas, got {text!r}"
        )
    return _distinct([int(seed) for seed in seeds], text)


def _distinct(values: list[Any], text: str) -> list[Any]:
    if "" in values or len(set(values)) < len(values):
        raise argparse.ArgumentTypeError(f"expected each once, parted by commas, got {text!r}")
    return values
