"""States of the trials of a search: finished, stopped, failed, killed, running or waiting."""

from __future__ import annotations

from optuna.trial import FrozenTrial, TrialState

# A trial counts as failed after its process was killed this often, for example out of memory.
MOST_KILLS = 3


def state_of(trial: FrozenTrial) -> str:
    """Return the state of a trial, as one word.

    Returns:
        ``finished``; ``stopped`` by median stopping; ``failed`` (see `reason_of`); ``running``;
        ``waiting`` in the queue; or ``killed`` together with its process. A killed trial is
        repeated as a new trial.
    """
    if trial.state == TrialState.FAIL:
        return "failed" if reason_of(trial) else "killed"
    names = {
        TrialState.COMPLETE: "finished",
        TrialState.PRUNED: "stopped",
        TrialState.RUNNING: "running",
    }
    return names.get(trial.state, "waiting")


def reason_of(trial: FrozenTrial) -> str | None:
    """Return in one line why a trial failed or was stopped; ``None`` for all other trials."""
    if trial.state not in (TrialState.FAIL, TrialState.PRUNED):
        return None
    known = trial.user_attrs
    if "reason" not in known and known.get("kills", 0) + 1 >= MOST_KILLS:
        return f"its process was ended {MOST_KILLS} times before it was done"
    return known.get("reason")
