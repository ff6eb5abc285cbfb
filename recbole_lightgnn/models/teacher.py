"""Stage one: LightGCN on the whole graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.models.base import EmbeddingRecommender
from recbole_lightgnn.models.objective import InteractionObjective
from recbole_lightgnn.nn.propagation import lightgcn


class LightGNNTeacher(EmbeddingRecommender):
    r"""LightGCN (Eq. 1, 2) trained on the interactions alone (Eq. 3, or a softmax).

    .. math:: \mathcal L = \mathcal L_{bpr} + \lambda_4\|\Theta\|^2

    Ranks by inner product (Eq. 2); or, with an exponent :math:`\gamma` (``ranking_norm``) below 1
    or a weight :math:`\beta` (``ranking_prior``) above 0, by

    .. math:: \hat y_{ui} = \cos(e_u, e_i)\,(|e_i| / \overline{|e|})^\gamma
              + \tau\beta\log(1 + d_i)

    with the temperature :math:`\tau` of the softmax and the item's interactions :math:`d_i`:
    :math:`\gamma = 0` and the prior of training are the logits that were trained. Final embeddings
    are then these factors, with a column more. And where a node's own embedding counts more or less
    than its neighbourhood, :math:`\bar E = \omega E_0 + \sum_{l=1}^{L} E_l` by the
    setting ``ranking_self_weight``: on a sparse graph it fits the few interactions of the node.
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.n_layers = settings.integer("n_layers")
        self.reg_weight = settings.number("reg_weight")
        self.objective = InteractionObjective(settings, self.observed, self.own_items)
        self.ranking_norm, self.ranking_prior = (
            settings.number("ranking_norm"),
            settings.number("ranking_prior"),
        )
        self.ranking_self_weight = settings.number("ranking_self_weight")
        self.by_inner_product = _by_inner_product(settings)

    @staticmethod
    def widths(settings: Mapping[str, Any]) -> tuple[int | None, int]:
        """Of both alike, but for the column that a ranking by parts has more."""
        width = settings["embedding_size"]
        return width, width + (not _by_inner_product(settings))

    def propagate(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 1 and 2."""
        return lightgcn(self.observed, user, item, n_layers=self.n_layers)

    def infer(self) -> tuple[Tensor, Tensor]:
        """Final embeddings whose inner product ranks."""
        user, item = self.encode()
        if self.ranking_self_weight != 1:
            more = self.ranking_self_weight - 1
            user, item = user + more * self.user_embedding, item + more * self.item_embedding
        if self.by_inner_product:
            return user, item
        user, length = F.normalize(user, dim=-1), item.norm(dim=-1, keepdim=True)
        length = length / length[1:].mean()
        item = F.normalize(item, dim=-1) * length**self.ranking_norm
        weight = self.objective.temperature * self.ranking_prior
        prior = weight * self.objective.log_popularity[:, None]
        return torch.cat([user, torch.ones_like(user[:, :1])], 1), torch.cat([item, prior], 1)

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """The interaction loss, and weight decay on the batch's initial embeddings."""
        batch = self.batch_of(interaction)
        terms = {"interaction": self.objective(self.encode(), batch)}
        if self.reg_weight:
            terms["decay"] = self.reg_weight * self.decay(*self.initial(), batch)
        return terms


def _by_inner_product(settings: Mapping[str, Any]) -> bool:
    return bool(settings["ranking_norm"] == 1 and settings["ranking_prior"] == 0)
