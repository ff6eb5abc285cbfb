"""Statistics of the studies, against values computed by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from recbole_lightgnn.studies.statistics import (
    angle_density,
    lowest,
    mean_and_interval,
    mean_average_distance,
    noise_found,
    permutation_test,
    similarity_within_groups,
)


def test_mad_of_three_directions():
    # Cosines: 0 (1-2), 1/sqrt(2) (1-3 and 2-3). Row means: (1 + .29289) / 2 twice, and .29289.
    embeddings = np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    near = 1 - 1 / math.sqrt(2)
    assert mean_average_distance(embeddings) == pytest.approx(((1 + near) + near) / 3)


def test_mad_leaves_out_what_is_zero():
    # Two equal directions and an opposite one: rows have one distance (2), and two.
    assert mean_average_distance(np.array([[1.0], [5.0], [-1.0]])) == 2.0
    assert mean_average_distance(np.array([[1.0, 1.0], [2.0, 2.0]])) == 0.0


def test_mad_is_a_plain_mean_without_zeros():
    embeddings = np.random.default_rng(0).normal(size=(12, 5))
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    pairs = [1 - unit[i] @ unit[j] for i, j in itertools.permutations(range(12), 2)]
    assert mean_average_distance(embeddings) == pytest.approx(np.mean(pairs))


def test_noise_found_by_hand():
    removed, noise = np.array([1, 1, 0, 0, 1], bool), np.array([1, 0, 1, 0, 0], bool)
    assert noise_found(removed, noise) == pytest.approx((1 / 3, 1 / 2))
    assert math.isnan(noise_found(np.zeros(2, bool), np.ones(2, bool)).precision)
    assert math.isnan(noise_found(np.ones(2, bool), np.zeros(2, bool)).recall)


def test_the_lowest_scores_are_marked():
    assert lowest(np.array([3.0, 1.0, 2.0, 1.0]), 2).tolist() == [False, True, False, True]


def test_similarity_within_groups_by_hand():
    features = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]], bool)
    groups = np.array([4, 4, 4, 7, 9])
    got = similarity_within_groups(features, groups)
    assert got[:3] == pytest.approx([1 / 4, 1 / 4, 0])
    assert np.isnan(got[3:]).all()


def test_a_permutation_test_agrees_with_all_permutations():
    # Group 0 has 4 elements and 2 marks, group 1 has 3 elements and 1 mark; group 2 has no mark.
    values = np.array([5.0, 4.0, 1.0, 0.0, 3.0, 1.0, 2.0, 9.0])
    marked = np.array([1, 1, 0, 0, 1, 0, 0, 0], bool)
    groups = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    rows = [0, 1, 2, 3], [4, 5, 6]

    def difference(one, other):
        parts = []
        for members, chosen in zip(rows, (one, other), strict=True):
            rest = [values[i] for i in members if i not in chosen]
            parts.append(np.mean([values[i] for i in chosen]) - np.mean(rest))
        return np.mean(parts)

    every = [
        difference(one, other)
        for one in itertools.combinations(rows[0], 2)
        for other in itertools.combinations(rows[1], 1)
    ]
    observed = difference((0, 1), (4,))
    exact = np.mean(np.abs(every) >= abs(observed) - 1e-9)
    order = np.random.default_rng(1).permutation(8)
    got = permutation_test(
        values[order], marked[order], groups[order], draws=20_000, rng=np.random.default_rng(0)
    )
    assert got.difference == pytest.approx(observed)
    assert got.groups == 2
    assert got.p == pytest.approx(exact, abs=0.01)


def test_a_permutation_test_without_two_kinds_has_no_result():
    got = permutation_test(
        np.ones(2), np.ones(2, bool), np.array([0, 1]), draws=9, rng=np.random.default_rng(0)
    )
    assert math.isnan(got.difference)
    assert got.groups == 0


def test_random_marks_are_seldom_significant():
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(20), 5)
    p = [
        permutation_test(rng.normal(size=100), rng.random(100) < 0.4, groups, draws=99, rng=rng).p
        for _ in range(100)
    ]
    assert np.mean(np.array(p) <= 0.05) < 0.12
    assert stats.kstest(p, "uniform").pvalue > 1e-3


def test_the_density_of_angles_is_round():
    at = np.linspace(-np.pi, np.pi, 721)
    angles = np.random.default_rng(0).normal(np.pi, 0.3, 400)  # around the seam
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    density = angle_density(points, at)
    assert np.trapezoid(density, at) == pytest.approx(1, abs=1e-3)
    assert density[0] == pytest.approx(density[-1])
    for turn in (0.0, 1.0, np.pi / 2, np.pi):
        turned = np.stack([np.cos(angles + turn), np.sin(angles + turn)], axis=1)
        assert angle_density(turned, at).max() == pytest.approx(density.max(), rel=1e-3)
    # A normal density of the deviation .3, smoothed by .3 / 400^(1/5).
    height = stats.norm.pdf(0, 0, 0.3 * np.hypot(1, 400**-0.2))
    assert density.max() == pytest.approx(height, rel=0.1)
    even = np.linspace(-np.pi, np.pi, 1000, endpoint=False)
    flat = angle_density(np.stack([np.cos(even), np.sin(even)], axis=1), at)
    assert flat == pytest.approx(np.full(721, 1 / (2 * np.pi)), rel=1e-2)


def test_mean_and_interval_by_hand():
    mean, half = mean_and_interval([1.0, 2.0, 3.0])
    assert (mean, half) == pytest.approx((2.0, 4.302653 / math.sqrt(3)))
    assert math.isnan(mean_and_interval([1.0])[1])
