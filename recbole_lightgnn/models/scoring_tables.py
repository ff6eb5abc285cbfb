"""The two tables that a recommender scores by, whoever's it is: tried, not trusted to a name."""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender
from torch import Tensor, nn

from recbole_lightgnn.nn.prunable_embedding import PrunableEmbedding

# Where RecBole's models have them: graph models keep what they propagated while evaluated
# (LightGCN, NGCF, SGL, NCL, DGCF ...), others score by what they train (BPR, LINE ...).
_FINAL = ("restore_user_e", "restore_item_e")
_TRAINED = ("user_embedding", "item_embedding")
_TRIED = 8  # users


@torch.no_grad()
def final_tables(model: Any) -> tuple[Tensor, Tensor] | None:
    """The embeddings whose inner products are the model's scores, or ``None``.

    A model of RecBole's is asked for all scores of a few users, and its tables are taken only if
    their product is the same to 1e-5 of the largest: with a bias, a cosine or layers above, it is
    not. What they hold is the model's state of now, so ask again after training.

    Args:
        model: in evaluation mode.

    Returns:
        Tables of users and items, without gradients. Shapes: (users, width), (items, width)
    """
    if hasattr(model, "final_embeddings"):  # ours
        tables: tuple[Tensor, Tensor] = model.final_embeddings()
        return tables
    if not isinstance(model, GeneralRecommender) or not (
        hasattr(model, _FINAL[1]) or hasattr(model, _TRAINED[1])
    ):
        return None
    tried = torch.linspace(1, model.n_users - 1, _TRIED, device=model.device).long()
    try:
        scores = model.full_sort_predict(Interaction({model.USER_ID: tried}))
    except NotImplementedError:  # it scores pairs alone
        return None
    for names in (_FINAL, _TRAINED):
        user, item = (table_named(model, name) for name in names)
        if user is not None and item is not None and _same(scores, user, item, tried, model):
            return user, item
    return None


def table_named(model: Any, name: str) -> Tensor | None:
    """An attribute of a model as a table without gradients, if it is one. Shape: (rows, width)"""
    table = getattr(model, name, None)
    if isinstance(table, PrunableEmbedding):
        table = table()
    elif isinstance(table, nn.Embedding):
        table = table.weight
    return table.detach() if isinstance(table, Tensor) and table.ndim == 2 else None


def _same(scores: Tensor, user: Tensor, item: Tensor, tried: Tensor, model: Any) -> bool:
    """Whether the product of the tables is what the model says of the users tried."""
    if (len(user), len(item)) != (model.n_users, model.n_items) or user.shape[1] != item.shape[1]:
        return False
    product = user[tried] @ item.T  # (tried, items)
    if scores.numel() != product.numel():
        return False
    error = (scores.view_as(product) - product).abs().max()
    return bool(error <= 1e-5 * product.abs().max())  # so that NaN is not the same
