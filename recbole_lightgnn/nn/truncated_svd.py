"""Largest singular values and vectors of a sparse matrix, exact and equal at every call."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from scipy.sparse.linalg import svds

from recbole_lightgnn.errors import InputError

_DENSE = 4_000_000  # size of a matrix that LAPACK decomposes in seconds


def truncated_svd(
    matrix: sp.csr_matrix, rank: int, *, setting: str = "embedding_size"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the largest singular values of a sparse matrix, and the singular vectors.

    A small matrix is decomposed whole; a large one by Lanczos iterations from a fixed start, until
    the values are exact. A randomized method would be inexact, because the singular values of
    interaction matrices fall slowly.

    Args:
        matrix: the sparse matrix, float64. Shape: (rows, columns)
        rank: number of singular values to compute.
        setting: name of the setting that gave ``rank``, for the error message.

    Returns:
        Left vectors, values (largest first), right vectors.
        Shapes: (rows, rank), (rank,), (columns, rank)

    Raises:
        InputError: if ``rank`` exceeds the number of rows or of columns.
    """
    smaller = min(matrix.shape)
    if rank > smaller:
        raise InputError(
            f"{setting} is {rank}, but this data has only {smaller} singular values "
            f"({matrix.shape[0]} users, {matrix.shape[1]} items): give at most {smaller}"
        )
    if matrix.shape[0] * matrix.shape[1] <= _DENSE or rank == smaller:
        left, values, right = scipy.linalg.svd(matrix.toarray(), full_matrices=False)
        return left[:, :rank], values[:rank], right[:rank].T
    start = np.random.default_rng(0).uniform(0.5, 1.5, smaller)
    left, values, right = svds(matrix, k=rank, v0=start)
    order = np.argsort(-values, kind="stable")
    return left[:, order], values[order], right[order].T
