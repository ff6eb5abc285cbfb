"""The model whose training step is measured: LightGCN with BPR, of our parts."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from recbole_lightgnn.losses import bpr, weight_decay
from recbole_lightgnn.nn.graph import InteractionGraph
from recbole_lightgnn.nn.propagation import lightgcn

WIDTH, N_LAYERS, BATCH = 64, 3, 2048  # what a step is measured with, everywhere
DECAY = 1e-4
LEARNING_RATE = 1e-3


class LightGCN(nn.Module):
    """LightGCN as RecBole has it: the mean of the layers.

    Args:
        graph: the interactions.
        user: first embeddings; the tables themselves become the parameters. Shape: (users, width)
        item: likewise. Shape: (items, width)
        n_layers: how many.
        decay: weight of the decay of the batch's first embeddings.
    """

    def __init__(
        self, graph: InteractionGraph, user: Tensor, item: Tensor, *, n_layers: int, decay: float
    ) -> None:
        super().__init__()
        self.graph, self.n_layers, self.decay = graph, n_layers, decay
        self.user, self.item = nn.Parameter(user), nn.Parameter(item)

    def calculate_loss(self, batch: Any) -> Tensor:
        """BPR and decay on a batch as RecBole's pairwise loader gives it."""
        user, pair = batch["user_id"], torch.cat([batch["item_id"], batch["neg_item_id"]])
        users, items = lightgcn(self.graph, self.user, self.item, n_layers=self.n_layers)
        rows = users.index_select(0, user) / (self.n_layers + 1) ** 2
        positive, negative = (
            (rows * part).sum(dim=-1) for part in items.index_select(0, pair).chunk(2)
        )
        first = self.user.index_select(0, user), self.item.index_select(0, pair)
        return bpr(positive, negative) + self.decay * weight_decay(*first, batch_size=len(user))


def step_of(model: Any, *, fused: bool) -> Callable[[Any], float]:
    """One step of Adam on a batch; returns the loss before it."""
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=fused)
    model.train()

    def step(batch: Any) -> float:
        loss = model.calculate_loss(batch)
        if isinstance(loss, tuple):  # RecBole's way of terms that are logged one by one
            loss = sum(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
