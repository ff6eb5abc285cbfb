"""GraphDA: LightGCN on a graph that a trained model rewires."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.models.base import EmbeddingRecommender
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher
from recbole_lightgnn.models.objective import Tables, batch_bpr
from recbole_lightgnn.models.taught import TaughtRecommender
from recbole_lightgnn.ops import SparsePattern, spmm

_CHUNK = 512  # nodes compared with all others at once


class GraphDA(TaughtRecommender, EmbeddingRecommender):
    r"""LightGCN, trained by BPR on the interactions, over a graph made from a teacher's scores.

    .. math:: E_l = D^{-1/2}\begin{pmatrix}S_{UU} & C\\ C^\top & S_{VV}\end{pmatrix}D^{-1/2}E_{l-1},
              \qquad \bar E = \sum_{l=0}^{L} E_l

    C joins each user to its ``items_per_user`` best items, train items included, and each item to
    its ``users_per_item`` best users. For such an edge, :math:`\sigma(s)` must be at least
    ``edge_threshold``, where s is the teacher's score. The edge has weight 1. :math:`S_{UU}` joins
    each user to ``users_per_user`` users, and :math:`S_{VV}` each item to ``items_per_item`` items.
    These are the nodes with the largest weights :math:`\sigma(\bar e_a\cdot\bar e_b)`, computed
    from the teacher's final embeddings. D is the diagonal matrix of each node's sum of weights.
    Without a teacher, the edges are the interactions, and the model is LightGCN.

    With ``similarity: cosine``, the teacher's embeddings are first scaled to length 1; the authors
    do not scale them. Without scaling, a few nodes with long embeddings become neighbors of almost
    all nodes: on Yelp, one user has 21,594 edges.

    Source: Fan et al., "Graph Collaborative Signals Denoising and Augmentation for
    Recommendation", SIGIR'23.

    Differs from the published code as follows. An edge of C that both nodes choose has weight 1,
    not 2. A node is not its own neighbor. A pair below the threshold is left out; the published
    code gives it an edge of weight 0. The final embeddings are sums of layers.

    Attributes:
        edge: nodes of each edge, the smaller number first; users come before items. int32.
            Shape: (2, edges)
        edge_weight: weight of each edge before the normalization. Shape: (edges,)
    """

    needs_teacher_tables = True
    edge: Tensor
    edge_weight: Tensor

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.n_layers = settings.integer("n_layers")
        self.reg_weight = settings.number("reg_weight")
        names = ("items_per_user", "users_per_item", "users_per_user", "items_per_item")
        self.counts = tuple(settings.integer(name) for name in names)
        self.threshold = settings.number("edge_threshold")
        self.cosine = settings.text("similarity") == "cosine"
        pattern = self.observed.interactions.pattern
        edge = torch.stack([pattern.row, pattern.col + self.n_users])
        self._set_graph(edge.int(), torch.ones(pattern.nnz, device=edge.device))

    def distill_from(self, teacher: FrozenTeacher, *, prefix: str = "") -> None:
        """Make the graph from the teacher's final embeddings; see the base class.

        Raises:
            InputError: if the teacher has no final embeddings.
        """
        user, item = self.teacher_tables(teacher)
        if self.cosine:
            user, item = F.normalize(user, dim=-1), F.normalize(item, dim=-1)
        self._set_graph(*rewired(user, item, self.counts, self.threshold))

    def _set_graph(self, edge: Tensor, edge_weight: Tensor) -> None:
        self.register_buffer("edge", edge)
        self.register_buffer("edge_weight", edge_weight)
        n_nodes = self.n_users + self.n_items
        row, col = torch.cat([edge, edge.flip(0)], dim=1).long()
        order = (row * n_nodes + col).argsort()
        row, col, weight = row[order], col[order], edge_weight.repeat(2)[order]
        degree = weight.new_zeros(n_nodes).index_add_(0, row, weight)
        self.pattern = SparsePattern(row, col, (n_nodes, n_nodes))
        self.norm = weight * (degree[row] * degree[col]).rsqrt()

    def load_state_dict(self, state: Mapping[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """Load a state dict; its graph may have any number of edges."""
        if {"edge", "edge_weight"} <= state.keys():
            self._set_graph(*(state[name].to(self.device) for name in ("edge", "edge_weight")))
        return super().load_state_dict(state, *args, **kwargs)

    def propagate(self, user: Tensor, item: Tensor) -> Tables:
        """Propagate over the rewired graph and sum the layers; see `GraphRecommender.propagate`."""
        layer = torch.cat([user, item])
        total = layer
        for _ in range(self.n_layers):
            layer = spmm(self.pattern, self.norm, layer)
            total = total + layer
        users, items = total.split([self.n_users, self.n_items])
        return users, items

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """Compute BPR on the observed interactions, and weight decay."""
        batch = self.batch_of(interaction)
        return {
            "interaction": batch_bpr(self.encode(), batch),
            "decay": self.reg_weight * self.decay(*self.initial(), batch),
        }

    def sizes(self) -> dict[str, float]:
        """Count as `GraphRecommender.sizes` does; ``interactions`` are the rewired edges."""
        return super().sizes() | {"interactions": len(self.edge_weight)}


def rewired(
    user: Tensor, item: Tensor, counts: tuple[int, ...], threshold: float
) -> tuple[Tensor, Tensor]:
    """Make GraphDA's graph from a teacher's final embeddings.

    Args:
        user: embeddings of users, RecBole's padding row first. Shape: (users, width)
        item: embeddings of items, RecBole's padding row first. Shape: (items, width)
        counts: maximum numbers of neighbors to join: items to a user, users to an item, users to a
            user, items to an item.
        threshold: smallest sigmoid of the score that joins a user and an item.

    Returns:
        The edges and their weights, as the attributes of `GraphDA`. Shapes: (2, edges), (edges,)
    """
    both, n_users = torch.cat([user, item]), len(user)
    users, items = (1, n_users), (n_users + 1, len(both))
    sides = ((users, items), (items, users), (users, users), (items, items))
    found = [nearest(both, *side, count) for side, count in zip(sides, counts, strict=True)]
    smaller, larger = torch.cat(found, dim=1).sort(dim=0).values
    edge = torch.stack([smaller, larger]).unique(dim=1)
    chunks = (both[a] * both[b] for a, b in zip(*(n.split(1 << 16) for n in edge), strict=True))
    weight = torch.cat([chunk.sum(dim=-1) for chunk in chunks]).sigmoid()
    across = (edge[0] < n_users) & (edge[1] >= n_users)
    kept = ~across | (weight >= threshold)
    return edge[:, kept].int(), weight.masked_fill(across, 1.0)[kept]


def nearest(table: Tensor, rows: tuple[int, int], columns: tuple[int, int], count: int) -> Tensor:
    """Find, for each node, the other nodes with the largest inner products.

    Args:
        table: embeddings of all nodes. Shape: (nodes, width)
        rows: nodes to find neighbors of: first number, and last number plus 1.
        columns: nodes that may be neighbors: first number, and last number plus 1.
        count: number of neighbors to find for a node; all if there are fewer.

    Returns:
        The node and the neighbor of each pair. Shape: (2, pairs)
    """
    candidates = table[slice(*columns)]
    count = min(count, len(candidates) - (rows == columns))
    pairs = []
    for node in torch.arange(*rows, device=table.device).split(_CHUNK):
        scores = table[node] @ candidates.T  # (chunk, candidates)
        if rows == columns:
            scores[torch.arange(len(node)), node - columns[0]] = -torch.inf
        neighbor = scores.topk(count, dim=1).indices + columns[0]
        pairs.append(torch.stack([node.repeat_interleave(count), neighbor.flatten()]))
    return torch.cat(pairs, dim=1)
