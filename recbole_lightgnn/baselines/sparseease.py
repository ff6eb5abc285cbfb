"""SparseEASE: EASE that keeps only a given share of the weights, the largest ones."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.solved import ItemItemRecommender
from recbole_lightgnn.nn.gram import gram, invert

_ROWS = 512  # rows of weights compared at a time


class SparseEASE(ItemItemRecommender):
    r"""Linear autoencoder in closed form that stores only the largest weights.

    .. math:: P = (A^\top A + \lambda I)^{-1}, \qquad W_{ij} = -P_{ij} / P_{jj},\quad W_{ii} = 0

    A is the interaction matrix. W has a weight for each pair of items. A share ``density`` of the
    weights is kept: those with the largest absolute values.

    EASE's model file has a number for each pair of items. SANSA (Spišák et al., RecSys'23) computes
    a sparse approximate inverse of a prescribed density, without the dense matrix. Here the dense
    inverse is computed, so the kept weights are exact. The inverse is float32 and needs 4 bytes
    for each pair of items.

    Source: Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW'19, Eq. 8.
    """

    def solve(self) -> None:
        """Compute the weights W and keep the largest.

        Raises:
            InputError: if the matrix has no inverse, which can happen with a small ``reg_weight``.
        """
        settings = self.settings
        matrix = gram(self.interactions.astype(np.float32))
        matrix.flat[:: len(matrix) + 1] += settings.number("reg_weight")
        if not invert(matrix):
            raise InputError(
                "SparseEASE: the item-item matrix has no inverse with reg_weight="
                f"{settings['reg_weight']}: give a larger one"
            )
        matrix /= -matrix.diagonal().copy()
        np.fill_diagonal(matrix, 0.0)
        n_items = len(matrix) - 1  # without RecBole's padding
        self.keep(largest_entries(matrix, round(settings.number("density") * n_items**2)))


def largest_entries(matrix: np.ndarray, count: int) -> sp.csr_matrix:
    """Keep the entries with the largest absolute values. Shape: (n, m), sparse

    Zeros are never kept. Of equal values, those of the first rows and columns are kept.

    Args:
        matrix: a dense matrix. Only a block of rows is processed at a time, to save memory.
        count: number of entries to keep, at least 0.
    """
    kept = sp.coo_matrix(matrix.shape, dtype=matrix.dtype)
    smallest = np.float32(0.0)  # entries that are smaller cannot be among the largest
    for start in range(0, len(matrix), _ROWS):
        block = matrix[start : start + _ROWS]
        row, column = np.nonzero((np.abs(block) >= smallest) & (block != 0))
        row, column = np.append(kept.row, row + start), np.append(kept.col, column)
        data = np.append(kept.data, block[row[len(kept.data) :] - start, column[len(kept.data) :]])
        order = np.argsort(-np.abs(data), kind="stable")[:count]
        kept = sp.coo_matrix((data[order], (row[order], column[order])), shape=matrix.shape)
        if len(order) == count > 0:
            smallest = np.abs(data[order[-1]])
    return kept.tocsr()
