"""RecBole's own models on our products: the same numbers, up to the order of sums, sooner."""

from __future__ import annotations

from functools import partial
from typing import Any

from recbole.model.general_recommender import LightGCN
from torch import Tensor

from recbole_lightgnn.ops import SparsePattern, power_sum


def on_our_products(model: Any) -> bool:
    """Let a model of RecBole's propagate by our sparse products, if we know how; whether we do.

    LightGCN: the mean of its layers is our :func:`power_sum` over their number. Its matrix is
    taken as it stands, so that its normalization stays RecBole's.
    """
    if type(model) is not LightGCN:
        return False
    matrix = model.norm_adj_matrix.coalesce()
    row, col = matrix.indices()
    of_users = row < model.n_users  # the other half is its transpose
    pattern = SparsePattern(
        row[of_users], col[of_users] - model.n_users, (model.n_users, model.n_items)
    )
    model.forward = partial(_mean_of_layers, model, pattern, matrix.values()[of_users])
    return True


def _mean_of_layers(model: Any, pattern: SparsePattern, values: Tensor) -> tuple[Tensor, Tensor]:
    ones = [1.0] * (model.n_layers + 1)
    tables = model.user_embedding.weight, model.item_embedding.weight
    user, item = power_sum(pattern, values, *tables, coefficients=ones)
    return user / len(ones), item / len(ones)
