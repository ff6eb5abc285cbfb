"""Intermediate model of LightGNN: like the student, but unpruned and on the augmented graph."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.base import Batch
from recbole_lightgnn.models.distillation import AlignmentObjective
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher, sample_users, score_std
from recbole_lightgnn.models.objective import Tables, interaction_objective
from recbole_lightgnn.models.taught import TaughtRecommender
from recbole_lightgnn.models.weighted import WeightedGraphRecommender
from recbole_lightgnn.nn.graph import InteractionGraph, augment_hops
from recbole_lightgnn.nn.pruning import principal_axes
from recbole_lightgnn.nn.warm_start import closest_tables, unpropagated

# Of `start_near`: size of random columns, and relative squared size of a column not needed.
_SMALL, _NOT_NEEDED = 1e-2, 1e-6


class LightGNNIntermediate(TaughtRecommender, WeightedGraphRecommender):
    r"""Recommender that propagates by Eq. 4 on the augmented graph (Eq. 7), aligned to a teacher.

    .. math:: \mathcal L = \lambda_0\mathcal L_{bpr} + \lambda_1\mathcal L_{p-kd}
              + \lambda_2\mathcal L_{e-kd} + \lambda_4\|\Theta\|^2

    :math:`\mathcal L_{p-kd}` (Eq. 5) and :math:`\mathcal L_{e-kd}` (Eq. 6) align to the teacher
    given to :meth:`distill_from`; without a teacher, they are left out.
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.initial_embedding = settings.text("initial_embedding")
        self.interaction_weight = settings.number("interaction_weight")
        self.objective = interaction_objective(settings, self.observed, self.positive_items)
        self.alignment = AlignmentObjective(settings, self.positive_items)

    def build_graph(self, settings: Settings) -> InteractionGraph:
        """Build the graph to propagate over: augmented, or observed with ``augmentation: none``.

        Args:
            settings: settings of the run, of which those with names ``augmentation...`` are used.
        """
        if settings.text("augmentation") == "none":
            return self.observed
        return augment_hops(
            self.observed,
            hops=settings.integer("augmentation_hops"),
            cap=settings.integer("augmentation_cap"),
            memory_mb=settings.integer("augmentation_memory"),
            exponents=self.exponents,
        ).to(self.device)

    def distill_from(self, teacher: FrozenTeacher, *, prefix: str = "") -> None:
        """Set the teacher; raise InputError if Eq. 6 is on and the teacher's width differs."""
        if self.alignment.embedding_weight:
            width = self.user_embedding.shape[1]
            teacher.require_embeddings(f"{prefix}embedding_kd_weight", width)
        super().distill_from(teacher, prefix=prefix)

    def begin_from(self, teacher: FrozenTeacher) -> None:
        """Start from the teacher, as the setting ``initial_embedding`` says.

        ``teacher`` takes its initial embeddings. ``scores`` computes embeddings that propagate to
        scores close to the teacher's; members of an `Ensemble` that give only scores are left out.

        Raises:
            InputError: with ``teacher``, if its embeddings are narrower than this model's.
        """
        name, source = type(teacher.model).__name__, self.initial_embedding
        if source == "teacher":
            if (tables := teacher.initial_embeddings()) is None:
                self.logger.warning(f"{name} has no embeddings to begin with: using Xavier's")
            else:
                self.start_from(*tables, target_std=teacher.score_std)
        elif source == "scores":
            if (tables := teacher.score_tables()) is None:
                self.logger.warning(f"{name} does not score by two tables: using Xavier's")
            else:
                self.start_near(*tables, target_std=teacher.score_std)

    @torch.no_grad()
    def start_near(self, user: Tensor, item: Tensor, *, target_std: float = 1.0) -> None:
        """Set the initial embeddings so that this model's scores come close to given ones.

        Columns that the given scores do not need get random values, a hundredth as large as the
        others. As zeros for users and items, they would have no gradient.

        Args:
            user: table of users. Shape: (users, given width)
            item: table of items; inner products with users are the given scores, up to a factor.
                Shape: (items, given width)
            target_std: standard deviation of this model's scores (`score_std`).
        """
        own = torch.cat([self.user_embedding(), self.item_embedding()])
        width = min(user.shape[1], own.shape[1])
        found = unpropagated(self.propagate, *closest_tables(user, item, width))
        near = F.pad(torch.cat(found), (0, own.shape[1] - width))
        squares = near.square().sum(dim=0)
        needed = squares > _NOT_NEEDED * squares.max()
        if needed.any():
            size = near[:, needed].square().mean().sqrt()
            rest = own * (_SMALL * size / own.square().mean().sqrt())
            own = torch.where(needed, near, rest)
        self.start_from(*own.split([len(user), len(item)]), target_std=target_std)

    @torch.no_grad()
    def start_from(self, user: Tensor, item: Tensor, *, target_std: float = 1.0) -> None:
        """Set the initial embeddings from those of a trained model.

        Wider embeddings are first rotated to their principal axes, and their first columns kept.
        Then all are multiplied by one number, so that this model's scores have the standard
        deviation ``target_std``.

        Args:
            user: initial embeddings of the trained model. Shape: (users, given width)
            item: initial embeddings of the trained model. Shape: (items, given width)
            target_std: standard deviation of this model's scores (`score_std`).

        Raises:
            InputError: if the given embeddings are narrower than this model's.
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
        std = score_std(final_user[users] @ final_item[1:].T)
        scale: float = (target_std / std) ** 0.5
        self.user_embedding.values.mul_(scale)
        self.item_embedding.values.mul_(scale)
        self._final = None

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """Compute the terms of Eq. 11 with a weight above 0, by name."""
        batch, initial = self.batch_of(interaction), self.initial()
        terms = self._terms(self.propagate(*initial), batch)
        if self.reg_weight:
            terms["decay"] = self.reg_weight * self.decay(*initial, batch)
        return terms

    def _terms(self, tables: Tables, batch: Batch) -> dict[str, Tensor]:
        """Compute all weighted loss terms except weight decay."""
        terms = {}
        if self.interaction_weight:
            terms["interaction"] = self.interaction_weight * self.objective(tables, batch)
        if self.teacher is not None:
            terms |= self.alignment(self.teacher, tables, batch)
        return terms
