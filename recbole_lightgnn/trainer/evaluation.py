"""Rank all items for each user by inner product, and compute metrics without rounding."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from torch import Tensor

from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.errors import InputError

_SCORES = 1 << 23  # scores in memory at once: 32 MB, about the size of a processor's last cache
_SCORES_ON_GPU = 1 << 26  # 256 MB: a GPU is inefficient on small products
_LEAST_USERS = 32  # with fewer users per product, item embeddings are read too often
_GROUP = 8  # scores per group; see `_maxima`

# Function of each metric, by the metric's name; filled at the end of the file.
METRICS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {}


def supports_metrics(metrics: list[str]) -> bool:
    """Whether `FullRanking` computes all of these metrics, named in upper or lower case."""
    return all(metric.lower() in METRICS for metric in metrics)


def is_full_ranking(eval_data: Any) -> bool:
    """Whether a RecBole loader ranks all items for each user and is not sequential."""
    return isinstance(eval_data, FullSortEvalDataLoader) and not eval_data.is_sequential


class Rankings:
    """Cache of one `FullRanking` for each loader.

    Args:
        config: settings of the run, with ``metrics`` and ``topk``.
        device: device to score on.
    """

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self._cache: WeakKeyDictionary[Any, FullRanking] = WeakKeyDictionary()

    def of(self, eval_data: Any) -> FullRanking | None:
        """Return the `FullRanking` of a validation or test loader, or ``None``.

        ``None`` means that RecBole's evaluator must be used: for metrics not in `METRICS`, rankings
        of sampled items, and sequential models.
        """
        if not is_full_ranking(eval_data) or not supports_metrics(self.config["metrics"]):
            return None
        if eval_data not in self._cache:
            self._cache[eval_data] = FullRanking(
                eval_data, self.config["metrics"], self.config["topk"], self.device
            )
        return self._cache[eval_data]


class Ranked(NamedTuple):
    """Result of ranking all items for the users of a split.

    Attributes:
        metrics: averages over users, by RecBole's names (``recall@20``).
        hits: ``hits[u, r]`` is True if user u's item at rank r is relevant; ``None`` if unknown.
            bool. Shape: (users of the loader, largest cut-off)
        seconds: seconds for scores, masks, top-k lists and metrics, and for propagation unless
            final embeddings were cached.
    """

    metrics: dict[str, float]
    hits: np.ndarray | None
    seconds: float


def metrics_by_user(ranked: Ranked, eval_data: Any, topk: list[int]) -> dict[str, np.ndarray]:
    """Compute each user's recall and NDCG; `Ranked.metrics` has their averages.

    Args:
        ranked: result of ranking ``eval_data``, with hits.
        eval_data: RecBole's validation or test loader.
        topk: cut-offs k of the metrics.

    Returns:
        ``recall@k`` and ``ndcg@k`` for each k, in the loader's order of users. Shape: (users,)

    Raises:
        ValueError: if ``ranked`` has no hits.
    """
    if ranked.hits is None:
        raise ValueError("metrics by user need hits, and this split was not ranked in full")
    relevant = eval_data.uid2positive_item[eval_data.uid_list.numpy()]
    n_relevant = np.array([len(items) for items in relevant])
    tables = {name: METRICS[name](ranked.hits, n_relevant) for name in ("recall", "ndcg")}
    return {f"{name}@{k}": table[:, k - 1] for name, table in tables.items() for k in topk}


class _Chunk(NamedTuple):
    """Users who are ranked together. Their scores form a table: users by items.

    A position is an index into the flattened table.

    Attributes:
        start: number of users in earlier chunks.
        users: RecBole's number of each user. Shape: (chunk,)
        masked: positions of the items left out of the ranking. Shape: (masked,)
        relevant: positions of the relevant items, ascending. Shape: (relevant,)
        relevant_row: table row of each position in ``relevant``. Shape: (relevant,)
    """

    start: int
    users: Tensor
    masked: Tensor
    relevant: Tensor
    relevant_row: Tensor


class FullRanking:
    """Rank all items for every user of a RecBole loader, and compute metrics.

    Users are ranked in chunks, to save memory. Items with equal scores always come in the same
    order.

    Args:
        eval_data: a ``FullSortEvalDataLoader``; items in a user's history are masked.
        metrics: RecBole's names of metrics, all in `METRICS`.
        topk: cut-offs k of the metrics.
        device: device to score on.
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
        at_once = _SCORES_ON_GPU if device.type == "cuda" else _SCORES
        self.at_once = max(at_once // self.columns, _LEAST_USERS)
        self.chunks: list[_Chunk] = []
        for start in range(0, self.n_users, self.at_once):
            part = slice(start, start + self.at_once)
            padding = torch.arange(len(users[part])) * self.columns
            masked_row, masked_item = _flatten(masked[part])
            row, item = _flatten(relevant[part])
            position, order = (row * self.columns + item).sort()
            tensors = (
                users[part],
                torch.cat([padding, masked_row * self.columns + masked_item]),
                position,
                row[order],
            )
            self.chunks.append(_Chunk(start, *(tensor.to(device) for tensor in tensors)))

    def evaluate(self, user_table: Tensor, item_table: Tensor) -> OrderedDict[str, float]:
        """Return only the metrics of :meth:`rank`, with the same arguments and errors."""
        return self.rank(user_table, item_table)[0]

    @torch.no_grad()
    def rank(
        self, user_table: Tensor, item_table: Tensor
    ) -> tuple[OrderedDict[str, float], np.ndarray]:
        """Rank all items for every user by inner product.

        Args:
            user_table: final embeddings, RecBole's padding row first. Shape: (users, width)
            item_table: final embeddings, RecBole's padding row first. Shape: (items, width)

        Returns:
            Metrics and hits, as in `Ranked`.

        Raises:
            InputError: if a score may overflow or be NaN.
        """
        _check_finite(user_table, item_table)
        user, hits = self._hits(user_table, item_table)
        result: OrderedDict[str, float] = OrderedDict()
        for metric in self.metrics:
            # `hits` may lack users without a hit: all their metrics are zero.
            total = METRICS[metric](hits, self.n_relevant[user]).sum(axis=0)  # (largest cut-off,)
            for k in self.topk:
                result[f"{metric}@{k}"] = float(total[k - 1] / self.n_users)
        all_hits = np.zeros((self.n_users, hits.shape[1]), dtype=bool)
        all_hits[user] = hits
        return result, all_hits

    def _hits(self, user_table: Tensor, item_table: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Find all users with a hit (and some without), by position in the loader, and their hits.

        Shapes: (users,), (users, largest cut-off)
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
            # If `largest` groups have an item better than the best relevant one, there is no hit.
            better = (levels[-1] > best_relevant[:, None]).sum(dim=1)
            row = (better < largest).nonzero().squeeze(1)
            position = row[:, None] * self.columns + _top(levels, row, largest)
            nearest = torch.searchsorted(chunk.relevant, position)
            nearest = nearest.clamp(max=len(chunk.relevant) - 1)
            users.append((chunk.start + row).cpu())
            found.append((chunk.relevant[nearest] == position).cpu())
        hits = torch.cat(found).numpy()
        missing = max(self.topk) - largest
        return torch.cat(users).numpy(), np.pad(hits, ((0, 0), (0, missing)))


def _maxima(scores: Tensor, k: int) -> list[Tensor]:
    """Compute maxima of groups of 8 scores, of groups of 8 maxima, and so on, for `_top`.

    Levels are added as long as they save time. With n groups, group g holds the columns g, g + n, g
    + 2n, ..., so that maxima are computed on contiguous parts of rows. The k best items are always
    in the k groups with the largest maxima.

    Args:
        scores: score of each column for each user. Shape: (users, columns)
        k: number of best items to find for each user.

    Returns:
        The scores and each level's maxima. Shapes: (users, columns), (users, columns / 8), ...
    """
    levels = [scores]
    while levels[-1].shape[1] > 2 * _GROUP * k and levels[-1].shape[1] % _GROUP == 0:
        levels.append(levels[-1].view(len(scores), _GROUP, -1).amax(dim=1))
    return levels


def _top(levels: list[Tensor], row: Tensor, k: int) -> Tensor:
    """Find the columns of each row's k largest scores, largest first. Shape: (rows, k)

    Args:
        levels: result of `_maxima`.
        row: row numbers in the score table. Shape: (rows,)
        k: number of columns to find in each row.
    """
    best = levels[-1][row].topk(k, dim=-1).indices
    member = torch.arange(_GROUP, device=row.device)
    for scores, maxima in zip(levels[-2::-1], levels[:0:-1], strict=True):
        columns = (best[:, :, None] + member * maxima.shape[1]).flatten(1)  # (rows, k groups)
        best = columns.gather(1, scores[row[:, None], columns].topk(k, dim=-1).indices)
    return best


def _columns(n_items: int) -> int:
    """Number of columns of the score table: number of items, rounded up to an odd multiple of 64.

    Then every row starts at a cache line, which halves the time of the matrix product, and
    `_maxima` can divide rows twice by 8. An odd multiple spreads the rows over the cache.
    """
    return 64 * (-(-n_items // 64) | 1)


def _check_finite(user_table: Tensor, item_table: Tensor) -> None:
    """Raise InputError if an inner product of the tables may overflow or be NaN."""
    largest = [max(map(abs, map(float, table.aminmax()))) for table in (user_table, item_table)]
    bound = largest[0] * largest[1] * user_table.shape[1]
    if not bound < torch.finfo(user_table.dtype).max:  # also refuses NaN
        raise InputError(
            f"embeddings as large as {largest[0]:.3g} for users and {largest[1]:.3g} for items "
            "cannot be ranked, scores must be finite: the training has diverged; lower "
            "learning_rate"
        )


def _flatten(lists: np.ndarray) -> tuple[Tensor, Tensor]:
    """Concatenate index tensors, one per row; return the row and the index of each element."""
    sizes = torch.tensor([len(part) for part in lists])
    return torch.repeat_interleave(torch.arange(len(lists)), sizes), torch.cat(list(lists))


def _metric(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[..., np.ndarray]:
    METRICS[function.__name__.strip("_")] = function
    return function


# Each metric takes hits (users, cut-offs) and numbers of relevant items (users,), and returns the
# value of every user at every cut-off (users, cut-offs).


@_metric
def _recall(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    recall: np.ndarray = hits.cumsum(axis=1) / n_relevant[:, None]
    return recall


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
    ndcg: np.ndarray = (hits * gain).cumsum(axis=1) / ideal[reachable - 1]
    return ndcg


@_metric
def _mrr(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    first = hits.argmax(axis=1)
    reached = hits.cumsum(axis=1) > 0
    mrr: np.ndarray = reached / (first[:, None] + 1.0)
    return mrr


@_metric
def _map(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    rank = np.arange(1, hits.shape[1] + 1)
    precision_at_hits = (hits.cumsum(axis=1) / rank * hits).cumsum(axis=1)
    average: np.ndarray = precision_at_hits / np.minimum(rank, n_relevant[:, None])
    return average
