"""The teacher of LightGNN: LightGCN on the whole graph."""

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

_RANKING = ("ranking_norm", "ranking_prior", "ranking_self_weight")


class LightGNNTeacher(EmbeddingRecommender):
    r"""LightGCN (Eq. 1, 2), trained by BPR (Eq. 3) or a softmax loss, without a teacher.

    .. math:: \mathcal L = \mathcal L_{bpr} + \lambda_4\|\Theta\|^2

    The model ranks by the inner product of the final embeddings (Eq. 2). Three settings affect the
    ranking but not the training:

    - ``ranking_self_weight`` :math:`\omega` is the weight of a node's initial embedding:
      :math:`\bar E = \omega E_0 + \sum_{l=1}^{L} E_l`. On a sparse graph, initial embeddings
      overfit the nodes' few interactions.
    - With ``ranking_norm`` :math:`\gamma` below 1 or ``ranking_prior`` :math:`\beta` above 0, the
      ranking is by

      .. math:: \hat y_{ui} = \cos(e_u, e_i)\,(|e_i| / \overline{|e|})^\gamma
                + \tau\beta\log(1 + d_i)

      with the final embeddings e, the temperature :math:`\tau` of the softmax, the number
      :math:`d_i` of the item's interactions and the mean norm :math:`\overline{|e|}` of the items.
      The embeddings to rank by have one more column, so that their inner products are these scores.
      With ``similarity: cosine``, :math:`\gamma = 0` and :math:`\beta` equal to
      ``popularity_prior``, these scores are the training logits times :math:`\tau`.
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.n_layers = settings.integer("n_layers")
        self.reg_weight = settings.number("reg_weight")
        self.objective = interaction_objective(settings, self.observed, self.positive_items)
        self.temperature = settings.number("temperature")
        self.log_popularity = log_popularity(self.observed)
        self.set_ranking(**{key: settings.number(key) for key in _RANKING})

    def set_ranking(
        self, ranking_norm: float, ranking_prior: float, ranking_self_weight: float
    ) -> None:
        """Set the three settings of the ranking, also of a trained model."""
        self.ranking_norm, self.ranking_prior = ranking_norm, ranking_prior
        self.ranking_self_weight = ranking_self_weight
        self.by_inner_product = ranking_norm == 1 and ranking_prior == 0
        self._final = None

    @staticmethod
    def widths(settings: Mapping[str, Any]) -> tuple[int | None, int]:
        """Return ``embedding_size`` and the width of the embeddings to rank by (:meth:`infer`)."""
        width = settings["embedding_size"]
        by_inner_product = settings["ranking_norm"] == 1 and settings["ranking_prior"] == 0
        return width, width + (not by_inner_product)

    def propagate(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Propagate by Eq. 1 and sum the layers by Eq. 2; see `GraphRecommender.propagate`."""
        return lightgcn(self.observed, user, item, n_layers=self.n_layers)

    def infer(self) -> tuple[Tensor, Tensor]:
        """Compute the embeddings to rank by, as the three settings ``ranking_...`` say.

        Shapes: (users, width), (items, width). The width is ``embedding_size``, plus 1 if
        ``ranking_norm`` or ``ranking_prior`` is not the default.
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
        """Compute the interaction loss and the weight decay of initial embeddings."""
        batch = self.batch_of(interaction)
        terms = {"interaction": self.objective(self.encode(), batch)}
        if self.reg_weight:
            terms["decay"] = self.reg_weight * self.decay(*self.initial(), batch)
        return terms
