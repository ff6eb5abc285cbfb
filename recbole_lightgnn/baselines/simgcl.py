"""SimGCL: LightGCN, and two views of it that differ by noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.losses import info_nce
from recbole_lightgnn.models.base import Batch, EmbeddingRecommender
from recbole_lightgnn.models.objective import batch_bpr
from recbole_lightgnn.nn.propagation import mean_of_layers, noisy_layers

Tables = tuple[Tensor, Tensor]


class SimGCL(EmbeddingRecommender):
    r"""Contrastive learning without augmented graphs (Yu et al., "Are Graph Augmentations
    Necessary? Simple Graph Contrastive Learning for Recommendation", SIGIR'22).

    .. math:: \mathcal L = \mathcal L_{bpr} + \lambda\,(\mathcal L_{nce}^U + \mathcal L_{nce}^I)
              + \lambda_4\|\Theta\|^2

    :math:`\mathcal L_{nce}` contrasts two views of the users, and of the items, of a batch, each
    once; a view is the mean of the layers 1 to L with noise in every layer (`noisy_layers`). BPR
    and the ranking take the mean without noise.

    Weight decay is LightGCN's: half the squared norm of the batch's initial embeddings.
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.n_layers, self.noise = settings.integer("n_layers"), settings.number("noise")
        self.contrast_weight = settings.number("contrast_weight")
        self.contrast_temperature = settings.number("contrast_temperature")
        self.reg_weight = settings.number("reg_weight")

    def propagate(self, user: Tensor, item: Tensor) -> Tables:
        """The mean of the layers from the first on."""
        return mean_of_layers(self.observed, user, item, n_layers=self.n_layers)

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """BPR, the contrast of the views, and weight decay on the batch's initial embeddings."""
        batch = self.batch_of(interaction)
        final, *views = self.views()
        contrast = self.contrast(views, batch)
        return {
            "interaction": batch_bpr(final, batch),
            "contrast": self.contrast_weight * contrast,
            "decay": self.reg_weight * self.decay(*self.initial(), batch),
        }

    def views(self) -> tuple[Tables, Tables, Tables]:
        """Final embeddings to rank by, and the two views of them that are contrasted."""
        final = self.encode()
        return final, self._view(final), self._view(final)

    def contrast(self, views: list[Tables], batch: Batch) -> Tensor:
        """InfoNCE between two views, of the batch's users and of its items."""
        one, other = views
        sides = zip((batch.user.unique(), batch.item.unique()), one, other, strict=True)
        losses = [
            info_nce(
                table.index_select(0, nodes),
                like.index_select(0, nodes),
                temperature=self.contrast_temperature,
            )
            for nodes, table, like in sides
        ]
        return torch.stack(losses).sum()

    def _view(self, final: Tables) -> Tables:
        """A view with noise of its own.

        Layers are linear and noise is a constant, so a view has the gradient of the embeddings
        without noise: it is these and a constant, and gradients go back through one propagation
        for all three.
        """
        with torch.no_grad():
            layers = noisy_layers(
                self.observed, *self.initial(), n_layers=self.n_layers, noise=self.noise
            )
            means = [sum(sides) / self.n_layers for sides in zip(*layers, strict=True)]
            shifts = [mean - table for mean, table in zip(means, final, strict=True)]
        return final[0] + shifts[0], final[1] + shifts[1]
