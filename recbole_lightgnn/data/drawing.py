"""Draw training interactions by user, instead of each interaction once."""

from __future__ import annotations

from typing import Any

import numpy as np
from recbole.data.dataloader import TrainDataLoader

from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.errors import InputError


def apply_draw_by(config: RunConfig, loader: Any) -> Any:
    """Return the training loader; with ``draw_by: user``, it draws interactions by user.

    An epoch then has as many draws as there are interactions. Each draw takes a random user, all
    with the same probability, and then one of the user's interactions. The code of LightGCN's
    authors trains in this way (He et al., SIGIR'20). Draws use NumPy's global random generator.

    Raises:
        InputError: with ``draw_by: user``, if the loader has no batches of interactions.
    """
    if config["draw_by"] != "user":
        return loader
    if type(loader) is not TrainDataLoader:
        raise InputError(
            f"draw_by user needs batches of interactions, and {config['model']} is trained in "
            "others: leave draw_by out"
        )
    dataset, collate = loader._dataset, loader.collate_fn
    users = dataset.inter_feat[dataset.uid_field].numpy()
    order = np.argsort(users, kind="stable")
    _, start, count = np.unique(users[order], return_index=True, return_counts=True)

    def drawn(index: Any) -> Any:
        user = np.random.randint(len(start), size=len(index))
        offset = (np.random.random(len(index)) * count[user]).astype(np.int64)
        return collate(order[start[user] + offset])

    loader.collate_fn = drawn
    return loader
