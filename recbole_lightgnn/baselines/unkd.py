"""UnKD: distillation of a teacher's order among items of similar popularity."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.models.base import EmbeddingRecommender
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher
from recbole_lightgnn.models.objective import Tables, batch_bpr, item_counts
from recbole_lightgnn.models.taught import TaughtRecommender
from recbole_lightgnn.nn.propagation import lightgcn


class UnKD(TaughtRecommender, EmbeddingRecommender):
    r"""LightGCN trained by BPR and by the order of similarly popular items in a teacher's ranking.

    .. math:: \mathcal L = \mathcal L_{bpr}
              - w\,\mathrm{mean}_{(u,a,b)}\log\sigma(\hat y_{ua} - \hat y_{ub})
              + \lambda_4\|\Theta\|^2

    The items are sorted by popularity and cut into groups with about equally many interactions. So
    a pair (a, b) within a group says little about popularity. The teacher ranks the group's items
    that user u has not interacted with. Both items of a pair are drawn from this list, with
    :math:`p(r)\propto\exp(-r/\mu)` for rank r. Item a has the better rank.

    Source: Chen et al., "Unbiased Knowledge Distillation for Recommendation", WSDM'23.

    Differs from the published code as follows. Pairs are drawn in each step for the users of the
    batch, not once in each epoch for all users. Pairs are drawn equally often in every group. A
    list has the best ``list_items`` items, not 1000. The final embeddings are sums of layers, and
    weight decay is LightGCN's.

    Attributes:
        group: group of each item, from 0 for the most popular items; -1 for RecBole's padding row.
            Shape: (items,)
        lists: the teacher's list of items of each user and group, best item first.
            Shape: (users, groups, list_items)
        lengths: number of items in each list. Shape: (users, groups)
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.n_layers = settings.integer("n_layers")
        self.pair_weight = settings.number("pair_weight")
        self.pairs_per_group = settings.integer("pairs_per_group")
        self.rank_scale = settings.number("rank_scale")
        self.list_items = settings.integer("list_items")
        self.reg_weight = settings.number("reg_weight")
        counts = item_counts(self.observed)[1:]
        groups = popularity_groups(counts, settings.integer("n_groups"))
        self.group = torch.cat([groups.new_full((1,), -1), groups])

    def distill_from(self, teacher: FrozenTeacher, *, prefix: str = "") -> None:
        """Set the teacher and compute its lists, 4 bytes for each item; see the base class."""
        super().distill_from(teacher, prefix=prefix)
        members = [(self.group == g).nonzero().squeeze(1) for g in range(int(self.group.max()) + 1)]
        shape = (self.n_users, len(members), min(self.list_items, max(map(len, members))))
        self.lists = torch.zeros(shape, dtype=torch.int32, device=self.device)
        self.lengths = torch.zeros(shape[:2], dtype=torch.int32, device=self.device)
        for g, items in enumerate(members):
            best, scores = teacher.rank(self.list_items, self.positive_items, items)
            self.lists[:, g, : best.shape[1]] = best
            self.lengths[:, g] = scores.isfinite().sum(dim=-1)

    def propagate(self, user: Tensor, item: Tensor) -> Tables:
        """Propagate as LightGCN; see `GraphRecommender.propagate`."""
        return lightgcn(self.observed, user, item, n_layers=self.n_layers)

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """Compute BPR, the loss on the teacher's pairs, and weight decay."""
        batch, tables = self.batch_of(interaction), self.encode()
        terms = {"interaction": batch_bpr(tables, batch)}
        if self.teacher is not None and self.pair_weight:
            terms["pairs"] = self.pair_weight * self.pair_loss(tables, *self.pairs(batch.user))
        terms["decay"] = self.reg_weight * self.decay(*self.initial(), batch)
        return terms

    def pairs(self, user: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Draw pairs of two different items for each distinct user of a batch.

        Args:
            user: users, possibly repeated. Shape: (batch,)

        Returns:
            User of each pair, its better ranked and its worse ranked item. Shape of each: (pairs,)
        """
        user = user.unique()
        lengths = self.lengths[user].long()[..., None, None]  # (users, groups, 1, 1)
        shape = (*lengths.shape[:2], self.pairs_per_group, 2)
        ranks = draw_ranks(lengths.expand(shape), self.rank_scale).sort(dim=-1).values
        row, group, pair = (ranks[..., 0] < ranks[..., 1]).nonzero(as_tuple=True)
        both = self.lists[user[row, None], group[:, None], ranks[row, group, pair]].long()
        return user[row], both[:, 0], both[:, 1]

    def pair_loss(self, tables: Tables, user: Tensor, better: Tensor, worse: Tensor) -> Tensor:
        """Compute BPR on the pairs: the mean of -log sigma; 0 without pairs. Shape: ()

        Args:
            tables: final embeddings of all users and items. Shapes: (users, width), (items, width)
            user: user of each pair. Shape: (pairs,)
            better: better ranked item of each pair. Shape: (pairs,)
            worse: worse ranked item of each pair. Shape: (pairs,)
        """
        rows = tables[0].index_select(0, user)
        first, second = tables[1].index_select(0, torch.cat([better, worse])).chunk(2)
        difference = (rows * (first - second)).sum(dim=-1)
        return F.softplus(-difference).sum() / max(1, len(user))


def popularity_groups(counts: Tensor, n_groups: int) -> Tensor:
    """Sort items by popularity and cut them into groups with about equally many interactions.

    Args:
        counts: number of interactions of each item. Shape: (items,)
        n_groups: number of groups; fewer if an item has more interactions than a group's share.

    Returns:
        Group of each item, from 0 for the most popular. Shape: (items,)
    """
    order = counts.argsort(descending=True, stable=True)
    upto = counts[order].cumsum(0)
    # A group ends with the item that completes its share of the interactions.
    share = (upto * n_groups + upto[-1] - 1) // upto[-1] - 1
    groups = torch.empty_like(order)
    groups[order] = share.unique(return_inverse=True)[1]
    return groups


def draw_ranks(lengths: Tensor, scale: float) -> Tensor:
    r"""Draw a rank r (from 0) in each list by :math:`p(r)\propto\exp(-r/\mu)`; 0 for an empty list.

    Args:
        lengths: number of items of each list, in any shape; the result has the same shape.
        scale: mu; a smaller one draws the first ranks more often.
    """
    uniform = torch.rand(lengths.shape, device=lengths.device, dtype=torch.float64)
    # Inverse of the distribution function (1 - exp(-(r + 1) / mu)) / (1 - exp(-length / mu)).
    whole = -torch.expm1(-lengths.double() / scale)
    ranks = (-scale * torch.log1p(-uniform * whole)).floor().long()
    return ranks.minimum(lengths - 1).clamp(min=0)
