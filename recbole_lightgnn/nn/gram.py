"""Gram matrix of a sparse matrix, and inverse of a symmetric matrix, with little memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.linalg import get_lapack_funcs

WHOLE = 18_000  # rows; up to this size, LAPACK inverts a matrix as a whole
SMALL = 4096  # rows; LAPACK inverts blocks up to this size, in a copy
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
    r"""Invert a symmetric matrix in place; return False if it is not positive definite.

    LAPACK inverts small matrices. A large matrix is cut into blocks, with the Schur complement S:

    .. math::
        \begin{pmatrix} A & B \\ B^\top & C \end{pmatrix}^{-1} = \begin{pmatrix}
        A^{-1} + T^\top S^{-1} T & -T^\top S^{-1} \\ -S^{-1} T & S^{-1} \end{pmatrix}, \qquad
        T = B^\top A^{-1},\quad S = C - T B

    LAPACK alone would need fewer operations, but its float32 Cholesky factorization crashes with
    27 thousand rows (OpenBLAS 0.3.30).

    Args:
        matrix: the matrix, float32 or float64, with contiguous rows. Overwritten by the inverse, or
            by garbage if the matrix is not positive definite. Shape: (n, n)

    Raises:
        ValueError: if the matrix is of another type or order.
    """
    if matrix.dtype not in (np.float32, np.float64) or matrix.strides[1] != matrix.itemsize:
        raise ValueError(f"expected a float matrix in C order, got {matrix.dtype}")
    half = len(matrix) // 2
    if len(matrix) <= (WHOLE if matrix.flags.c_contiguous else SMALL):
        return _invert_small(matrix)
    a, b, c = matrix[:half, :half], matrix[:half, half:], matrix[half:, half:]
    t = matrix[half:, :half]  # B^T at first, so B itself still holds what T replaces
    if not invert(a):
        return False
    for rows in _blocks(len(t)):
        t[rows] = t[rows] @ a
        c[rows] -= t[rows] @ b
    if not invert(c):
        return False
    for rows in _blocks(half):
        b[rows] = -(t[:, rows].T @ c)
    for rows in _blocks(half):
        a[rows] -= b[rows] @ t
    t[...] = b.T
    return True


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, rows, _BLOCK))


def _invert_small(matrix: np.ndarray) -> bool:
    """Invert a symmetric matrix in place by LAPACK; see `invert`."""
    whole = matrix if matrix.flags.c_contiguous else matrix.copy()
    columns = whole.T  # Fortran order, which LAPACK overwrites in place
    factor, inverse = get_lapack_funcs(("potrf", "potri"), (columns,))
    _, failed = factor(columns, lower=1, clean=0, overwrite_a=1)
    if not failed:
        _, failed = inverse(columns, lower=1, overwrite_c=1)
    if failed:
        return False
    for start in range(0, len(whole), _BLOCK):  # mirror the upper triangle
        stop = start + _BLOCK
        block = whole[start:stop, start:stop]
        block[...] = np.triu(block) + np.triu(block, 1).T
        whole[stop:, start:stop] = whole[start:stop, stop:].T
    matrix[...] = whole
    return True
