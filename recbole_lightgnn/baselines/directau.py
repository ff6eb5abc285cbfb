"""DirectAU: alignment and uniformity as the whole loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.losses import alignment, gaussian_potential
from recbole_lightgnn.models.base import EmbeddingRecommender
from recbole_lightgnn.nn.propagation import lightgcn


class DirectAU(EmbeddingRecommender):
    r"""Users and their items close, everybody else spread out (Wang et al., "Towards Representation
    Alignment and Uniformity in Collaborative Filtering", KDD'22).

    .. math:: \mathcal L = \ell_{align} + \gamma\,\frac{\ell_{uniform}^U + \ell_{uniform}^I}{2}

    of the normalized embeddings of a batch's interactions, each user and item as often as it
    occurs there (`alignment`, `gaussian_potential`; :math:`\gamma` is ``uniformity_weight``). No
    items are sampled. It ranks by the inner product, not normalized. The encoder is LightGCN, or
    with ``n_layers`` 0 matrix factorization, the authors' default. Weight decay is the
    optimizer's, on every parameter at every step.
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.n_layers = settings.integer("n_layers")
        self.uniformity_weight = settings.number("uniformity_weight")

    def propagate(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """LightGCN's layers, summed: the authors take the mean, which is the same to a loss of
        directions and to the ranking."""
        return lightgcn(self.observed, user, item, n_layers=self.n_layers)

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """Alignment of the batch's users and items, and uniformity of either side."""
        batch, (user, item) = self.batch_of(interaction), self.encode()
        user, item = user.index_select(0, batch.user), item.index_select(0, batch.item)
        potential = (gaussian_potential(user) + gaussian_potential(item)) / 2
        return {
            "alignment": alignment(user, item),
            "uniformity": self.uniformity_weight * potential,
        }
