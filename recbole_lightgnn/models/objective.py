"""From settings and a batch to the arguments of the losses: who is compared with whom."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_lightgnn.config.view import Settings
from recbole_lightgnn.losses import (
    RaggedIndices,
    bpr,
    embedding_alignment,
    full_softmax,
    listwise_alignment,
    pairwise_alignment,
    sampled_softmax,
)
from recbole_lightgnn.models.base import Batch, OwnItems
from recbole_lightgnn.models.frozen_teacher import Frozen
from recbole_lightgnn.nn.graph import InteractionGraph


class InteractionObjective:
    """The loss on observed interactions: BPR, or a softmax over the batch's or sampled items.

    Args:
        settings: ``interaction_loss``, ``batch_by``, ``similarity``, ``temperature``,
            ``popularity_correction``, ``popularity_prior``, ``negatives`` and ``n_negatives``.
        graph: the observed interactions: popularity.
        own_items: which candidates are no negatives.

    Attributes:
        log_popularity: log(1 + interactions) of each item. Shape: (items,)
    """

    def __init__(self, settings: Settings, graph: InteractionGraph, own_items: OwnItems) -> None:
        self.loss = settings.text("interaction_loss")
        self.cosine = settings.text("similarity") == "cosine"
        self.temperature = settings.number("temperature")
        self.correction = settings.number("popularity_correction")
        self.sampled = settings.text("negatives") == "sampled"
        self.n_negatives = settings.integer("n_negatives")
        self.by_user = settings.text("batch_by") == "user"
        self.own_items = own_items
        pattern = graph.interactions.pattern
        count = torch.bincount(pattern.col, minlength=graph.n_items)
        self.popularity = count / pattern.nnz
        self.log_popularity = torch.log1p(count.float())
        self.prior = settings.number("popularity_prior")

    def __call__(self, tables: tuple[Tensor, Tensor], batch: Batch) -> Tensor:
        """The loss on a batch.

        Args:
            tables: final embeddings of all users and of all items, the padding row first.
                Shapes: (users, width), (items, width)
            batch: who is to be ranked above whom.
        """
        if self.loss == "bpr":
            return batch_bpr(tables, batch)
        (user_table, item_table), (user, item, _) = tables, batch
        user_rows = user_table.index_select(0, user)
        if self.by_user:
            return self._over_all_items(user_rows, item_table, user)
        candidates, target = batch_items(item)
        if self.sampled:
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

    def _over_all_items(self, user_rows: Tensor, item_table: Tensor, user: Tensor) -> Tensor:
        """Each interaction of the batch's users against all items; a mean over interactions."""
        items = item_table[1:]  # without RecBole's padding row
        if self.cosine:
            user_rows, items = F.normalize(user_rows, dim=-1), F.normalize(items, dim=-1)
        own = self.own_items(user)
        return full_softmax(
            user_rows / self.temperature,
            items,
            RaggedIndices(own.pointers, own.col - 1),
            items.new_full((len(own.col),), 1 / max(1, len(own.col))),
            bias=self.prior * self.log_popularity[1:],
        )

    def _log_probability(self, candidates: Tensor, batch_size: int) -> Tensor:
        """Logarithm of the chance that an item is a candidate at all: each is taken once.

        An item is absent where no row of the batch and no sample is it. Shape: (candidates,)
        """
        absent = torch.log1p(-self.popularity[candidates].clamp(max=1 - 1e-6)) * batch_size
        if self.sampled:
            absent = absent + self.n_negatives * math.log1p(-1 / max(2, len(self.popularity) - 1))
        return torch.log(-torch.expm1(absent))

    def _with_samples(self, own: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Uniform samples beside the batch's own items, which stay so that targets are there."""
        n_items = len(self.popularity)
        drawn = torch.randint(1, n_items, (self.n_negatives,), device=own.device)
        candidates = torch.cat([own, drawn]).unique()
        return candidates, torch.searchsorted(candidates, own[target])

    def _accidental(self, user: Tensor, candidates: Tensor, target: Tensor) -> Tensor:
        """Candidates that are other interactions of the row's user. Shape: (batch, candidates)"""
        column = torch.full_like(self.popularity, -1, dtype=torch.int64)
        column[candidates] = torch.arange(len(candidates), device=user.device)
        own = self.own_items(user)
        row, col = own.row, column[own.col]
        row, col = row[col >= 0], col[col >= 0]
        accidental = torch.zeros(len(user), len(candidates), dtype=torch.bool, device=user.device)
        accidental[row, col] = True
        accidental[torch.arange(len(user), device=user.device), target] = False
        return accidental


class AlignmentObjective:
    """Bilevel alignment (Eq. 5, 6) of a student to a frozen model.

    Args:
        settings: ``batch_by``, ``prediction_kd*``, ``embedding_kd*`` and ``contrast_*``.
        own_items: the items that no user is ranked with.
    """

    def __init__(self, settings: Settings, own_items: OwnItems) -> None:
        self.by_user = settings.text("batch_by") == "user"
        self.own_items = own_items
        self.list_length = settings.integer("prediction_kd_items")
        self.listwise = settings.text("prediction_kd") == "listwise"
        self.prediction_weight = settings.number("prediction_kd_weight")
        self.prediction_temperature = settings.number("prediction_kd_temperature")
        self.embedding_weight = settings.number("embedding_kd_weight")
        self.embedding_temperature = settings.number("embedding_kd_temperature")
        self.contrast_nodes = settings.integer("contrast_nodes")
        self.contrast_candidates = settings.integer("contrast_candidates")

    def __call__(
        self, teacher: Frozen, tables: tuple[Tensor, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """The weighted terms that are switched on, by name; shapes as `InteractionObjective`."""
        terms = {}
        if self.prediction_weight:
            align = self._listwise if self.listwise else self._pairwise
            value = align(teacher, tables, batch)
            terms["prediction_kd"] = self.prediction_weight * value
        if self.embedding_weight:
            sides = ((tables[0], teacher.user, batch.user), (tables[1], teacher.item, batch.item))
            value = torch.stack([self._side(*side) for side in sides]).sum()
            terms["embedding_kd"] = self.embedding_weight * value
        return terms

    def _listwise(self, teacher: Frozen, tables: tuple[Tensor, Tensor], batch: Batch) -> Tensor:
        """Eq. 5 over the list of the batch's items; over all items in a batch of users."""
        if self.by_user:
            return self._over_all_items(teacher, tables, batch.user)
        candidates, _ = batch_items(batch.item)
        users, items = (
            table.index_select(0, index)
            for table, index in zip(tables, (batch.user, candidates), strict=True)
        )
        student = users @ items.T  # (batch, candidates)
        target = teacher.scores(batch.user, candidates)
        return listwise_alignment(student, target, temperature=self.prediction_temperature)

    def _over_all_items(
        self, teacher: Frozen, tables: tuple[Tensor, Tensor], user: Tensor
    ) -> Tensor:
        """The teacher's softmax over its best items against the student's over all.

        Neither has a user's own interactions in it, which are not ranked. A mean over users.
        """
        best, scores = teacher.best_items(user, self.list_length, self.own_items)
        weight = (scores / self.prediction_temperature).softmax(dim=-1) / len(user)
        ranked = weight > 0  # where few items are left, a list ends in a user's own
        count = ranked.sum(dim=-1)
        pointers = torch.cat([count.new_zeros(1), count.cumsum(0)])
        own = self.own_items(user)
        return full_softmax(
            tables[0].index_select(0, user) / self.prediction_temperature,
            tables[1][1:],  # without RecBole's padding row
            RaggedIndices(pointers, best[ranked] - 1),
            weight[ranked],
            left_out=RaggedIndices(own.pointers, own.col - 1),
        )

    def _pairwise(self, teacher: Frozen, tables: tuple[Tensor, Tensor], batch: Batch) -> Tensor:
        """Eq. 5 on tuples whose two items are any of the batch's, positive or not."""
        pool = torch.cat([batch.item, batch.negative])
        drawn = pool[torch.randperm(len(pool), device=pool.device)]
        first, second = drawn.chunk(2)
        one, other = tables[1].index_select(0, drawn).chunk(2)  # (batch, width)
        student = (tables[0].index_select(0, batch.user) * (one - other)).sum(dim=-1)
        target = teacher.pair_scores(batch.user, first) - teacher.pair_scores(batch.user, second)
        return pairwise_alignment(student, target, temperature=self.prediction_temperature)

    def _side(self, student: Tensor, teacher: Tensor, nodes: Tensor) -> Tensor:
        """Eq. 6 of one side, over nodes of the batch."""
        anchors, candidates, place = self.contrasted(nodes, len(student))
        return embedding_alignment(
            student.index_select(0, candidates),
            teacher[anchors],
            place,
            temperature=self.embedding_temperature,
        )

    def contrasted(self, nodes: Tensor, n_nodes: int) -> tuple[Tensor, Tensor, Tensor]:
        """Who is compared with whom in Eq. 6 and 9: some nodes of the batch with some of all.

        RecBole's padding row is no candidate.

        Args:
            nodes: those of the batch. Shape: (batch,)
            n_nodes: rows of the side's table.

        Returns:
            Anchors, candidates (ascending, the anchors among them), and which candidate each
            anchor is. Shapes: (anchors,), (candidates,), (anchors,)
        """
        anchors = draw_nodes(nodes, self.contrast_nodes)
        if n_nodes - 1 > self.contrast_candidates:
            drawn = torch.randint(1, n_nodes, (self.contrast_candidates,), device=nodes.device)
            candidates = torch.cat([anchors, drawn]).unique()
        else:
            candidates = torch.arange(1, n_nodes, device=nodes.device)
        return anchors, candidates, torch.searchsorted(candidates, anchors)


def batch_bpr(tables: tuple[Tensor, Tensor], batch: Batch) -> Tensor:
    """BPR (Eq. 3) of each row's item against the sampled one; shapes as `InteractionObjective`."""
    user = tables[0].index_select(0, batch.user)
    # one gather: the gradient of each is a table as large as all items
    pair = tables[1].index_select(0, torch.cat([batch.item, batch.negative])).chunk(2)
    return bpr(*((user * rows).sum(dim=-1) for rows in pair))


def batch_items(item: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct items of a batch, ascending, and which of them each row's item is."""
    candidates, target = torch.unique(item, return_inverse=True)
    return candidates, target


def draw_nodes(nodes: Tensor, limit: int) -> Tensor:
    """At most ``limit`` distinct nodes of the batch, drawn at random. Shape: (drawn,)"""
    distinct = nodes.unique()
    if len(distinct) <= limit:
        return distinct
    return distinct[torch.randperm(len(distinct), device=nodes.device)[:limit]]
