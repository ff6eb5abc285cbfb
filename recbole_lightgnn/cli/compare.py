"""The command ``recbole-lightgnn compare``.

Heavy libraries, such as torch, are imported only in `run`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
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
    from recbole_lightgnn.comparison.plan import Plan
    from recbole_lightgnn.comparison.progress import Progress
    from recbole_lightgnn.comparison.study import Budget, Task

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
        type=_seeds,
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
    from recbole_lightgnn.comparison.plan import make_plan
    from recbole_lightgnn.comparison.popularity_score import with_popularity
    from recbole_lightgnn.comparison.report import report
    from recbole_lightgnn.comparison.runner import lock_folder
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
    plan = planned()
    plan.out.mkdir(parents=True, exist_ok=True)
    with lock_folder(plan.out) as lock:
        plan = with_popularity(plan)
        plan.begin()
        if _search(plan, options.jobs, lock):
            plan = with_popularity(planned())  # with the settings that the searches chose
            plan.begin()
        _run_unfinished(plan, options.jobs, lock)
        print(f"\n{report(plan.out)}")
    print(f"\npage: {plan.out / 'index.html'}")
    return _exit_status(plan)


def _budget(options: argparse.Namespace) -> Budget | None:
    """Limits of the search of each model's settings; ``None`` without a search."""
    from recbole_lightgnn.comparison.study import Budget

    if options.tune_trials is None and options.tune_minutes is None:
        return None
    budget = Budget(options.tune_trials, options.tune_minutes)
    check_optuna(str(budget))
    return budget


def _search(plan: Plan, jobs: int, lock: int) -> bool:
    """Run the unfinished searches of settings; return whether any search was unfinished."""
    from recbole_lightgnn.comparison.progress import Progress

    progress = Progress(plan.searches, jobs, what="searches")
    unfinished = list(progress.left)
    if unfinished:
        print(
            f"{len(plan.searches)} searches with {plan.budget} on {plan.dataset} in {plan.out}: "
            f"{len(progress.seconds)} done before, {len(unfinished)} to do, {jobs} at a time"
        )
        _run_all(unfinished, progress, lock)
    return bool(unfinished)


def _run_unfinished(plan: Plan, jobs: int, lock: int) -> None:
    """Execute the unfinished runs, except runs that wait for a search of settings."""
    from recbole_lightgnn.comparison.popularity import popularity_of
    from recbole_lightgnn.comparison.progress import Progress

    progress = Progress(plan.ready, jobs, popularity=popularity_of(plan.content()))
    unfinished = list(progress.left)
    print(
        f"{len(plan.models)} models x {len(plan.seeds)} seeds on {plan.dataset} in {plan.out}: "
        f"{len(progress.seconds)} runs done before, {len(unfinished)} to do, {jobs} at a time"
    )
    _run_all(unfinished, progress, lock)


def _run_all(tasks: Sequence[Task], progress: Progress, lock: int) -> None:
    from recbole_lightgnn.comparison.runner import run_all

    try:
        run_all(tasks, progress.jobs, lock, progress)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("continue with the same command") from stop


def _exit_status(plan: Plan) -> int:
    """Report the failed runs; return 1 if a run failed, else 0."""
    failed = [run for run in plan.runs if run.record() is None]
    if not failed:
        return 0
    searches = {
        study.name: f"its search failed: {study.folder.failure_reason()}"
        for study in plan.searches
        if study.record() is None
    }
    reasons = "; ".join(
        f"{run} ({searches.get(run.name) or run.folder.failure_reason()})" for run in failed
    )
    print(
        f"error: {len(failed)} of {len(plan.runs)} runs failed: {reasons}; the same command tries "
        "them again",
        file=sys.stderr,
    )
    return 1


def _seeds(text: str) -> list[int]:
    seeds = [seed.strip() for seed in text.split(",")]
    if not all(seed.isdecimal() and int(seed) < 1 << 32 for seed in seeds):
        raise argparse.ArgumentTypeError(
            f"expected whole numbers from 0 to 2^32 - 1, separated by commas, got {text!r}"
        )
    return distinct([int(seed) for seed in seeds], text)
