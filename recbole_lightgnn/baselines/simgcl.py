"""SimGCL: LightGCN with a contrastive loss between two noisy views."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.losses import info_nce
from recbole_lightgnn.models.base import Batch, EmbeddingRecommender
from recbole_lightgnn.models.objective import Tables, batch_bpr
from recbole_lightgnn.nn.propagation import mean_of_layers, noisy_layers


class SimGCL(EmbeddingRecommender):
    r"""LightGCN trained by BPR and a contrastive loss between two noisy copies of the embeddings.

    .. math:: \mathcal L = \mathcal L_{bpr} + \lambda\,(\mathcal L_{nce}^U + \mathcal L_{nce}^I)
              + \lambda_4\|\Theta\|^2

    :math:`\mathcal L_{nce}` is `info_nce` between the two views of the batch's distinct users, and
    of its distinct items. A view is the mean of the layers 1 to L with noise in every layer
    (`noisy_layers`). BPR and the ranking use the mean without noise. Weight decay is LightGCN's:
    half the squared norm of the batch's initial embeddings.

    Source: Yu et al., "Are Graph Augmentations Necessary? Simple Graph Contrastive Learning for
    Recommendation", SIGIR'22.
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.n_layers, self.noise = settings.integer("n_layers"), settings.number("noise")
        self.contrast_weight = settings.number("contrast_weight")
        self.contrast_temperature = settings.number("contrast_temperature")
        self.reg_weight = settings.number("reg_weight")

    def propagate(self, user: Tensor, item: Tensor) -> Tables:
        """Return the mean of the layers 1 to L; see `GraphRecommender.propagate`."""
        return mean_of_layers(self.observed, user, item, n_layers=self.n_layers)

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """Compute BPR, the contrastive loss, and weight decay on the batch's initial embeddings."""
        batch = self.batch_of(interaction)
        final, first, second = self.views()
        contrast = self.contrast(first, second, batch)
        return {
            "interaction": batch_bpr(final, batch),
            "contrast": self.contrast_weight * contrast,
            "decay": self.reg_weight * self.decay(*self.initial(), batch),
        }

    def views(self) -> tuple[Tables, Tables, Tables]:
        """Compute the final embeddings for BPR, and the two views for the contrastive loss."""
        final = self.encode()
        return final, self._view(final), self._view(final)

    def contrast(self, first: Tables, second: Tables, batch: Batch) -> Tensor:
        """Compute InfoNCE of the batch's users plus InfoNCE of the batch's items. Shape: ()

        Args:
            first: final embeddings in the first view. Shapes: (users, width), (items, width)
            second: final embeddings in the second view, in the same shapes.
            batch: the training batch.
        """
        nodes = (batch.user.unique(), batch.item.unique())
        losses = [
            info_nce(
                view.index_select(0, index),
                other.index_select(0, index),
                temperature=self.contrast_temperature,
            )
            for index, view, other in zip(nodes, first, second, strict=True)
        ]
        return torch.stack(losses).sum()

    def _view(self, final: Tables) -> Tables:
        """Compute a noisy copy (view) of the final embeddings, with new noise.

        Propagation is linear, so a view is ``final`` plus a constant. One backward pass through one
        propagation therefore serves both views and BPR.
        """
        with torch.no_grad():
            layers = noisy_layers(
                self.observed, *self.initial(), n_layers=self.n_layers, noise=self.noise
            )
            means = [sum(sides) / self.n_layers for sides in zip(*layers, strict=True)]
            shifts = [mean - table for mean, table in zip(means, final, strict=True)]
        return final[0] + shifts[0], final[1] + shifts[1]
