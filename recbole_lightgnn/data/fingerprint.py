"""Hash the interactions of a run, to check that two runs use the same data."""

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
    """Return counts and hashes of the splits, which are equal for two runs with equal splits.

    The hash of a split is the SHA-256 of the sorted lines ``user<TAB>item``, with the tokens of the
    files. The numbering of users and items and the order of the pairs do not affect the hash.

    Args:
        user_tokens: token of each user, by index; index 0 is padding. Shape: (n_users + 1,)
        item_tokens: token of each item, by index; index 0 is padding. Shape: (n_items + 1,)
        splits: user index and item index of each pair, by split. Shape: (n_pairs,) each

    Returns:
        ``users`` and ``items``, the numbers of users and items without padding. For each split, a
        mapping: ``pairs``, ``users`` and ``items`` are numbers; ``sha256`` is the hash.
    """
    user_names, item_names = np.asarray(user_tokens), np.asarray(item_tokens)
    result: dict[str, Any] = {"users": len(user_names) - 1, "items": len(item_names) - 1}
    for name, (users, items) in splits.items():
        u, i = user_names[np.asarray(users)], item_names[np.asarray(items)]  # (n_pairs,)
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
    """Return the hashes of the training split and the validation split (`split_fingerprint`)."""
    splits = {"train": train_data, "valid": valid_data}
    return {split: split_fingerprint(loader._dataset) for split, loader in splits.items()}


def split_fingerprint(dataset: Any) -> str:
    """Hash the pairs of a split that RecBole has loaded (`pairs_fingerprint`)."""
    users, items = (dataset.inter_feat[f].numpy() for f in (dataset.uid_field, dataset.iid_field))
    return pairs_fingerprint(dataset.user_num, dataset.item_num, users, items)


def pairs_fingerprint(n_users: int, n_items: int, users: np.ndarray, items: np.ndarray) -> str:
    """Hash user-item pairs in RecBole's numbering, as 64 hexadecimal digits.

    This numbering is also the order of the rows in a model's embedding tables.

    Args:
        n_users: number of users, padding included.
        n_items: number of items, padding included.
        users: user index of each pair. Shape: (n_pairs,)
        items: item index of each pair. Shape: (n_pairs,)
    """
    order = np.lexsort((items, users))
    digest = hashlib.sha256(f"{n_users} {n_items}".encode())
    for index in (users, items):
        digest.update(index[order].astype("<i8").tobytes())
    return digest.hexdigest()
