"""Eq. 4 and 2 on the edges of an exported model, with SciPy's products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from recbole_lightgnn.serving.model import Graph


@dataclass(frozen=True)
class Propagated:
    r"""Final embeddings, and what they are made of.

    .. math:: \bar E = \sum_{k=0}^{L} c_k \hat A^k E,\qquad
              \bar e_u = c_0 e_u + \sum_j \hat a_{uj} h_j,\qquad
              h_j = \sum_{k=1}^{L} c_k (\hat A^{k-1} E)_j

    Attributes:
        user: final embeddings of the users. Shape: (users, width)
        item: of the items. Shape: (items, width)
        own: :math:`c_0 e_u`, what a user has without any edge. Shape: (users, width)
        carried: :math:`h_j`, what an edge to an item carries. Shape: (items, width)
        edges: :math:`\hat a_{uj} = w_{uj} / \sqrt{d_u d_j}`, users x items, compressed by user.
        graph: the edges as the file has them.
    """

    user: np.ndarray
    item: np.ndarray
    own: np.ndarray
    carried: np.ndarray
    edges: sp.csr_matrix
    graph: Graph


def propagate(graph: Graph, user: np.ndarray, item: np.ndarray) -> Propagated:
    """Final embeddings by Horner's rule: a product each way a layer.

    Args:
        graph: the edges.
        user: initial embeddings. Shape: (users, width)
        item: initial embeddings. Shape: (items, width)
    """
    shape = len(user), len(item)
    edges = sp.csr_matrix((graph.values(), tuple(graph.pairs)), shape)
    turned = edges.T.tocsr()
    *lower, last = (np.float32(c) for c in graph.coefficients)
    with np.errstate(over="ignore", invalid="ignore"):  # who scores sees to what is not finite
        new_user, new_item, carried = last * user, last * item, np.zeros_like(item)
        for coefficient in reversed(lower):
            carried = new_item
            new_user, new_item = (
                coefficient * user + edges @ new_item,
                coefficient * item + turned @ new_user,
            )
        own = np.float32(graph.coefficients[0]) * user
    return Propagated(new_user, new_item, own, carried, edges, graph)
