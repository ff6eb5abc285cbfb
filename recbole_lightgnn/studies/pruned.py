"""Which training interactions a run of LightGNN has pruned."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.comparison.layout import Run
from recbole_lightgnn.runs.finished_run import TrainedRun
from recbole_lightgnn.studies.place import Unsuitable
from recbole_lightgnn.studies.trained import trained_run


class Pruned(NamedTuple):
    """The training interactions of a student, in the order of the observed graph's edges.

    Attributes:
        users: user number of each interaction. Shape: (interactions,)
        items: item number of each interaction. Shape: (interactions,)
        removed: whether each interaction is pruned. Shape: (interactions,)
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    removed: NDArray[np.bool_]


def pruned_students(run: Run) -> tuple[TrainedRun, list[Pruned]]:
    """Load the pruned interactions after each pruning run of a finished run of LightGNN.

    Returns:
        The run, and the students after their first, second, ... pruning run.

    Raises:
        Unsuitable: if the run has no pruning runs.
    """
    trained = trained_run(run)
    keys = [row["key"] for row in trained.rows if row["stage"] == "student" and row["run"]]
    if not keys:
        raise Unsuitable("the study needs pruned students, and LightGNN has no pruning runs here")
    return trained, [_pruned(trained.model(key)) for key in keys]


def _pruned(student: Any) -> Pruned:
    every, kept = (graph.interactions.pattern for graph in (student.observed, student.graph))
    users, items = every.row.numpy().astype(np.int64), every.col.numpy().astype(np.int64)
    width = student.n_items
    left = kept.row.numpy().astype(np.int64) * width + kept.col.numpy()
    return Pruned(users, items, ~np.isin(users * width + items, left))
