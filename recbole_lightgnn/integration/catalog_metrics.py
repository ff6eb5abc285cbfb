r"""Metrics of the recommendation lists of all users together.

The metrics are ItemCoverage, GiniIndex, ShannonEntropy, AveragePopularity and TailPercentage.

:math:`R_u` is the list of user u, at most k items, and P(i) is the number of lists with item i. I
is the set of items, without RecBole's padding item 0. RecBole 1.2.1 differs from these definitions
in four ways:

- RecBole includes the padding item in I.
- Where a user has fewer than k unmasked items, RecBole fills the list with masked items.
- RecBole divides ShannonEntropy by the number of distinct items recommended.
- AveragePopularity and TailPercentage divide by k, even if a list is shorter than k.

The setting ``catalog_metrics`` chooses: ``exact`` for the definitions here, ``recbole`` for
RecBole's.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Lists = NDArray[np.int64]  # (users, k), 0 where a list has ended
Metric = Callable[..., float]


def item_coverage(lists: Lists, n_items: int) -> float:
    r"""Compute the fraction of items that are in a list, :math:`|\bigcup_u R_u| / |I|`.

    Args:
        lists: item numbers of each user's list; 0 fills a shorter list. Shape: (users, k)
        n_items: number of items, :math:`|I|`.
    """
    return float(np.count_nonzero(_list_counts(lists, n_items)) / n_items)


def gini_index(lists: Lists, n_items: int) -> float:
    r"""Compute the Gini index of P(i), the number of lists with item i; 0 if all P(i) are equal.

    With items in ascending order of P: :math:`\sum_i (2i - |I| - 1) P(i) / (|I| \sum_i P(i))`.
    ``n_items`` is :math:`|I|`. In ``lists``, 0 fills a shorter list. Shape: (users, k)
    """
    counts = np.sort(_list_counts(lists, n_items))
    ranks = 2 * np.arange(1, n_items + 1) - n_items - 1
    return float(ranks @ counts / (n_items * max(counts.sum(), 1)))


def shannon_entropy(lists: Lists) -> float:
    r"""Compute the entropy of the items in all lists, in nats: :math:`-\sum_i p(i) \log p(i)`.

    Here :math:`p(i) = P(i) / \sum_j P(j)`, and P(i) is the number of lists with item i. In
    ``lists``, 0 fills a shorter list. Shape: (users, k)
    """
    counts = np.unique(lists[lists > 0], return_counts=True)[1]
    shares = counts / max(counts.sum(), 1)
    return float(-(shares * np.log(shares)).sum())


def mean_over_lists(lists: Lists, values: NDArray[np.float64]) -> float:
    r"""Average a value of items over each user's list, then over users.

    The mean is :math:`\frac1{|U|} \sum_u \frac1{|R_u|} \sum_{i \in R_u} v(i)`. Users with an empty
    list are left out.

    Args:
        lists: item numbers of each user's list; 0 fills a shorter list. Shape: (users, k)
        values: value of each item, such as the item's popularity; ``values[0]`` is not used.
            Shape: (items + 1,)
    """
    present = lists > 0
    lengths = present.sum(axis=1)
    sums = np.where(present, values[lists], 0.0).sum(axis=1)
    return float((sums[lengths > 0] / lengths[lengths > 0]).mean()) if lengths.any() else 0.0


def tail_items(counts: Mapping[int, int], tail: float) -> list[int]:
    """Return the numbers of the long-tail (least popular) items, as RecBole's ``tail_ratio`` does.

    Args:
        counts: number of training interactions of each item, by item number.
        tail: if above 1, the largest number of interactions of a tail item; otherwise the fraction
            of all items that form the tail, beginning with the least popular.
    """
    if tail > 1:
        return [item for item, count in counts.items() if count <= tail]
    ordered = sorted(counts, key=lambda item: (counts[item], item))
    return ordered[: max(int(len(ordered) * tail), 1)]


def _list_counts(lists: Lists, n_items: int) -> NDArray[np.int64]:
    return np.bincount(lists.ravel(), minlength=n_items + 1)[1:]


# --- in RecBole -----------------------------------------------------------------------------------


def extend_recbole() -> None:
    """Make RecBole compute the metrics of this file as the setting ``catalog_metrics`` says."""
    from recbole.evaluator import metrics
    from recbole.evaluator.collector import Collector

    if hasattr(Collector.eval_batch_collect, "__wrapped__"):
        return
    Collector.eval_batch_collect = _ending_lists(Collector.eval_batch_collect)
    for name, value in _VALUES.items():
        metric = getattr(metrics, name)
        metric.__init__ = _with_choice(metric.__init__)
        metric.calculate_metric = _exact(metric.calculate_metric, name.lower(), value)


def is_exact(config: Any) -> bool:
    """Whether ``catalog_metrics`` is ``exact``, the default; an unknown value raises InputError."""
    from recbole_lightgnn.errors import InputError

    choice = config["catalog_metrics"]
    if choice not in (None, "exact", "recbole"):
        raise InputError(f"catalog_metrics must be exact or recbole, got {choice!r}")
    return bool(choice != "recbole")


def _with_choice(original: Any) -> Any:
    @functools.wraps(original)
    def __init__(self: Any, config: Any) -> None:
        original(self, config)
        self.is_exact = is_exact(config)

    return __init__


def _exact(original: Any, name: str, value: Metric) -> Any:
    @functools.wraps(original)
    def calculate_metric(self: Any, dataobject: Any) -> dict[str, float]:
        if not self.is_exact:
            result: dict[str, float] = original(self, dataobject)
            return result
        lists = dataobject.get("rec.items").numpy()
        return {
            f"{name}@{k}": round(value(self, dataobject, lists[:, :k]), self.decimal_place)
            for k in self.topk
        }

    return calculate_metric


def _ending_lists(original: Any) -> Any:
    """Extend ``eval_batch_collect``: items with a score of minus infinity become 0 in the lists."""

    @functools.wraps(original)
    def eval_batch_collect(self: Any, scores_tensor: Any, *args: Any) -> None:
        original(self, scores_tensor, *args)
        if self.register.need("rec.items") and is_exact(self.config):
            lists = self.data_struct.get("rec.items")[-len(scores_tensor) :]
            scores = scores_tensor.gather(1, lists.to(scores_tensor.device))
            lists[(scores == -np.inf).to(lists.device)] = 0

    return eval_batch_collect


def _of_lists(function: Metric) -> Metric:
    def value(metric: Any, data: Any, lists: Lists) -> float:
        return function(lists, data.get("data.num_items") - 1)

    return value


def _average_popularity(metric: Any, data: Any, lists: Lists) -> float:
    return _mean_of(lists, dict(data.get("data.count_items")))


def _tail_percentage(metric: Any, data: Any, lists: Lists) -> float:
    tail = tail_items(dict(data.get("data.count_items")), metric.tail)
    return _mean_of(lists, dict.fromkeys(tail, 1))


def _mean_of(lists: Lists, value_of: Mapping[int, int]) -> float:
    """Compute `mean_over_lists` from a value by item; an item that is not a key has 0."""
    values = np.zeros(1 + max([int(lists.max(initial=0)), *value_of]))
    values[list(value_of)] = list(value_of.values())
    return mean_over_lists(lists, values)


_VALUES = {
    "ItemCoverage": _of_lists(item_coverage),
    "GiniIndex": _of_lists(gini_index),
    "ShannonEntropy": lambda metric, data, lists: shannon_entropy(lists),
    "AveragePopularity": _average_popularity,
    "TailPercentage": _tail_percentage,
}
