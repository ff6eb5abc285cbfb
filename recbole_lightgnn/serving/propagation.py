"""Compute final embeddings from the edges of an exported model (Eq. 4 and 2 of LightGNN).

SciPy's sparse matrices are not used: importing them takes longer than a whole propagation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from recbole_lightgnn.serving.model import Graph

_MAX_GATHERED_ROWS = 1 << 12  # rows of the dense factor gathered at once: 1 MB at 64 columns


class CsrMatrix(NamedTuple):
    """Sparse matrix in compressed-row format (CSR).

    Attributes:
        pointers: start of each row in ``column``, and the end of the last row. Shape: (rows + 1,)
        column: column of each entry. Shape: (edges,)
        value: value of each entry. Shape: (edges,)
    """

    pointers: np.ndarray
    column: np.ndarray
    value: np.ndarray

    @classmethod
    def from_edges(
        cls, row: np.ndarray, column: np.ndarray, value: np.ndarray, n_rows: int
    ) -> CsrMatrix:
        """Build from arrays of shape (edges,), in any order; edges of a row keep their order."""
        order = np.argsort(row, kind="stable")
        ends = np.cumsum(np.bincount(row, minlength=n_rows))
        return cls(np.concatenate([[0], ends]), column[order], value[order])

    def matmul(self, dense: np.ndarray) -> np.ndarray:
        """Multiply by a dense float32 matrix. Shapes: (columns, width) to (rows, width)

        Rows with the same number of entries are computed together.
        """
        product = np.zeros((len(self.pointers) - 1, dense.shape[1]), np.float32)
        degree = np.diff(self.pointers)
        by_degree = np.argsort(degree, kind="stable")
        degrees, starts = np.unique(degree[by_degree], return_index=True)
        for n_edges, same_degree in zip(degrees, np.split(by_degree, starts)[1:], strict=True):
            step = max(1, _MAX_GATHERED_ROWS // max(1, n_edges))
            for start in range(0, len(same_degree) if n_edges else 0, step):
                row = same_degree[start : start + step]
                edge = self.pointers[row][:, None] + np.arange(n_edges)  # (rows, edges)
                gathered = dense[self.column[edge]]  # (rows, edges, width)
                product[row] = np.einsum("re,rew->rw", self.value[edge], gathered)
        return product


@dataclass(frozen=True)
class Propagated:
    r"""Final embeddings, and the terms of the sum that explains a score.

    .. math:: \bar E = \sum_{k=0}^{L} c_k \hat A^k E,\qquad
              \bar e_u = c_0 e_u + \sum_j \hat a_{uj} h_j,\qquad
              h_j = \sum_{k=1}^{L} c_k (\hat A^{k-1} E)_j

    Attributes:
        user: final embeddings of the users. Shape: (users, width)
        item: final embeddings of the items. Shape: (items, width)
        initial_user: initial embeddings :math:`E` of the users. Shape: (users, width)
        item_message: :math:`h_j`, the message of each item to its users. Shape: (items, width)
        edges: matrix of the weights :math:`\hat a_{uj}` (`Graph.normalized_weights`), one row per
            user.
        graph: the edges, with their weights as in the file.
    """

    user: np.ndarray
    item: np.ndarray
    initial_user: np.ndarray
    item_message: np.ndarray
    edges: CsrMatrix
    graph: Graph


def propagate(graph: Graph, user: np.ndarray, item: np.ndarray) -> Propagated:
    """Compute final embeddings by Horner's rule, with two products of a sparse matrix per layer.

    Args:
        graph: the edges and the coefficients.
        user: initial embeddings of the users. Shape: (users, width)
        item: initial embeddings of the items. Shape: (items, width)
    """
    pairs, value = graph.pairs, graph.normalized_weights()
    edges = CsrMatrix.from_edges(pairs.user, pairs.item, value, len(user))
    transposed = CsrMatrix.from_edges(pairs.item, pairs.user, value, len(item))
    *lower, last = (np.float32(c) for c in graph.coefficients)
    with np.errstate(over="ignore", invalid="ignore"):  # `Recommender` checks for overflow
        users, items, item_message = last * user, last * item, None
        for coefficient in reversed(lower):
            item_message = items
            users, items = edges.matmul(items), transposed.matmul(users)
            users += coefficient * user
            items += coefficient * item
    if item_message is None:  # no layers
        item_message = np.zeros_like(item)
    return Propagated(users, items, user, item_message, edges, graph)
