"""Replace a share of the training interactions by random ones (setting ``train_noise``)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.data.interaction import Interaction
from recbole.data.utils import create_samplers, get_dataloader

from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.data.refit import Loaders, train_loader

_SEED = 2020  # of the noise, if the setting split_seed is empty
_DRAWS = 50  # rounds of random draws; what is then left is drawn from the items that are free


def replace_items(
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    others: tuple[NDArray[np.int64], NDArray[np.int64]],
    n_items: int,
    share: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Replace the item in a random share of the interactions.

    A new item is drawn uniformly from the items that the user has no interaction with, neither
    before nor after. A user with too few such items keeps some of the interactions that should be
    replaced.

    Args:
        users: user of each interaction. Shape: (interactions,)
        items: item of each interaction, from 1; 0 is RecBole's padding. Shape: (interactions,)
        others: users and items of the interactions of the other splits, which are no noise.
        n_items: number of items, the padding included.
        share: share of the interactions to replace.
        rng: random generator.

    Returns:
        The items after the replacement, and whether each was replaced. Shapes: (interactions,)
    """
    chosen = np.sort(rng.choice(len(users), round(share * len(users)), replace=False))
    known = np.unique(np.concatenate([_keys(users, items, n_items), _keys(*others, n_items)]))
    free = n_items - 1 - np.bincount(known // n_items, minlength=users.max(initial=0) + 1)
    chosen = chosen[_rank_in_group(users[chosen]) < free[users[chosen]]]
    new, left = items.copy(), chosen
    for _ in range(_DRAWS):
        if not len(left):
            break
        drawn = rng.integers(1, n_items, len(left))
        keys, first = np.unique(_keys(users[left], drawn, n_items), return_index=True)
        accepted = np.sort(first[~np.isin(keys, known)])
        new[left[accepted]] = drawn[accepted]
        known = np.union1d(known, _keys(users[left[accepted]], drawn[accepted], n_items))
        left = np.delete(left, accepted)
    for place in left:  # of users with interactions with almost every item
        key = users[place] * n_items
        new[place] = rng.choice(np.setdiff1d(np.arange(1, n_items), known - key))
        known = np.union1d(known, key + new[place])
    replaced = np.zeros(len(users), dtype=bool)
    replaced[chosen] = True
    return new, replaced


def noisy_loaders(config: RunConfig, loaders: Loaders) -> Loaders:
    """Make loaders with a share ``train_noise`` of the training interactions replaced.

    Validation and test interactions are unchanged. An item that was replaced is not masked in the
    user's rankings, where it counts as a miss. All runs with the same training interactions and the
    same ``split_seed`` get the same noise. The other columns of a replaced interaction, such as its
    time, are unchanged.

    Args:
        config: settings of the run.
        loaders: loaders of train, validation and test. They are not changed.
    """
    train, valid, test = (loader._dataset for loader in loaders)
    items, _ = noisy_items(config, train, valid, test)
    columns = train.inter_feat.interaction | {train.iid_field: torch.from_numpy(items)}
    noisy = train.copy(Interaction(columns))
    samplers = create_samplers(config, noisy, [noisy, valid, test])
    evaluated = (
        get_dataloader(config, "valid" if split is valid else "test")(
            config, split, sampler, shuffle=False
        )
        for split, sampler in ((valid, samplers[1]), (test, samplers[2]))
    )
    return train_loader(config, noisy, samplers[0]), *evaluated


def noisy_items(
    config: RunConfig, train: Any, valid: Any, test: Any
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Draw the noise of a run (`replace_items`) from RecBole's datasets of the three splits."""
    users, items = _pairs(train)
    others = np.concatenate([_pairs(valid), _pairs(test)], axis=1)
    seed = _SEED if config["split_seed"] is None else config["split_seed"]
    return replace_items(
        users,
        items,
        (others[0], others[1]),
        train.item_num,
        config["train_noise"],
        np.random.default_rng(seed),
    )


def _pairs(part: Any) -> NDArray[np.int64]:
    """Users and items of a split's interactions. Shape: (2, interactions)"""
    return np.stack([part.inter_feat[field].numpy() for field in (part.uid_field, part.iid_field)])


def _keys(users: NDArray[np.int64], items: NDArray[np.int64], n_items: int) -> NDArray[np.int64]:
    return users.astype(np.int64) * n_items + items


def _rank_in_group(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of earlier elements with the same value, of each element. Shape: (elements,)"""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(groups) else order
    rank = np.empty(len(groups), dtype=np.int64)
    rank[order] = np.arange(len(groups)) - np.repeat(starts, np.diff(np.r_[starts, len(groups)]))
    return rank
