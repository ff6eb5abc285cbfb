"""Paired t-test over users and Holm's correction: by hand, and against SciPy."""

import numpy as np
import pytest
from scipy import stats

from recbole_lightgnn.comparison.significance import holm, paired_t


def test_the_paired_t_test_by_hand():
    one, other = np.array([0.5, 0.0, 1.0, 0.5]), np.array([0.25, 0.0, 0.5, 0.75])
    # Differences .25, 0, .5, -.25: mean .125, sum of squared deviations .3125,
    # s = sqrt(.3125 / 3).
    mean, p = paired_t(one, other)
    assert mean == pytest.approx(0.125)
    t = 0.125 / (0.3125 / 3 / 4) ** 0.5
    assert t == pytest.approx(0.7745966692)
    # The distribution with 3 degrees of freedom in closed form.
    x = t / 3**0.5
    assert p == pytest.approx(1 - 2 / np.pi * (np.arctan(x) + x / (1 + x**2)), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_paired_t_test_is_scipys(seed):
    draws = np.random.default_rng(seed)
    one, other = draws.random(300), draws.random(300) + 0.02 * seed
    mean, p = paired_t(one, other)
    assert p == pytest.approx(stats.ttest_rel(one, other).pvalue, rel=1e-9)
    assert paired_t(other, one) == (pytest.approx(-mean), pytest.approx(p))


def test_users_that_all_differ_by_the_same():
    assert paired_t(np.ones(4), np.ones(4)) == (0.0, 1.0)
    assert paired_t(np.ones(4), np.zeros(4)) == (1.0, 0.0)


def test_holm_by_hand():
    # Sorted .005, .01, .03, .04; times 4, 3, 2, 1: .02, .03, .06, .04; none below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("seed", range(5))
def test_holm_rejects_what_the_step_down_procedure_rejects(seed):
    p = np.random.default_rng(seed).random(12) ** 3
    corrected = holm(p.tolist())
    for level in (0.01, 0.05, 0.3):
        order, rejected = np.argsort(p), set()
        for place, index in enumerate(order):
            if p[index] > level / (12 - place):
                break
            rejected.add(index)
        assert rejected == {index for index, value in enumerate(corrected) if value <= level}
