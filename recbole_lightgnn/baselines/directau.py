"""DirectAU: a loss of alignment and uniformity, without negative items."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.losses import alignment, gaussian_potential
from recbole_lightgnn.models.base import EmbeddingRecommender
from recbole_lightgnn.nn.propagation import lightgcn


class DirectAU(EmbeddingRecommender):
    r"""LightGCN or matrix factorization, trained by alignment and uniformity.

    .. math:: \mathcal L = \ell_{align} + \gamma\,\frac{\ell_{uniform}^U + \ell_{uniform}^I}{2}

    :math:`\ell_{align}` is `alignment` of users with their items. :math:`\ell_{uniform}` is
    `gaussian_potential` of users (U) or of items (I). :math:`\gamma` is ``uniformity_weight``.
    Alignment and uniformity use the normalized final embeddings of the batch; a user or item counts
    as often as it occurs there. No negative items are sampled. The ranking is by the inner product
    without normalization. With ``n_layers: 0``, the authors' default, the model is matrix
    factorization. The optimizer applies weight decay to every parameter at every step.

    Source: Wang et al., "Towards Representation Alignment and Uniformity in Collaborative
    Filtering", KDD'22.
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.n_layers = settings.integer("n_layers")
        self.uniformity_weight = settings.number("uniformity_weight")

    def propagate(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Sum LightGCN's layers; see `GraphRecommender.propagate`.

        The authors average the layers. A mean is the sum times a constant, which changes neither
        the loss (it normalizes embeddings) nor the ranking.
        """
        return lightgcn(self.observed, user, item, n_layers=self.n_layers)

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """Compute the alignment of the batch's pairs, and the uniformity of its users and items."""
        batch, (user, item) = self.batch_of(interaction), self.encode()
        user, item = user.index_select(0, batch.user), item.index_select(0, batch.item)
        potential = (gaussian_potential(user) + gaussian_potential(item)) / 2
        return {
            "alignment": alignment(user, item),
            "uniformity": self.uniformity_weight * potential,
        }
