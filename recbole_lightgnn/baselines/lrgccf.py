"""LR-GCCF: linear graph convolutions, their layers side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.models.base import EmbeddingRecommender
from recbole_lightgnn.models.objective import batch_bpr
from recbole_lightgnn.ops import spmm


class LRGCCF(EmbeddingRecommender):
    r"""Linear residual graph convolution (Chen et al., "Revisiting Graph Based Collaborative
    Filtering: A Linear Residual Graph Convolutional Network Approach", AAAI'20).

    .. math:: E_l = \tilde D^{-1/2}(A + I)\tilde D^{-1/2} E_{l-1},\qquad
              \bar E = E_0 \,\|\, E_1 \,\|\, \dots \,\|\, E_L

    with the degrees :math:`\tilde d = d + 1`. A product of two rows side by side is a sum of
    products: each layer adds what is left to be predicted, which is the paper's residual. Trained
    by BPR with weight decay on the final embeddings of a batch.

    As the authors' code, and unlike their paper, without a matrix of weights in each layer.
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.n_layers, self.reg_weight = settings.integer("n_layers"), settings.number("reg_weight")
        pattern = self.observed.interactions.pattern
        row, col = pattern.row, pattern.col
        # of the self-loops: 1 / (d + 1)
        self._of_user = 1 / (1 + torch.bincount(row, minlength=self.n_users).float())
        self._of_item = 1 / (1 + torch.bincount(col, minlength=self.n_items).float())
        self._norm = (self._of_user[row] * self._of_item[col]).sqrt()

    @staticmethod
    def widths(settings: Mapping[str, Any]) -> tuple[int | None, int]:
        """Initial embeddings, and all layers of them."""
        width = settings["embedding_size"]
        return width, width * (1 + settings["n_layers"])

    def propagate(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """The layers 0 to L, side by side."""
        pattern, norm = self.observed.interactions.pattern, self._norm
        users, items = [user], [item]
        for _ in range(self.n_layers):
            loops = self._of_user[:, None] * users[-1], self._of_item[:, None] * items[-1]
            user = spmm(pattern, norm, items[-1], add=loops[0])
            item = spmm(pattern, norm, users[-1], add=loops[1], transpose=True)
            users.append(user)
            items.append(item)
        return torch.cat(users, dim=1), torch.cat(items, dim=1)

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """BPR, and weight decay on the batch's final embeddings."""
        batch, final = self.batch_of(interaction), self.encode()
        return {
            "interaction": batch_bpr(final, batch),
            "decay": self.reg_weight * self.decay(*final, batch),
        }
