"""Student: the LightGNN model, which is pruned between training runs (Algorithm 1)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.losses import uniformity
from recbole_lightgnn.models.base import Batch
from recbole_lightgnn.models.intermediate import LightGNNIntermediate
from recbole_lightgnn.models.objective import Tables
from recbole_lightgnn.nn.graph import InteractionGraph
from recbole_lightgnn.nn.propagation import weighted_lightgcn, weighted_lightgcn_inference
from recbole_lightgnn.nn.prunable_embedding import PrunableEmbedding, pack_mask, unpack_mask
from recbole_lightgnn.nn.pruning import edge_importance, keep_largest, principal_axes, varimax_axes


class LightGNN(LightGNNIntermediate):
    r"""Propagation by Eq. 4 on the pruned graph and pruned embeddings, trained by Eq. 11.

    .. math:: \mathcal L = \lambda_0\mathcal L_{bpr} + \lambda_1\mathcal L_{p-kd}
              + \lambda_2\mathcal L_{e-kd} + \lambda_3\mathcal L_{u-reg} + \lambda_4\|\Theta\|^2

    Between training runs, :meth:`prune` removes interactions by Eq. 8 and embedding entries by
    magnitude. Pruned weights are not stored. The remaining weights are kept from run to run, as in
    Algorithm 1 and unlike in the published code. With ``rewind``, they go back to their values
    before the first run, as lottery tickets do (Chen et al., "A Unified Lottery Ticket Hypothesis
    for Graph Neural Networks", ICML'21).

    Attributes:
        edge_bits: mask of the remaining interactions, packed by `pack_mask`; empty before the first
            pruning. Shape: (ceil(observed interactions / 8),)
    """

    edge_bits: Tensor

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.interaction_runs = settings.integer("interaction_runs")
        self.uniformity_weight = settings.number("uniformity_weight")
        self.uniformity_slack = settings.integer("uniformity_slack")
        self.uniformity_temperature = settings.number("uniformity_temperature")
        self.binary_edges = settings.text("edge_weights") == "binary"
        self.rotation = settings.text("rotation")
        self.rewind = settings.flag("rewind")
        self._first_tables: tuple[Tensor, Tensor] | None = None  # before the first run
        self.ratios = {
            "entry": settings.number("entry_ratio"),
            "edge": settings.number("edge_ratio"),
        }
        self.floors = {
            "entry": settings.integer("entry_floor"),
            "edge": settings.integer("edge_floor"),
        }
        self.pruning = {
            "entry": settings.text("entry_pruning"),
            "edge": settings.text("edge_pruning"),
        }
        self.importances = {
            "weight_importance": settings.number("weight_importance"),
            "score_importance": settings.number("score_importance"),
        }
        self.register_buffer("edge_bits", torch.empty(0, dtype=torch.uint8))

    def build_graph(self, settings: Settings) -> InteractionGraph:
        """Return the observed graph; only the intermediate model uses an augmented one."""
        return self.observed

    def begin_run(self, run: int) -> None:
        """Prepare a training run; switch the interaction loss off from run ``interaction_runs`` on.

        Args:
            run: number of the run; run 0 is the training before the first pruning.
        """
        if self.rewind and run == 0:
            self._first_tables = (
                self.user_embedding().detach().clone(),
                self.item_embedding().detach().clone(),
            )
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
        """Compute the embeddings to rank by from the remaining entries alone, without gradients."""
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
        """Compute Eq. 9 for users or for items.

        Args:
            table: final embeddings. Shape: (nodes, width)
            embedding: initial embeddings, for the entry masks.
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

    @torch.no_grad()
    def prune(self) -> None:
        """Apply one pruning step: remove embedding entries, then interactions.

        The first step begins by rotating the embeddings, unless the setting ``rotation`` is
        ``none``.
        """
        self._prune_entries()
        self._prune_edges()
        if self.rewind:
            self._go_back()
        self._final = None

    def _go_back(self) -> None:
        """Set the remaining entries and edge weights to their values before the first run."""
        if self._first_tables is None:
            raise RuntimeError("there is nothing to rewind to before begin_run(0)")
        tables = (self.user_embedding, self.item_embedding)
        for table, first in zip(tables, self._first_tables, strict=True):
            table.values.copy_(first.flatten()[table.positions] if table.pruned else first)
        self.edge_weight.fill_(1.0)

    def _prune_entries(self) -> None:
        if self.pruning["entry"] == "none":
            return
        tables = (self.user_embedding, self.item_embedding)
        if self.rotation != "none" and not self.user_embedding.pruned:
            axes = {"pca": principal_axes, "varimax": varimax_axes}[self.rotation]
            rotation = axes(torch.cat([table()[1:] for table in tables]))
            for table in tables:
                table.values.copy_(table.values @ rotation)
            if self._first_tables is not None:
                user, item = self._first_tables
                self._first_tables = user @ rotation, item @ rotation
        values = torch.cat([table() for table in tables])
        alive = torch.cat([table.entry_mask for table in tables])
        alive[[0, self.n_users]] = False  # RecBole's padding rows
        scores = torch.rand_like(values) if self.pruning["entry"] == "random" else values.abs()
        node = torch.arange(len(values), device=values.device)[:, None].expand_as(values)
        kept = keep_largest(
            scores.flatten(),
            alive.flatten(),
            fraction=self.ratios["entry"],
            groups=(node.flatten(),),
            floor=self.floors["entry"],
        ).view_as(values)
        for table, mask in zip(tables, kept.split([self.n_users, self.n_items]), strict=True):
            table.prune(mask)

    def _prune_edges(self) -> None:
        if self.pruning["edge"] == "none":
            return
        weight, pattern = self.edge_weight, self.graph.interactions.pattern
        scores = torch.rand_like(weight) if self.pruning["edge"] == "random" else self._importance()
        kept = keep_largest(
            scores,
            torch.ones_like(weight, dtype=torch.bool),
            fraction=self.ratios["edge"],
            groups=(pattern.row, pattern.col),
            floor=self.floors["edge"],
        )
        mask = self.edge_mask
        mask[mask.nonzero().squeeze(1)[~kept]] = False
        self._set_edges(mask)
        self.edge_weight = nn.Parameter(weight[kept])

    def _importance(self) -> Tensor:
        """Compute Eq. 8 for the remaining interactions. Shape: (edges,)"""
        weight = score = None
        pattern = self.graph.interactions.pattern
        if self.teacher is not None:
            score = self.teacher.edge_scores(pattern)
            if isinstance(self.teacher.model, LightGNNIntermediate):
                intermediate = self.teacher.model
                numbers = intermediate.graph.interaction_numbers(pattern.row, pattern.col)
                weight = intermediate.edge_weight[numbers]
        return edge_importance(self.edge_weight, weight, score, **self.importances)

    @property
    def edge_mask(self) -> Tensor:
        """True where an observed interaction is not pruned. Shape: (observed interactions,)"""
        if not len(self.edge_bits):
            return torch.ones(self.observed.n_edges, dtype=torch.bool, device=self.device)
        return unpack_mask(self.edge_bits, self.observed.n_edges)

    def _set_edges(self, mask: Tensor) -> None:
        self.edge_bits = pack_mask(mask)
        self.graph = self.observed.keep(mask)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        # A checkpoint may hold more or fewer interactions than this model: use its graph instead.
        bits, weight = state_dict.get(prefix + "edge_bits"), state_dict.get(prefix + "edge_weight")
        if bits is not None and weight is not None:
            if len(bits):
                self._set_edges(unpack_mask(bits.to(self.device), self.observed.n_edges))
            else:
                self.edge_bits, self.graph = self.edge_bits[:0], self.observed
            if self.graph.n_edges != len(self.edge_weight):
                empty = weight.new_empty(self.graph.n_edges)
                self.edge_weight = nn.Parameter(empty.to(self.device))
        super()._load_from_state_dict(state_dict, prefix, *args)
