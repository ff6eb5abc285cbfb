"""Execute the planned searches and runs of a comparison that are not finished."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from recbole_lightgnn.comparison.plan import Plan
from recbole_lightgnn.comparison.popularity import popularity_of
from recbole_lightgnn.comparison.popularity_score import with_popularity
from recbole_lightgnn.comparison.progress import Progress
from recbole_lightgnn.comparison.runner import lock_folder, run_all
from recbole_lightgnn.comparison.study import Task


def execute(planned: Callable[[], Plan], jobs: int) -> Plan:
    """Execute the searches of a comparison, then its runs, as far as they are not finished.

    Args:
        planned: function that makes the plan; called again after the searches, for their results.
        jobs: number of runs at a time.

    Returns:
        The plan; some of its runs may have failed.

    Raises:
        InputError: if the comparison cannot be planned, or its folder is in use.
        KeyboardInterrupt: if the user presses Ctrl-C; the same comparison continues.
    """
    plan = planned()
    plan.out.mkdir(parents=True, exist_ok=True)
    with lock_folder(plan.out) as lock:
        plan = with_popularity(plan)
        plan.begin()
        if _search(plan, jobs, lock):
            plan = with_popularity(planned())  # with the settings that the searches chose
            plan.begin()
        _run_unfinished(plan, jobs, lock)
    return plan


def _search(plan: Plan, jobs: int, lock: int) -> bool:
    """Run the unfinished searches of settings; return whether any search was unfinished."""
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
    progress = Progress(plan.ready, jobs, popularity=popularity_of(plan.content()))
    unfinished = list(progress.left)
    print(
        f"{len(plan.models)} models x {len(plan.seeds)} seeds on {plan.dataset} in {plan.out}: "
        f"{len(progress.seconds)} runs done before, {len(unfinished)} to do, {jobs} at a time"
    )
    _run_all(unfinished, progress, lock)


def _run_all(tasks: Sequence[Task], progress: Progress, lock: int) -> None:
    try:
        run_all(tasks, progress.jobs, lock, progress)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("continue with the same command") from stop


def exit_status(plan: Plan) -> int:
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
