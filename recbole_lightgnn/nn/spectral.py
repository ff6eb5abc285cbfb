"""Truncated SVD of the normalized interaction graph, with an offset added to the degrees."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from recbole_lightgnn.nn.graph import InteractionGraph
from recbole_lightgnn.nn.truncated_svd import truncated_svd


class LowRank(NamedTuple):
    """Truncated singular value decomposition of a graph, largest value first.

    Attributes:
        user: left singular vectors U. Shape: (users, rank)
        value: singular values S. Shape: (rank,)
        item: right singular vectors V. Shape: (items, rank)
    """

    user: Tensor
    value: Tensor
    item: Tensor


def low_rank_graph(graph: InteractionGraph, *, rank: int, degree_offset: float) -> LowRank:
    r"""Compute the ``rank`` largest singular values and vectors of the normalized graph.

    .. math:: (D_U + c)^{-1/2} A\,(D_I + c)^{-1/2} \approx U S V^\top

    Without an offset c, the largest singular value of each connected component is 1, and small
    components of a sparse graph can supply all ``rank`` values. The result is equal at every call.
    Rows of nodes without interactions are 0.

    Args:
        graph: the interaction graph.
        rank: number of singular values, at least 1 and below the numbers of users and items.
        degree_offset: c, the number added to every degree, at least 0.

    Returns:
        The decomposition in float32, on the graph's device.

    Raises:
        ValueError: if ``rank`` is out of range or ``degree_offset`` is negative.
    """
    pattern = graph.interactions.pattern
    if not 1 <= rank < min(pattern.shape):
        raise ValueError(f"rank must lie in [1, {min(pattern.shape)}) (got {rank})")
    if not degree_offset >= 0:
        raise ValueError(f"degree_offset must be at least 0 (got {degree_offset})")
    row, col = pattern.row.cpu().numpy(), pattern.col.cpu().numpy()
    user_degree = np.bincount(row, minlength=pattern.shape[0])
    item_degree = np.bincount(col, minlength=pattern.shape[1])
    values = 1 / np.sqrt((user_degree[row] + degree_offset) * (item_degree[col] + degree_offset))
    matrix = sp.csr_matrix((values, (row, col)), shape=pattern.shape)
    user, value, item = truncated_svd(matrix, rank, setting="rank")
    user[user_degree == 0] = 0  # rounding leaves numbers of about 1e-17, and padding would learn
    item[item_degree == 0] = 0
    return LowRank(
        *(
            torch.from_numpy(part.astype(np.float32)).to(pattern.device)
            for part in (user, value, item)
        )
    )
