"""Which items a user's test ranking leaves out."""

from typing import Any

import numpy as np
import torch

from recbole_lightgnn.errors import InputError


def apply_eval_mask(config: Any, train_data: Any, test_data: Any) -> str:
    """Make the test ranking leave out what the setting ``eval_mask`` says, and nothing else.

    RecBole leaves out a user's training and validation items (``train+valid``); the LightGNN
    paper the training items only (``train``), which makes the task harder. Validation leaves out
    the training items in both. An item to be found is never left out.

    Args:
        config: RecBole's ``Config``.
        train_data: the training loader; its pairs are the mask of ``train``.
        test_data: the test loader; its ``uid2history_item`` is replaced. Shape: (users + 1) of
            item indices each

    Returns:
        What is in force, for the record: ``train+valid``, ``train`` or, where RecBole masks
        nothing (lists of sampled or labelled items, sequences), ``none``.

    Raises:
        InputError: if ``train`` is asked for where RecBole masks nothing.
    """
    masks = hasattr(test_data, "uid2history_item")
    if config["eval_mask"] != "train":
        return "train+valid" if masks else "none"
    if not masks:
        raise InputError(
            "eval_mask `train` needs a full ranking by a non-sequential model; leave eval_mask "
            "out, or set eval_args mode to `full`"
        )
    dataset = train_data._dataset
    users = dataset.inter_feat[dataset.uid_field].numpy()  # (pairs)
    items = dataset.inter_feat[dataset.iid_field].numpy()  # (pairs)
    order = np.argsort(users, kind="stable")
    starts = np.searchsorted(users[order], np.arange(dataset.user_num + 1))
    by_user = items[order]
    for user in test_data.uid_list.tolist():
        seen = np.unique(by_user[starts[user] : starts[user + 1]])
        history = np.setdiff1d(seen, test_data.uid2positive_item[user].numpy())
        test_data.uid2history_item[user] = torch.from_numpy(history).long()
    return "train"
