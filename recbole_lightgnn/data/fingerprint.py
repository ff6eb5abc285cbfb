"""Hashes that tell whether two runs saw the same interactions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def dataset_fingerprint(
    user_tokens: Sequence[str],
    item_tokens: Sequence[str],
    splits: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> dict[str, Any]:
    """Counts and hashes that tell whether two runs saw the same split.

    The hash is SHA-256 over the split's sorted lines ``user<TAB>item`` of original tokens, so it
    does not depend on how anyone numbers users and items, nor on the order of the pairs.

    Args:
        user_tokens: token of each user index; index 0 is padding. Shape: (users + 1)
        item_tokens: token of each item index; index 0 is padding. Shape: (items + 1)
        splits: name -> indices of users and of items. Shape of each: (pairs)
    """
    user_tokens, item_tokens = np.asarray(user_tokens), np.asarray(item_tokens)
    result: dict[str, Any] = {"users": len(user_tokens) - 1, "items": len(item_tokens) - 1}
    for name, (users, items) in splits.items():
        u, i = user_tokens[np.asarray(users)], item_tokens[np.asarray(items)]  # (pairs)
        order = np.lexsort((i, u))
        pairs = zip(u[order].tolist(), i[order].tolist(), strict=True)
        lines = "\n".join(f"{user}\t{item}" for user, item in pairs)
        result[name] = {
            "pairs": len(order),
            "users": len(np.unique(users)),
            "items": len(np.unique(items)),
            "sha256": hashlib.sha256(lines.encode()).hexdigest(),
        }
    return result


def fingerprints(train_data: Any, valid_data: Any) -> dict[str, str]:
    """`split_fingerprint` of what a run learns and chooses from, given their loaders."""
    splits = {"train": train_data, "valid": valid_data}
    return {split: split_fingerprint(loader._dataset) for split, loader in splits.items()}


def split_fingerprint(dataset: Any) -> str:
    """`pairs_fingerprint` of one of RecBole's splits."""
    users, items = (dataset.inter_feat[f].numpy() for f in (dataset.uid_field, dataset.iid_field))
    return pairs_fingerprint(dataset.user_num, dataset.item_num, users, items)


def pairs_fingerprint(n_users: int, n_items: int, users: np.ndarray, items: np.ndarray) -> str:
    """A hash of users, items and pairs in RecBole's numbering, by which a model's rows go.

    Args:
        n_users, n_items: padding counted.
        users: user of each pair. Shape: (pairs,)
        items: item of each pair. Shape: (pairs,)
    """
    order = np.lexsort((items, users))
    digest = hashlib.sha256(f"{n_users} {n_items}".encode())
    for index in (users, items):
        digest.update(index[order].astype("<i8").tobytes())
    return digest.hexdigest()
