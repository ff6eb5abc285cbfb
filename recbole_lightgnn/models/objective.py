"""Losses on the observed interactions of a batch: BPR and two softmax losses.

`interaction_objective` chooses the loss by the settings ``interaction_loss`` and ``batch_by``.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_lightgnn.config.view import Settings
from recbole_lightgnn.losses import RaggedIndices, bpr, full_softmax, sampled_softmax
from recbole_lightgnn.models.base import Batch, PositiveItems
from recbole_lightgnn.nn.graph import InteractionGraph

# Final embeddings of all users and of all items, RecBole's padding row first.
# Shapes: (users, width), (items, width)
Tables = tuple[Tensor, Tensor]
MOST_ITEMS = 50_000  # with more items, `candidates: auto` samples


class InteractionObjective(Protocol):
    """A function that computes the loss on the interactions of a batch."""

    def __call__(self, tables: Tables, batch: Batch, /) -> Tensor:
        """Compute the loss. Shape: ()

        Args:
            tables: final embeddings of all users and items. Shapes: (users, width), (items, width)
            batch: the training batch.
        """


def interaction_objective(
    settings: Settings, graph: InteractionGraph, positive_items: PositiveItems
) -> InteractionObjective:
    """Choose the loss on observed interactions, as the settings say.

    Args:
        settings: settings of the run. ``interaction_loss: bpr`` is `batch_bpr`; ``softmax`` is
            `BatchSoftmax`, or with ``batch_by: user`` `AllItemsSoftmax`.
        graph: the observed interactions.
        positive_items: look-up of each user's positive items.
    """
    if settings.text("interaction_loss") == "bpr":
        return batch_bpr
    softmax = AllItemsSoftmax if settings.text("batch_by") == "user" else BatchSoftmax
    return softmax(settings, graph, positive_items)


def batch_bpr(tables: Tables, batch: Batch) -> Tensor:
    """Compute the BPR loss (Eq. 3) of each interaction's item against a sampled item. Shape: ()"""
    user = tables[0].index_select(0, batch.user)
    # One gather, because each gather has a gradient as large as the table.
    pair = tables[1].index_select(0, torch.cat([batch.item, batch.negative])).chunk(2)
    return bpr(*((user * rows).sum(dim=-1) for rows in pair))


class BatchSoftmax:
    r"""Softmax loss over the items of the batch and, with ``negatives: sampled``, sampled items.

    .. math:: -\frac1B\sum_{(u,i)}\log\frac{\exp(s_{ui}/\tau - \alpha\log q_i)}
              {\sum_c\exp(s_{uc}/\tau - \alpha\log q_c)}

    s is the inner product or the cosine, and q the probability that an item is a candidate. The
    denominator leaves out the user's positive items other than i.

    Args:
        settings: settings of the run: ``similarity`` (s), ``temperature`` (tau),
            ``popularity_correction`` (alpha), ``negatives``, and ``n_negatives``, the number of
            sampled items.
        graph: the observed interactions, for the popularity of items.
        positive_items: look-up of each user's positive items.
    """

    def __init__(
        self, settings: Settings, graph: InteractionGraph, positive_items: PositiveItems
    ) -> None:
        self.cosine = settings.text("similarity") == "cosine"
        self.temperature = settings.number("temperature")
        self.correction = settings.number("popularity_correction")
        sampled = settings.text("negatives") == "sampled"
        self.n_samples = settings.integer("n_negatives") if sampled else 0
        self.positive_items = positive_items
        pattern = graph.interactions.pattern
        self.popularity = item_counts(graph) / pattern.nnz  # share of the interactions

    def __call__(self, tables: Tables, batch: Batch) -> Tensor:
        """Compute the loss, a mean over the interactions of the batch. Shape: ()"""
        (user_table, item_table), (user, item, _) = tables, batch
        user_rows = user_table.index_select(0, user)
        candidates, target = batch_items(item)
        if self.n_samples:
            candidates, target = self._with_samples(candidates, target)
        log_probability = None
        if self.correction:
            log_probability = self.correction * self._log_probability(candidates, len(item))
        item_rows = item_table.index_select(0, candidates)
        if self.cosine:
            user_rows, item_rows = F.normalize(user_rows, dim=-1), F.normalize(item_rows, dim=-1)
        logits = (user_rows / self.temperature) @ item_rows.T  # (batch, candidates)
        return sampled_softmax(
            logits,
            target,
            log_probability=log_probability,
            accidental=self._accidental(user, candidates, target),
        )

    def _log_probability(self, candidates: Tensor, batch_size: int) -> Tensor:
        """Compute log q, each item's log-probability to be a candidate. Shape: (candidates,)"""
        absent = torch.log1p(-self.popularity[candidates].clamp(max=1 - 1e-6)) * batch_size
        if self.n_samples:
            absent = absent + self.n_samples * math.log1p(-1 / max(2, len(self.popularity) - 1))
        return torch.log(-torch.expm1(absent))

    def _with_samples(self, items: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Add uniformly sampled items to the batch's distinct items; return as `batch_items`.

        Shapes: (candidates,), (batch,)
        """
        n_items = len(self.popularity)
        drawn = torch.randint(1, n_items, (self.n_samples,), device=items.device)
        candidates = torch.cat([items, drawn]).unique()
        return candidates, torch.searchsorted(candidates, items[target])

    def _accidental(self, user: Tensor, candidates: Tensor, target: Tensor) -> Tensor:
        """Mark candidates that are the user's other positive items. Shape: (batch, candidates)"""
        column = torch.full_like(self.popularity, -1, dtype=torch.int64)
        column[candidates] = torch.arange(len(candidates), device=user.device)
        positive = self.positive_items(user)
        row, col = positive.row, column[positive.col]
        row, col = row[col >= 0], col[col >= 0]
        accidental = torch.zeros(len(user), len(candidates), dtype=torch.bool, device=user.device)
        accidental[row, col] = True
        accidental[torch.arange(len(user), device=user.device), target] = False
        return accidental


class Candidates(NamedTuple):
    """Items in the denominator of a softmax, numbered without RecBole's padding item.

    Attributes:
        items: the items; a sampled item may occur several times. Shape: (candidates,)
        log_weight: logarithm of the number of items that a candidate stands for; added to its
            logits. Shape: (candidates,)
        column: position in ``items`` of every item that was asked for, else -1. Shape: (items,)
    """

    items: Tensor
    log_weight: Tensor
    column: Tensor


class CandidateSampler:
    r"""Choose items such that a softmax's denominator over them estimates that over all items.

    .. math:: \sum_c \exp(z_c) \approx \sum_{c \in A} \exp(z_c)
              + \frac{|I \setminus A|}{n} \sum_{c \in S} \exp(z_c)

    A has the items of the batch, and S n items drawn uniformly from the others, with replacement.
    So the expectation over S is the denominator over all items I.

    Args:
        settings: settings of the run: ``candidates`` and ``n_candidates``.
        n_items: number of items, without RecBole's padding item.
    """

    def __init__(self, settings: Settings, n_items: int) -> None:
        how = settings.text("candidates")
        sampled = how == "sampled" or (how == "auto" and n_items > MOST_ITEMS)
        self.n_samples = settings.integer("n_candidates") if sampled else 0
        self.n_items = n_items

    @property
    def samples(self) -> bool:
        """Whether candidates are sampled; if not, all items are candidates."""
        return self.n_samples > 0

    def __call__(self, asked: Tensor) -> Candidates:
        """Sample candidates that include the items ``asked``, which may be repeated."""
        column = torch.full((self.n_items,), -1, device=asked.device)
        column[asked] = 0
        certain, others = (column == 0).nonzero().squeeze(1), (column < 0).nonzero().squeeze(1)
        column[certain] = torch.arange(len(certain), device=asked.device)
        if len(others) <= self.n_samples:
            items, log_weight = torch.cat([certain, others]), torch.zeros(self.n_items)
        else:
            drawn = others[torch.randint(len(others), (self.n_samples,), device=asked.device)]
            items = torch.cat([certain, drawn])
            log_weight = torch.zeros(len(items))
            log_weight[len(certain) :] = math.log(len(others) / self.n_samples)
        return Candidates(items, log_weight.to(asked.device), column)


class AllItemsSoftmax:
    r"""Softmax loss over all items, on all interactions of a batch's users (``batch_by: user``).

    .. math:: -\frac1{|B|}\sum_{(u,i)\in B}\log\frac{\exp(s_{ui}/\tau + \beta\log(1 + d_i))}
              {\sum_c\exp(s_{uc}/\tau + \beta\log(1 + d_c))}

    B is the set of all interactions of the batch's users, s the inner product or the cosine, and
    :math:`d_i` the number of interactions of item i. The denominator may be over a sample
    (`CandidateSampler`).

    Args:
        settings: settings of the run: ``similarity`` (s), ``temperature`` (tau),
            ``popularity_prior`` (beta), ``candidates``, ``n_candidates``.
        graph: the observed interactions, for the popularity of items.
        positive_items: look-up of each user's positive items.
    """

    def __init__(
        self, settings: Settings, graph: InteractionGraph, positive_items: PositiveItems
    ) -> None:
        self.cosine = settings.text("similarity") == "cosine"
        self.temperature = settings.number("temperature")
        self.positive_items = positive_items
        self.bias = settings.number("popularity_prior") * log_popularity(graph)[1:]
        self.sampler = CandidateSampler(settings, graph.n_items - 1)

    def __call__(self, tables: Tables, batch: Batch) -> Tensor:
        """Compute the loss, a mean over all interactions of the batch's users. Shape: ()"""
        users = tables[0].index_select(0, batch.user)
        items, bias = tables[1][1:], self.bias  # without RecBole's padding row
        positive = self.positive_items(batch.user)
        target = positive.col - 1
        if self.sampler.samples:
            candidates = self.sampler(target)
            items = items.index_select(0, candidates.items)
            bias = bias[candidates.items] + candidates.log_weight
            target = candidates.column[target]
        if self.cosine:
            users, items = F.normalize(users, dim=-1), F.normalize(items, dim=-1)
        return full_softmax(
            users / self.temperature,
            items,
            RaggedIndices(positive.pointers, target),
            items.new_full((len(target),), 1 / max(1, len(target))),
            bias=bias,
        )


def item_counts(graph: InteractionGraph) -> Tensor:
    """Count the interactions of each item. Shape: (items,)"""
    return torch.bincount(graph.interactions.pattern.col, minlength=graph.n_items)


def log_popularity(graph: InteractionGraph) -> Tensor:
    """Compute log(1 + number of interactions) for each item. Shape: (items,)"""
    return torch.log1p(item_counts(graph).float())


def batch_items(item: Tensor) -> tuple[Tensor, Tensor]:
    """Find the distinct items of a batch, ascending, and each interaction's position among them.

    Shapes: (distinct,), (batch,)
    """
    candidates, target = torch.unique(item, return_inverse=True)
    return candidates, target


def contrast_candidates(table: Tensor, nodes: Tensor, *, with_all: bool) -> tuple[Tensor, Tensor]:
    """Select the candidates' embeddings in a contrastive loss of nodes (users or items).

    Args:
        table: embeddings of all users or items, RecBole's padding row first. Shape: (rows, width)
        nodes: distinct nodes, without padding. Shape: (nodes,)
        with_all: whether all nodes except padding are candidates, or only ``nodes``.

    Returns:
        The candidates' embeddings, and each node's row in them.
        Shapes: (candidates, width), (nodes,)
    """
    if with_all:
        return table[1:], nodes - 1
    return table.index_select(0, nodes), torch.arange(len(nodes), device=nodes.device)
