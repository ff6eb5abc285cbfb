"""The student, LightGNN's final model, pruned between training runs (Algorithm 1)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.losses import uniformity
from recbole_lightgnn.models.base import Batch
from recbole_lightgnn.models.intermediate import LightGNNIntermediate
from recbole_lightgnn.models.objective import Tables
from recbole_lightgnn.models.pruned import PrunedRecommender
from recbole_lightgnn.nn.graph import InteractionGraph
from recbole_lightgnn.nn.propagation import weighted_lightgcn, weighted_lightgcn_inference
from recbole_lightgnn.nn.prunable_embedding import PrunableEmbedding
from recbole_lightgnn.nn.pruning import edge_importance


class LightGNN(PrunedRecommender, LightGNNIntermediate):
    r"""Recommender that propagates pruned embeddings by Eq. 4 on the pruned graph.

    .. math:: \mathcal L = \lambda_0\mathcal L_{bpr} + \lambda_1\mathcal L_{p-kd}
              + \lambda_2\mathcal L_{e-kd} + \lambda_3\mathcal L_{u-reg} + \lambda_4\|\Theta\|^2

    The loss is Eq. 11. Between training runs, :meth:`prune` removes interactions by Eq. 8, and
    embedding entries by absolute value. Without ``rewind``, the remaining weights are kept from run
    to run, as in Algorithm 1; the published code differs.
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.interaction_runs = settings.integer("interaction_runs")
        self.uniformity_weight = settings.number("uniformity_weight")
        self.uniformity_slack = settings.integer("uniformity_slack")
        self.uniformity_temperature = settings.number("uniformity_temperature")
        self.binary_edges = settings.text("edge_weights") == "binary"
        self.importances = {
            "weight_importance": settings.number("weight_importance"),
            "score_importance": settings.number("score_importance"),
        }

    def build_graph(self, settings: Settings) -> InteractionGraph:
        """Return the observed graph; the augmented graph is for the intermediate model only."""
        return self.observed

    def begin_run(self, run: int) -> None:
        """Prepare a training run; from run ``interaction_runs`` on, the interaction loss is off."""
        super().begin_run(run)
        if run >= self.interaction_runs:
            self.interaction_weight = 0.0

    def propagate(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Propagate by Eq. 4 on the remaining edges and sum the layers by Eq. 2."""
        weight: Tensor = self.edge_weight
        if self.binary_edges:
            # Forward: ones. Backward: gradients for the weights, by which pruning ranks edges.
            weight = 1.0 + weight - weight.detach()
        return weighted_lightgcn(self.graph, weight, user, item, n_layers=self.n_layers)

    @torch.no_grad()
    def infer(self) -> tuple[Tensor, Tensor]:
        """Compute the embeddings to rank by, using only the remaining entries."""
        return weighted_lightgcn_inference(
            self.graph,
            None if self.binary_edges else self.edge_weight,
            self.user_embedding.rows(),
            self.item_embedding.rows(),
            n_layers=self.n_layers,
        )

    def _terms(self, tables: Tables, batch: Batch) -> dict[str, Tensor]:
        terms = super()._terms(tables, batch)
        if self.uniformity_weight:
            sides = (
                (tables[0], self.user_embedding, batch.user),
                (tables[1], self.item_embedding, batch.item),
            )
            value = torch.stack([self._uniformity(*side) for side in sides]).sum()
            terms["uniformity"] = self.uniformity_weight * value
        return terms

    def _uniformity(self, table: Tensor, embedding: PrunableEmbedding, nodes: Tensor) -> Tensor:
        """Compute the uniformity loss (Eq. 9) for users or for items. Shape: ()

        Args:
            table: final embeddings of all users or all items. Shape: (nodes, width)
            embedding: initial embeddings of the same nodes, for the entry masks.
            nodes: users or items of the batch. Shape: (batch,)
        """
        _, candidates, position = self.alignment.sample(nodes, len(table))
        return uniformity(
            table.index_select(0, candidates),
            position,
            embedding.entry_mask[candidates],
            slack=self.uniformity_slack,
            temperature=self.uniformity_temperature,
        )

    def edge_scores(self) -> Tensor:
        """Compute the importance (Eq. 8) of the remaining interactions. Shape: (edges,)"""
        weight = score = None
        pattern = self.graph.interactions.pattern
        if self.teacher is not None:
            score = self.teacher.edge_scores(pattern)
            if isinstance(self.teacher.model, LightGNNIntermediate):
                intermediate = self.teacher.model
                numbers = intermediate.graph.interaction_numbers(pattern.row, pattern.col)
                weight = intermediate.edge_weight[numbers]
        return edge_importance(self.edge_weight, weight, score, **self.importances)
