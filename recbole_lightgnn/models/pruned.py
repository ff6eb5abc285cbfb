"""Base class of models that are pruned between training runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.models.weighted import WeightedGraphRecommender
from recbole_lightgnn.nn.prunable_embedding import pack_mask, unpack_mask
from recbole_lightgnn.nn.pruning import keep_largest, principal_axes, varimax_axes


class PrunedRecommender(WeightedGraphRecommender):
    """Recommender that loses embedding entries and interactions between training runs.

    The trainer trains the model once. Then, ``n_pruning_runs`` times, it calls :meth:`prune` and
    trains again. Pruned weights are not stored. With ``rewind``, each pruning also sets the
    remaining weights back to their values before the first run: the lottery ticket method (Chen et
    al., "A Unified Lottery Ticket Hypothesis for Graph Neural Networks", ICML'21).

    Attributes:
        edge_bits: mask of the remaining interactions, packed by `pack_mask`; empty before the first
            pruning. Shape: (ceil(observed interactions / 8),)
    """

    edge_bits: Tensor

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
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
        self.register_buffer("edge_bits", torch.empty(0, dtype=torch.uint8))

    def begin_run(self, run: int) -> None:
        """Prepare a training run; run 0 is the training before the first pruning."""
        if self.rewind and run == 0:
            self._first_tables = (
                self.user_embedding().detach().clone(),
                self.item_embedding().detach().clone(),
            )

    def entry_scores(self, values: Tensor) -> Tensor:
        """Compute the importance of each embedding entry; by default, the absolute value.

        Args:
            values: the embeddings of users, then of items. Shape: (users + items, width)
        """
        return values.abs()

    def edge_scores(self) -> Tensor:
        """Compute the importance of the remaining interactions. Shape: (edges,)"""
        return self.edge_weight.abs()

    @torch.no_grad()
    def prune(self) -> None:
        """Remove the least important embedding entries and interactions.

        Before entries are first removed, the embeddings are rotated (``rotation``).
        """
        self._prune_entries()
        self._prune_edges()
        if self.rewind:
            self._go_back()
        self._final = None

    def _go_back(self) -> None:
        """Set the remaining entries and edge weights to the values before the first run."""
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
        values = torch.cat([table() for table in tables])  # (users + items, width)
        alive = torch.cat([table.entry_mask for table in tables])
        alive[[0, self.n_users]] = False  # RecBole's padding rows
        if self.pruning["entry"] == "random":
            scores = torch.rand_like(values)
        else:
            scores = self.entry_scores(values)
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
        random = self.pruning["edge"] == "random"
        scores = torch.rand_like(weight) if random else self.edge_scores()
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
