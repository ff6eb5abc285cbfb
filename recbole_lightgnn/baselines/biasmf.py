"""BiasMF: matrix factorization with biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.models.base import EmbeddingRecommender
from recbole_lightgnn.models.objective import batch_bpr


class BiasMF(EmbeddingRecommender):
    r"""Matrix factorization with biases, trained by BPR.

    .. math:: \hat y_{ui} = \mu + b_u + b_i + p_u\cdot q_i

    :math:`\mu` is the mean rating, b are biases, and p and q are embeddings. The paper fits ratings
    by squared error. Here all observed values are 1, and a constant score would fit them. BPR
    compares items of one user, so :math:`\mu + b_u` has no effect and is left out. The score is the
    inner product of :math:`[p_u, 1]` and :math:`[q_i, b_i]`. Weight decay applies to p, q and the
    item biases.

    Source: Koren, Bell and Volinsky, "Matrix Factorization Techniques for Recommender Systems",
    IEEE Computer 2009.

    Attributes:
        item_bias: b_i. Shape: (items, 1)
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.reg_weight = settings.number("reg_weight")
        self.item_bias = nn.Parameter(torch.zeros(self.n_items, 1))

    @staticmethod
    def widths(settings: Mapping[str, Any]) -> tuple[int | None, int]:
        """Return the numbers of columns of initial embeddings and of final embeddings."""
        width = settings["embedding_size"]
        return width, width + 1

    def encode(self) -> tuple[Tensor, Tensor]:
        """Return [p, 1] and [q, b_i]. Shapes: (users, width + 1), (items, width + 1)"""
        ones = torch.ones_like(self.user_embedding[:, :1])
        user = torch.cat([self.user_embedding, ones], dim=1)
        return user, torch.cat([self.item_embedding, self.item_bias], dim=1)

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """Compute BPR, and weight decay on the batch's embeddings and biases."""
        batch, final = self.batch_of(interaction), self.encode()
        return {
            "interaction": batch_bpr(final, batch),
            "decay": self.reg_weight * self.decay(self.user_embedding, final[1], batch),
        }
