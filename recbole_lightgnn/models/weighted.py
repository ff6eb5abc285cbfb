"""Base class of models with learned edge weights and prunable embeddings (Eq. 4)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.models.base import GraphRecommender
from recbole_lightgnn.nn.graph import InteractionGraph
from recbole_lightgnn.nn.propagation import weighted_lightgcn
from recbole_lightgnn.nn.prunable_embedding import PrunableEmbedding


class WeightedGraphRecommender(GraphRecommender):
    """Recommender that propagates by Eq. 4, with one learned weight for each edge.

    Attributes:
        graph: the graph to propagate over.
        user_embedding: initial embeddings of users, prunable. Shape: (users, width)
        item_embedding: initial embeddings of items, prunable. Shape: (items, width)
        edge_weight: W of Eq. 4, one weight for each edge. Shape: (edges,)
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.n_layers = settings.integer("n_layers")
        self.reg_weight = settings.number("reg_weight")
        self.graph = self.build_graph(settings)
        width = settings.integer("embedding_size")
        self.user_embedding = PrunableEmbedding(self.n_users, width)
        self.item_embedding = PrunableEmbedding(self.n_items, width)
        self.edge_weight = nn.Parameter(torch.ones(self.graph.n_edges))

    def build_graph(self, settings: Settings) -> InteractionGraph:
        """Return the graph to propagate over; by default, the observed graph.

        Args:
            settings: settings of the run.
        """
        return self.observed

    def initial(self) -> tuple[Tensor, Tensor]:
        """Return the initial embeddings, 0 where pruned. Shapes: (users, width), (items, width)"""
        return self.user_embedding(), self.item_embedding()

    def propagate(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Propagate by Eq. 4 and sum the layers by Eq. 2; see `GraphRecommender.propagate`."""
        return weighted_lightgcn(self.graph, self.edge_weight, user, item, n_layers=self.n_layers)

    def sizes(self) -> dict[str, float]:
        """Count edges, parameters and bytes; see `GraphRecommender.sizes`.

        ``interactions`` are edges of ``graph``, ``entries`` the embedding entries not pruned.
        """
        masks = [table.entry_mask[1:] for table in (self.user_embedding, self.item_embedding)]
        entries = sum(int(mask.sum()) for mask in masks)
        return super().sizes() | {
            "interactions": self.graph.n_edges,
            "entries": entries,
            "entries_kept": entries / sum(mask.numel() for mask in masks),
            "parameters": entries + len(self.edge_weight),
        }
