"""AutoRec: an autoencoder of each user's interactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.models.base import GraphRecommender


class AutoRec(GraphRecommender):
    r"""U-AutoRec: rebuild a user's row of the interaction matrix from one hidden layer.

    .. math:: h_u = \sigma(V r_u + \mu),\qquad \hat r_u = W h_u + b,\qquad
              \min\sum_u\|r_u - \hat r_u\|^2 + \tfrac{\lambda}{2}(\|V\|_F^2 + \|W\|_F^2)

    :math:`r_u` is the row of user u in the interaction matrix. The output is linear, as in the
    authors' experiments. The score is the inner product of the embeddings :math:`[h_u, 1]` and
    :math:`[w_i, b_i]`, where :math:`w_i` is row i of W.

    The paper sums the error over observed ratings only. Here all observed values are 1, so a
    constant output would have no error. The sum is therefore over all items, with
    :math:`r_{ui} = 0` for items without an interaction. The error is averaged over the batch's
    users, and the weight decay is divided by the number of all users.

    Source: Sedhain et al., "AutoRec: Autoencoders Meet Collaborative Filtering", WWW'15.

    Attributes:
        encoder: V, transposed. Shape: (items, width)
        hidden_bias: mu. Shape: (width,)
        decoder: W. Shape: (items, width)
        output_bias: b. Shape: (items, 1)
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.reg_weight = settings.number("reg_weight")
        width = settings.integer("embedding_size")
        self.encoder = nn.Parameter(torch.empty(self.n_items, width))
        self.hidden_bias = nn.Parameter(torch.zeros(width))
        self.decoder = nn.Parameter(torch.empty(self.n_items, width))
        self.output_bias = nn.Parameter(torch.zeros(self.n_items, 1))
        nn.init.xavier_uniform_(self.encoder)
        nn.init.xavier_uniform_(self.decoder)

    @staticmethod
    def widths(settings: Mapping[str, Any]) -> tuple[int | None, int]:
        """Return ``None`` (no initial embeddings), and the width of final embeddings."""
        return None, settings["embedding_size"] + 1

    def hidden(self, user: Tensor) -> Tensor:
        """Compute the hidden layer h of users, plus a column of ones. Shape: (users, width + 1)"""
        state = torch.sigmoid(self._sums(self.encoder, user) + self.hidden_bias)
        return torch.cat([state, torch.ones_like(state[:, :1])], dim=1)

    def _sums(self, table: Tensor, user: Tensor) -> Tensor:
        """Sum, for each user, the table's rows of the user's items. Shape: (users, columns)"""
        positive = self.positive_items(user)
        return F.embedding_bag(positive.col, table, positive.pointers[:-1], mode="sum")

    def output(self) -> Tensor:
        """Return the weights W and the bias b side by side. Shape: (items, width + 1)"""
        return torch.cat([self.decoder, self.output_bias], dim=1)

    def encode(self) -> tuple[Tensor, Tensor]:
        """Return [h, 1] and [W, b]. Shapes: (users, width + 1), (items, width + 1)"""
        return self.hidden(torch.arange(self.n_users, device=self.device)), self.output()

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """Compute the squared error of the batch's users over all items, and weight decay."""
        batch, output = self.batch_of(interaction), self.output()
        user, hidden = batch.user, self.hidden(batch.user)
        items = output[1:]  # without RecBole's padding row
        squares = ((hidden @ (items.T @ items)) * hidden).sum()
        observed = (hidden * self._sums(output, user)).sum()
        # An interaction's error is (1 - y)^2 = y^2 - 2 y + 1; `squares` has the y^2 of all pairs.
        error = squares - 2 * observed + len(batch.item)
        weights = self.encoder.square().sum() + self.decoder.square().sum()
        return {
            "reconstruction": error / max(1, len(user)),
            "decay": self.reg_weight * weights / (2 * (self.n_users - 1)),
        }
