"""What a comparison says while it runs: how far it is, and how long it will take."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from statistics import mean

from recbole_lightgnn.comparison.layout import Run


class Progress:
    """Lines for runs that begin and end; on a terminal also one that is written over.

    Args:
        runs: of the whole comparison.
        jobs: how many are done at a time.
    """

    def __init__(self, runs: Sequence[Run], jobs: int) -> None:
        self.jobs = jobs
        self.seconds = {run: _seconds(run) for run in runs if run.record() is not None}
        self.left = [run for run in runs if run not in self.seconds]
        self.total, self.failed = len(runs), 0
        self.begun: dict[Run, float] = {}
        self._told = 0.0

    def began(self, run: Run, resumed: bool) -> None:
        """A run has begun, or goes on."""
        self.begun[run] = time.monotonic()
        self._say(f"{run}: {'goes on' if resumed else 'begins'}")

    def ended(self, run: Run, reason: str | None) -> None:
        """A run is done, or has failed."""
        self.left.remove(run)
        seconds = time.monotonic() - self.begun.pop(run)
        record = run.record()
        if reason is not None or record is None:
            self.failed += 1
            self._say(f"{run}: failed after {rounded(seconds)}: {reason}")
        else:
            self.seconds[run] = _seconds(run)
            metric = record["valid_metric"]
            score = record["best_valid"][metric]
            taken = rounded(self.seconds[run])  # by all its processes, should it have gone on
            self._say(f"{run}: validation {metric} {score:.4f} in {taken}")
        self._say(f"  {self._state()}")

    def tick(self, at_work: Sequence[Run]) -> None:
        """Time goes by; told on a terminal alone."""
        now = time.monotonic()
        if sys.stdout.isatty() and now > self._told + 1:
            self._told = now
            names = ", ".join(f"{run} {rounded(now - self.begun[run])}" for run in at_work)
            print(f"\r\033[K{self._state()} | {names}"[:200], end="", flush=True)

    def seconds_left(self) -> float | None:
        """A guess from the runs that are done; ``None`` before there is any.

        A run takes as long as those of its model did, or as the mean of all models; those under
        way have a part of it behind them. Half at most, where they have taken longer than that, or
        where the guess is the mean, which says little of a model.
        """
        if not self.seconds:
            return None
        now, work = time.monotonic(), 0.0
        for run in self.left:
            own = [seconds for other, seconds in self.seconds.items() if other.name == run.name]
            expected = mean(own or self.seconds.values())
            passed = now - self.begun.get(run, now)
            left = expected - passed
            work += left if own and left >= 0 else max(left, passed)
        return work / max(1, min(self.jobs, len(self.left)))

    def _state(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        done = f"{len(self.seconds)} of {self.total} runs done{failed}"
        if not self.left:
            return done
        left = self.seconds_left()
        return f"{done}, {'?' if left is None else f'about {rounded(left)}'} to go"

    def _say(self, line: str) -> None:
        clear = "\r\033[K" if sys.stdout.isatty() else ""
        print(f"{clear}{line}", flush=True)


def rounded(seconds: float) -> str:
    """``45 s``, ``12 min`` or ``3 h 05 min``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def _seconds(run: Run) -> float:
    """What a finished run has taken, all its processes together."""
    record = run.record() or {"rows": [], "seconds": 0.0}
    rows = sum(row["seconds"] + row["test_seconds"] for row in record["rows"])
    return max(rows, record["seconds"])
