"""Pairs without their duplicates, k-core, and cutting into splits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def distinct_pairs(
    users: NDArray[Any], items: NDArray[Any], n_items: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """The pairs sorted by user, then item, each once; and how many others there were.

    Args:
        users: numbers below 2^31. Shape: (n,)
        items: numbers below ``n_items``, at most 2^31. Shape: (n,)
    """
    key = users.astype(np.int64)
    key *= n_items
    key += items
    key.sort()
    if len(key):
        key = key[np.concatenate([[True], key[1:] != key[:-1]])]
    n, users = len(users), key // n_items
    return users, key - users * n_items, n - len(key)


def core(users: NDArray[Any], items: NDArray[Any], k: int) -> NDArray[np.bool_]:
    """Which pairs are left when users and items of fewer than ``k`` pairs go, until none does.

    Args:
        users: numbers from 0. Shape: (n,)
        items: the same. Shape: (n,)

    Returns:
        Whether each is left. Shape: (n,)
    """
    left = np.arange(len(users))
    while True:
        enough = np.ones(len(left), bool)
        for column in (users[left], items[left]):
            enough &= np.bincount(column)[column] >= k if len(column) else True
        if enough.all():
            break
        left = left[enough]
    kept = np.zeros(len(users), bool)
    kept[left] = True
    return kept


def cut(
    groups: NDArray[Any], priority: NDArray[np.int64], ratios: Sequence[float]
) -> NDArray[np.int8]:
    """The part that each pair falls in when every group is cut by ``ratios``.

    As RecBole counts: each part but the first gets its ratio rounded down, but at least one as
    long as the first keeps one; the first gets the rest.

    Args:
        groups: number of the group, from 0 without large gaps. Shape: (n,)
        priority: distinct numbers below 2^32; the lowest of a group come first. Shape: (n,)
        ratios: of the parts, adding up to 1.

    Returns:
        Number of the part. Shape: (n,)
    """
    order = np.argsort(groups.astype(np.int64) * (priority.max(initial=0) + 1) + priority)
    totals = np.bincount(groups)
    rank = np.arange(len(groups)) - np.repeat(np.cumsum(totals) - totals, totals)
    counts = part_sizes(totals, ratios)
    part = np.zeros(len(groups), np.int8)
    for begins in counts.cumsum(axis=1)[:, :-1].T:  # (groups,), where each later part begins
        part += rank >= np.repeat(begins, totals)
    result = np.empty_like(part)
    result[order] = part
    return result


def part_sizes(totals: NDArray[np.int64], ratios: Sequence[float]) -> NDArray[np.int64]:
    """How many of each total go to each part. Shape: (n,) -> (n, parts)."""
    counts = (totals[:, None] * np.asarray(ratios)).astype(np.int64)  # (n, parts)
    counts[:, 0] = totals - counts[:, 1:].sum(axis=1)
    for part in range(len(ratios) - 1, 0, -1):
        short = (counts[:, 0] > 1) & (totals * ratios[part] > 0) & (totals * ratios[part] < 1)
        counts[short, part] += 1
        counts[short, 0] -= 1
    return counts


def first_of_each(
    users: NDArray[Any], items: NDArray[Any], priority: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Where the interaction of lowest priority of each pair is, sorted by user, then item.

    Args:
        users, items: numbers from 0, below 2^31. Shape: (n,)
        priority: Shape: (n,)

    Returns:
        Places in these columns. Shape: (distinct pairs,)
    """
    if len(users) == 0:
        return np.zeros(0, np.int64)
    key = users.astype(np.int64) * (int(items.max()) + 1) + items
    order = np.lexsort((priority, key))
    key = key[order]
    return order[np.concatenate([[True], key[1:] != key[:-1]])]
