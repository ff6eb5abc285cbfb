"""Full ranking by inner product: chunked scores, masking and top-k, metrics at full precision."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from torch import Tensor

from recbole_lightgnn.errors import InputError

_SCORES = 1 << 23  # scores held at once: 32 MB, what a processor's last cache may hold
_SCORES_ON_GPU = 1 << 26  # 256 MB: it wants much to do at once
_LEAST_USERS = 32  # a product of fewer rows reads the items' embeddings too often
_GROUP = 8  # scores to a maximum

METRICS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {}


def ranks_here(metrics: list[str]) -> bool:
    """Whether every one of RecBole's metric names is known here."""
    return all(metric.lower() in METRICS for metric in metrics)


class Rankings:
    """The `FullRanking` of each loader that is asked about, made once.

    Args:
        config: settings with ``metrics`` and ``topk``.
        device: where to score.
    """

    def __init__(self, config: Any, device: torch.device) -> None:
        self.config, self.device = config, device
        self._made: WeakKeyDictionary[Any, FullRanking] = WeakKeyDictionary()

    def of(self, eval_data: Any) -> FullRanking | None:
        """None where only RecBole's evaluator will do: other metrics, lists or sequences."""
        full = isinstance(eval_data, FullSortEvalDataLoader) and not eval_data.is_sequential
        if not full or not ranks_here(self.config["metrics"]):
            return None
        if eval_data not in self._made:
            self._made[eval_data] = FullRanking(
                eval_data, self.config["metrics"], self.config["topk"], self.device
            )
        return self._made[eval_data]


class Ranked(NamedTuple):
    """A split that was ranked.

    Attributes:
        metrics: averaged over users, named as RecBole names them (``recall@20``).
        hits: whether the item at each rank of a user's is one to find; ``None`` where RecBole did
            not rank all items. Shape: (users of the loader, largest cut-off), bool
        seconds: what scores (propagation included, if the model had not done it), masks, lists
            and metrics took.
    """

    metrics: dict[str, float]
    hits: np.ndarray | None
    seconds: float


def metrics_by_user(ranked: Ranked, eval_data: Any, topk: list[int]) -> dict[str, np.ndarray]:
    """Recall and NDCG of each user, whose averages are the metrics of those names.

    Args:
        ranked: what came of ranking ``eval_data``, with its hits.
        eval_data: the loader.
        topk: cut-offs.

    Returns:
        ``recall@k`` and ``ndcg@k`` for each k, users as the loader has them. Shape: (users,)
    """
    relevant = eval_data.uid2positive_item[eval_data.uid_list.numpy()]
    n_relevant = np.array([len(items) for items in relevant])
    tables = {name: METRICS[name](ranked.hits, n_relevant) for name in ("recall", "ndcg")}
    return {f"{name}@{k}": table[:, k - 1] for name, table in tables.items() for k in topk}


class _Chunk(NamedTuple):
    """Users ranked at once. Places are those in the flattened table of their scores.

    Attributes:
        start: users in the chunks before.
        users: their numbers. Shape: (chunk,)
        masked: places that take no rank. Shape: (masked,)
        relevant: places of the items to find, ascending. Shape: (relevant,)
        relevant_row: whose they are, as a row. Shape: (relevant,)
    """

    start: int
    users: Tensor
    masked: Tensor
    relevant: Tensor
    relevant_row: Tensor


class FullRanking:
    """The users, relevant items and masked items of one of RecBole's full-ranking loaders.

    Beside the embeddings it needs room for the scores of some hundred users, not of all. Equal
    scores are ranked in an order that is always the same.

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
        self.n_users, self.n_items = len(users), eval_data._dataset.item_num
        relevant = eval_data.uid2positive_item[users.numpy()]
        masked = eval_data.uid2history_item[users.numpy()]
        self.n_relevant = np.array([len(items) for items in relevant])
        self.columns = _columns(self.n_items)
        held = _SCORES_ON_GPU if device.type == "cuda" else _SCORES
        self.at_once = max(held // self.columns, _LEAST_USERS)
        self.chunks = []
        for start in range(0, self.n_users, self.at_once):
            part = slice(start, start + self.at_once)
            padding = torch.arange(len(users[part])) * self.columns
            masked_row, masked_item = _flatten(masked[part])
            row, item = _flatten(relevant[part])
            place, order = (row * self.columns + item).sort()
            tensors = (
                users[part],
                torch.cat([padding, masked_row * self.columns + masked_item]),
                place,
                row[order],
            )
            self.chunks.append(_Chunk(start, *(tensor.to(device) for tensor in tensors)))

    def evaluate(self, user_table: Tensor, item_table: Tensor) -> OrderedDict[str, float]:
        """The first of what :meth:`rank` returns."""
        return self.rank(user_table, item_table)[0]

    @torch.no_grad()
    def rank(
        self, user_table: Tensor, item_table: Tensor
    ) -> tuple[OrderedDict[str, float], np.ndarray]:
        """Metrics averaged over users, as RecBole computes and names them (``recall@20``).

        Args:
            user_table: final embeddings. Shape: (users, width)
            item_table: final embeddings, row 0 the padding item. Shape: (items, width)

        Returns:
            The metrics, and whether the item at each rank is one to find. Shape of the latter:
            (users, largest cut-off), bool

        Raises:
            InputError: if there are embeddings whose products may not be finite.
        """
        _check_finite(user_table, item_table)
        user, hits = self._hits(user_table, item_table)
        result = OrderedDict()
        for metric in self.metrics:
            # Without a hit every metric is zero.
            total = METRICS[metric](hits, self.n_relevant[user]).sum(axis=0)  # (largest cut-off,)
            for k in self.topk:
                result[f"{metric}@{k}"] = float(total[k - 1] / self.n_users)
        of_all = np.zeros((self.n_users, hits.shape[1]), dtype=bool)
        of_all[user] = hits
        return result, of_all

    def _hits(self, user_table: Tensor, item_table: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Users with a hit, maybe some more, and whether their item at each rank is relevant.

        Users are places in the loader. Shapes: (users,), and (users, largest cut-off), bool
        """
        largest = min(max(self.topk), self.n_items)
        scores = user_table.new_full((min(self.at_once, self.n_users), self.columns), -torch.inf)
        users, found = [], []
        for chunk in self.chunks:
            rows = scores[: len(chunk.users)]
            torch.mm(user_table[chunk.users], item_table.T, out=rows[:, : self.n_items])
            flat = rows.view(-1)
            flat[chunk.masked] = -torch.inf
            levels = _maxima(rows, largest)
            best_relevant = flat.new_full((len(rows),), -torch.inf)
            best_relevant.scatter_reduce_(0, chunk.relevant_row, flat[chunk.relevant], "amax")
            # With so many groups that hold a better item than the best relevant, there is no hit.
            better = (levels[-1] > best_relevant[:, None]).sum(dim=1)
            row = (better < largest).nonzero().squeeze(1)
            place = row[:, None] * self.columns + _top(levels, row, largest)
            nearest = torch.searchsorted(chunk.relevant, place).clamp(max=len(chunk.relevant) - 1)
            users.append((chunk.start + row).cpu())
            found.append((chunk.relevant[nearest] == place).cpu())
        hits = torch.cat(found).numpy()
        missing = max(self.topk) - largest
        return torch.cat(users).numpy(), np.pad(hits, ((0, 0), (0, missing)))


def _maxima(scores: Tensor, k: int) -> list[Tensor]:
    """The scores, the maxima of groups of eight, of eight groups, and so on while it pays.

    Of n groups the g-th holds the columns g, g + n, g + 2n, ...: maxima are taken of whole rows at
    once. The k best items are always in the k groups with the largest maxima.

    Args:
        scores: shape (users, columns)
        k: how many of the best will be asked for.
    """
    levels = [scores]
    while levels[-1].shape[1] > 2 * _GROUP * k and levels[-1].shape[1] % _GROUP == 0:
        levels.append(levels[-1].view(len(scores), _GROUP, -1).amax(dim=1))
    return levels


def _top(levels: list[Tensor], row: Tensor, k: int) -> Tensor:
    """Columns of the k best scores of some rows, best first. Shape: (rows, k)"""
    best = levels[-1][row].topk(k, dim=-1).indices
    member = torch.arange(_GROUP, device=row.device)
    for scores, maxima in zip(levels[-2::-1], levels[:0:-1], strict=True):
        columns = (best[:, :, None] + member * maxima.shape[1]).flatten(1)  # (rows, k groups)
        best = columns.gather(1, scores[row[:, None], columns].topk(k, dim=-1).indices)
    return best


def _columns(n_items: int) -> int:
    """Columns for so many items: an odd number of lots of 64.

    Such rows begin where a product can write whole cache lines, which halves its time, and on
    different places in the cache; and they fall into groups, and groups of groups.
    """
    return 64 * (-(-n_items // 64) | 1)


def _check_finite(user_table: Tensor, item_table: Tensor) -> None:
    """Raise InputError where an inner product may overflow, or is no number."""
    largest = [max(map(abs, map(float, table.aminmax()))) for table in (user_table, item_table)]
    bound = largest[0] * largest[1] * user_table.shape[1]
    if not bound < torch.finfo(user_table.dtype).max:  # so that NaN is refused too
        raise InputError(
            f"embeddings as large as {largest[0]:.3g} for users and {largest[1]:.3g} for items "
            "cannot be ranked, scores must be finite: the training has diverged; lower "
            "learning_rate"
        )


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
