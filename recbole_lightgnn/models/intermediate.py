"""Stage two: the student's architecture, unpruned, on the augmented graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.base import Batch, GraphRecommender
from recbole_lightgnn.models.frozen_teacher import Frozen, sample_users, spread
from recbole_lightgnn.models.objective import AlignmentObjective, InteractionObjective
from recbole_lightgnn.nn.graph import InteractionGraph, augment_hops
from recbole_lightgnn.nn.propagation import weighted_lightgcn
from recbole_lightgnn.nn.prunable_embedding import PrunableEmbedding
from recbole_lightgnn.nn.pruning import principal_axes


class LightGNNIntermediate(GraphRecommender):
    r"""Eq. 4 on the augmented graph (Eq. 7), aligned to the teacher (Eq. 5, 6).

    .. math:: \mathcal L = \lambda_0\mathcal L_{bpr} + \lambda_1\mathcal L_{p-kd}
              + \lambda_2\mathcal L_{e-kd} + \lambda_4\|\Theta\|^2

    A teacher must be given by :meth:`distill_from` before the first loss.
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.n_layers = settings.integer("n_layers")
        self.interaction_weight = settings.number("interaction_weight")
        self.reg_weight = settings.number("reg_weight")
        self.objective = InteractionObjective(settings, self.observed, self.own_items)
        self.alignment = AlignmentObjective(settings, self.own_items)
        self.graph = self.build_graph(settings)
        width = settings.integer("embedding_size")
        self.user_embedding = PrunableEmbedding(self.n_users, width)
        self.item_embedding = PrunableEmbedding(self.n_items, width)
        self.edge_weight = nn.Parameter(torch.ones(self.graph.n_edges))
        self.teacher: Frozen | None = None

    def build_graph(self, settings: Settings) -> InteractionGraph:
        """The graph to propagate over: here the augmented one."""
        if settings.text("augmentation") == "none":
            return self.observed
        return augment_hops(
            self.observed,
            hops=settings.integer("augmentation_hops"),
            cap=settings.integer("augmentation_cap"),
            memory_mb=settings.integer("augmentation_memory"),
        ).to(self.device)

    def distill_from(self, teacher: Frozen, *, prefix: str = "") -> None:
        """Align to this model from now on.

        Args:
            teacher: the model.
            prefix: put before the names of this model's settings in messages.

        Raises:
            InputError: if an embedding-level term is on and the teacher has no embeddings of the
                student's width.
        """
        if self.alignment.embedding_weight:
            width = self.user_embedding.shape[1]
            teacher.require_embeddings(f"{prefix}embedding_kd_weight", width)
        self.teacher = teacher

    @torch.no_grad()
    def start_from(self, user: Tensor, item: Tensor, *, scores_spread: float = 1.0) -> None:
        """Begin with these embeddings, scaled so that scores spread like the teacher's.

        Wider ones are turned to their principal axes and the first of these are taken.

        Args:
            user: initial embeddings of a trained model. Shape: (users, their width)
            item: likewise. Shape: (items, their width)
            scores_spread: `spread` of the teacher's scores.

        Raises:
            InputError: if they are narrower than this model's.
        """
        width = self.user_embedding.shape[1]
        if user.shape[1] < width:
            raise InputError(
                f"initial_embedding=teacher needs a teacher at least as wide as the student (got "
                f"embedding_size {user.shape[1]}, student {width}): set initial_embedding=xavier"
            )
        if user.shape[1] > width:
            axes = principal_axes(torch.cat([user[1:], item[1:]]))[:, :width]
            user, item = user @ axes, item @ axes
        self.user_embedding.values.copy_(user)
        self.item_embedding.values.copy_(item)
        users = sample_users(self.n_users).to(self.device)
        final_user, final_item = self.encode()
        own_spread = spread(final_user[users] @ final_item[1:].T)
        scale = (scores_spread / own_spread) ** 0.5
        self.user_embedding.values *= scale
        self.item_embedding.values *= scale
        self._final = None

    def initial(self) -> tuple[Tensor, Tensor]:
        """The parameters, as tables."""
        return self.user_embedding(), self.item_embedding()

    def propagate(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 4, aggregated by Eq. 2."""
        return weighted_lightgcn(self.graph, self.edge_weight, user, item, n_layers=self.n_layers)

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """The terms of Eq. 11 that are switched on, weighted, by name."""
        batch, initial = self.batch_of(interaction), self.initial()
        terms = self._terms(self.propagate(*initial), batch)
        if self.reg_weight:
            terms["decay"] = self.reg_weight * self.decay(*initial, batch)
        return terms

    def _terms(self, tables: tuple[Tensor, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The terms that look at final embeddings."""
        terms = {}
        if self.interaction_weight:
            terms["interaction"] = self.interaction_weight * self.objective(tables, batch)
        if self.teacher is not None:
            terms |= self.alignment(self.teacher, tables, batch)
        return terms

    def sizes(self) -> dict[str, float]:
        """Of the graph propagated over; entries are of the embeddings, without edge weights."""
        masks = [table.entry_mask[1:] for table in (self.user_embedding, self.item_embedding)]
        entries = sum(int(mask.sum()) for mask in masks)
        return super().sizes() | {
            "interactions": self.graph.interactions.n_edges,
            "entries": entries,
            "entries_kept": entries / sum(mask.numel() for mask in masks),
            "parameters": entries + len(self.edge_weight),
        }
