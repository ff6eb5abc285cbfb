"""The largest of many scores, exactly."""

from __future__ import annotations

import numpy as np

_GROUP = 8  # scores to a maximum
_LOWEST = np.finfo(np.float32).min  # below it are only those that are left out: minus infinity


def largest(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest scores of each row, from the largest on; equal ones by column.

    The k-th largest of maxima over groups of columns is no larger than the k-th largest score, so
    that only what reaches it is sorted: little more than k of a row.

    Args:
        scores: float32; minus infinity for what is left out. Shape: (rows, columns)
        k: how many.

    Returns:
        Columns, -1 where a row has no more, and scores, minus infinity there.
        Shapes: (rows, k), (rows, k)
    """
    shape = len(scores), k
    found = np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32)
    row, column = np.nonzero(scores >= _bound(scores, k)[:, None])
    value = scores[row, column]
    order = np.lexsort((column, -value, row))
    row, column, value = row[order], column[order], value[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    best = rank < k
    for table, content in zip(found, (column, value), strict=True):
        table[row[best], rank[best]] = content[best]
    return found


def _bound(scores: np.ndarray, k: int) -> np.ndarray:
    """What at least k scores of each row reach, if it has so many. Shape: (rows,)"""
    n_rows, n_columns = scores.shape
    if k >= n_columns:
        return np.full(n_rows, _LOWEST)
    groups = n_columns // _GROUP
    grouped = scores[:, : groups * _GROUP].reshape(n_rows, _GROUP, groups).max(axis=1)
    maxima = np.concatenate([grouped, scores[:, groups * _GROUP :]], axis=1)
    if k > maxima.shape[1]:
        maxima = scores
    nth = maxima.shape[1] - k
    return np.maximum(np.partition(maxima, nth, axis=1)[:, nth], _LOWEST)
