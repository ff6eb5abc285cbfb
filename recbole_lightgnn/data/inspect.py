"""What is there, and what a dataset holds: counts, degrees, overlaps."""

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.data.stored import Content, Pairs, Stored, count_lines, read_card
from recbole_lightgnn.errors import InputError

QUANTILES = {"min": 0.0, "25%": 0.25, "median": 0.5, "75%": 0.75, "90%": 0.9, "99%": 0.99, "max": 1}


# --- list -----------------------------------------------------------------------------------


def summary(stored: Stored) -> dict[str, Any]:
    """A dataset in one line: name, folder, files and pairs of each split, without parsing them."""
    return {
        "name": stored.name,
        "folder": str(stored.folder),
        "format": _card_or_none(stored).get("format"),
        "pairs": {split: count_lines(file) for split, file in stored.files.items()},
    }


def _card_or_none(stored: Stored) -> dict[str, Any]:
    try:
        return read_card(stored) or {}
    except InputError:  # `check` tells
        return {}


# --- show -----------------------------------------------------------------------------------


def statistics(stored: Stored, content: Content) -> dict[str, Any]:
    """Counts of a dataset, as plain JSON values.

    ``degree`` is the number of pairs of a user or item in a split, over those that have any.
    ``without_train`` and ``overlap`` are there where there are splits; a pair counts as without
    train if its user or its item has no train pair.
    """
    n_users, n_items = len(content.users), len(content.items)
    total = sum(len(pairs.users) for pairs in content.splits.values())
    card = _card_or_none(stored)
    result: dict[str, Any] = {
        **{"name": stored.name, "folder": str(stored.folder)},
        **{key: card.get(key) for key in ("format", "source", "how_split", "imported")},
        **{"users": n_users, "items": n_items, "pairs": total},
        "density": _share(total, n_users * n_items),
        "splits": {split: _split(pairs) for split, pairs in content.splits.items()},
    }
    if "train" in content.splits:
        result["without_train"] = _without_train(content)
        result["overlap"] = _overlaps(content)
    return result


def degrees(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each user or item occurs, of those that do. Shape: (n_pairs,) -> (n_nodes,)"""
    counts = np.bincount(places)
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


def _without_train(content: Content) -> dict[str, Any]:
    train = content.splits["train"]
    users, items = (
        without(train.users, len(content.users)),
        without(train.items, len(content.items)),
    )
    cold = {
        split: int((users[pairs.users] | items[pairs.items]).sum())
        for split, pairs in content.splits.items()
        if split != "train"
    }
    return {"users": int(users.sum()), "items": int(items.sum()), "pairs": cold}


def without(places: NDArray[np.int64], n_nodes: int) -> NDArray[np.bool_]:
    """Which of all users or items are not among ``places``. Shape: (n_nodes,)"""
    unseen = np.ones(n_nodes, dtype=bool)
    unseen[places] = False
    return unseen


def _overlaps(content: Content) -> dict[str, dict[str, int]]:
    n_users, n_items = len(content.users), len(content.items)
    keys = {split: np.unique(pair_keys(p, n_items)) for split, p in content.splits.items()}
    there = {
        split: (~without(p.users, n_users), ~without(p.items, n_items))
        for split, p in content.splits.items()
    }
    return {
        f"{a}-{b}": {
            "pairs": len(np.intersect1d(keys[a], keys[b], assume_unique=True)),
            "users": int((there[a][0] & there[b][0]).sum()),
            "items": int((there[a][1] & there[b][1]).sum()),
        }
        for a, b in combinations(content.splits, 2)
    }


def pair_keys(pairs: Pairs, n_items: int) -> NDArray[np.int64]:
    """One number a pair, in the pairs' order. Shape: (n_pairs,)"""
    return pairs.users * n_items + pairs.items


def counted(number: int, what: str) -> str:
    """``1 user``, ``2 users``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
