"""Operations on user-item pairs: remove duplicates, reduce to the k-core, split into parts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.utils.jit import compiled

_CHUNK = 2**20  # random numbers drawn at once


def distinct_pairs(
    users: NDArray[Any], items: NDArray[Any], n_items: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], int]:
    """Sort pairs by user, then by item, and remove duplicates.

    Args:
        users: user of each pair, below 2^31. Shape: (n,)
        items: item of each pair, below ``n_items``. Shape: (n,)
        n_items: number of items, at most 2^31.

    Returns:
        The users and the items of the distinct pairs, and the number of removed pairs.
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


def k_core(users: NDArray[Any], items: NDArray[Any], k: int) -> NDArray[np.bool_]:
    """Find the pairs of the k-core, in which every user and every item has at least k pairs.

    Users and items with fewer pairs are removed; this is repeated until all have enough.

    Args:
        users: user of each pair, from 0. Shape: (n,)
        items: item of each pair, from 0. Shape: (n,)
        k: smallest number of pairs of a user or an item.

    Returns:
        For each pair, whether it is in the k-core. Shape: (n,)
    """
    left = np.arange(len(users))
    while True:
        enough = np.ones(len(left), bool)
        for column in (users[left], items[left]):
            enough &= np.bincount(column)[column] >= k if len(column) else True
        if enough.all():
            break
        left = left[enough]
    in_core = np.zeros(len(users), bool)
    in_core[left] = True
    return in_core


def cut_at_random(
    groups: NDArray[Any], generator: np.random.Generator, ratios: Sequence[float]
) -> NDArray[np.int8]:
    """Assign the pairs of every group (such as one user's pairs) to parts (splits) at random.

    `part_sizes` gives the size of each part in each group. All assignments with these sizes are
    equally likely.

    Args:
        groups: number of each pair's group, from 0 without large gaps. Shape: (n,)
        generator: source of random numbers.
        ratios: share of a group's pairs that each part gets; the shares sum to 1.

    Returns:
        Number of each pair's part, from 0. Shape: (n,)
    """
    part = np.empty(len(groups), np.int8)
    capacity = part_sizes(np.bincount(groups), ratios)
    for start in range(0, len(groups), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        _draw(groups[chunk], generator.random(len(groups[chunk])), capacity, part[chunk])
    return part


@compiled
def _draw(
    groups: NDArray[Any],
    chances: NDArray[np.float64],
    capacity: NDArray[np.int64],
    part: NDArray[np.int8],
) -> None:
    """Draw a part for each pair; the probability of a part is proportional to its free places.

    Args:
        groups: number of each pair's group. Shape: (n,)
        chances: random number in [0, 1) for each pair. Shape: (n,)
        capacity: free places (pairs still to be assigned) of each part in each group; updated.
            Shape: (n_groups, n_parts)
        part: receives the number of each pair's part. Shape: (n,)
    """
    for pair, group in enumerate(groups):
        position = chances[pair] * capacity[group].sum()
        drawn = 0
        while position >= capacity[group, drawn]:
            position -= capacity[group, drawn]
            drawn += 1
        capacity[group, drawn] -= 1
        part[pair] = drawn


def cut_in_order(
    groups: NDArray[Any], order: NDArray[np.int64], ratios: Sequence[float]
) -> NDArray[np.int8]:
    """Cut every group of pairs (such as one user's pairs) into parts (splits) in a given order.

    The first pairs of a group form its first part, the next pairs its second part, and so on.
    `part_sizes` gives the sizes.

    Args:
        groups: number of each pair's group, from 0 without large gaps. Shape: (n,)
        order: indices of all pairs, in the order in which the groups are cut. Shape: (n,)
        ratios: share of a group's pairs that each part gets; the shares sum to 1.

    Returns:
        Number of each pair's part, from 0. Shape: (n,)
    """
    part = np.empty(len(groups), np.int8)
    ends = part_sizes(np.bincount(groups), ratios).cumsum(axis=1)
    _assign(groups, order, ends, part)
    return part


@compiled
def _assign(
    groups: NDArray[Any], order: NDArray[np.int64], ends: NDArray[np.int64], part: NDArray[np.int8]
) -> None:
    """Write the number of each pair's part into ``part``, one pair after the other.

    Args:
        groups: number of each pair's group. Shape: (n,)
        order: indices of all pairs, in the order in which the groups are cut. Shape: (n,)
        ends: cumulative sizes of the parts of each group. Shape: (n_groups, n_parts)
        part: receives the number of each pair's part. Shape: (n,)
    """
    assigned = np.zeros(len(ends), np.int64)  # pairs of each group so far
    for pair in order:
        group = groups[pair]
        current = 0
        while assigned[group] >= ends[group, current]:
            current += 1
        part[pair] = current
        assigned[group] += 1


def part_sizes(totals: NDArray[np.int64], ratios: Sequence[float]) -> NDArray[np.int64]:
    """Compute the size of each part (split) of each group of pairs, by RecBole's rule.

    Every part after the first gets its share of the group's pairs, rounded down. If the share is
    below 1 pair, the part gets 1 pair, as long as 1 pair stays in the first part. The first part
    gets the rest.

    Args:
        totals: number of pairs of each group. Shape: (n_groups,)
        ratios: share of a group's pairs that each part gets; the shares sum to 1.

    Returns:
        Number of pairs in each part of each group. Shape: (n_groups, n_parts)
    """
    shares = np.asarray(ratios)
    counts: NDArray[np.int64] = (totals[:, None] * shares).astype(np.int64)  # (n_groups, n_parts)
    counts[:, 0] = totals - counts[:, 1:].sum(axis=1)
    for part in range(len(ratios) - 1, 0, -1):
        short = (counts[:, 0] > 1) & (totals * ratios[part] > 0) & (totals * ratios[part] < 1)
        counts[short, part] += 1
        counts[short, 0] -= 1
    return counts


def time_order(times: NDArray[Any]) -> NDArray[np.int64]:
    """Return the indices that sort times; equal times keep their order. Shape: (n,) -> (n,)"""
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


def first_of_each_pair(
    users: NDArray[Any], items: NDArray[Any], order: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Find the first interaction of each distinct user-item pair.

    Args:
        users: user of each interaction, from 0, below 2^31. Shape: (n,)
        items: item of each interaction, from 0, below 2^31. Shape: (n,)
        order: indices of all interactions, from the first interaction to the last. Shape: (n,)

    Returns:
        Indices of the found interactions, sorted by user, then by item. Shape: (n_distinct_pairs,)
    """
    if len(users) == 0:
        return np.zeros(0, np.int64)
    key = users.astype(np.int64) * (int(items.max()) + 1) + items
    by_pair = np.argsort(key)
    key = key[by_pair]
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    return order[np.minimum.reduceat(inverse_permutation(order)[by_pair], starts)]


def inverse_permutation(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the position of each index in ``order``, a permutation. Shape: (n,) -> (n,)"""
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    return position
