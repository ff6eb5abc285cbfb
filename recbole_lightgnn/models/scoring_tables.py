"""Find a model's embedding tables, and verify that inner products of the tables are the scores."""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender
from torch import Tensor, nn

from recbole_lightgnn.nn.prunable_embedding import PrunableEmbedding

# Names of the tables in RecBole's models. Graph models cache their final embeddings in evaluation
# mode (LightGCN, NGCF, SGL, NCL, DGCF ...); others score by their parameters (BPR, LINE ...).
_FINAL = ("restore_user_e", "restore_item_e")
_TRAINED = ("user_embedding", "item_embedding")
_CHECKED = 8  # number of users to verify the tables on


@torch.no_grad()
def final_tables(model: Any) -> tuple[Tensor, Tensor] | None:
    """Return two tables with a model's scores as inner products, or ``None``.

    For a RecBole model, products and scores of 8 users are compared. The result is ``None`` if they
    differ by more than 1e-5 of the largest product, as with a bias, a cosine or layers above the
    tables. Training makes the tables outdated.

    Args:
        model: a model in evaluation mode.

    Returns:
        Tables of users and items, without gradients. Shapes: (users, width), (items, width)
    """
    if hasattr(model, "ranks_by_tables"):  # one of our models
        tables = model.final_embeddings() if model.ranks_by_tables else None
        return tables and (tables[0].detach(), tables[1].detach())
    if not isinstance(model, GeneralRecommender) or not (
        hasattr(model, _FINAL[1]) or hasattr(model, _TRAINED[1])
    ):
        return None
    checked = torch.linspace(1, model.n_users - 1, _CHECKED, device=model.device).long()
    try:
        scores = model.full_sort_predict(Interaction({model.USER_ID: checked}))
    except NotImplementedError:  # the model scores only single pairs
        return None
    for names in (_FINAL, _TRAINED):
        user, item = (table_named(model, name) for name in names)
        if user is not None and item is not None and _same(scores, user, item, checked, model):
            return user, item
    return None


def table_named(model: Any, name: str) -> Tensor | None:
    """Return a model's attribute as a table without gradients, or ``None``. Shape: (rows, width)

    Args:
        model: any of our models or RecBole's models.
        name: name of a two-dimensional tensor, ``nn.Embedding`` or `PrunableEmbedding`.
    """
    table = getattr(model, name, None)
    if isinstance(table, PrunableEmbedding):
        table = table()
    elif isinstance(table, nn.Embedding):
        table = table.weight
    return table.detach() if isinstance(table, Tensor) and table.ndim == 2 else None


def _same(scores: Tensor, user: Tensor, item: Tensor, checked: Tensor, model: Any) -> bool:
    """Whether inner products of the tables equal the model's scores for the checked users."""
    if (len(user), len(item)) != (model.n_users, model.n_items) or user.shape[1] != item.shape[1]:
        return False
    product = user[checked] @ item.T  # (checked, items)
    if scores.numel() != product.numel():
        return False
    error = (scores.view_as(product) - product).abs().max()
    return bool(error <= 1e-5 * product.abs().max())  # false for NaN
