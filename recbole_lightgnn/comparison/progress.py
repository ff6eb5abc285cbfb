"""Show the progress of a comparison: how many runs or searches are finished, and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from statistics import mean

from recbole_lightgnn.comparison.popularity import Popularity
from recbole_lightgnn.comparison.study import Task


class Progress:
    """Print a line at each start and end of a run; on a terminal, also show the time left.

    Instead of runs, it can show the searches of a comparison. "Run" then stands for a search.

    Args:
        runs: all runs of the comparison, or all searches.
        jobs: number of runs at a time.
        what: ``runs`` or ``searches``.
        popularity: if given, report each run with a validation score that is not above the score of
            ``Pop``.

    Attributes:
        jobs: number of runs at a time.
        seconds: time that each finished run took.
        left: runs that are not finished.
        total: number of runs.
        failed: number of runs that failed.
        begun: start of each run that is under way, in seconds of ``time.monotonic``.
    """

    def __init__(
        self,
        runs: Sequence[Task],
        jobs: int,
        *,
        what: str = "runs",
        popularity: Popularity | None = None,
    ) -> None:
        self.jobs, self._what, self._popularity = jobs, what, popularity
        self.seconds = {run: _seconds(run) for run in runs if run.record() is not None}
        self.left = [run for run in runs if run not in self.seconds]
        self.total, self.failed = len(runs), 0
        self.begun: dict[Task, float] = {}
        self._last_update = 0.0

    def began(self, run: Task, resumed: bool, teacher_of: str | None = None) -> None:
        """Record and print that a run has begun or, if ``resumed``, goes on.

        Args:
            run: the run.
            resumed: whether the run continues from a saved state.
            teacher_of: name and seed of the run that the teachers are copied from, or ``None``.
        """
        self.begun[run] = time.monotonic()
        how = "goes on" if resumed else "begins"
        if teacher_of is not None:
            how = f"begins with teachers of {teacher_of}"
        self._print(f"{run}: {how}")

    def ended(self, run: Task, reason: str | None) -> None:
        """Record and print that a run has ended, and the ``reason`` if it has failed."""
        self.left.remove(run)
        seconds = time.monotonic() - self.begun.pop(run)
        record = run.record()
        if reason is not None or record is None:
            self.failed += 1
            self._print(f"{run}: failed after {rounded(seconds)}: {reason}")
        else:
            self.seconds[run] = _seconds(run)
            metric = record["valid_metric"]
            score = record["best_valid"][metric]
            total = rounded(self.seconds[run])  # the time before a resume included
            self._print(f"{run}: validation {metric} {score:.4f} in {total}")
            if self._popularity and (warning := self._popularity.warning(run.model, {0: score})):
                self._print(f"{run}: {warning}")
        self._print(f"  {self._state()}")

    def tick(self, at_work: Sequence[Task]) -> None:
        """Update the terminal's line about the running processes, at most once a second."""
        now = time.monotonic()
        if sys.stdout.isatty() and now > self._last_update + 1:
            self._last_update = now
            names = ", ".join(f"{run} {rounded(now - self.begun[run])}" for run in at_work)
            print(f"\r\033[K{self._state()} | {names}"[:200], end="", flush=True)

    def seconds_left(self) -> float | None:
        """Estimate the seconds until all runs are finished; ``None`` while no run is finished.

        A run is expected to take the mean time of the finished runs of the same model. If no run
        of this model is finished, the mean over all finished runs is used. The time since the
        run's start is subtracted. In two cases, the run is assumed to be at most half done: if it
        has already taken longer than expected, or if no run of the same model is finished.
        """
        if not self.seconds:
            return None
        now, total = time.monotonic(), 0.0
        for run in self.left:
            same_model = [
                seconds for other, seconds in self.seconds.items() if other.name == run.name
            ]
            expected = mean(same_model or self.seconds.values())
            passed = now - self.begun.get(run, now)
            left = expected - passed
            total += left if same_model and left >= 0 else max(left, passed)
        return total / max(1, min(self.jobs, len(self.left)))

    def _state(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        done = f"{len(self.seconds)} of {self.total} {self._what} done{failed}"
        if not self.left:
            return done
        left = self.seconds_left()
        return f"{done}, {'?' if left is None else f'about {rounded(left)}'} to go"

    def _print(self, line: str) -> None:
        clear = "\r\033[K" if sys.stdout.isatty() else ""
        print(f"{clear}{line}", flush=True)


def rounded(seconds: float) -> str:
    """Write a duration as text: ``45 s``, ``12 min`` or ``3 h 05 min``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def _seconds(run: Task) -> float:
    """Seconds that a finished run took, including the time before interruptions."""
    record = run.record() or {"seconds": 0.0}
    rows: float = sum(row["seconds"] + row["test_seconds"] for row in record.get("rows", ()))
    return max(rows, float(record["seconds"]))
