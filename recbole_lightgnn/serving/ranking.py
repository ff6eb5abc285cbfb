"""Find the k largest scores of each row of a score table, exactly."""

from __future__ import annotations

import numpy as np

_GROUP = 8  # columns per group; the largest scores of the groups give the bound
_LOWEST = np.finfo(np.float32).min  # only minus infinity (excluded columns) is below


def top_k(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Select the k largest scores of each row, largest first; equal scores by column number.

    The columns are divided into groups. The k-th largest of the groups' maxima is at most the k-th
    largest score of the row. Only scores of at least this bound are sorted: little more than k
    scores per row.

    Args:
        scores: score of each column in each row, float32; minus infinity for excluded columns.
            Shape: (rows, columns)
        k: number of columns to select per row.

    Returns:
        First, the selected columns. Second, their scores. If a row has fewer than k columns to
        select, the remaining columns are -1, with score minus infinity. Shape of each: (rows, k)
    """
    shape = len(scores), k
    columns, values = np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32)
    row, column = np.nonzero(scores >= _bound(scores, k)[:, None])
    value = scores[row, column]
    order = np.lexsort((column, -value, row))
    row, column, value = row[order], column[order], value[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    best = rank < k
    columns[row[best], rank[best]] = column[best]
    values[row[best], rank[best]] = value[best]
    return columns, values


def _bound(scores: np.ndarray, k: int) -> np.ndarray:
    """Lower bound of each row's k-th largest score, if k scores are finite. Shape: (rows,)"""
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
