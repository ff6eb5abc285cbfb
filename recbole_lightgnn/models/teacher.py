"""Teacher: LightGCN on the whole graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.models.base import EmbeddingRecommender
from recbole_lightgnn.models.objective import interaction_objective, log_popularity
from recbole_lightgnn.nn.propagation import lightgcn


class LightGNNTeacher(EmbeddingRecommender):
    r"""LightGCN (Eq. 1, 2) trained on the interactions alone, by BPR (Eq. 3) or a softmax.

    .. math:: \mathcal L = \mathcal L_{bpr} + \lambda_4\|\Theta\|^2

    It ranks by the inner product of the final embeddings (Eq. 2). Three settings change the ranking
    and leave the training as it is:

    - ``ranking_self_weight`` :math:`\omega` weights a node's own embedding against its
      neighbourhood: :math:`\bar E = \omega E_0 + \sum_{l=1}^{L} E_l`. On a sparse graph a node's
      own embedding overfits its few interactions.
    - ``ranking_norm`` :math:`\gamma` below 1 or ``ranking_prior`` :math:`\beta` above 0 rank by

      .. math:: \hat y_{ui} = \cos(e_u, e_i)\,(|e_i| / \overline{|e|})^\gamma
                + \tau\beta\log(1 + d_i)

      with the temperature :math:`\tau` of the softmax and the number :math:`d_i` of the item's
      interactions. The final embeddings are the factors of this score and have one more column.
      With the cosine as ``similarity``, :math:`\gamma = 0` and the ``popularity_prior`` of training
      as :math:`\beta`, the scores are the logits of training times :math:`\tau`.
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.n_layers = settings.integer("n_layers")
        self.reg_weight = settings.number("reg_weight")
        self.objective = interaction_objective(settings, self.observed, self.positive_items)
        self.temperature = settings.number("temperature")
        self.ranking_norm = settings.number("ranking_norm")
        self.ranking_prior = settings.number("ranking_prior")
        self.ranking_self_weight = settings.number("ranking_self_weight")
        self.by_inner_product = _by_inner_product(settings)
        self.log_popularity = log_popularity(self.observed)

    @staticmethod
    def widths(settings: Mapping[str, Any]) -> tuple[int | None, int]:
        """Return ``embedding_size`` twice; final embeddings may have one more column."""
        width = settings["embedding_size"]
        return width, width + (not _by_inner_product(settings))

    def propagate(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Propagate by Eq. 1 and sum the layers by Eq. 2; see `GraphRecommender.propagate`."""
        return lightgcn(self.observed, user, item, n_layers=self.n_layers)

    def infer(self) -> tuple[Tensor, Tensor]:
        """Compute the embeddings to rank by, with the settings of the ranking applied.

        Shapes: (users, width), (items, width), each with one more column if the ranking is not by
        inner product
        """
        user, item = self.encode()
        if self.ranking_self_weight != 1:
            more = self.ranking_self_weight - 1
            user, item = user + more * self.user_embedding, item + more * self.item_embedding
        if self.by_inner_product:
            return user, item
        user, length = F.normalize(user, dim=-1), item.norm(dim=-1, keepdim=True)
        length = length / length[1:].mean()
        item = F.normalize(item, dim=-1) * length**self.ranking_norm
        weight = self.temperature * self.ranking_prior
        prior = weight * self.log_popularity[:, None]
        return torch.cat([user, torch.ones_like(user[:, :1])], 1), torch.cat([item, prior], 1)

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """Compute the interaction loss, and weight decay on the batch's initial embeddings."""
        batch = self.batch_of(interaction)
        terms = {"interaction": self.objective(self.encode(), batch)}
        if self.reg_weight:
            terms["decay"] = self.reg_weight * self.decay(*self.initial(), batch)
        return terms


def _by_inner_product(settings: Mapping[str, Any]) -> bool:
    return bool(settings["ranking_norm"] == 1 and settings["ranking_prior"] == 0)
