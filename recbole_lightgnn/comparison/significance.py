"""Test over the test users whether the difference between two models is significant."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Difference(NamedTuple):
    """The difference between two models in one metric, tested over the test users.

    Attributes:
        mean: mean difference over users.
        p: two-sided p-value of the paired t-test.
        p_holm: p-value after Holm's correction for all tests of a table.
    """

    mean: float
    p: float
    p_holm: float


def paired_t(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    r"""Compare two models with the paired t-test over users.

    .. math:: t = \bar d \,/\, (s_d / \sqrt n), \quad d_u = a_u - b_u

    s_d is the sample standard deviation of d over the n users. The test has n - 1 degrees of
    freedom. If d is the same for all users, p is 1 for d = 0 and 0 otherwise.

    Args:
        one: the first model's metric a of each user. Shape: (users,), at least 2 users
        other: the second model's metric b of the same users. Shape: (users,)

    Returns:
        First, the mean of d. Second, the two-sided p-value.
    """
    difference = np.asarray(one, dtype=np.float64) - other
    mean, n = float(difference.mean()), len(difference)
    error = float(difference.std(ddof=1)) / math.sqrt(n)
    if error == 0:
        return mean, 1.0 if mean == 0 else 0.0
    return mean, float(2 * stats.t.sf(abs(mean) / error, n - 1))


def holm(p: Sequence[float]) -> list[float]:
    r"""Correct the p-values of several tests with Holm's method.

    .. math:: \tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1)\, p_{(j)})

    Call a difference significant if its corrected p is at most alpha. Then the chance of any false
    call among the m tests is at most alpha.

    S. Holm, "A simple sequentially rejective multiple test procedure", 1979.

    Args:
        p: p-value of each test, in any order.

    Returns:
        The corrected p-value of each test, in the order of ``p``.
    """
    corrected, largest = [0.0] * len(p), 0.0
    for place, index in enumerate(sorted(range(len(p)), key=lambda index: p[index])):
        largest = max(largest, min(1.0, (len(p) - place) * p[index]))
        corrected[index] = largest
    return corrected
