"""Statistics of the studies: smoothness of embeddings, noise found, and permutation tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]


def mean_average_distance(embeddings: Floats) -> float:
    r"""Compute the mean average distance (MAD) of embeddings: small if they are over-smoothed.

    D_ij = 1 - cos(e_i, e_j); the mean of row i is over its entries that are not zero; MAD is the
    mean of the rows' means that are not zero (Chen et al., "Measuring and Relieving the
    Over-smoothing Problem", AAAI 2020, Eq. 1 to 3, over all pairs).

    Args:
        embeddings: one row for each node. Shape: (nodes, width)

    Returns:
        The MAD, between 0 and 2; 0 if all embeddings have one direction.
    """
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    units = np.divide(embeddings, lengths, out=np.zeros_like(embeddings), where=lengths > 0)
    distance = 1.0 - units @ units.T
    np.fill_diagonal(distance, 0.0)
    distance[np.abs(distance) < 1e-12] = 0.0  # rounding of equal directions
    counts = np.count_nonzero(distance, axis=1)
    means = np.divide(distance.sum(axis=1), counts, out=np.zeros(len(units)), where=counts > 0)
    return float(means[means != 0].mean()) if means.any() else 0.0


class Found(NamedTuple):
    """How well a set of removed interactions finds noise.

    Attributes:
        precision: share of the removed interactions that are noise; NaN if none is removed.
        recall: share of the noise that is removed; NaN without noise.
    """

    precision: float
    recall: float


def noise_found(removed: NDArray[np.bool_], noise: NDArray[np.bool_]) -> Found:
    """Compare removed interactions with noise. Shapes: (interactions,)"""
    both = float((removed & noise).sum())
    n_removed, n_noise = int(removed.sum()), int(noise.sum())
    return Found(
        both / n_removed if n_removed else float("nan"), both / n_noise if n_noise else float("nan")
    )


def lowest(score: Floats, count: int) -> NDArray[np.bool_]:
    """Mark the ``count`` elements with the lowest scores; of ties, the first. Shape: (elements,)"""
    marked = np.zeros(len(score), dtype=bool)
    marked[np.argsort(score, kind="stable")[:count]] = True
    return marked


def similarity_within_groups(features: NDArray[np.bool_], groups: NDArray[np.int64]) -> Floats:
    """Compute the mean Jaccard similarity of each element with the others of its group.

    The Jaccard similarity of two sets of features is the size of their intersection, divided by the
    size of their union; it is 0 if both are empty.

    Args:
        features: which features an element has. Shape: (elements, features)
        groups: group of each element. Shape: (elements,)

    Returns:
        Mean similarities; NaN for the only element of a group. Shape: (elements,)
    """
    result = np.full(len(groups), np.nan)
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=np.nan))
    for members in np.split(order, starts[1:]):
        if len(members) < 2:
            continue
        own = features[members].astype(np.float64)
        common, sizes = own @ own.T, own.sum(axis=1)
        union = sizes[:, None] + sizes - common
        jaccard = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
        np.fill_diagonal(jaccard, 0.0)
        result[members] = jaccard.sum(axis=1) / (len(members) - 1)
    return result


class PermutationTest(NamedTuple):
    """A difference between marked and other elements, and its p-value.

    Attributes:
        difference: mean over groups of the difference of the means.
        p: two-sided p-value.
        groups: number of groups that have both kinds of elements.
    """

    difference: float
    p: float
    groups: int


def permutation_test(
    values: Floats,
    marked: NDArray[np.bool_],
    groups: NDArray[np.int64],
    *,
    draws: int,
    rng: np.random.Generator,
) -> PermutationTest:
    """Test whether marked elements differ in value from the other elements of their groups.

    The statistic is the mean over groups of (mean of the marked values - mean of the others). Under
    the null hypothesis, the marks of each group are a random choice. The p-value is (1 + number of
    random choices with at least this absolute difference) / (1 + ``draws``).

    Args:
        values: value of each element. Shape: (elements,)
        marked: whether an element is marked. Shape: (elements,)
        groups: group of each element. Shape: (elements,)
        draws: number of random choices.
        rng: random generator.

    Returns:
        The result. Without a group of both kinds, difference and p are NaN.
    """
    _, groups = np.unique(groups, return_inverse=True)
    n_marked, sizes = np.bincount(groups, marked), np.bincount(groups)
    useful = (n_marked > 0) & (n_marked < sizes)
    inside = useful[groups]
    if not inside.any():
        return PermutationTest(float("nan"), float("nan"), 0)
    order = np.argsort(groups[inside], kind="stable")
    values, marked = values[inside][order], marked[inside][order]
    _, groups = np.unique(groups[inside][order], return_inverse=True)
    n_marked, sizes = np.bincount(groups, marked), np.bincount(groups)
    totals = np.bincount(groups, values)
    rank = np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = rank < n_marked[groups]  # of elements in random order within their group

    def statistic(of_marked: NDArray[Any]) -> float:
        others = (totals - of_marked) / (sizes - n_marked)
        return float((of_marked / n_marked - others).mean())

    observed = statistic(np.bincount(groups, values * marked))
    extreme = 0
    for _ in range(draws):
        shuffled = values[np.argsort(groups + rng.random(len(groups)))]
        extreme += abs(statistic(np.bincount(groups, shuffled * chosen))) >= abs(observed) - 1e-12
    return PermutationTest(observed, (1 + extreme) / (1 + draws), len(sizes))


def angle_density(points: Floats, at: Floats) -> Floats:
    """Estimate the density of the points' angles around the origin, on the circle.

    The kernel is Gaussian, with Scott's bandwidth for the circular standard deviation. Each angle
    is also counted a turn before and a turn after, so that the density has no gap at -pi and pi.

    Args:
        points: points in the plane. Shape: (points, 2)
        at: angles between -pi and pi, in radians. Shape: (angles,)

    Returns:
        Densities; their integral over the circle is 1. Shape: (angles,)
    """
    angles = np.arctan2(points[:, 1], points[:, 0])
    # The deviation of a uniform distribution is the largest.
    deviation = min(stats.circstd(angles), np.pi / np.sqrt(3))
    width = len(angles) ** -0.2 * deviation
    turns = np.concatenate([angles - 2 * np.pi, angles, angles + 2 * np.pi])
    kernel = stats.norm.pdf(at[:, None], turns, width)
    return np.asarray(kernel.sum(axis=1) / len(angles))


def mean_and_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Mean over seeds, and half the width of its confidence interval (Student's t).

    The second is NaN for fewer than two values.
    """
    if len(values) < 2:
        return float(np.mean(values)), float("nan")
    quantile = float(stats.t.ppf(0.5 + level / 2, len(values) - 1))
    return float(np.mean(values)), quantile * float(stats.sem(values))
