"""STAR-GCN: stacked graph encoders, and decoders that restore the embeddings."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.models.base import Batch, EmbeddingRecommender
from recbole_lightgnn.models.objective import Tables, interaction_objective
from recbole_lightgnn.nn.graph import norm_without
from recbole_lightgnn.ops import SparsePattern, spmm

_SLOPE = 0.1  # of LeakyReLU for negative inputs, as in the authors' code


class STARGCN(EmbeddingRecommender):
    r"""Blocks of a graph encoder and a decoder that restores the embeddings.

    .. math:: h_a = \varphi\Big(O\,\varphi\Big(W\sum_{b\in N(a)}
              \frac{x_b}{\sqrt{d_a d_b}}\Big)\Big),\qquad
              \hat x_a = R_2\,\varphi(R_1 h_a),\qquad \bar e_a = P h_a

    .. math:: \mathcal L = \sum_t\Big[\mathcal L_0(\bar E^t) + \lambda\,
              \frac{1}{|S|}\sum_{a\in S}\|\hat x_a^t - e_a\|^2\Big] + \lambda_4\|\Theta\|^2

    :math:`\varphi` is LeakyReLU, and :math:`\mathcal L_0` is BPR or a softmax. Each block t has
    separate weights W, O, R and P for users and for items. The input x of the first block is the
    trained embeddings e. The input of a later block is :math:`\hat x` of the block before. The
    ranking is by :math:`\bar e` of the last block.

    S are the nodes to restore: a random share ``restored_share`` of all nodes in each step. Each
    node of S enters the first block as zero with the probability ``mask_probability``.

    The graph of a step lacks the interactions of the batch (`norm_without`), so that no score uses
    the interaction it predicts. A batch larger than half of all interactions is cut to that half,
    so that edges are left.

    Differs from the paper, which predicts ratings, and from the authors' code:

    - There is one kind of edge, not one for each rating.
    - The loss is BPR or a softmax, not the squared error of ratings.
    - h has the width of the embeddings. In the code, e, h and :math:`\bar e` have the widths 64, 75
      and 64.
    - The target e of the restoration is constant; otherwise embeddings could shrink to 0.
    - Dropout is on the input of a block only.

    Source: Zhang et al., "STAR-GCN: Stacked and Reconstructed Graph Convolutional Networks for
    Recommender Systems", IJCAI'19. The paper of LightGNN calls it STGCN.
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.restoration_weight = settings.number("restoration_weight")
        self.restored_share = settings.number("restored_share")
        self.mask_probability = settings.number("mask_probability")
        self.dropout = settings.number("dropout")
        self.reg_weight = settings.number("reg_weight")
        self.objective = interaction_objective(settings, self.observed, self.positive_items)
        width, hidden = settings.integer("embedding_size"), settings.integer("aggregation_size")
        self.blocks = nn.ModuleList(
            Block(width, hidden) for _ in range(settings.integer("n_blocks"))
        )

    def propagate(self, user: Tensor, item: Tensor) -> Tables:
        """Return e-bar of the last block; see `GraphRecommender.propagate`."""
        return self.run_blocks((user, item), self.observed.interactions.norm)[-1].projected

    def run_blocks(self, tables: Tables, norm: Tensor) -> list[BlockOutput]:
        """Run all blocks; each gets the embeddings that the block before it restored.

        Args:
            tables: input of the first block, for users and for items.
                Shapes: (users, width), (items, width)
            norm: norm of each edge. Shape: (edges,)
        """
        outputs = []
        for block in self.blocks:
            user, item = (F.dropout(x, self.dropout, self.training) for x in tables)
            outputs.append(block(self.observed.interactions.pattern, norm, (user, item)))
            tables = outputs[-1].restored
        return outputs

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """Compute interaction loss and restoration error of all blocks, and weight decay."""
        most = max(1, self.observed.n_edges // 2)
        batch = Batch(*(column[:most] for column in self.batch_of(interaction)))
        tables = self.initial()
        drawn = [self.draw(len(table)) for table in tables]
        inputs = [self.mask(table, nodes) for table, nodes in zip(tables, drawn, strict=True)]
        outputs = self.run_blocks((inputs[0], inputs[1]), self.norm_outside(batch))
        tasks = [self.objective(output.projected, batch) for output in outputs]
        restorations = [restoration(output.restored, tables, drawn) for output in outputs]
        return {
            "interaction": torch.stack(tasks).sum(),
            "restoration": self.restoration_weight * torch.stack(restorations).sum(),
            "decay": self.reg_weight * self.decay(*tables, batch),
        }

    def norm_outside(self, batch: Batch) -> Tensor:
        """Compute the norm of each edge in the graph without the batch. Shape: (edges,)"""
        number = self.observed.interaction_numbers(batch.user, batch.item)
        left_out = torch.zeros(self.observed.n_edges, dtype=torch.bool, device=self.device)
        left_out[number[number >= 0]] = True
        return norm_without(self.observed, left_out)

    def draw(self, n_nodes: int) -> Tensor:
        """Draw the nodes S to restore, never RecBole's padding node. Shape: (drawn,)"""
        chosen = torch.rand(n_nodes, device=self.device) < self.restored_share
        chosen[0] = False
        return chosen.nonzero()[:, 0]

    def mask(self, table: Tensor, nodes: Tensor) -> Tensor:
        """Set each row of the given nodes to 0 with ``mask_probability``. Shape: as ``table``"""
        if self.mask_probability == 0:
            return table
        masked = nodes[torch.rand(len(nodes), device=self.device) < self.mask_probability]
        return table.index_fill(0, masked, 0.0)


def restoration(restored: Tables, tables: Tables, nodes: list[Tensor]) -> Tensor:
    r"""Compute the mean squared distance between restored and trained embeddings. Shape: ()

    .. math:: \frac{1}{|S|}\sum_{a\in S}\|\hat x_a - e_a\|^2

    Args:
        restored: x-hat; receives gradients. Shapes: (users, width), (items, width)
        tables: e, the trained embeddings; treated as constant. Shapes: as ``restored``
        nodes: S, the users and the items to restore; the result is 0 without nodes.
            Shape of each: (drawn,)
    """
    distances = [
        (guess[rows] - truth.detach()[rows]).square().sum()
        for guess, truth, rows in zip(restored, tables, nodes, strict=True)
    ]
    return torch.stack(distances).sum() / max(1, sum(map(len, nodes)))


class BlockOutput(NamedTuple):
    """Output of a block: tables of users and items.

    Attributes:
        projected: e-bar, the embeddings to score by. Shapes: (users, width), (items, width)
        restored: x-hat, the input of the next block. Shapes: (users, width), (items, width)
    """

    projected: Tables
    restored: Tables


class Block(nn.Module):
    """One block of `STARGCN`: encoder, decoder and projection of users and items.

    Args:
        width: number of columns of x, h, x-hat and e-bar.
        hidden: number of columns after W and before O.

    Attributes:
        user: weights W, O, R and P of the users.
        item: weights W, O, R and P of the items.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.user, self.item = Side(width, hidden), Side(width, hidden)

    def forward(self, pattern: SparsePattern, norm: Tensor, tables: Tables) -> BlockOutput:
        """Compute the block's output for all users and items.

        Args:
            pattern: edges of the graph. Shape: (users, items)
            norm: norm of each edge. Shape: (edges,)
            tables: x of users and items. Shapes: (users, width), (items, width)
        """
        user, item = tables
        users = self.user(spmm(pattern, norm, item))
        items = self.item(spmm(pattern, norm, user, transpose=True))
        return BlockOutput((users[0], items[0]), (users[1], items[1]))


class Side(nn.Module):
    """Weights of one kind of nodes in a block; see `Block`.

    Attributes:
        encoder: W and O, each followed by LeakyReLU.
        decoder: R_1 and R_2, with LeakyReLU between them.
        projection: P, from h to e-bar.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(width, hidden, bias=False),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(hidden, width, bias=False),
            nn.LeakyReLU(_SLOPE),
        )
        self.decoder = nn.Sequential(
            nn.Linear(width, width, bias=False),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(width, width, bias=False),
        )
        self.projection = nn.Linear(width, width, bias=False)
        for parameter in self.parameters():
            nn.init.xavier_uniform_(parameter)

    def forward(self, summed: Tensor) -> Tables:
        """Compute e-bar and x-hat from each node's sum over neighbors. Shapes: (nodes, width)"""
        hidden = self.encoder(summed)
        return self.projection(hidden), self.decoder(hidden)
