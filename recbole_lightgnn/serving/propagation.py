"""Eq. 4 and 2 on the edges of an exported model.

With NumPy alone: to import SciPy's sparse matrices takes longer than all of the products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from recbole_lightgnn.serving.model import Graph

_ROWS = 1 << 12  # of the other factor, gathered at once: 1 MB of 64 columns, which caches hold


class Edges(NamedTuple):
    """A sparse matrix by rows.

    Attributes:
        pointers: where each row begins, and where the last ends. Shape: (rows + 1,)
        column: Shape: (edges,)
        value: Shape: (edges,)
    """

    pointers: np.ndarray
    column: np.ndarray
    value: np.ndarray

    @classmethod
    def of(cls, row: np.ndarray, column: np.ndarray, value: np.ndarray, n_rows: int) -> Edges:
        """From edges in any order; those of a row stay in theirs."""
        order = np.argsort(row, kind="stable")
        ends = np.cumsum(np.bincount(row, minlength=n_rows))
        return cls(np.concatenate([[0], ends]), column[order], value[order])

    def times(self, dense: np.ndarray) -> np.ndarray:
        """The product with a table. Rows of one length are summed together.

        Args:
            dense: Shape: (columns, width)
        """
        product = np.zeros((len(self.pointers) - 1, dense.shape[1]), np.float32)
        degree = np.diff(self.pointers)
        by_degree = np.argsort(degree, kind="stable")
        degrees, starts = np.unique(degree[by_degree], return_index=True)
        for n_edges, alike in zip(degrees, np.split(by_degree, starts)[1:], strict=True):
            step = max(1, _ROWS // max(1, n_edges))
            for start in range(0, len(alike) if n_edges else 0, step):
                row = alike[start : start + step]
                edge = self.pointers[row][:, None] + np.arange(n_edges)  # (rows, edges)
                gathered = dense[self.column[edge]]  # (rows, edges, width)
                product[row] = np.einsum("re,rew->rw", self.value[edge], gathered)
        return product


@dataclass(frozen=True)
class Propagated:
    r"""Final embeddings, and what they are made of.

    .. math:: \bar E = \sum_{k=0}^{L} c_k \hat A^k E,\qquad
              \bar e_u = c_0 e_u + \sum_j \hat a_{uj} h_j,\qquad
              h_j = \sum_{k=1}^{L} c_k (\hat A^{k-1} E)_j

    Attributes:
        user: final embeddings of the users. Shape: (users, width)
        item: of the items. Shape: (items, width)
        initial: :math:`E` of the users. Shape: (users, width)
        carried: :math:`h_j`, what an edge to an item carries. Shape: (items, width)
        edges: :math:`\hat a_{uj} = w_{uj} / \sqrt{d_u d_j}`, by user.
        graph: the edges as the file has them.
    """

    user: np.ndarray
    item: np.ndarray
    initial: np.ndarray
    carried: np.ndarray
    edges: Edges
    graph: Graph


def propagate(graph: Graph, user: np.ndarray, item: np.ndarray) -> Propagated:
    """Final embeddings by Horner's rule: a product each way a layer.

    Args:
        graph: the edges.
        user: initial embeddings. Shape: (users, width)
        item: initial embeddings. Shape: (items, width)
    """
    pairs, value = graph.pairs, graph.values()
    edges = Edges.of(pairs.user, pairs.item, value, len(user))
    turned = Edges.of(pairs.item, pairs.user, value, len(item))
    *lower, last = (np.float32(c) for c in graph.coefficients)
    with np.errstate(over="ignore", invalid="ignore"):  # who scores sees to what is not finite
        users, items, carried = last * user, last * item, None
        for coefficient in reversed(lower):
            carried = items
            users, items = edges.times(items), turned.times(users)
            users += coefficient * user
            items += coefficient * item
    if carried is None:  # no layers
        carried = np.zeros_like(item)
    return Propagated(users, items, user, carried, edges, graph)
