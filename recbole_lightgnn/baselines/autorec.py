"""AutoRec: an autoencoder of what a user has interacted with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.models.base import GraphRecommender


class AutoRec(GraphRecommender):
    r"""A user's row of interactions from a hidden layer (Sedhain et al., "AutoRec: Autoencoders
    Meet Collaborative Filtering", WWW'15; its U-AutoRec).

    .. math:: h_u = \sigma(V r_u + \mu),\qquad \hat r_u = W h_u + b,\qquad
              \min\sum_u\|r_u - \hat r_u\|^2 + \tfrac{\lambda}{2}(\|V\|_F^2 + \|W\|_F^2)

    The output is linear, as in the authors' experiments, so that :math:`[h_u, 1]` and
    :math:`[w_i, b_i]` are embeddings whose inner product is the score.

    The paper's error is over observed ratings. Of interactions all that is observed is one, and
    a constant would do: the error is over all items here, with zeros for those without. They need
    not be looked at one by one, as :math:`\sum_i\hat r_{ui}^2` is a quadratic form of
    :math:`[h_u, 1]`. Loss and decay are divided by the number of users.
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.reg_weight = settings.number("reg_weight")
        width = settings.integer("embedding_size")
        self.encoder = nn.Parameter(torch.empty(self.n_items, width))  # V, transposed
        self.hidden_bias = nn.Parameter(torch.zeros(width))
        self.decoder = nn.Parameter(torch.empty(self.n_items, width))  # W
        self.output_bias = nn.Parameter(torch.zeros(self.n_items, 1))
        nn.init.xavier_uniform_(self.encoder)
        nn.init.xavier_uniform_(self.decoder)

    @staticmethod
    def widths(settings: Mapping[str, Any]) -> tuple[int | None, int]:
        """No embedding to begin with; the hidden layer with a column of ones."""
        return None, settings["embedding_size"] + 1

    def hidden(self, user: Tensor) -> Tensor:
        """h of the given users, and a column of ones. Shape: (users, width + 1)"""
        state = torch.sigmoid(self._sums(self.encoder, user) + self.hidden_bias)
        return torch.cat([state, torch.ones_like(state[:, :1])], dim=1)

    def _sums(self, table: Tensor, user: Tensor) -> Tensor:
        """The rows of each user's own items, summed. Shape: (users, width of the table)"""
        own = self.own_items(user)
        return F.embedding_bag(own.col, table, own.pointers[:-1], mode="sum")

    def output(self) -> Tensor:
        """W and b, side by side. Shape: (items, width + 1)"""
        return torch.cat([self.decoder, self.output_bias], dim=1)

    def encode(self) -> tuple[Tensor, Tensor]:
        """What the score is a product of: the hidden layer of every user, and the output layer."""
        return self.hidden(torch.arange(self.n_users, device=self.device)), self.output()

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """The squared error of all items of a batch of users, and weight decay."""
        batch, output = self.batch_of(interaction), self.output()
        user, hidden = batch.user, self.hidden(batch.user)
        items = output[1:]  # without RecBole's padding row
        every = ((hidden @ (items.T @ items)) * hidden).sum()
        observed = (hidden * self._sums(output, user)).sum()
        # (1 - y)^2 is y^2 - 2 y + 1
        error = every - 2 * observed + len(batch.item)
        weights = self.encoder.square().sum() + self.decoder.square().sum()
        return {
            "reconstruction": error / max(1, len(user)),
            "decay": self.reg_weight * weights / (2 * (self.n_users - 1)),
        }
