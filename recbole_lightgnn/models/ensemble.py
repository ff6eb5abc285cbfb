"""Several trained models as one teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.base import GraphRecommender
from recbole_lightgnn.models.frozen_teacher import sample_users, score_std
from recbole_lightgnn.models.scoring_tables import final_tables, table_named


class Ensemble:
    r"""Teacher that sums the scores of several trained models.

    .. math:: \hat y_{ui} = \sum_m \hat y^m_{ui} / \sigma_m

    :math:`\sigma_m` is the standard deviation of the scores :math:`\hat y^m` of model m
    (`score_std`). The sum is the inner product of the models' concatenated final embeddings.

    Args:
        members: trained models of the same users and items; set to evaluation mode.

    Attributes:
        user_embedding: initial embeddings of the first member, or ``None``. Shape: (users, width)
        item_embedding: initial embeddings of the first member, or ``None``. Shape: (items, width)

    Raises:
        InputError: if a member does not score by the inner product of two tables.
    """

    ranks_by_tables = True  # so that `final_tables` finds the concatenated tables

    @torch.no_grad()
    def __init__(self, members: Sequence[Any]) -> None:
        first = members[0]
        self.n_users, self.n_items, self.device = first.n_users, first.n_items, first.device
        self.USER_ID, self.ITEM_ID = first.USER_ID, first.ITEM_ID
        parts = []
        for member in members:
            member.eval()
            tables = final_tables(member)
            if tables is None:
                raise InputError(
                    f"n_teachers above 1 needs teachers that score by two tables, as graph models "
                    f"do, and {type(member).__name__} does not: set n_teachers=1"
                )
            user, item = tables
            users = sample_users(self.n_users).to(self.device)
            parts.append((user / score_std(user[users] @ item[1:].T), item))
        self.user_embedding = table_named(first, "user_embedding")
        self.item_embedding = table_named(first, "item_embedding")
        user_parts, item_parts = zip(*parts, strict=True)
        self._final = torch.cat(user_parts, dim=1), torch.cat(item_parts, dim=1)

    def eval(self) -> Ensemble:
        """Return self; the members are in evaluation mode."""
        return self

    def final_embeddings(self) -> tuple[Tensor, Tensor]:
        """Return concatenated embeddings. Shapes: (users, sum of widths), (items, sum of widths)"""
        return self._final

    # RecBole's evaluator calls these methods of every model.
    predict = GraphRecommender.predict
    full_sort_predict = GraphRecommender.full_sort_predict
