"""AutoCF: a graph autoencoder that chooses which edges to mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.losses import RaggedIndices, full_softmax
from recbole_lightgnn.models.base import EmbeddingRecommender
from recbole_lightgnn.models.objective import Tables
from recbole_lightgnn.nn.graph import InteractionGraph, norm_without
from recbole_lightgnn.ops import SparsePattern, edge_products, spmm

_LARGEST_LOGIT = 10.0  # of attention; clipped to this absolute value


class AutoCF(EmbeddingRecommender):
    r"""LightGCN on a graph with masked edges, then attention on a graph with random edges.

    .. math:: \bar E = \sum_{l=0}^{L}\hat A_e^l E + \mathrm{attention}(\hat A_e^L E)

    .. math:: \mathcal L = \frac1B\sum_{(u,i)}\Big[\log\sum_c e^{\bar e_u\cdot\bar e_c}
              - \bar e_u\cdot\bar e_i\Big] + \lambda\,(\mathcal S^U + \mathcal S^I)
              - \frac1N\sum_a\log s_a + \lambda_4\|\Theta\|^2

    The first term is a softmax over all items. :math:`\mathcal S^U` and :math:`\mathcal S^I` are
    `spread` of the batch's distinct users and of its distinct items. N is the number of nodes with
    an interaction.

    In the first step of an epoch, and then every ``mask_steps`` steps, both graphs are drawn anew:

    - A share ``seed_share`` of the N nodes are seed nodes, around which edges are masked. Seed
      nodes are drawn without replacement, with probabilities proportional to :math:`s_a`
      (`seed_scores`).
    - An edge is masked if at least one of its nodes is a seed node or a neighbor of a seed node.
      :math:`\hat A_e` is the normalized adjacency matrix without the masked edges.
    - The graph of the attention has the unmasked edges, a loop at every node, and as many random
      pairs of nodes as there are interactions. The random pairs join seed nodes, neighbors of seed
      nodes, and a random share ``pair_share`` of all nodes.

    The loss has the term with :math:`s_a` only in steps that draw the graphs. The ranking uses all
    edges and no random pairs.

    The authors' code differs:

    - In :math:`\mathcal S`, it compares a node with all users or all items
      (``contrast_with: all``).
    - It sets the number of seed nodes, not their share.
    - In :math:`s_a`, it subtracts a node's own embedding from the sum over the node's walks.
    - It draws two random pairs for each interaction.

    Source: Xia et al., "Automated Self-Supervised Learning for Recommendation", WWW'23.
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.n_layers = settings.integer("n_layers")
        self.seed_share, self.pair_share = (
            settings.number(key) for key in ("seed_share", "pair_share")
        )
        self.mask_steps = settings.integer("mask_steps")
        self.contrast_weight = settings.number("contrast_weight")
        self.with_all = settings.text("contrast_with") == "all"
        self.reg_weight = settings.number("reg_weight")
        width, heads = settings.integer("embedding_size"), settings.integer("n_heads")
        n_attentions = settings.integer("n_attention_layers")
        self.attentions = nn.ModuleList(Attention(width, heads) for _ in range(n_attentions))
        pattern = self.observed.interactions.pattern
        self._user, self._item = pattern.row, pattern.col + self.n_users  # the ends of the edges
        self._n_nodes = self.n_users + self.n_items
        self._whole = self.with_loops(self._user, self._item)
        self._step = 0
        self._graphs = self.observed.interactions.norm, self._whole

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> None:
        """Raise InputError unless ``embedding_size`` is a multiple of ``n_heads``."""
        width, heads = settings["embedding_size"], settings["n_heads"]
        if width % heads:
            raise InputError(
                f"embedding_size must be a multiple of n_heads, got {width} and {heads}"
            )

    def train(self, mode: bool = True) -> AutoCF:
        """Set the mode like `GraphRecommender.train`; the next training step draws new graphs."""
        if mode:
            self._step = 0
        super().train(mode)
        return self

    def propagate(self, user: Tensor, item: Tensor) -> Tables:
        """Compute final embeddings with no edge masked; see `GraphRecommender.propagate`."""
        return self.autoencode(user, item, self.observed.interactions.norm, self._whole)

    def autoencode(self, user: Tensor, item: Tensor, norm: Tensor, pairs: SparsePattern) -> Tables:
        """Sum the encoder's layers and add the attention. Shapes: (users, width), (items, width)

        Args:
            user: initial embeddings of users. Shape: (users, width)
            item: initial embeddings of items. Shape: (items, width)
            norm: norm of each edge of the encoder, 0 for a masked edge. Shape: (edges,)
            pairs: edges of the attention's graph. Shape: (users + items, users + items)
        """
        pattern = self.observed.interactions.pattern
        layers = [torch.cat([user, item])]
        for _ in range(self.n_layers):
            user, item = spmm(pattern, norm, item), spmm(pattern, norm, user, transpose=True)
            layers.append(torch.cat([user, item]))
        for attention in self.attentions:
            layers.append(attention(pairs, layers[-1]))
        final = torch.stack(layers).sum(dim=0)
        return final[: self.n_users], final[self.n_users :]

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """Compute the terms of the loss in `AutoCF`, as a dict by name."""
        batch, tables = self.batch_of(interaction), self.initial()
        seed_term = tables[0].new_zeros(())
        if self._step % self.mask_steps == 0:
            scores, connected = seed_scores(self.observed, *tables), self.connected()
            self._graphs = self.choose_graphs(scores.detach(), connected)
            seed_term = -scores[connected].mean()
        self._step += 1
        user, item = self.autoencode(*tables, *self._graphs)
        rows = torch.arange(len(batch.user) + 1, device=self.device)
        share = user.new_full((len(batch.user),), 1 / len(batch.user))
        positive = RaggedIndices(rows, batch.item - 1)
        spreads = [
            spread(side[1:], nodes.unique() - 1, with_all=self.with_all)
            for side, nodes in ((user, batch.user), (item, batch.item))
        ]
        squares = [tables[0][1:], tables[1][1:], *self.attentions.parameters()]
        return {
            "interaction": full_softmax(user[batch.user], item[1:], positive, share),
            "contrast": self.contrast_weight * torch.stack(spreads).sum(),
            "seeds": seed_term,
            "decay": self.reg_weight * torch.stack([x.square().sum() for x in squares]).sum(),
        }

    def connected(self) -> Tensor:
        """Return the nodes with an interaction, in ascending order. Shape: (connected,)"""
        nodes: Tensor = torch.cat([self._user, self._item]).unique()
        return nodes

    def choose_graphs(self, scores: Tensor, connected: Tensor) -> tuple[Tensor, SparsePattern]:
        """Draw seed nodes, mask the edges near them, and draw random pairs for the attention.

        Args:
            scores: log s (`seed_scores`), by which seed nodes are drawn. Shape: (users + items,)
            connected: nodes with an interaction. Shape: (connected,)

        Returns:
            The norms of the encoder's edges, and the attention's graph; see `autoencode`.
        """
        n_seeds = max(1, round(self.seed_share * len(connected)))
        gumbel = -torch.empty_like(scores).exponential_().log()
        seeds = connected[(scores + gumbel)[connected].topk(n_seeds).indices]
        near = self.with_neighbors(seeds)
        masked = near[self._user] | near[self._item]
        norm = norm_without(self.observed, masked)
        share = torch.rand(self._n_nodes, device=self.device) < self.pair_share
        share[0] = share[self.n_users] = False  # RecBole's padding nodes
        nodes = (near | share).nonzero()[:, 0]
        ends = nodes[torch.randint(len(nodes), (2, len(masked)), device=self.device)]
        first = torch.cat([self._user[~masked], ends[0]])
        return norm, self.with_loops(first, torch.cat([self._item[~masked], ends[1]]))

    def with_neighbors(self, nodes: Tensor) -> Tensor:
        """Return a mask of the given nodes and their neighbors. Shape: (users + items,)"""
        given = torch.zeros(self._n_nodes, dtype=torch.bool, device=self.device)
        given[nodes] = True
        near = given.clone()
        near[self._item[given[self._user]]] = True
        near[self._user[given[self._item]]] = True
        return near

    def with_loops(self, first: Tensor, second: Tensor) -> SparsePattern:
        """Return a graph of the given pairs, the reversed pairs and a loop at every node."""
        loops = torch.arange(self._n_nodes, device=first.device)
        row, col = torch.cat([first, second, loops]), torch.cat([second, first, loops])
        keys = (row * self._n_nodes + col).unique()
        return SparsePattern(keys // self._n_nodes, keys % self._n_nodes, (self._n_nodes,) * 2)


class Attention(nn.Module):
    r"""Multi-head attention of each node over its neighbors in a graph.

    .. math:: o_a = \Big\Vert_h\sum_b\frac{e^{z_{ab}^h}}{\sum_{b'}e^{z_{ab'}^h}}\,v_b^h,\qquad
              z_{ab}^h = q_a^h\cdot k_b^h,\quad |z| \le 10

    :math:`o_a` is the output of node a, and b are the neighbors of a. z is clipped to [-10, 10]. q,
    k and v are linear maps of the embeddings; each head h uses its own columns of q, k and v.

    Args:
        width: number of columns of the embeddings, a multiple of ``n_heads``.
        n_heads: number of attention heads.
    """

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        for parameter in self.parameters():
            nn.init.xavier_uniform_(parameter)

    def forward(self, pairs: SparsePattern, table: Tensor) -> Tensor:
        """Compute the output o of every node. Shape: (nodes, width)

        Args:
            pairs: positions (a, b) of a sparse matrix, at least one in every row.
                Shape: (nodes, nodes)
            table: embeddings of all nodes. Shape: (nodes, width)
        """
        row, heads = pairs.row, []
        maps = (linear(table).chunk(self.n_heads, dim=1) for linear in self.children())
        for query, key, value in zip(*maps, strict=True):
            logits = edge_products(pairs, query.contiguous(), key.contiguous())
            weight = logits.clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT).exp()
            total = weight.new_zeros(pairs.shape[0]).index_add(0, row, weight)
            heads.append(spmm(pairs, weight / total[row], value.contiguous()))
        return torch.cat(heads, dim=1)


def seed_scores(graph: InteractionGraph, user: Tensor, item: Tensor) -> Tensor:
    r"""Compute log s: how similar each node is to nearby nodes. Shape: (users + items,)

    .. math:: \log s_a = \log\sigma\Big(\cos\Big(e_a,\
              \big[(A + A^2)E\big]_a\Big)\Big)

    :math:`(A + A^2)E` sums over all walks of one or two steps from a node, including walks back to
    the node. The cosine of a node without interactions is 0.

    Args:
        graph: the interaction graph.
        user: embeddings of users. Shape: (users, width)
        item: embeddings of items. Shape: (items, width)
    """
    pattern = graph.interactions.pattern
    ones = torch.ones_like(graph.interactions.norm)
    one = spmm(pattern, ones, item), spmm(pattern, ones, user, transpose=True)
    two = (
        spmm(pattern, ones, one[1], add=one[0]),
        spmm(pattern, ones, one[0], add=one[1], transpose=True),
    )
    cosines = [F.cosine_similarity(a, b) for a, b in zip((user, item), two, strict=True)]
    scores: Tensor = F.logsigmoid(torch.cat(cosines))
    return scores


def spread(table: Tensor, nodes: Tensor, *, with_all: bool) -> Tensor:
    r"""Compute a loss that pushes embeddings apart: a mean log-sum-exp. Shape: ()

    .. math:: \frac1{|B|}\sum_{a\in B}\log\sum_{c\in C}e^{\bar e_a\cdot\bar e_c}

    Args:
        table: embeddings of all users, or of all items. Shape: (nodes, width)
        nodes: B, distinct rows of the table. Shape: (batch,)
        with_all: if true, C is all nodes of the table; if false, C is B.
    """
    rows, n = table[nodes], len(nodes)
    own = nodes if with_all else torch.arange(n, device=nodes.device)
    # log-sum-exp = softmax loss with the node itself as target + the node's own product.
    target = RaggedIndices(torch.arange(n + 1, device=nodes.device), own)
    loss = full_softmax(rows, table if with_all else rows, target, rows.new_full((n,), 1 / n))
    return loss + rows.square().sum() / n
