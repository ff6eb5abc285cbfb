"""What became of a user's interactions, run by run."""

from __future__ import annotations

from typing import Any

import numpy as np

from recbole_lightgnn.nn.prunable_embedding import unpack_mask
from recbole_lightgnn.runs import checkpoint
from recbole_lightgnn.runs.finished_run import TrainedRun


def history(run: TrainedRun, key: str, user: str) -> list[dict[str, Any]]:
    """What became of a user's interactions up to a student.

    Args:
        run: the run.
        key: of the student's row.
        user: as the dataset calls it; there must be such a user.

    Returns:
        For each the ``item``, the learned ``weight`` in the last student that had it, and
        ``pruned_in``, the run that dropped it, or ``None``. Those kept come first, then those
        that went last; of these the larger weights.
    """
    dataset = run.dataset
    users, items = (dataset.field2id_token[f] for f in (dataset.uid_field, dataset.iid_field))
    (number,) = np.flatnonzero(users == user)[:1]
    pattern = run.model(key).observed.interactions.pattern
    places = (pattern.row == int(number)).nonzero().squeeze(1).numpy()
    weight, last = np.zeros(len(places), np.float32), np.zeros(len(places), np.int64)
    final = run.row(key)["run"]
    for row in run.rows:
        if row["stage"] == "student" and row["run"] <= final:
            tensors, _ = checkpoint.load(run.folder.best_file(row["key"]))
            bits = tensors["edge_bits"]
            alive = np.ones(pattern.nnz, np.bool_)
            if len(bits):  # nothing is, before the first pruning
                alive = unpack_mask(bits, pattern.nnz).numpy()
            here, nth = alive[places], alive.cumsum() - 1
            weight[here] = tensors["edge_weight"].numpy()[nth[places[here]]]
            last[here] = row["run"]
    item = items[pattern.col[places].numpy()]
    return [
        {
            "item": str(item[place]),
            "weight": float(weight[place]),
            "pruned_in": None if last[place] == final else int(last[place]) + 1,
        }
        for place in np.lexsort((-weight, -last))
    ]
