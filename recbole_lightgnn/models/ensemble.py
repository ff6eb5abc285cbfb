"""Several trained models as one teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from recbole_lightgnn.models.frozen_teacher import FrozenTeacher
from recbole_lightgnn.models.scoring_tables import table_named


class Ensemble:
    r"""Teacher that sums the scores of several trained models.

    .. math:: \hat y_{ui} = \sum_m w_m \hat y^m_{ui} / \sigma_m

    :math:`w_m` is the weight of model m, and :math:`\sigma_m` the standard deviation of its scores
    :math:`\hat y^m` (`score_std`). If every model scores by the inner product of two tables, the
    sum is the inner product of the concatenated tables.

    Args:
        members: trained models of the same users and items; set to evaluation mode.
        weights: a weight above 0 for each model; by default, 1.

    Attributes:
        weights: the weights.
        user_embedding: initial embeddings of users of the first member that has initial embeddings,
            or ``None``. Shape: (users, width)
        item_embedding: initial embeddings of items of the same member. Shape: (items, width)
        ranks_by_tables: whether every member scores by two tables.
    """

    @torch.no_grad()
    def __init__(self, members: Sequence[Any], weights: Sequence[float] | None = None) -> None:
        first = members[0]
        self.n_users, self.n_items, self.device = first.n_users, first.n_items, first.device
        self.USER_ID, self.ITEM_ID = first.USER_ID, first.ITEM_ID
        self.weights = [1.0] * len(members) if weights is None else list(weights)
        self._teachers = [FrozenTeacher(member) for member in members]
        self.ranks_by_tables = all(teacher.user is not None for teacher in self._teachers)
        self._final = self.score_tables() if self.ranks_by_tables else None
        self.user_embedding: Tensor | None = None
        self.item_embedding: Tensor | None = None
        if initial := next(filter(None, map(_initial, members)), None):
            self.user_embedding, self.item_embedding = initial

    def eval(self) -> Ensemble:
        """Return self; the members are in evaluation mode."""
        return self

    def final_embeddings(self) -> tuple[Tensor, Tensor]:
        """Return concatenated embeddings. Shapes: (users, sum of widths), (items, sum of widths)

        Raises:
            ValueError: if a member does not score by two tables.
        """
        if self._final is None:
            raise ValueError("a member of the ensemble does not score by two tables")
        return self._final

    @torch.no_grad()
    def score_tables(self) -> tuple[Tensor, Tensor] | None:
        """Concatenate the tables of the members that have tables; ``None`` if no member has.

        Inner products are the weighted sum of these members' scores. Shapes: as of
        :meth:`final_embeddings`
        """
        users, items = [], []
        for weight, teacher in zip(self.weights, self._teachers, strict=True):
            if teacher.user is not None and teacher.item is not None:
                users.append(weight * (teacher.user / teacher.divisor))
                items.append(teacher.item)
        return (torch.cat(users, dim=1), torch.cat(items, dim=1)) if users else None

    @torch.no_grad()
    def predict(self, interaction: Any) -> Tensor:
        """Compute the scores of a batch of user-item pairs. Shape: (batch,)"""
        if self.ranks_by_tables:
            user, item = self.final_embeddings()
            return (user[interaction[self.USER_ID]] * item[interaction[self.ITEM_ID]]).sum(dim=-1)
        pairs = interaction[self.USER_ID], interaction[self.ITEM_ID]
        return self._sum([teacher.pair_scores(*pairs) for teacher in self._teachers])

    @torch.no_grad()
    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Compute the scores of a batch of users for all items. Shape: (batch * items,)"""
        if self.ranks_by_tables:
            user, item = self.final_embeddings()
            return (user[interaction[self.USER_ID]] @ item.T).flatten()
        items = torch.arange(self.n_items, device=self.device)
        user = interaction[self.USER_ID]
        return self._sum([teacher.scores(user, items) for teacher in self._teachers]).flatten()

    def _sum(self, scores: Sequence[Tensor]) -> Tensor:
        return torch.stack(
            [weight * score for weight, score in zip(self.weights, scores, strict=True)]
        ).sum(dim=0)


def _initial(model: Any) -> tuple[Tensor, Tensor] | None:
    """Return a model's initial embeddings of users and items, or ``None``."""
    user, item = (table_named(model, f"{side}_embedding") for side in ("user", "item"))
    return None if user is None or item is None else (user, item)
