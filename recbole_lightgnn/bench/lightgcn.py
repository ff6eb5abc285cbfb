"""LightGCN with BPR, made of this package's parts, for the benchmarks of a training step."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from recbole_lightgnn.losses import bpr, weight_decay
from recbole_lightgnn.nn.graph import InteractionGraph
from recbole_lightgnn.nn.propagation import lightgcn

WIDTH, N_LAYERS, BATCH = 64, 3, 2048  # the same in every benchmark of a training step
DECAY = 1e-4
LEARNING_RATE = 1e-3


class LightGCN(nn.Module):
    """LightGCN as in RecBole: the final embeddings are the mean of the layers.

    Args:
        graph: graph of interactions.
        user: initial embeddings of users, which become the parameter. Shape: (users, width)
        item: initial embeddings of items, which become the parameter. Shape: (items, width)
        n_layers: number of layers.
        decay: weight of the squared norm of the batch's initial embeddings in the loss.

    Attributes:
        graph, user, item, n_layers, decay: as given.
    """

    def __init__(
        self, graph: InteractionGraph, user: Tensor, item: Tensor, *, n_layers: int, decay: float
    ) -> None:
        super().__init__()
        self.graph, self.n_layers, self.decay = graph, n_layers, decay
        self.user, self.item = nn.Parameter(user), nn.Parameter(item)

    def calculate_loss(self, batch: Any) -> Tensor:
        """Compute BPR plus weight decay on a batch. Shape: ()

        Args:
            batch: ``user_id``, ``item_id`` and ``neg_item_id``, as in RecBole's pairwise loader.
        """
        user, pair = batch["user_id"], torch.cat([batch["item_id"], batch["neg_item_id"]])
        users, items = lightgcn(self.graph, self.user, self.item, n_layers=self.n_layers)
        rows = users.index_select(0, user) / (self.n_layers + 1) ** 2
        positive, negative = (
            (rows * part).sum(dim=-1) for part in items.index_select(0, pair).chunk(2)
        )
        initial = self.user.index_select(0, user), self.item.index_select(0, pair)
        return bpr(positive, negative) + self.decay * weight_decay(*initial, batch_size=len(user))


def step_of(model: Any, *, fused: bool) -> Callable[[Any], float]:
    """Return a function that makes one training step with Adam on a batch and returns the loss.

    Args:
        model: model with ``calculate_loss``.
        fused: whether to use torch's fused (faster) Adam.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=fused)
    model.train()

    def step(batch: Any) -> float:
        loss = model.calculate_loss(batch)
        if isinstance(loss, tuple):  # some of RecBole's models return the terms of the loss
            loss = sum(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
