"""Choose the weights of several teachers in their sum, on validation."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher
from recbole_lightgnn.trainer.evaluation import METRICS, is_full_ranking

LEAST_USERS = 50  # validation users; with fewer, all weights are 1
_MOST_USERS = 20_000  # validation users; of more, evenly spaced ones are taken
_BEST = 200  # items of each teacher that can be in the list of the sum
_STEPS = (1.0, 0.5, 0.25, 0.1, -0.1)  # changes of a weight that are tried
_ROUNDS = 16
_CHUNK = 256  # largest number of users scored at once
_SCORES = 1 << 26  # scores of all teachers in memory at once: 256 MB


def choose_weights(teachers: Sequence[FrozenTeacher], valid_data: Any, metric: str) -> list[float]:
    """Choose weights by greedy forward selection on validation.

    The selection starts from the best teacher alone. In each round, it changes the one weight that
    raises the metric of the summed scores most, and it ends if no change raises the metric. A
    teacher that does not help has weight 0.

    Args:
        teachers: the teachers, with scores divided by their standard deviation.
        valid_data: RecBole's validation loader.
        metric: name of the metric, such as ``recall@20``.

    Returns:
        A weight for each teacher, at least one above 0. If validation has too few users for a
        choice, all weights are 1, and a warning says so.

    Raises:
        InputError: if the metric or the kind of validation does not allow a choice.
    """
    if not can_choose(valid_data, metric):
        raise InputError(
            f"the weights of teachers are chosen by a ranking of all items, not by {metric} here: "
            "give each of the teachers a weight"
        )
    name, _, cutoff = metric.lower().partition("@")
    if len(valid_data.uid_list) < LEAST_USERS:
        getLogger().warning(
            f"validation has {len(valid_data.uid_list)} users, too few to choose the weights of "
            "teachers: all weights are 1"
        )
        return [1.0] * len(teachers)
    candidates = _Candidates(teachers, valid_data, int(cutoff))

    def value(weights: Sequence[float]) -> float:
        return candidates.metric(weights, name, int(cutoff))

    alone = np.eye(len(teachers)).tolist()
    best, weights = max(((value(one), one) for one in alone), key=lambda pair: pair[0])
    for _ in range(_ROUNDS):
        tried = [(value(one), one) for one in _changes(weights)]
        score, changed = max(tried, key=lambda pair: pair[0])
        if score <= best:
            break
        best, weights = score, changed
    return weights


def can_choose(valid_data: Any, metric: str) -> bool:
    """Whether weights can be chosen by this metric, on a validation that ranks all items."""
    return metric.lower().partition("@")[0] in METRICS and is_full_ranking(valid_data)


def _changes(weights: Sequence[float]) -> list[list[float]]:
    """List the weights that differ from the given ones by one step, none below 0 and not all 0."""
    found = []
    for number, weight in enumerate(weights):
        for step in _STEPS:
            changed = [*weights[:number], round(weight + step, 2), *weights[number + 1 :]]
            if changed[number] >= 0 and any(changed):
                found.append(changed)
    return found


class _Candidates:
    """Scores of the items that can be in a user's list, for some weights of the teachers."""

    @torch.no_grad()
    def __init__(self, teachers: Sequence[FrozenTeacher], valid_data: Any, cutoff: int) -> None:
        count, self.best = len(valid_data.uid_list), max(_BEST, cutoff)
        chunk = max(1, min(_CHUNK, _SCORES // (len(teachers) * valid_data._dataset.item_num)))
        chosen = torch.linspace(0, count - 1, min(count, _MOST_USERS)).round().long()
        users = valid_data.uid_list[chosen]
        self.n_relevant = np.array(
            [len(valid_data.uid2positive_item[user]) for user in users.tolist()]
        )
        parts = [self._part(teachers, valid_data, part) for part in users.split(chunk)]
        scores, relevant = zip(*parts, strict=True)
        self.scores, self.relevant = torch.cat(scores, dim=1), torch.cat(relevant)

    def _part(
        self, teachers: Sequence[FrozenTeacher], valid_data: Any, users: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Score the candidates of some users.

        Returns:
            Scores of all teachers, -inf for an item that occurs before, and whether an item is
            relevant. Shapes: (teachers, users, candidates), (users, candidates)
        """
        n_items = valid_data._dataset.item_num
        items = torch.arange(n_items)
        scores = torch.stack([_scores(one, users, items) for one in teachers])
        relevant = torch.zeros(len(users), n_items, dtype=torch.bool)
        for row, user in enumerate(users.tolist()):
            scores[:, row, valid_data.uid2history_item[user]] = -torch.inf
            relevant[row, valid_data.uid2positive_item[user]] = True
        scores[:, :, 0] = -torch.inf  # RecBole's padding item
        best = scores.topk(min(self.best, n_items), dim=-1).indices  # (teachers, users, best)
        columns = best.permute(1, 0, 2).flatten(1).sort(dim=1).values
        again = torch.zeros_like(columns, dtype=torch.bool)
        again[:, 1:] = columns[:, 1:] == columns[:, :-1]
        found = scores.gather(2, columns.expand(len(teachers), -1, -1))
        return found.masked_fill(again, -torch.inf), relevant.gather(1, columns) & ~again

    def metric(self, weights: Sequence[float], name: str, cutoff: int) -> float:
        """Compute the metric ``name`` at ``cutoff`` of the sum with these weights."""
        total = torch.zeros_like(self.scores[0])
        for weight, scores in zip(weights, self.scores, strict=True):
            if weight:
                total += weight * scores
        best = total.topk(min(cutoff, total.shape[1]), dim=1).indices
        hits = self.relevant.gather(1, best).numpy()
        hits = np.pad(hits, ((0, 0), (0, cutoff - hits.shape[1])))
        return float(METRICS[name](hits, self.n_relevant)[:, cutoff - 1].mean())


def _scores(teacher: FrozenTeacher, users: Tensor, items: Tensor) -> Tensor:
    device = teacher.model.device
    return teacher.scores(users.to(device), items.to(device)).float().cpu()
