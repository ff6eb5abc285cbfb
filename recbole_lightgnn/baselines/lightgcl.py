"""LightGCL: LightGCN with a contrastive loss against a low-rank graph."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.losses import node_contrast
from recbole_lightgnn.models.base import Batch, EmbeddingRecommender
from recbole_lightgnn.models.objective import Tables, batch_bpr, contrast_candidates
from recbole_lightgnn.nn.propagation import dropped_layer, lightgcn
from recbole_lightgnn.nn.spectral import LowRank, low_rank_graph


class LightGCL(EmbeddingRecommender):
    r"""LightGCN trained by BPR and by a contrastive loss against embeddings of a low-rank graph.

    .. math:: E_l = \hat A E_{l-1},\qquad G_{U,l} = U S V^\top E_{I,l-1},\qquad
              G_{I,l} = V S U^\top E_{U,l-1},\qquad G_0 = E_0

    .. math:: \mathcal L = \mathcal L_{bpr}(\bar E) + \frac{\lambda_1}{|B|}\sum_{a\in B}\Big[
              \log\sum_b\exp(\bar g_a\cdot\bar e_b/\tau)
              - \mathrm{clamp}(\bar g_a\cdot\bar e_a/\tau, \pm5)\Big] + \lambda_2\|\Theta\|^2

    :math:`\bar E` and :math:`\bar G` are sums of the layers 0 to L. :math:`U S V^\top` is a
    low-rank approximation of :math:`\hat A` (`low_rank_graph`). The contrast is a mean over the
    batch's distinct users, plus a mean over its distinct positive and negative items. In training,
    each layer drops edges of :math:`\hat A`. The ranking uses :math:`\bar E` with all edges. Weight
    decay is on all parameters.

    Source: Cai et al., "LightGCL: Simple Yet Effective Graph Contrastive Learning for
    Recommendation", ICLR'23.

    Differs from the authors' code (HKUDS/LightGCL) in four points. The singular vectors are exact,
    not a random approximation. The low-rank graph has a degree offset. The contrast compares a node
    with the nodes of the batch; the code compares with all nodes (``contrast_with: all``). The
    ranking propagates the trained embeddings; the code ranks by the final embeddings of the last
    training step.
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.n_layers = settings.integer("n_layers")
        self.rank = settings.integer("rank")
        self.degree_offset = settings.number("degree_offset")
        self.keep_rate = settings.number("keep_rate")
        self.contrast_weight = settings.number("contrast_weight")
        self.contrast_temperature = settings.number("contrast_temperature")
        self.with_all = settings.text("contrast_with") == "all"
        self.reg_weight = settings.number("reg_weight")
        largest = min(self.n_users, self.n_items) - 1  # without RecBole's padding
        if self.rank > largest:
            raise InputError(
                f"rank must be at most {largest}, the number of users or of items, whichever is "
                f"smaller, got {self.rank}: lower it"
            )

    @cached_property
    def low_rank(self) -> LowRank:
        """Low-rank factors U, S and V of the graph, computed in the first training step."""
        return low_rank_graph(self.observed, rank=self.rank, degree_offset=self.degree_offset)

    def propagate(self, user: Tensor, item: Tensor) -> Tables:
        """Sum LightGCN's layers 0 to L; see `GraphRecommender.propagate`."""
        return lightgcn(self.observed, user, item, n_layers=self.n_layers)

    def views(self) -> tuple[Tables, Tables]:
        """Compute final embeddings with edges dropped, and embeddings over the low-rank graph."""
        left, value, right = self.low_rank
        layer = self.initial()
        final, view = list(layer), list(layer)
        for _ in range(self.n_layers):
            user, item = layer
            view[0] = view[0] + (left * value) @ (right.T @ item)
            view[1] = view[1] + (right * value) @ (left.T @ user)
            layer = dropped_layer(self.observed, user, item, keep_rate=self.keep_rate)
            final = [total + table for total, table in zip(final, layer, strict=True)]
        return (final[0], final[1]), (view[0], view[1])

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """Compute BPR, the contrast, and weight decay on all parameters."""
        batch = self.batch_of(interaction)
        final, view = self.views()
        squares = [table[1:].square().sum() for table in self.initial()]
        return {
            "interaction": batch_bpr(final, batch),
            "contrast": self.contrast_weight * self.contrast(final, view, batch),
            "decay": self.reg_weight * torch.stack(squares).sum(),
        }

    def contrast(self, final: Tables, view: Tables, batch: Batch) -> Tensor:
        """Compute the contrast of the batch's users plus the contrast of its items. Shape: ()

        Args:
            final: final embeddings of users and items. Shapes: (users, width), (items, width)
            view: sums of layers over the low-rank graph. Shapes: (users, width), (items, width)
            batch: the training batch.
        """
        nodes = batch.user.unique(), torch.cat([batch.item, batch.negative]).unique()
        losses = []
        for index, table, low in zip(nodes, final, view, strict=True):
            rows = low.index_select(0, index)
            candidates, target = contrast_candidates(table, index, with_all=self.with_all)
            own = (rows * candidates.index_select(0, target)).sum(-1) / self.contrast_temperature
            loss = node_contrast(rows, candidates, target, temperature=self.contrast_temperature)
            losses.append(loss + (own - own.clamp(-5, 5)).mean())
        return torch.stack(losses).sum()
