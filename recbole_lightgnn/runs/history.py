"""List a user's interactions, with learned weights and, if pruned, the pruning run."""

from __future__ import annotations

from typing import Any

import numpy as np

from recbole_lightgnn.nn.prunable_embedding import unpack_mask
from recbole_lightgnn.runs import checkpoint
from recbole_lightgnn.runs.finished_run import TrainedRun


def history(run: TrainedRun, key: str, user: str) -> list[dict[str, Any]]:
    """List a user's training interactions, each with its weight and, if pruned, the pruning run.

    Args:
        run: a run of LightGNN.
        key: name of a student's training, such as ``student-02``; later pruning runs are ignored.
        user: token of a user in the dataset.

    Returns:
        For each interaction: ``item``, the item's token; ``weight``, the learned weight in the last
        student that has the interaction; ``pruned_in``, the number of the pruning run that removed
        it, or ``None``. Remaining interactions come first, then pruned ones, the latest pruning run
        first. Within a pruning run, larger weights come first.
    """
    dataset = run.dataset
    users, items = (dataset.field2id_token[f] for f in (dataset.uid_field, dataset.iid_field))
    (number,) = np.flatnonzero(users == user)[:1]
    pattern = run.model(key).observed.interactions.pattern
    edges = (pattern.row == int(number)).nonzero().squeeze(1).numpy()  # the user's edges
    weight, last = np.zeros(len(edges), np.float32), np.zeros(len(edges), np.int64)
    final = run.row(key)["run"]
    for row in run.rows:
        if row["stage"] == "student" and row["run"] <= final:
            tensors, _ = checkpoint.load(run.folder.best_file(row["key"]))
            bits = tensors["edge_bits"]
            alive = np.ones(pattern.nnz, np.bool_)
            if len(bits):  # empty before the first pruning
                alive = unpack_mask(bits, pattern.nnz).numpy()
            remaining, number_of = alive[edges], alive.cumsum() - 1
            weight[remaining] = tensors["edge_weight"].numpy()[number_of[edges[remaining]]]
            last[remaining] = row["run"]
    item = items[pattern.col[edges].numpy()]
    return [
        {
            "item": str(item[n]),
            "weight": float(weight[n]),
            "pruned_in": None if last[n] == final else int(last[n]) + 1,
        }
        for n in np.lexsort((-weight, -last))
    ]
