"""PinSage: convolutions over the nodes where random walks end most often."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.models.base import EmbeddingRecommender
from recbole_lightgnn.models.objective import Tables, interaction_objective
from recbole_lightgnn.nn.graph import walk_neighbors
from recbole_lightgnn.ops import SparsePattern, spmm


class PinSage(EmbeddingRecommender):
    r"""Graph convolutions over the end nodes of random walks, trained by BPR or a softmax.

    .. math:: n_a = \sum_b\alpha_{ab}\,\mathrm{ReLU}(Q_l h_b + q_l),\qquad
              h_a \leftarrow \frac{z_a}{\|z_a\|},\quad
              z_a = \mathrm{ReLU}(W_l\,[h_a\,\|\,n_a] + w_l),\qquad l = 1\dots L

    .. math:: \bar e_a = G_2\,\mathrm{ReLU}(G_1 h_a + g)

    h starts as the trained embedding of a node (user or item). The nodes b are the ``n_neighbors``
    nodes where random walks of ``walk_length`` steps from node a end most often. The probabilities
    of these ends, scaled to the sum 1, are :math:`\alpha_{ab}` (`walk_neighbors`). The score is the
    inner product of the :math:`\bar e`. Weight decay is on the batch's final embeddings: the
    length of an initial embedding hardly matters, because layers normalize their outputs.

    Differs from the paper, because items have no features:

    - Users and items are both nodes, and share the weights of a layer.
    - Trained embeddings replace the features.
    - The probabilities are exact, not counts of sampled walks.
    - The loss is BPR or a softmax on user-item pairs, not a margin loss on pairs of items with hard
      negatives.

    Source: Ying et al., "Graph Convolutional Neural Networks for Web-Scale Recommender Systems",
    KDD'18.
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.reg_weight = settings.number("reg_weight")
        self.objective = interaction_objective(settings, self.observed, self.positive_items)
        self._neighbors, self._shares = walk_neighbors(
            self.observed,
            length=settings.integer("walk_length"),
            cap=settings.integer("n_neighbors"),
        )
        width = settings.integer("embedding_size")
        self.convolutions = nn.ModuleList(
            Convolution(width) for _ in range(settings.integer("n_layers"))
        )
        self.head = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width, bias=False)
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:  # torch's default would exceed the embeddings
                    nn.init.zeros_(module.bias)

    def propagate(self, user: Tensor, item: Tensor) -> Tables:
        """Apply the convolutions and the head; see `GraphRecommender.propagate`."""
        hidden = torch.cat([user, item])
        for convolution in self.convolutions:
            hidden = convolution(self._neighbors, self._shares, hidden)
        final = self.head(hidden)
        return final[: self.n_users], final[self.n_users :]

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """Compute the interaction loss, and weight decay on the batch's final embeddings."""
        batch, final = self.batch_of(interaction), self.encode()
        return {
            "interaction": self.objective(final, batch),
            "decay": self.reg_weight * self.decay(*final, batch),
        }


class Convolution(nn.Module):
    """One layer of `PinSage`.

    Args:
        width: number of columns of h, before and after the layer.

    Attributes:
        message: Q and q, applied to the neighbors.
        update: W and w, applied to h and n of a node, side by side.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.message = nn.Linear(width, width)
        self.update = nn.Linear(2 * width, width)

    def forward(self, neighbors: SparsePattern, shares: Tensor, hidden: Tensor) -> Tensor:
        """Compute h after this layer; each row has length 1 or is zero. Shape: (nodes, width)

        Args:
            neighbors: pairs (a, b) of a node and its neighbor. Shape: (nodes, nodes)
            shares: weight alpha of each pair. Shape: (pairs,)
            hidden: h before this layer. Shape: (nodes, width)
        """
        gathered = spmm(neighbors, shares, F.relu(self.message(hidden)))  # n
        return F.normalize(F.relu(self.update(torch.cat([hidden, gathered], dim=1))), dim=-1)
