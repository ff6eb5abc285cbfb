"""Compute statistics of a dataset: counts, degrees, and overlaps between its splits."""

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.data.dataset_files import (
    DatasetFiles,
    DatasetPairs,
    Pairs,
    count_lines,
    read_card,
)
from recbole_lightgnn.errors import InputError

QUANTILES = {"min": 0.0, "25%": 0.25, "median": 0.5, "75%": 0.75, "90%": 0.9, "99%": 0.99, "max": 1}


# --- list -----------------------------------------------------------------------------------


def summary(dataset: DatasetFiles) -> dict[str, Any]:
    """Return a dataset's name, folder, source format, and number of pairs (lines of its files)."""
    return {
        "name": dataset.name,
        "folder": str(dataset.folder),
        "format": _card_or_none(dataset).get("format"),
        "pairs": {split: count_lines(file) for split, file in dataset.files.items()},
    }


def _card_or_none(dataset: DatasetFiles) -> dict[str, Any]:
    try:
        return read_card(dataset) or {}
    except InputError:  # `check` reports it
        return {}


# --- show -----------------------------------------------------------------------------------


def statistics(dataset: DatasetFiles, content: DatasetPairs) -> dict[str, Any]:
    """Return the statistics of a dataset as plain JSON values.

    A degree is the number of pairs of a user or item in a split; degrees of 0 are left out. The
    keys ``without_train`` and ``overlap`` exist only if the dataset has splits. ``without_train``
    counts users and items without a train pair, and their pairs in validation and test.
    """
    n_users, n_items = len(content.users), len(content.items)
    total = sum(len(pairs.users) for pairs in content.splits.values())
    card = _card_or_none(dataset)
    result: dict[str, Any] = {
        **{"name": dataset.name, "folder": str(dataset.folder)},
        **{key: card.get(key) for key in ("format", "source", "how_split", "imported")},
        **{"users": n_users, "items": n_items, "pairs": total},
        "density": _share(total, n_users * n_items),
        "splits": {split: _split(pairs) for split, pairs in content.splits.items()},
    }
    if "train" in content.splits:
        result["without_train"] = _without_train(content)
        result["overlap"] = _overlaps(content)
    return result


def degrees(nodes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the pairs of each user (or item) that has a pair. Shape: (n_pairs,) -> (n_occurring,)

    Args:
        nodes: user index of each pair, or item index of each pair.
    """
    counts = np.bincount(nodes)
    return counts[counts > 0]


def _split(pairs: Pairs) -> dict[str, Any]:
    users, items = degrees(pairs.users), degrees(pairs.items)
    return {
        **{"pairs": len(pairs.users), "users": len(users), "items": len(items)},
        "density": _share(len(pairs.users), len(users) * len(items)),
        "user_degree": _quantiles(users),
        "item_degree": _quantiles(items),
    }


def _quantiles(degree: NDArray[np.int64]) -> dict[str, float] | None:
    if not len(degree):
        return None
    values = np.quantile(degree, list(QUANTILES.values())).tolist()
    return {**dict(zip(QUANTILES, values, strict=True)), "mean": float(degree.mean())}


def _without_train(content: DatasetPairs) -> dict[str, Any]:
    train = content.splits["train"]
    users = is_absent(train.users, len(content.users))
    items = is_absent(train.items, len(content.items))
    cold = {
        split: int((users[pairs.users] | items[pairs.items]).sum())
        for split, pairs in content.splits.items()
        if split != "train"
    }
    return {"users": int(users.sum()), "items": int(items.sum()), "pairs": cold}


def is_absent(nodes: NDArray[np.int64], n_nodes: int) -> NDArray[np.bool_]:
    """Find the users (or items) that have no pair. Shape: (n_pairs,) -> (n_nodes,)

    Args:
        nodes: user index of each pair, or item index of each pair.
    """
    absent = np.ones(n_nodes, dtype=bool)
    absent[nodes] = False
    return absent


def _overlaps(content: DatasetPairs) -> dict[str, dict[str, int]]:
    n_users, n_items = len(content.users), len(content.items)
    keys = {split: np.unique(pair_keys(p, n_items)) for split, p in content.splits.items()}
    present = {
        split: (~is_absent(p.users, n_users), ~is_absent(p.items, n_items))
        for split, p in content.splits.items()
    }
    return {
        f"{a}-{b}": {
            "pairs": len(np.intersect1d(keys[a], keys[b], assume_unique=True)),
            "users": int((present[a][0] & present[b][0]).sum()),
            "items": int((present[a][1] & present[b][1]).sum()),
        }
        for a, b in combinations(content.splits, 2)
    }


def pair_keys(pairs: Pairs, n_items: int) -> NDArray[np.int64]:
    """Return one number that identifies each pair: user * n_items + item. Shape: (n_pairs,)"""
    return pairs.users * n_items + pairs.items


def count_text(count: int, noun: str) -> str:
    """Return a number with its noun as text: ``1 user``, ``2 users``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
