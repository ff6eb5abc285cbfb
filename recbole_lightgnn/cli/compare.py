"""The command ``recbole-lightgnn compare``.

Heavy libraries, such as torch, are imported only in `run`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from recbole_lightgnn.cli.options import (
    add_dataset_flag,
    add_old_flag,
    add_out_flag,
    add_variants_flag,
    count,
    distinct,
    minutes,
    names,
)
from recbole_lightgnn.cli.tune import check_optuna
from recbole_lightgnn.registry import properties_dir

if TYPE_CHECKING:
    from recbole_lightgnn.comparison.study import Budget

_VARIANTS = "variants.yaml"  # in properties/study


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add ``compare`` to the subparsers ``commands``; return its parser in a list."""
    compare = commands.add_parser(
        "compare",
        allow_abbrev=False,
        help="compare several models under one protocol: tables and a page",
        description="Run each model with each seed, on the same data, masks and metrics, and write "
        "tables and a page of pictures. The same command continues after an interruption: finished "
        "runs are not repeated, failed ones are tried again.",
        epilog="--key=value changes a setting of every model, --MODEL.key=value of one model.",
    )
    compare.set_defaults(handler=run, takes_settings=True)
    add_dataset_flag(compare, required=True)
    compare.add_argument(
        "--models",
        required=True,
        type=names,
        metavar="A,B,...",
        help="names of models or variants",
    )
    compare.add_argument(
        "--seeds",
        type=seeds,
        default=[1, 2, 3],
        metavar="1,2,...",
        help="seeds of the runs (default: 1,2,3)",
    )
    add_out_flag(compare)
    compare.add_argument(
        "--jobs", type=count, default=1, metavar="N", help="number of runs at a time (default: 1)"
    )
    _add_search_flags(compare)
    compare.add_argument(
        "--rows",
        type=names,
        metavar="KEY,...",
        help="rows of LightGNN's record to show (default: the teacher, the student nearest to a "
        "third of the entries, and the last)",
    )
    add_variants_flag(compare, "NAME: {model: MODEL, setting: value}", _VARIANTS)
    add_old_flag(compare, "--rivals", "--variants")
    return [compare]


def _add_search_flags(compare: argparse.ArgumentParser) -> None:
    compare.add_argument(
        "--tune-trials",
        type=count,
        metavar="N",
        help="first search the settings of each model with a search space, with N trials",
    )
    compare.add_argument(
        "--tune-minutes",
        type=minutes,
        metavar="M",
        help="first search the settings of each model with a search space; after M minutes of a "
        "model's search, no trial begins",
    )


def run(options: argparse.Namespace, settings: Mapping[str, Any]) -> int:
    """Execute a comparison's unfinished runs, then write the tables and the page.

    Args:
        options: flags of the command, as parsed.
        settings: settings given as ``--key=value``.

    Returns:
        The exit status: 1 if a run failed, else 0.

    Raises:
        InputError: if the comparison cannot be planned, see `make_plan`.
    """
    from recbole_lightgnn.comparison.execution import execute, exit_status
    from recbole_lightgnn.comparison.plan import make_plan
    from recbole_lightgnn.comparison.report import report
    from recbole_lightgnn.comparison.variants import read_variants
    from recbole_lightgnn.registry import model_names
    from recbole_lightgnn.utils.files import check_matplotlib

    check_matplotlib("compare")
    file = options.variants or properties_dir() / "study" / _VARIANTS
    planned = partial(
        make_plan,
        options.dataset,
        options.models,
        options.seeds,
        options.out,
        given=settings,
        rows=options.rows,
        variants=read_variants(file, model_names()),
        budget=_budget(options),
    )
    plan = execute(planned, options.jobs)
    print(f"\n{report(plan.out)}")
    print(f"\npage: {plan.out / 'index.html'}")
    return exit_status(plan)


def _budget(options: argparse.Namespace) -> Budget | None:
    """Limits of the search of each model's settings; ``None`` without a search."""
    from recbole_lightgnn.comparison.study import Budget

    if options.tune_trials is None and options.tune_minutes is None:
        return None
    budget = Budget(options.tune_trials, options.tune_minutes)
    check_optuna(str(budget))
    return budget


def seeds(text: str) -> list[int]:
    """Read seeds separated by commas."""
    found = [seed.strip() for seed in text.split(",")]
    if not all(seed.isdecimal() and int(seed) < 1 << 32 for seed in found):
        raise argparse.ArgumentTypeError(
            f"expected whole numbers from 0 to 2^32 - 1, separated by commas, got {text!r}"
        )
    return distinct([int(seed) for seed in found], text)
