"""Pairs without their duplicates, k-core, and cutting into splits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.utils.jit import compiled

_CHUNK = 2**20  # pairs drawn for at once


def distinct_pairs(
    users: NDArray[Any], items: NDArray[Any], n_items: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], int]:
    """The pairs sorted by user, then item, each once; and how many others there were.

    Args:
        users: numbers below 2^31. Shape: (n,)
        items: numbers below ``n_items``, at most 2^31. Shape: (n,)
    """
    bits = max(1, int(n_items - 1).bit_length())
    key = users.astype(np.int64)
    key <<= bits
    key |= items
    key.sort()
    if len(key):
        key = key[np.concatenate([[True], key[1:] != key[:-1]])]
    items = (key & ((1 << bits) - 1)).astype(np.int32)
    key >>= bits
    return key.astype(np.int32), items, len(users) - len(key)


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


def cut_at_random(
    groups: NDArray[Any], draw: np.random.Generator, ratios: Sequence[float]
) -> NDArray[np.int8]:
    """The part that each pair falls in when every group is cut by ``ratios``, any way as likely.

    As RecBole counts: each part but the first gets its ratio rounded down, but at least one as
    long as the first keeps one; the first gets the rest.

    Args:
        groups: number of the group, from 0 without large gaps. Shape: (n,)
        draw: source of randomness.
        ratios: of the parts, adding up to 1.

    Returns:
        Number of the part. Shape: (n,)
    """
    part = np.empty(len(groups), np.int8)
    room = part_sizes(np.bincount(groups), ratios)
    for start in range(0, len(groups), _CHUNK):
        these = slice(start, start + _CHUNK)
        _draw(groups[these], draw.random(len(groups[these])), room, part[these])
    return part


@compiled
def _draw(
    groups: NDArray[Any],
    chances: NDArray[np.float64],
    room: NDArray[np.int64],
    part: NDArray[np.int8],
) -> None:
    """Each pair in turn goes to a part of its group as likely as that has room (groups, parts)."""
    for place, group in enumerate(groups):
        at = chances[place] * room[group].sum()
        to = 0
        while at >= room[group, to]:
            at -= room[group, to]
            to += 1
        room[group, to] -= 1
        part[place] = to


def cut_in_order(
    groups: NDArray[Any], order: NDArray[np.int64], ratios: Sequence[float]
) -> NDArray[np.int8]:
    """The same, but the first pairs of each group make its first part, and so on.

    Args:
        groups: as `cut_at_random`. Shape: (n,)
        order: the pairs' places, the first of each group first. Shape: (n,)
        ratios: of the parts, adding up to 1.
    """
    part = np.empty(len(groups), np.int8)
    ends = part_sizes(np.bincount(groups), ratios).cumsum(axis=1)
    _deal(groups, order, ends, part)
    return part


@compiled
def _deal(
    groups: NDArray[Any], order: NDArray[np.int64], ends: NDArray[np.int64], part: NDArray[np.int8]
) -> None:
    dealt = np.zeros(len(ends), np.int64)  # of each group
    for place in order:
        group = groups[place]
        to = 0
        while dealt[group] >= ends[group, to]:
            to += 1
        part[place] = to
        dealt[group] += 1


def part_sizes(totals: NDArray[np.int64], ratios: Sequence[float]) -> NDArray[np.int64]:
    """How many of each total go to each part. Shape: (n,) -> (n, parts)."""
    counts = (totals[:, None] * np.asarray(ratios)).astype(np.int64)  # (n, parts)
    counts[:, 0] = totals - counts[:, 1:].sum(axis=1)
    for part in range(len(ratios) - 1, 0, -1):
        short = (counts[:, 0] > 1) & (totals * ratios[part] > 0) & (totals * ratios[part] < 1)
        counts[short, part] += 1
        counts[short, 0] -= 1
    return counts


def in_order(times: NDArray[Any]) -> NDArray[np.int64]:
    """The places of some times, the earliest first; equal times stay as they are. Shape: (n,)"""
    n = len(times)
    if n == 0 or times.dtype.kind == "f":
        return np.argsort(times, kind="stable")
    least, bits = int(times.min()), n.bit_length()
    if (int(times.max()) - least).bit_length() + bits > 63:
        return np.argsort(times, kind="stable")
    key = times - least
    key <<= bits
    key |= np.arange(n)
    key.sort()  # much faster than a stable argsort
    return key & ((1 << bits) - 1)


def first_of_each(
    users: NDArray[Any], items: NDArray[Any], order: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Where the first interaction of each pair is, sorted by user, then item.

    Args:
        users, items: numbers from 0, below 2^31. Shape: (n,)
        order: the interactions' places, the first one first. Shape: (n,)

    Returns:
        Places in these columns. Shape: (distinct pairs,)
    """
    if len(users) == 0:
        return np.zeros(0, np.int64)
    key = users.astype(np.int64) * (int(items.max()) + 1) + items
    together = np.argsort(key)
    key = key[together]
    begins = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    return order[np.minimum.reduceat(inverse(order)[together], begins)]


def inverse(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rank of each place in an order of all of them. Shape: (n,)"""
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank
