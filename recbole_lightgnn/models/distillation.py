"""Distillation terms of the student's loss: bilevel alignment to a frozen teacher (Eq. 5, 6)."""

from __future__ import annotations

import math
from logging import getLogger
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from recbole_lightgnn.config.view import Settings
from recbole_lightgnn.losses import (
    RaggedIndices,
    embedding_alignment,
    full_softmax,
    listwise_alignment,
    pairwise_alignment,
)
from recbole_lightgnn.models.base import Batch, PositiveItems
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher, sample_users
from recbole_lightgnn.models.objective import CandidateSampler, Tables, batch_items


class AlignmentObjective:
    """Alignment of a student to a frozen teacher, by predictions (Eq. 5) and embeddings (Eq. 6).

    Args:
        settings: settings of the run: ``batch_by``, and those with names that start with
            ``prediction_kd``, ``embedding_kd`` or ``contrast``.
        positive_items: look-up of each user's training items, which are left out of rankings.

    Attributes:
        embedding_weight: weight of the embedding term (Eq. 6); 0 is off.
        sample: sampler of the nodes (users or items) in the embedding term.
    """

    def __init__(self, settings: Settings, positive_items: PositiveItems) -> None:
        self.prediction_weight = settings.number("prediction_kd_weight")
        self.embedding_weight = settings.number("embedding_kd_weight")
        self.embedding_temperature = settings.number("embedding_kd_temperature")
        self.align_predictions = _prediction_alignment(settings, positive_items)
        self.sample = ContrastSampler(settings)

    def __call__(self, teacher: FrozenTeacher, tables: Tables, batch: Batch) -> dict[str, Tensor]:
        """Compute the weighted terms with a weight above 0, by name.

        Args:
            teacher: the teacher.
            tables: the student's final embeddings. Shapes: (users, width), (items, width)
            batch: the training batch.
        """
        terms = {}
        if self.prediction_weight:
            value = self.align_predictions(teacher, tables, batch)
            terms["prediction_kd"] = self.prediction_weight * value
        if self.embedding_weight:
            terms["embedding_kd"] = self.embedding_weight * self._embeddings(teacher, tables, batch)
        return terms

    def _embeddings(self, teacher: FrozenTeacher, tables: Tables, batch: Batch) -> Tensor:
        """Compute the embedding term: Eq. 6 for users plus Eq. 6 for items. Shape: ()"""
        targets, nodes = (teacher.user, teacher.item), (batch.user, batch.item)
        sides = zip(tables, targets, nodes, strict=True)
        return torch.stack([self._side(*side) for side in sides]).sum()

    def _side(self, student: Tensor, teacher: Tensor | None, nodes: Tensor) -> Tensor:
        if teacher is None:  # FrozenTeacher.require_embeddings was not called
            raise ValueError("embedding-level distillation needs a teacher with embeddings")
        anchors, candidates, position = self.sample(nodes, len(student))
        return embedding_alignment(
            student.index_select(0, candidates),
            teacher[anchors],
            position,
            temperature=self.embedding_temperature,
        )


class PredictionAlignment(Protocol):
    """Alignment of student's and teacher's scores, on pairs (Eq. 5) or lists of items."""

    def __call__(self, teacher: FrozenTeacher, tables: Tables, batch: Batch, /) -> Tensor:
        """Compute the unweighted loss; arguments as for calls of `AlignmentObjective`. Shape: ()"""


def _prediction_alignment(settings: Settings, positive_items: PositiveItems) -> PredictionAlignment:
    if settings.text("batch_by") == "user":
        return AllItemsPredictions(settings, positive_items)
    temperature = settings.number("prediction_kd_temperature")
    if settings.text("prediction_kd") == "pairwise":
        return PairwisePredictions(temperature)
    return BatchPredictions(temperature)


class PairwisePredictions:
    """Alignment of predictions (Eq. 5) on pairs of random items of the batch, positive or sampled.

    Args:
        temperature: tau of Eq. 5, above 0.
    """

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def __call__(self, teacher: FrozenTeacher, tables: Tables, batch: Batch) -> Tensor:
        """Compute the loss on one random pair of items for each interaction. Shape: ()"""
        pool = torch.cat([batch.item, batch.negative])
        drawn = pool[torch.randperm(len(pool), device=pool.device)]
        first, second = drawn.chunk(2)
        first_rows, second_rows = tables[1].index_select(0, drawn).chunk(2)  # (batch, width)
        user_rows = tables[0].index_select(0, batch.user)
        student = (user_rows * (first_rows - second_rows)).sum(dim=-1)
        target = teacher.pair_scores(batch.user, first) - teacher.pair_scores(batch.user, second)
        return pairwise_alignment(student, target, temperature=self.temperature)


class BatchPredictions:
    """Listwise alignment of predictions over the distinct items of the batch.

    Args:
        temperature: tau of `listwise_alignment`, above 0.
    """

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def __call__(self, teacher: FrozenTeacher, tables: Tables, batch: Batch) -> Tensor:
        """Compute the loss, a mean over the interactions of the batch. Shape: ()"""
        candidates, _ = batch_items(batch.item)
        users = tables[0].index_select(0, batch.user)
        items = tables[1].index_select(0, candidates)
        student = users @ items.T  # (batch, candidates)
        target = teacher.scores(batch.user, candidates)
        return listwise_alignment(student, target, temperature=self.temperature)


class AllItemsPredictions:
    """Listwise alignment of predictions over all items, for ``batch_by: user``.

    The teacher's softmax is over its best items, the student's over all items, or over a sample
    with the best items of all users of the batch. Both leave out the user's positive items, which
    are not ranked.

    Args:
        settings: settings of the run: ``prediction_kd_...`` and those of `CandidateSampler`.
            Without a temperature, it is set so that the teacher's softmax has the entropy
            ``prediction_kd_entropy`` (`temperature_with_entropy`, on a sample of the users with
            interactions).
        positive_items: look-up of each user's positive items.
    """

    def __init__(self, settings: Settings, positive_items: PositiveItems) -> None:
        self.given_temperature = settings.optional_number("prediction_kd_temperature")
        self.entropy = settings.number("prediction_kd_entropy")
        self.length = settings.integer("prediction_kd_items")
        self.positive_items = positive_items
        self.sampler = CandidateSampler(settings, positive_items.n_items - 1)
        self._fitted: tuple[FrozenTeacher, float] | None = None

    def temperature(self, teacher: FrozenTeacher) -> float:
        """Return tau of `listwise_alignment`: the given one, or the one fitted to the teacher."""
        if self.given_temperature is not None:
            return self.given_temperature
        if self._fitted is None or self._fitted[0] is not teacher:
            known = self.positive_items.degree.nonzero().squeeze(1)
            # `sample_users` numbers from 1; here, it picks places among the known users.
            sample = known[sample_users(len(known) + 1).to(known.device) - 1]
            _, scores = teacher.best_items(sample, self.length, self.positive_items)
            found = temperature_with_entropy(scores, self.entropy)
            getLogger().info(
                f"prediction_kd_temperature {found:.4g}, by prediction_kd_entropy {self.entropy}"
            )
            self._fitted = teacher, found
        return self._fitted[1]

    def __call__(self, teacher: FrozenTeacher, tables: Tables, batch: Batch) -> Tensor:
        """Compute the loss, a mean over the users of the batch. Shape: ()"""
        user, temperature = batch.user, self.temperature(teacher)
        best, scores = teacher.best_items(user, self.length, self.positive_items)
        weight = (scores / temperature).softmax(dim=-1) / len(user)
        ranked = weight > 0  # false for positive items, which fill up a short list
        count = ranked.sum(dim=-1)
        pointers = torch.cat([count.new_zeros(1), count.cumsum(0)])
        positive = self.positive_items(user)
        items, bias = tables[1][1:], None  # without RecBole's padding row
        target, left_out = best[ranked] - 1, positive.col - 1
        if self.sampler.samples:
            candidates = self.sampler(torch.cat([target, left_out]))
            items, bias = items.index_select(0, candidates.items), candidates.log_weight
            target, left_out = candidates.column[target], candidates.column[left_out]
        return full_softmax(
            tables[0].index_select(0, user) / temperature,
            items,
            RaggedIndices(pointers, target),
            weight[ranked],
            bias=bias,
            left_out=RaggedIndices(positive.pointers, left_out),
        )


def temperature_with_entropy(scores: Tensor, share: float) -> float:
    r"""Find the temperature at which softmaxes have a given mean entropy.

    .. math:: \operatorname{mean}_u\;
        \frac{-\sum_i p_{ui} \ln p_{ui}}{\ln n_u} = \text{share}, \qquad
        p_u = \operatorname{softmax}(s_u / \tau)

    The entropy rises with the temperature, so that halving an interval finds it.

    Args:
        scores: scores of each user's items; -inf for no item. Shape: (users, items)
        share: the mean entropy, as a share of the largest entropy :math:`\ln n_u` of the user's
            :math:`n_u` items; between 0 and 1. Users with one item are left out.

    Returns:
        :math:`\tau`, between a thousandth of and a hundred times the mean difference of a user's
        largest and smallest score. If no temperature in this interval gives the entropy, the
        closest one; 1 if no user has two items with different scores.
    """
    n_items = torch.isfinite(scores).sum(dim=-1)
    scores, largest = scores[n_items > 1].double(), n_items[n_items > 1].double().log()
    smallest = scores.masked_fill(scores == -torch.inf, torch.inf).amin(dim=-1)
    difference = (scores.amax(dim=-1) - smallest).mean().item() if len(scores) else 0.0
    if not difference:
        return 1.0
    low, high = math.log(difference / 1000), math.log(difference * 100)
    for _ in range(40):
        middle = (low + high) / 2
        logp = (scores / math.exp(middle)).log_softmax(dim=-1)
        entropy = -(logp.exp() * logp).nan_to_num(0.0).sum(dim=-1)
        if (entropy / largest).mean() < share:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


class Contrast(NamedTuple):
    """Nodes (users or items) to compare in Eq. 6 and 9.

    Attributes:
        anchors: distinct nodes of the batch. Shape: (anchors,)
        candidates: nodes to compare the anchors with, ascending; they include the anchors.
            Shape: (candidates,)
        position: position of each anchor in ``candidates``. Shape: (anchors,)
    """

    anchors: Tensor
    candidates: Tensor
    position: Tensor


class ContrastSampler:
    """Sampler of the nodes that Eq. 6 and 9 compare, users or items.

    Anchors are drawn from the batch's nodes, candidates from all nodes.

    Args:
        settings: ``contrast_nodes``, the maximum number of anchors, and ``contrast_candidates``,
            the number of candidates to draw. If it is at least the number of nodes, all nodes
            are candidates.
    """

    def __init__(self, settings: Settings) -> None:
        self.n_anchors = settings.integer("contrast_nodes")
        self.n_candidates = settings.integer("contrast_candidates")

    def __call__(self, nodes: Tensor, n_nodes: int) -> Contrast:
        """Draw anchors and candidates; RecBole's padding node is not a candidate.

        Args:
            nodes: users or items of the batch, possibly repeated. Shape: (batch,)
            n_nodes: number of all users or of all items, including RecBole's padding node.
        """
        anchors = draw_nodes(nodes, self.n_anchors)
        if n_nodes - 1 > self.n_candidates:
            drawn = torch.randint(1, n_nodes, (self.n_candidates,), device=nodes.device)
            candidates = torch.cat([anchors, drawn]).unique()
        else:
            candidates = torch.arange(1, n_nodes, device=nodes.device)
        return Contrast(anchors, candidates, torch.searchsorted(candidates, anchors))


def draw_nodes(nodes: Tensor, limit: int) -> Tensor:
    """Draw at most ``limit`` distinct users or items of a batch at random. Shape: (drawn,)"""
    distinct: Tensor = nodes.unique()
    if len(distinct) <= limit:
        return distinct
    return distinct[torch.randperm(len(distinct), device=nodes.device)[:limit]]
