"""Estimate the memory that a training needs, and refuse runs that will not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from recbole_lightgnn.errors import InputError

if TYPE_CHECKING:  # `bench scale` measures the memory of processes that must not load RecBole
    from recbole_lightgnn.config.view import RunConfig
    from recbole_lightgnn.models.base import GraphRecommender


def step_bytes(n_users: int, n_items: int, n_edges: int, *, width: int, n_layers: int) -> int:
    r"""Estimate the peak memory in bytes of a LightGCN training step with Adam.

    .. math:: 4\,(5 + \min(L, 2))\,(|U| + |V|)\,d + 20\,|E|

    There are 5 tables as large as the embeddings: the embeddings, Adam's two moments, and the
    gradients of weight decay and loss. With one layer, propagation needs one more table; with more
    layers, two more. An edge takes 20 bytes: column and norm in the matrix sorted by user; row,
    norm and edge number in the matrix sorted by item. The memory of loaded libraries, learned edge
    weights, and losses over all nodes are not counted.

    Args:
        n_users: number of users.
        n_items: number of items.
        n_edges: number of interactions, below 2^31.
        width: d, the embedding size.
        n_layers: L, the number of layers.
    """
    table = 4 * (n_users + n_items) * width
    return (5 + min(n_layers, 2)) * table + 20 * n_edges


def available_bytes() -> int:
    """Return the bytes of memory available without swapping."""
    return int(psutil.virtual_memory().available)


def check_training(config: RunConfig, model: GraphRecommender) -> None:
    """Refuse a training that will not fit into memory.

    The estimate is LightGCN's (`step_bytes`): no model of ours needs less. The parameters are
    subtracted, because they are in memory already. Models on a GPU or without ``n_layers`` are not
    checked.

    Args:
        config: settings of the run.
        model: the model of the last stage.

    Raises:
        InputError: if more memory is needed than is available.
    """
    if model.device.type != "cpu" or config["n_layers"] is None:
        return
    needed = step_bytes(
        model.n_users,
        model.n_items,
        model.observed.n_edges,
        width=config["embedding_size"],
        n_layers=config["n_layers"],
    ) - sum(parameter.nbytes for parameter in model.parameters())
    available = available_bytes()
    if needed > available:
        raise InputError(
            f"training {config['model']} on {config['dataset']} needs at least {needed / 1e9:.3g} "
            f"GB more of memory, and {available / 1e9:.3g} GB are available: lower embedding_size "
            f"(now {config['embedding_size']}), or end other programs"
        )
