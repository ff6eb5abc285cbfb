"""What training takes, and whether it is there: to refuse before the work, not to die in it."""

from __future__ import annotations

import psutil

from recbole_lightgnn.errors import InputError


def step_bytes(n_users: int, n_items: int, n_edges: int, *, width: int, n_layers: int) -> int:
    r"""Peak memory of a training step of LightGCN, beyond that of the libraries.

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


def require(needed: int, what: str, remedy: str) -> None:
    """Raise InputError if more is needed than is available.

    Args:
        needed: bytes.
        what: needs them; begins the message.
        remedy: what to do, for the message.
    """
    available = available_bytes()
    if needed > available:
        raise InputError(
            f"{what} needs at least {needed / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB "
            f"are available: {remedy}"
        )
