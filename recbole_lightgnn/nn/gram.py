"""Gram matrix of a sparse matrix, and inverse of a symmetric matrix, with little memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import get_lapack_funcs

_BLOCK = 256  # rows computed or mirrored at a time


def gram(matrix: Any) -> np.ndarray:
    """Multiply the transpose of a sparse matrix by the matrix. Shape: (n, m) -> (m, m), dense

    Only some rows of the product are in sparse form at a time, because a sparse product with few
    zeros needs more memory than a dense one.
    """
    product = np.empty((matrix.shape[1], matrix.shape[1]), matrix.dtype)
    transposed = matrix.T.tocsr()
    for start in range(0, len(product), _BLOCK):
        rows = transposed[start : start + _BLOCK] @ matrix
        rows.toarray(out=product[start : start + _BLOCK])
    return product


def invert(matrix: np.ndarray) -> bool:
    """Invert a symmetric matrix in place; return False if it is not positive definite.

    Args:
        matrix: the matrix, float32 or float64 in C order. Overwritten by the inverse, or by garbage
            if the matrix is not positive definite. Shape: (n, n)

    Raises:
        ValueError: if the matrix is of another type or order: LAPACK would then overwrite a copy
            only.
    """
    if matrix.dtype not in (np.float32, np.float64) or not matrix.flags.c_contiguous:
        raise ValueError(f"expected a float matrix in C order, got {matrix.dtype}")
    columns = matrix.T  # Fortran order, which LAPACK overwrites in place
    factor, inverse = get_lapack_funcs(("potrf", "potri"), (columns,))
    _, failed = factor(columns, lower=1, clean=0, overwrite_a=1)
    if not failed:
        _, failed = inverse(columns, lower=1, overwrite_c=1)
    if failed:
        return False
    for start in range(0, len(matrix), _BLOCK):  # mirror the upper triangle
        stop = start + _BLOCK
        block = matrix[start:stop, start:stop]
        block[...] = np.triu(block) + np.triu(block, 1).T
        matrix[stop:, start:stop] = matrix[start:stop, stop:].T
    return True
