"""HCCF: LightGCN plus learned hyperedges, with a contrast of local and global layers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.losses import node_contrast
from recbole_lightgnn.models.base import Batch, EmbeddingRecommender
from recbole_lightgnn.models.objective import Tables, batch_bpr, contrast_candidates
from recbole_lightgnn.nn.propagation import dropped_layer


class HCCF(EmbeddingRecommender):
    r"""LightGCN plus global layers over learned hyperedges, aligned by a contrast.

    .. math:: E_l = Z_l + \Gamma_l,\qquad Z_l = \hat A E_{l-1},\qquad
              \Gamma_l = \phi(H\,\phi(H^\top E_{l-1})),\qquad H = \alpha E_0 W

    .. math:: \mathcal L = \mathcal L_{bpr}(\bar E)
              + \lambda_1\sum_l \mathcal L_{nce}(\mathrm{sg}(Z_l), \Gamma_l)
              + \lambda_2\|\Theta\|^2,\qquad \bar E = \sum_{l=0}^L E_l

    :math:`Z_l` is the local layer, as in LightGCN, and :math:`\Gamma_l` the global layer. H is how
    strongly each node belongs to each hyperedge, and :math:`\alpha` is ``hyper_scale``.
    :math:`\Gamma`, H and W are separate for users and items, and :math:`\phi` is LeakyReLU.
    :math:`\mathcal L_{nce}` is `node_contrast` of cosines, on the batch's distinct users and on its
    distinct items, with no gradient to :math:`Z_l`. In training, every layer drops edges of
    :math:`\hat A` and entries of H; the ranking uses all edges and entries. Weight decay is on all
    parameters.

    Source: Xia et al., "Hypergraph Contrastive Collaborative Filtering", SIGIR'22.

    Differs from the authors' code (PyTorch; akaxlh/HCCF) in three points. The contrast compares a
    node with the nodes of the batch; the code compares with all nodes (``contrast_with: all``). The
    code has no :math:`\phi`; ``slope: 1`` switches it off here. RecBole's padding nodes have no
    hyperedges. The authors' TensorFlow code is another variant, with a hinge loss and additional
    layers.

    Attributes:
        user_hyper: W of the users. Shape: (width, hyperedges)
        item_hyper: W of the items. Shape: (width, hyperedges)
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.n_layers, self.slope = settings.integer("n_layers"), settings.number("slope")
        self.hyper_scale = settings.number("hyper_scale")
        self.keep_rate = settings.number("keep_rate")
        self.contrast_weight = settings.number("contrast_weight")
        self.contrast_temperature = settings.number("contrast_temperature")
        self.with_all = settings.text("contrast_with") == "all"
        self.reg_weight = settings.number("reg_weight")
        shape = settings.integer("embedding_size"), settings.integer("n_hyperedges")
        self.user_hyper = nn.Parameter(nn.init.xavier_uniform_(torch.empty(shape)))
        self.item_hyper = nn.Parameter(nn.init.xavier_uniform_(torch.empty(shape)))

    def propagate(self, user: Tensor, item: Tensor) -> Tables:
        """Sum the layers 0 to L, with all edges and entries; see `GraphRecommender.propagate`."""
        return self.layers(user, item, keep_rate=1.0)[0]

    def layers(
        self, user: Tensor, item: Tensor, *, keep_rate: float
    ) -> tuple[Tables, list[tuple[Tables, Tables]]]:
        """Compute the final embeddings, and the local and the global layer of each depth.

        Args:
            user: E_0 of the users. Shape: (users, width)
            item: E_0 of the items. Shape: (items, width)
            keep_rate: share of edges, and of entries of H, that each layer keeps.

        Returns:
            The final embeddings, and the pairs (Z_l, Gamma_l) for l = 1 to L. Each Z_l and
            each Gamma_l is a table of users and a table of items.
        """
        hyper = [
            self.hyper_scale * _without_padding(table) @ weight
            for table, weight in ((user, self.user_hyper), (item, self.item_hyper))
        ]
        layer, total = (user, item), [user, item]
        views = []
        for _ in range(self.n_layers):
            local = dropped_layer(self.observed, *layer, keep_rate=keep_rate)
            parts = [
                through_hyperedges(F.dropout(h, 1 - keep_rate), table, slope=self.slope)
                for h, table in zip(hyper, layer, strict=True)
            ]
            views.append((local, (parts[0], parts[1])))
            layer = local[0] + parts[0], local[1] + parts[1]
            total = [total[0] + layer[0], total[1] + layer[1]]
        return (total[0], total[1]), views

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """Compute BPR, the contrast of all layers, and weight decay on all parameters."""
        batch = self.batch_of(interaction)
        final, views = self.layers(*self.initial(), keep_rate=self.keep_rate)
        squares = [table[1:].square().sum() for table in self.initial()]
        squares += [weight.square().sum() for weight in (self.user_hyper, self.item_hyper)]
        return {
            "interaction": batch_bpr(final, batch),
            "contrast": self.contrast_weight * self.contrast(views, batch),
            "decay": self.reg_weight * torch.stack(squares).sum(),
        }

    def contrast(self, views: list[tuple[Tables, Tables]], batch: Batch) -> Tensor:
        """Sum the contrasts of local and global layers, on the batch's users and on its items.

        Args:
            views: the local and the global layer of each depth, as `layers` returns them.
            batch: the training batch.
        """
        nodes = batch.user.unique(), batch.item.unique()
        losses = []
        for local, across in views:
            for index, anchor, table in zip(nodes, local, across, strict=True):
                rows = F.normalize(anchor.detach().index_select(0, index), dim=-1)
                candidates, target = contrast_candidates(table, index, with_all=self.with_all)
                candidates = F.normalize(candidates, dim=-1)
                temperature = self.contrast_temperature
                losses.append(node_contrast(rows, candidates, target, temperature=temperature))
        return torch.stack(losses).sum()


def through_hyperedges(hyper: Tensor, table: Tensor, *, slope: float) -> Tensor:
    r"""Send embeddings to the hyperedges and back: :math:`\phi(H\,\phi(H^\top E))`. Shape: as E

    Args:
        hyper: H, how strongly each node belongs to each hyperedge. Shape: (nodes, hyperedges)
        table: E, embeddings of the nodes. Shape: (nodes, width)
        slope: slope of the LeakyReLU :math:`\phi` below 0; 1 is no activation.
    """
    return F.leaky_relu(hyper @ F.leaky_relu(hyper.T @ table, slope), slope)


def _without_padding(table: Tensor) -> Tensor:
    """Set RecBole's padding row of H to 0, so that padding is in no hyperedge."""
    return F.pad(table[1:], (0, 0, 1, 0))
