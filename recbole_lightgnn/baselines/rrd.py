"""RRD: distillation of the order of a teacher's best items."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.models.base import EmbeddingRecommender
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher
from recbole_lightgnn.models.objective import Tables, batch_bpr
from recbole_lightgnn.models.taught import TaughtRecommender
from recbole_lightgnn.nn.propagation import lightgcn

_LEFT_OUT = -1e9  # score of an absent item in a list


class RRD(TaughtRecommender, EmbeddingRecommender):
    r"""LightGCN or matrix factorization that learns by BPR and from the order of a teacher's items.

    .. math:: \mathcal L = \mathcal L_{bpr} + w\,\mathcal L_{order} + \lambda_4\|\Theta\|^2

    :math:`\mathcal L_{order}` is `relaxed_order` for the users of the batch. This loss is low if
    the student ranks the teacher's K best items in the teacher's order, and above ``other_items``
    random items. Items that the user has interacted with are left out. With ``n_layers: 0`` the
    model is matrix factorization.

    Source: Kang et al., "DE-RRD: A Knowledge Distillation Framework for Recommender System",
    CIKM'20 (the method RRD).

    Differs from the published code as follows. The teacher's K best items are used, as the authors
    recommend later, not items drawn by rank. :math:`\mathcal L_{order}` and BPR are means, not
    sums. A random item that is among the K best or in the user's interactions is left out, not
    replaced. Random items are drawn in each step, not once in each epoch.
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.n_layers = settings.integer("n_layers")
        self.order_weight = settings.number("order_weight")
        self.best_items = settings.integer("best_items")
        self.other_items = settings.integer("other_items")
        self.reg_weight = settings.number("reg_weight")

    def propagate(self, user: Tensor, item: Tensor) -> Tables:
        """Propagate as LightGCN; see `GraphRecommender.propagate`."""
        return lightgcn(self.observed, user, item, n_layers=self.n_layers)

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """Compute BPR, the loss on the teacher's order, and weight decay."""
        batch, tables = self.batch_of(interaction), self.encode()
        terms = {"interaction": batch_bpr(tables, batch)}
        if self.teacher is not None and self.order_weight:
            value = self.order(self.teacher, tables, batch.user.unique())
            terms["order"] = self.order_weight * value
        terms["decay"] = self.reg_weight * self.decay(*self.initial(), batch)
        return terms

    def order(self, teacher: FrozenTeacher, tables: Tables, user: Tensor) -> Tensor:
        """Compute the loss on the order of the teacher's best items. Shape: ()

        Args:
            teacher: the teacher.
            tables: final embeddings of all users and items. Shapes: (users, width), (items, width)
            user: distinct users of the batch. Shape: (batch users,)
        """
        best, target = teacher.best_items(user, self.best_items, self.positive_items)
        ranked = target.isfinite()
        others = torch.randint(1, self.n_items, (len(user), self.other_items), device=self.device)
        kept = self.observed.interaction_numbers(user[:, None], others) < 0
        kept &= ~(others[:, :, None] == best.masked_fill(~ranked, 0)[:, None, :]).any(dim=-1)
        items = torch.cat([best, others], dim=1)
        rows = tables[1].index_select(0, items.flatten()).view(*items.shape, -1)
        scores = (rows @ tables[0].index_select(0, user)[:, :, None]).squeeze(-1)
        scores = scores.masked_fill(~torch.cat([ranked, kept], dim=1), _LEFT_OUT)
        return relaxed_order(scores[:, : best.shape[1]], scores[:, best.shape[1] :], ranked)


def relaxed_order(ordered: Tensor, others: Tensor, ranked: Tensor) -> Tensor:
    r"""Compute the loss of items that should rank in the given order, above others. Shape: ()

    .. math:: -\frac1{|U|}\sum_u\frac1K\sum_{k=1}^K\Big[s_k - \log\Big(\sum_{j\ge k}\exp s_j
              + \sum_n\exp s_n\Big)\Big]

    U are the users with an ordered item; without such users, the loss is 0. For a user with fewer
    than K ordered items, the mean over k is over those items only.

    Args:
        ordered: scores s_1 ... s_K of the ordered items, best item first; receive gradients.
            Shape: (users, K)
        others: scores s_n of the items without order; receive gradients. Shape: (users, others)
        ranked: true where ``ordered`` has the score of an ordered item. Elsewhere, the value in
            ``ordered`` must be far below all scores. Shape: (users, K)
    """
    below = ordered.flip(-1).logcumsumexp(dim=-1).flip(-1)  # log of the sum over j >= k
    below = torch.logaddexp(below, others.logsumexp(dim=-1, keepdim=True))
    length = ranked.sum(dim=-1)
    losses = (below - ordered).masked_fill(~ranked, 0).sum(dim=-1) / length.clamp(min=1)
    return losses.sum() / (length > 0).sum().clamp(min=1)
