"""LR-GCCF: linear graph convolutions; the final embedding concatenates all layers."""

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
    r"""Linear residual graph convolution, trained by BPR.

    .. math:: E_l = \tilde D^{-1/2}(A + I)\tilde D^{-1/2} E_{l-1},\qquad
              \bar E = E_0 \,\|\, E_1 \,\|\, \dots \,\|\, E_L

    with :math:`\tilde D = D + I` and D the diagonal matrix of degrees. The inner product of
    concatenated layers is the sum of the layers' inner products: each layer adds to the score, as
    the paper's residual does. Weight decay applies to the final embeddings of a batch. The layers
    have no weight matrix, as in the authors' code and unlike the paper.

    Source: Chen et al., "Revisiting Graph Based Collaborative Filtering: A Linear Residual Graph
    Convolutional Network Approach", AAAI'20.
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.n_layers, self.reg_weight = settings.integer("n_layers"), settings.number("reg_weight")
        pattern = self.observed.interactions.pattern
        row, col = pattern.row, pattern.col
        # Norms of the self-loops: 1 / (d + 1).
        self._user_loop = 1 / (1 + torch.bincount(row, minlength=self.n_users).float())
        self._item_loop = 1 / (1 + torch.bincount(col, minlength=self.n_items).float())
        self._norm = (self._user_loop[row] * self._item_loop[col]).sqrt()

    @staticmethod
    def widths(settings: Mapping[str, Any]) -> tuple[int | None, int]:
        """Return the width of initial embeddings, and the width of all layers side by side."""
        width = settings["embedding_size"]
        return width, width * (1 + settings["n_layers"])

    def propagate(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the layers 0 to L and concatenate them; see `GraphRecommender.propagate`."""
        pattern, norm = self.observed.interactions.pattern, self._norm
        users, items = [user], [item]
        for _ in range(self.n_layers):
            user_loops = self._user_loop[:, None] * users[-1]
            item_loops = self._item_loop[:, None] * items[-1]
            user = spmm(pattern, norm, items[-1], add=user_loops)
            item = spmm(pattern, norm, users[-1], add=item_loops, transpose=True)
            users.append(user)
            items.append(item)
        return torch.cat(users, dim=1), torch.cat(items, dim=1)

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """Compute BPR, and weight decay on the batch's final embeddings."""
        batch, final = self.batch_of(interaction), self.encode()
        return {
            "interaction": batch_bpr(final, batch),
            "decay": self.reg_weight * self.decay(*final, batch),
        }
