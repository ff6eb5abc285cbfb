"""Full ranking by inner product: chunked scores, masking and top-k, metrics at full precision."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

_SCORES = 1 << 24  # scores held at once: 64 MB

METRICS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {}


def ranks_here(metrics: list[str]) -> bool:
    """Whether every one of RecBole's metric names is known here."""
    return all(metric.lower() in METRICS for metric in metrics)


class FullRanking:
    """The users, relevant items and masked items of one of RecBole's full-ranking loaders.

    Args:
        eval_data: a ``FullSortEvalDataLoader``; what it calls history is masked.
        metrics: names as in RecBole's setting, of those in ``METRICS``.
        topk: cut-offs.
        device: where to score.
    """

    def __init__(
        self, eval_data: Any, metrics: list[str], topk: list[int], device: torch.device
    ) -> None:
        users = eval_data.uid_list
        self.metrics, self.topk = [metric.lower() for metric in metrics], topk
        self.n_items = eval_data._dataset.item_num
        self.users = users.to(device)
        relevant = _flatten(eval_data.uid2positive_item[users.numpy()])
        masked = _flatten(eval_data.uid2history_item[users.numpy()])
        self.n_relevant = np.bincount(relevant[0].numpy(), minlength=len(users))
        self.relevant = (relevant[0] * self.n_items + relevant[1]).sort().values.to(device)
        self.masked_row, self.masked_item = (part.to(device) for part in masked)

    @torch.no_grad()
    def evaluate(self, user_table: Tensor, item_table: Tensor) -> OrderedDict[str, float]:
        """Metrics averaged over users, as RecBole computes and names them (``recall@20``).

        Args:
            user_table: final embeddings. Shape: (users, width)
            item_table: final embeddings, row 0 the padding item. Shape: (items, width)
        """
        hits = self._hits(user_table, item_table)
        result = OrderedDict()
        for metric in self.metrics:
            by_cutoff = METRICS[metric](hits, self.n_relevant)  # (users, largest cut-off)
            for k in self.topk:
                result[f"{metric}@{k}"] = float(by_cutoff[:, k - 1].mean())
        return result

    def _hits(self, user_table: Tensor, item_table: Tensor) -> np.ndarray:
        """Whether the item at each rank is relevant, bool. Shape: (users, largest cut-off)"""
        largest = min(max(self.topk), self.n_items)
        chunk = max(1, _SCORES // self.n_items)
        found = []
        for start in range(0, len(self.users), chunk):
            users = self.users[start : start + chunk]
            scores = user_table[users] @ item_table.T  # (chunk, items)
            scores[:, 0] = -torch.inf
            first, last = torch.searchsorted(
                self.masked_row, torch.tensor([start, start + len(users)], device=users.device)
            ).tolist()
            scores[self.masked_row[first:last] - start, self.masked_item[first:last]] = -torch.inf
            best = scores.topk(largest, dim=-1).indices
            row = torch.arange(start, start + len(users), device=users.device)[:, None]
            key = row * self.n_items + best
            place = torch.searchsorted(self.relevant, key).clamp(max=len(self.relevant) - 1)
            found.append((self.relevant[place] == key).cpu())
        hits = torch.cat(found).numpy()
        missing = max(self.topk) - largest
        return np.pad(hits, ((0, 0), (0, missing))) if missing else hits


def _flatten(lists: np.ndarray) -> tuple[Tensor, Tensor]:
    """Row number and content of an array of index tensors, rows ascending."""
    sizes = torch.tensor([len(part) for part in lists])
    return torch.repeat_interleave(torch.arange(len(lists)), sizes), torch.cat(list(lists))


def _metric(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[..., np.ndarray]:
    METRICS[function.__name__.strip("_")] = function
    return function


# Each takes hits, bool of shape (users, cut-offs), and the number of relevant items, shape
# (users,), and returns the metric of every user at every cut-off, shape (users, cut-offs).


@_metric
def _recall(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    return hits.cumsum(axis=1) / n_relevant[:, None]


@_metric
def _precision(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    return hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)


@_metric
def _hit(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    return hits.cumsum(axis=1) > 0


@_metric
def _ndcg(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    gain = 1.0 / np.log2(np.arange(2, hits.shape[1] + 2))
    ideal = gain.cumsum()
    reachable = np.minimum(np.arange(1, hits.shape[1] + 1), n_relevant[:, None])
    return (hits * gain).cumsum(axis=1) / ideal[reachable - 1]


@_metric
def _mrr(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    first = hits.argmax(axis=1)
    reached = hits.cumsum(axis=1) > 0
    return reached / (first[:, None] + 1.0)


@_metric
def _map(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    rank = np.arange(1, hits.shape[1] + 1)
    precision_at_hits = (hits.cumsum(axis=1) / rank * hits).cumsum(axis=1)
    return precision_at_hits / np.minimum(rank, n_relevant[:, None])
