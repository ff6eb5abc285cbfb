"""Losses and matrices of baselines in plain loops, to check the fast forms."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def plain_bpr(user: Tensor, item: Tensor, batch: Sequence[Tensor]) -> Tensor:
    """Compute BPR one interaction at a time.

    Args:
        user: final embeddings of all users. Shape: (users, width)
        item: final embeddings of all items. Shape: (items, width)
        batch: users, items and sampled items. Shape of each: (rows,)
    """
    losses = [
        -F.logsigmoid(user[u] @ item[i] - user[u] @ item[j])
        for u, i, j in zip(*(index.tolist() for index in batch), strict=True)
    ]
    return torch.stack(losses).mean()


def plain_contrast(anchor: Tensor, table: Tensor, nodes: list[int], others: list[int]) -> Tensor:
    """Compute the mean over ``nodes`` of log-sum-exp minus the own inner product.

    Args:
        anchor: one view of all nodes, divided by the temperature. Shape: (rows, width)
        table: the other view of all nodes. Shape: (rows, width)
        nodes: the nodes to contrast.
        others: the nodes to compare each of them with.
    """
    losses = []
    for node in nodes:
        logits = torch.stack([anchor[node] @ table[other] for other in others])
        losses.append(logits.logsumexp(0) - anchor[node] @ table[node])
    return torch.stack(losses).mean()


def dense_graph(model, keep: Tensor | None = None) -> Tensor:
    """Build the normalized user-item matrix of a model from the degrees. Shape: (users, items)

    ``keep`` is the factor of each edge, or ``None`` for ones. Shape: (edges,)
    """
    pattern = model.observed.interactions.pattern
    row, col = pattern.row.tolist(), pattern.col.tolist()
    matrix = torch.zeros(model.n_users, model.n_items)
    for number, (u, i) in enumerate(zip(row, col, strict=True)):
        scale = 1.0 if keep is None else keep[number]
        matrix[u, i] = scale / (row.count(u) * col.count(i)) ** 0.5
    return matrix
