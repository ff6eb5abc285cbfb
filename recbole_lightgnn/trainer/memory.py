"""What training takes, and whether it is there: to refuse before the work, not to die in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psutil

from recbole_lightgnn.errors import InputError

if TYPE_CHECKING:  # a process whose memory is measured should not load RecBole for nothing
    from recbole_lightgnn.models.base import GraphRecommender


def step_bytes(n_users: int, n_items: int, n_edges: int, *, width: int, n_layers: int) -> int:
    r"""Peak memory of a training step of LightGCN with Adam, beyond that of the libraries.

    .. math:: 4\,(5 + \min(L, 2))\,(|U| + |V|)\,d + 20\,|E|

    Tables as large as the embeddings are the embeddings, Adam's two moments, the gradient of weight
    decay, the gradient that arrives, and two through which it is propagated, however many the
    layers. An edge has its column and its norm by user, and its row, its norm and its number by
    item. Learned edge weights and losses over all nodes take more.

    Args:
        n_users: users.
        n_items: items.
        n_edges: interactions, below 2^31.
        width: d, the length of an embedding.
        n_layers: L.
    """
    table = 4 * (n_users + n_items) * width
    return (5 + min(n_layers, 2)) * table + 20 * n_edges


def available_bytes() -> int:
    """Memory that can be had without swapping."""
    return int(psutil.virtual_memory().available)


def check_training(config: Any, model: GraphRecommender) -> None:
    """Refuse a training whose steps do not fit, before it begins.

    Counts what a step of LightGCN as wide as the model takes, the least that any of our models
    needs, beyond the parameters, which are there already. Not looked at are a GPU's memory
    and models of no graph.

    Args:
        config: the run's settings.
        model: the model of the last stage.

    Raises:
        InputError: with what is needed and what is available.
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
