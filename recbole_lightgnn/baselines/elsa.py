"""ELSA: a linear autoencoder with a low-rank matrix of items by items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.models.base import GraphRecommender
from recbole_lightgnn.ops import spmm


class ELSA(GraphRecommender):
    r"""Linear autoencoder with an item-item matrix of low rank and a zero diagonal.

    .. math:: \hat y_u = r_u(FF^\top - I),\qquad
              \mathcal L = \frac1{|B|}\sum_{u\in B}
              \Big\|\frac{r_u}{\|r_u\|} - \frac{\hat y_u}{\|\hat y_u\|}\Big\|^2

    :math:`r_u` is the row of user u in the interaction matrix A. :math:`\hat y_u` are the user's
    scores of all items. The rows of F have length 1, so the diagonal of :math:`FF^\top - I` is
    zero. Only items have parameters.

    The final embeddings are :math:`A F` for users and F for items. Their inner product lacks the
    term :math:`-I`, so it differs from :math:`\hat y` only at the user's train items, which a
    ranking leaves out.

    Source: Vančura et al., "Scalable Linear Shallow Autoencoder for Collaborative Filtering",
    RecSys'22.

    Differs from the authors' code: the error is summed over items, not averaged, and the optimizer
    is Adam, because RecBole has no NAdam. The authors' newer code passes :math:`\hat y` through
    a ReLU; here the output is linear, as in the paper.

    Attributes:
        item_embedding: F before its rows are scaled to length 1. Shape: (items, width)
    """

    item_embedding: Any  # CompressedELSA has another kind of table

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.item_embedding = self._new_table(Settings(config).integer("embedding_size"))

    def _new_table(self, width: int) -> Any:
        table = nn.Parameter(torch.empty(self.n_items, width))
        nn.init.xavier_uniform_(table)
        return table

    @staticmethod
    def widths(settings: Mapping[str, Any]) -> tuple[int | None, int]:
        """Return ``None`` (no initial embeddings of users), and the width of final embeddings."""
        return None, settings["embedding_size"]

    def weights(self) -> Tensor:
        """Return F before its rows are scaled to length 1. Shape: (items, width)"""
        weights: Tensor = self.item_embedding
        return weights

    def directions(self) -> Tensor:
        """Compute F, the item embeddings of length 1. Shape: (items, width)"""
        return F.normalize(self.weights(), dim=-1)

    def encode(self) -> tuple[Tensor, Tensor]:
        """Compute the final embeddings A F and F. Shapes: (users, width), (items, width)"""
        items, pattern = self.directions(), self.observed.interactions.pattern
        return spmm(pattern, items.new_ones(pattern.nnz), items), items

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """Compute ELSA's loss for the batch's users over all items."""
        positive = self.positive_items(self.batch_of(interaction).user)
        items = self.directions()[1:]  # without RecBole's padding row
        sums = F.embedding_bag(positive.col - 1, items, positive.pointers[:-1], mode="sum")
        return {"reconstruction": reconstruction_error(sums, items, positive.pointers.diff())}


def reconstruction_error(sums: Tensor, items: Tensor, degree: Tensor) -> Tensor:
    r"""Compute ELSA's loss, averaged over the users; 0 without users. Shape: ()

    Let r be a user's row of the interaction matrix, with d interactions, and :math:`z = r F` the
    sum of the embeddings of the user's items. The scores :math:`\hat y = z F^\top - r` have

    .. math:: r\cdot\hat y = \|z\|^2 - d,\qquad
              \|\hat y\|^2 = z F^\top F z^\top - 2\|z\|^2 + d

    A user's loss is 2 minus twice the cosine of r and :math:`\hat y`. No matrix of users by items
    is needed.

    Args:
        sums: z of each user, computed from F; receives gradients. Shape: (users, width)
        items: F, with rows of length 1; receives gradients. Shape: (items, width)
        degree: d, number of interactions of each user, at least 1. Shape: (users,)
    """
    squares = sums.square().sum(dim=-1)
    length = ((sums @ (items.T @ items)) * sums).sum(dim=-1) - 2 * squares + degree
    # If a user's items resemble no other item, the output is 0 up to rounding: cosine 0.
    smallest = 1e-6 * degree.square()
    cosine = (squares - degree) / (degree * length.clamp_min(smallest)).sqrt()
    return (2 - 2 * cosine.where(length > smallest, 0.0)).sum() / max(1, len(degree))
