"""SimRec: a graph-free student that learns from a graph model, with an adaptive contrast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.losses import (
    RaggedIndices,
    embedding_alignment,
    full_softmax,
    pairwise_alignment,
)
from recbole_lightgnn.models.base import EmbeddingRecommender
from recbole_lightgnn.models.distillation import Contrast, ContrastSampler
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher
from recbole_lightgnn.models.objective import Tables
from recbole_lightgnn.models.taught import TaughtRecommender
from recbole_lightgnn.ops import spmm

_RAISED, _LOWERED = 1.2, 0.8  # weights of a node in the contrast


class SimRec(TaughtRecommender, EmbeddingRecommender):
    r"""Embeddings with one shared layer and no graph, trained to agree with a teacher.

    .. math:: f(e) = \phi(eW) + e,\qquad \hat y_{ui} = f(e_u)\cdot f(e_i)

    .. math:: \mathcal L = -\frac1B\sum_{(u,i)}\hat y_{ui} + \mathcal L_1 + \mathcal L_2
              + \mathcal L_3 + \lambda_4\|\Theta\|^2

    - :math:`\phi` is a leaky ReLU of slope 0.5. Final embeddings are :math:`f(e)`.
    - :math:`\mathcal L_1` is `pairwise_alignment` with the teacher's scores, for random users and
      pairs of items, weighted by :math:`w_1`.
    - :math:`\mathcal L_2` is `embedding_alignment` of e with ``target``, for users plus for items,
      weighted by :math:`w_2`.
    - :math:`\mathcal L_3` pushes final embeddings apart. With
      :math:`S(a, C) = \log\sum_{c\in C}\exp(f_a\cdot f_c/\tau)`:

      .. math:: \mathcal L_3 = w_3\Big(\frac{1}{|B_U|}\sum_u\omega_u\big(S(u, I) + S(u, U)\big)
                + \frac{1}{|B_I|}\sum_i\omega_i S(i, I)\Big)

    Let :math:`g_0`, :math:`g_1` and :math:`g_2` be the gradients of the first term,
    :math:`\mathcal L_1` and :math:`\mathcal L_2` with respect to :math:`e_a`. The weight
    :math:`\omega_a` is 1.2 if :math:`\cos(g_1 + g_2, g_0) \le \cos(g_1, g_2)`, else 0.8. Without a
    teacher, :math:`\omega_a = 1`.

    Source: Xia et al., "Graph-less Collaborative Filtering", WWW'23.

    Differs from the published code as follows. :math:`\mathcal L_2` and :math:`\mathcal L_3`
    compare ``contrast_nodes`` nodes of the batch with each other and with ``contrast_candidates``
    random nodes, not the whole batch with all nodes. ``target`` is the teacher's final embeddings
    propagated ``target_layers`` times, not the sum of the teacher's layers from the second on.
    :math:`\mathcal L_1` divides the teacher's scores by their standard deviation. The teacher's
    graph has no self-loops. Weight decay is LightGCN's, on the embeddings of the batch.

    Attributes:
        layer: W. Shape: (width, width)
        target: embeddings of the teacher that e should resemble, set by :meth:`distill_from`.
            Shapes: (users, width), (items, width)
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        width = settings.integer("embedding_size")
        self.layer = nn.Parameter(torch.empty(width, width))
        nn.init.xavier_uniform_(self.layer)
        self.prediction_weight = settings.number("prediction_kd_weight")
        self.prediction_temperature = settings.number("prediction_kd_temperature")
        self.n_pairs = settings.integer("prediction_kd_pairs")
        self.embedding_weight = settings.number("embedding_kd_weight")
        self.embedding_temperature = settings.number("embedding_kd_temperature")
        self.target_layers = settings.integer("target_layers")
        self.contrast_weight = settings.number("contrast_weight")
        self.contrast_temperature = settings.number("contrast_temperature")
        self.sample = ContrastSampler(settings)
        self.reg_weight = settings.number("reg_weight")
        self.target: Tables | None = None

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> None:
        """Raise InputError if the loss would fall without limit as the embeddings grow."""
        if not settings["contrast_weight"] and not settings["prediction_kd_weight"]:
            raise InputError(
                "contrast_weight and prediction_kd_weight are both 0, and the rest of the loss has "
                "no minimum: give one of them a positive weight"
            )

    def distill_from(self, teacher: FrozenTeacher, *, prefix: str = "") -> None:
        """Set the teacher and compute ``target``; see the base class."""
        super().distill_from(teacher, prefix=prefix)
        if not self.embedding_weight:
            return
        pattern, norm = self.observed.interactions.pattern, self.observed.interactions.norm
        width = self.user_embedding.shape[1]
        user, item = teacher.require_embeddings(f"{prefix}embedding_kd_weight", width)
        for _ in range(self.target_layers):
            user, item = spmm(pattern, norm, item), spmm(pattern, norm, user, transpose=True)
        self.target = user, item

    def propagate(self, user: Tensor, item: Tensor) -> Tables:
        """Apply the layer f, without a graph. Shapes: (users, width), (items, width)"""
        return self.transform(user), self.transform(item)

    def transform(self, rows: Tensor) -> Tensor:
        r"""Apply :math:`f(e) = \phi(eW) + e` to each row of a table. Shape: (rows, width)"""
        return F.leaky_relu(rows @ self.layer, 0.5) + rows

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """Compute the terms of the loss with a weight above 0, as a dict by name."""
        batch = self.batch_of(interaction)
        batch = batch._replace(negative=batch.item[:0])  # no term compares sampled items
        initial = self.initial()
        tables = self.propagate(*initial)
        rows = tables[0].index_select(0, batch.user), tables[1].index_select(0, batch.item)
        terms = {"interaction": -(rows[0] * rows[1]).sum(dim=-1).mean()}
        users = self.sample(batch.user, self.n_users)
        items = self.sample(batch.item, self.n_items)
        if self.teacher is not None:
            terms |= self.distillation(self.teacher, tables, (users, items))
        if self.contrast_weight:
            weights = self.weights(terms, (users, items))
            terms["contrast"] = self.contrast_weight * self.contrast(
                tables, (users, items), weights
            )
        terms["decay"] = self.reg_weight * self.decay(*initial, batch)
        return terms

    def distillation(
        self, teacher: FrozenTeacher, tables: Tables, nodes: tuple[Contrast, Contrast]
    ) -> dict[str, Tensor]:
        """Compute the terms L_1 and L_2, as a dict by name.

        Args:
            teacher: the trained teacher.
            tables: final embeddings of all users and items. Shapes: (users, width), (items, width)
            nodes: the users and the items to compare in L_2.
        """
        terms = {}
        if self.prediction_weight:
            user, *pair = (
                torch.randint(1, n, (self.n_pairs,), device=self.device)
                for n in (self.n_users, self.n_items, self.n_items)
            )
            first, second = tables[1].index_select(0, torch.cat(pair)).chunk(2)
            student = (tables[0].index_select(0, user) * (first - second)).sum(dim=-1)
            target = teacher.pair_scores(user, pair[0]) - teacher.pair_scores(user, pair[1])
            value = pairwise_alignment(student, target, temperature=self.prediction_temperature)
            terms["prediction_kd"] = self.prediction_weight * value
        if self.target is not None:
            sides = zip(self.initial(), self.target, nodes, strict=True)
            losses = [
                embedding_alignment(
                    table.index_select(0, side.candidates),
                    target[side.anchors],
                    side.position,
                    temperature=self.embedding_temperature,
                )
                for table, target, side in sides
            ]
            terms["embedding_kd"] = self.embedding_weight * torch.stack(losses).sum()
        return terms

    def weights(
        self, terms: dict[str, Tensor], nodes: tuple[Contrast, Contrast]
    ) -> tuple[Tensor, Tensor]:
        """Compute the weights omega in L_3. Shapes: (user anchors,), (item anchors,)

        Args:
            terms: the terms of the loss except L_3, by name.
            nodes: the users and the items of L_3. The anchors are the nodes u and i of L_3.
        """
        if self.teacher is None:
            ones = [torch.ones(len(side.anchors), device=self.device) for side in nodes]
            return ones[0], ones[1]
        names = ("prediction_kd", "embedding_kd", "interaction")
        first, second, main = (self._gradients(terms.get(name), nodes) for name in names)
        user, item = (node_weights(*rows) for rows in zip(first, second, main, strict=True))
        return user, item

    def _gradients(self, term: Tensor | None, nodes: tuple[Contrast, Contrast]) -> list[Tensor]:
        """Compute a term's gradients with respect to the anchors' embeddings (0 without term)."""
        initial = self.initial()
        if term is None:
            return [
                torch.zeros_like(t[side.anchors]) for t, side in zip(initial, nodes, strict=True)
            ]
        gradients = torch.autograd.grad(term, initial, retain_graph=True)
        return [gradient[side.anchors] for gradient, side in zip(gradients, nodes, strict=True)]

    def contrast(
        self,
        tables: Tables,
        nodes: tuple[Contrast, Contrast],
        weights: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Compute the contrast L_3 without its weight w_3. Shape: ()

        Args:
            tables: final embeddings of all users and items. Shapes: (users, width), (items, width)
            nodes: the users and the items to push apart.
            weights: omega of each anchor. Shapes: (user anchors,), (item anchors,)
        """
        users, items = (
            table.index_select(0, side.candidates)
            for table, side in zip(tables, nodes, strict=True)
        )
        user, item = users[nodes[0].position], items[nodes[1].position]
        (w_user, w_item), temperature = weights, self.contrast_temperature
        of_users = log_sums(user, items, w_user, temperature=temperature)
        of_users = of_users + log_sums(user, users, w_user, temperature=temperature)
        of_items = log_sums(item, items, w_item, temperature=temperature)
        return of_users / len(user) + of_items / len(item)


def log_sums(rows: Tensor, others: Tensor, weight: Tensor, *, temperature: float) -> Tensor:
    r"""Compute a weighted sum of log-sum-exps, without storing all logits. Shape: ()

    .. math:: \sum_a \omega_a\log\sum_c\exp(x_a\cdot y_c/\tau)

    Args:
        rows: x, embeddings to push away; receive gradients. Shape: (rows, width)
        others: y, embeddings to compare x with; receive gradients. Shape: (others, width)
        weight: omega, weight of each row of x, positive. Shape: (rows,)
        temperature: tau > 0.
    """
    rows = rows / temperature
    number = torch.arange(len(rows) + 1, device=rows.device)
    # Softmax loss with others[0] as target = log-sum-exp - first logit.
    target = RaggedIndices(number, torch.zeros_like(number[1:]))
    return full_softmax(rows, others, target, weight) + (weight * (rows @ others[0])).sum()


def node_weights(first: Tensor, second: Tensor, main: Tensor) -> Tensor:
    """Compute omega of each node (1.2 or 0.8) from gradients; see `SimRec`. Shape: (nodes,)

    Args:
        first: g_1, gradients of the term on the teacher's scores. Shape: (nodes, width)
        second: g_2, gradients of the term on the teacher's embeddings. Shape: (nodes, width)
        main: g_0, gradients of the term on observed interactions. Shape: (nodes, width)
    """
    with_main = F.cosine_similarity(first + second, main, dim=-1)
    raised = with_main <= F.cosine_similarity(first, second, dim=-1)
    return torch.where(raised, _RAISED, _LOWERED)
