"""iALS: matrix factorization of implicit feedback by alternating least squares."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from recbole.utils import ModelType
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.models.solved import SolvedTables

_NUMBERS = 1 << 24  # size of the gathered rows and the linear systems in memory at once


class IALS(SolvedTables):
    r"""Matrix factorization by squared error, with less weight on pairs without an interaction.

    .. math:: \sum_{(u,i)\in A}(1 - x_u\cdot y_i)^2 + \alpha_0\sum_{u,i}(x_u\cdot y_i)^2
              + \lambda\Bigl[\sum_u (d_u + \alpha_0|I|)^\nu\|x_u\|^2
              + \sum_i (d_i + \alpha_0|U|)^\nu\|y_i\|^2\Bigr]

    x and y are embeddings of users and items, A is the set of interactions, and d are degrees. An
    epoch solves for all users with fixed items, then for all items with fixed users:

    .. math:: x_u = \Bigl(\sum_{i\in N_u} y_i y_i^\top + \alpha_0 Y^\top Y
              + \lambda(d_u + \alpha_0|I|)^\nu\,\mathbb 1\Bigr)^{-1}\sum_{i\in N_u} y_i

    Item embeddings start from a normal distribution with standard deviation .1 / sqrt(width). Users
    and items without interactions have embeddings of 0.

    Source: Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets",
    ICDM'08. The power nu and the settings: Rendle et al., "Revisiting the Performance of iALS on
    Item Recommendation Benchmarks", RecSys'22.
    """

    type = ModelType.GENERAL

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        width = self.settings.integer("embedding_size")
        self.item_table[1:].normal_(std=0.1 / width**0.5)
        self._columns = self.interactions.T.tocsr()

    def solve(self) -> None:
        """Run one epoch: solve for the embeddings of users, then of items."""
        self.user_table.copy_(self._solved(self.interactions, self.item_table))
        self.item_table.copy_(self._solved(self._columns, self.user_table))

    def _solved(self, rows: sp.csr_matrix, fixed: Tensor) -> Tensor:
        """Solve for the embeddings of all users, or of all items.

        Nodes with similar numbers of interactions are solved together.

        Args:
            rows: interactions of the nodes to solve for. Shape: (nodes, other nodes)
            fixed: embeddings of the other nodes (e.g. items). Shape: (other nodes, width)
        """
        width = fixed.shape[1]
        weight = self.settings.number("unobserved_weight")
        frequency = np.diff(rows.indptr)
        decay = self.settings.number("reg_weight") * (
            (frequency + weight * (rows.shape[1] - 1)) ** self.settings.number("frequency_exponent")
        )
        base = weight * (fixed.T @ fixed)  # (width, width)
        result = torch.zeros(rows.shape[0], width, device=fixed.device)
        order = np.argsort(frequency, kind="stable")
        order = order[frequency[order] > 0]
        item = torch.from_numpy(rows.indices.astype(np.int64)).to(fixed.device)
        while len(order):
            # A batch is padded to its last row, which has most interactions.
            sizes = np.arange(1, len(order) + 1) * (frequency[order] + width) * width
            count = max(1, int(np.searchsorted(sizes, _NUMBERS, side="right")))
            batch, order = order[:count], order[count:]
            parts = [item[rows.indptr[one] : rows.indptr[one + 1]] for one in batch]
            # Row 0 of a table is RecBole's padding row, which is zero.
            gathered = fixed[pad_sequence(parts, batch_first=True)]  # (batch, most items, width)
            systems = gathered.transpose(1, 2) @ gathered + base
            systems.diagonal(dim1=1, dim2=2).add_(
                torch.from_numpy(decay[batch]).to(systems)[:, None]
            )
            target = gathered.sum(dim=1)[..., None]
            factor = torch.linalg.cholesky(systems)
            result[torch.from_numpy(batch)] = torch.cholesky_solve(target, factor)[..., 0]
        return result
