"""UltraGCN: matrix factorization by a loss with the weights of a graph convolution."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.models.base import EmbeddingRecommender
from recbole_lightgnn.models.solved import largest_products, power, scaled
from recbole_lightgnn.nn.graph import InteractionGraph


class UltraGCN(EmbeddingRecommender):
    r"""Matrix factorization that uses the graph only in the weights of its loss.

    .. math:: \mathcal L = \frac1B\sum_{(u,i)}\Big[-w^+_{ui}\log\sigma(\hat y_{ui})
              - \frac{\eta}{n}\sum_c w^-_{uc}\log\sigma(-\hat y_{uc})
              - \lambda\sum_{j\in S_i}\omega_{ij}\log\sigma(\hat y_{uj})\Big]
              + \frac{\gamma}{2B}\|\Theta\|^2

    .. math:: w^\pm_{ui} = a^\pm + b^\pm\beta_{ui},\qquad
              \beta_{ui} = \frac1{d_u}\sqrt{\frac{d_u + 1}{d_i + 1}}

    :math:`a^+` and :math:`b^+` are ``positive_base`` and ``positive_beta``; :math:`a^-` and
    :math:`b^-` are ``negative_base`` and ``negative_beta``. The c are n items drawn uniformly; some
    of them may be items of the user. :math:`S_i` are the ``n_similar`` items with the largest
    :math:`\omega_{ij}` (:func:`similar_items`). The score is the inner product of the trained
    embeddings.

    Source: Mao et al., "UltraGCN: Ultra Simplification of Graph Convolutional Networks for
    Recommendation", CIKM'21.

    Differs from the authors' code as follows. The n items c are drawn once for a batch, not for
    each interaction. An item is not similar to itself. :math:`\omega` is as in the paper; the code
    adds 1 under the roots. The loss is divided by B, the number of interactions of the batch.
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        for table in self.initial():
            nn.init.normal_(table, std=settings.number("init_std"))
        self.positive = settings.number("positive_base"), settings.number("positive_beta")
        self.negative = settings.number("negative_base"), settings.number("negative_beta")
        self.n_negatives = settings.integer("n_negatives")
        self.negative_weight = settings.number("negative_weight")
        self.similar_weight = settings.number("similar_weight")
        self.reg_weight = settings.number("reg_weight")
        pattern = self.observed.interactions.pattern
        item_degree = torch.bincount(pattern.col, minlength=self.n_items)
        degree = self.positive_items.degree.clamp(min=1)
        # beta is the product of a factor of the user and a factor of the item.
        self.user_factor = (degree + 1.0).sqrt() / degree
        self.item_factor = (item_degree + 1.0).rsqrt()
        similar, omega = similar_items(self.observed, settings.integer("n_similar"))
        self.similar, self.omega = similar.to(self.device), omega.to(self.device)

    def encode(self) -> tuple[Tensor, Tensor]:
        """Return the trained embeddings. Shapes: (users, width), (items, width)"""
        return self.initial()

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """Compute the loss terms of the batch's interactions, drawn items and similar items."""
        batch = self.batch_of(interaction)
        size, similar = len(batch.user), self.similar[batch.item]  # (batch, similar)
        drawn = torch.randint(1, self.n_items, (self.n_negatives,), device=self.device)
        # One gather, because each gather has a gradient as large as the table.
        rows = self.item_embedding.index_select(
            0, torch.cat([batch.item, drawn, similar.flatten()])
        )
        positive, negative, near = rows.split([size, len(drawn), similar.numel()])
        user = self.user_embedding.index_select(0, batch.user)
        user_factor = self.user_factor[batch.user]
        weight = _weight(self.positive, user_factor * self.item_factor[batch.item])
        against = _weight(self.negative, user_factor[:, None] * self.item_factor[drawn])
        similarity = (near.view(*similar.shape, -1) @ user[..., None])[..., 0]  # (batch, similar)
        terms = {
            "interaction": weight * F.softplus(-(user * positive).sum(dim=-1)),
            "negative": self.negative_weight
            * (against * F.softplus(user @ negative.T)).mean(dim=1),
            "similar": self.similar_weight
            * (self.omega[batch.item] * F.softplus(-similarity)).sum(dim=1),
        }
        squares = torch.stack([table[1:].square().sum() for table in self.initial()]).sum()
        decay = self.reg_weight * squares / (2 * size)
        return {name: term.mean() for name, term in terms.items()} | {"decay": decay}


def _weight(base_and_beta: tuple[float, float], beta: Tensor) -> Tensor:
    base, factor = base_and_beta
    return base + factor * beta


def similar_items(graph: InteractionGraph, count: int) -> tuple[Tensor, Tensor]:
    r"""Find, for each item i, the items j with the largest similarity :math:`\omega_{ij}`.

    .. math:: \omega_{ij} = \frac{G_{ij}}{\sqrt{g_i g_j}},\qquad G = A^\top A,\quad
              g_i = \sum_{j\ne i} G_{ij},\quad j\ne i

    This is the paper's :math:`\frac{G_{ij}}{g_i}\sqrt{g_i/g_j}` without the diagonal of G.

    Args:
        graph: the observed interactions.
        count: number of items to find.

    Returns:
        The similar items of each item, and their :math:`\omega`. Item 0 with the weight 0 fills the
        row of an item with fewer similar items. Shapes: (items, count), (items, count)
    """
    pattern = graph.interactions.pattern
    place = pattern.row.cpu().numpy(), pattern.col.cpu().numpy()
    matrix = sp.csr_matrix((np.ones(pattern.nnz), place), shape=pattern.shape)
    total = matrix.T @ (np.diff(matrix.indptr) - 1.0)  # g: each user of i has d_u - 1 other items
    scaled_items = scaled(matrix, np.ones(matrix.shape[0]), power(total, -0.5))
    best = largest_products(scaled_items.T.tocsr(), scaled_items, count)
    row = np.repeat(np.arange(graph.n_items), np.diff(best.indptr))
    column = np.arange(best.nnz) - best.indptr[row]
    similar = np.zeros((graph.n_items, count), dtype=np.int64)
    weight = np.zeros((graph.n_items, count), dtype=np.float32)
    similar[row, column], weight[row, column] = best.indices, best.data
    return torch.from_numpy(similar), torch.from_numpy(weight)
