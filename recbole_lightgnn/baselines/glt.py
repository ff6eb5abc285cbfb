"""GLT (graph lottery ticket): prune by learned masks, then reset embeddings to initial values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.models.objective import batch_bpr
from recbole_lightgnn.models.pruned import PrunedRecommender
from recbole_lightgnn.nn.propagation import lightgcn
from recbole_lightgnn.nn.prunable_embedding import PrunableEmbedding

_NOISE = 1e-4  # size of the noise on the masks at the start


class GLT(PrunedRecommender):
    r"""LightGCN with a learned mask of each edge and of each embedding entry, trained by BPR.

    .. math:: \mathcal L = \mathcal L_{bpr}(m_g\odot\hat A,\; m_\theta\odot E_0)
              + \gamma_1\|m_g\|_1 + \gamma_2\|m_\theta\|_1 + \lambda_4\|\Theta\|^2

    After each training run, the entries and edges with the smallest absolute masks are pruned. The
    remaining masks become 1, and the remaining entries are reset to their initial values. In the
    last run the masks stay 1, so that the final model needs no masks.

    Differs from the published code as follows. The published code prunes the weights of a node
    classifier; here the embeddings are pruned. Both directions of an edge share one mask. Exactly
    the given share of entries and edges is kept, even if masks are equal. A node keeps at least
    ``entry_floor`` entries and ``edge_floor`` edges. The gradient of :math:`|m|` at 0 is 0.

    Source: Chen et al., "A Unified Lottery Ticket Hypothesis for Graph Neural Networks", ICML'21.

    Attributes:
        edge_weight: m_g, the mask of each remaining edge. Shape: (edges,)
        user_mask: m_theta of the users' entries. Shape: (users, width)
        item_mask: m_theta of the items' entries. Shape: (items, width)
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.edge_sparsity = settings.number("edge_sparsity_weight")
        self.entry_sparsity = settings.number("entry_sparsity_weight")
        self.last_run = settings.integer("n_pruning_runs")
        width = settings.integer("embedding_size")
        self.user_mask = PrunableEmbedding(self.n_users, width)
        self.item_mask = PrunableEmbedding(self.n_items, width)
        for values in (self.user_mask.values, self.item_mask.values, self.edge_weight):
            nn.init.normal_(values, mean=1.0, std=_NOISE)

    def initial(self) -> tuple[Tensor, Tensor]:
        """Return initial embeddings times their masks. Shapes: (users, width), (items, width)"""
        return (
            self.user_embedding() * self.user_mask(),
            self.item_embedding() * self.item_mask(),
        )

    def propagate(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Propagate as LightGCN on the masked edges; see `GraphRecommender.propagate`."""
        return lightgcn(
            self.graph, user, item, n_layers=self.n_layers, edge_weight=self.edge_weight
        )

    def begin_run(self, run: int) -> None:
        """Prepare a run; the last run has fixed masks. See `PrunedRecommender.begin_run`."""
        super().begin_run(run)
        if run == self.last_run:
            for mask in self.masks():
                mask.requires_grad_(False).fill_(1.0)

    def masks(self) -> tuple[nn.Parameter, nn.Parameter, nn.Parameter]:
        """Return three masks: of the edges, of the users' entries and of the items' entries."""
        return self.edge_weight, self.user_mask.values, self.item_mask.values

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """Compute BPR, the sums of absolute masks, and weight decay on the masked embeddings."""
        batch, (user, item) = self.batch_of(interaction), self.initial()
        edge, *entries = self.masks()
        size = self.edge_sparsity * edge.abs().sum()
        size = size + self.entry_sparsity * torch.stack([m.abs().sum() for m in entries]).sum()
        return {
            "interaction": batch_bpr(self.propagate(user, item), batch),
            "sparsity": size,
            "decay": self.reg_weight * self.decay(user, item, batch),
        }

    def entry_scores(self, values: Tensor) -> Tensor:
        """Return the absolute mask of each entry; see `PrunedRecommender.entry_scores`."""
        return torch.cat([self.user_mask(), self.item_mask()]).abs()

    @torch.no_grad()
    def prune(self) -> None:
        """Prune entries and edges by their masks, reset embeddings, and set kept masks to 1."""
        super().prune()
        pairs = (self.user_mask, self.user_embedding), (self.item_mask, self.item_embedding)
        for mask, embedding in pairs:
            if embedding.pruned:
                mask.prune(embedding.entry_mask)
        for values in self.masks():
            values.fill_(1.0)

    def sizes(self) -> dict[str, float]:
        """Count edges, parameters and bytes; see `GraphRecommender.sizes`.

        Masks of entries are not counted: a stored embedding can be multiplied by them.
        """
        sizes = super().sizes()
        state = [*self.user_mask.state_dict().values(), *self.item_mask.state_dict().values()]
        return sizes | {"bytes": sizes["bytes"] - sum(tensor.nbytes for tensor in state)}
