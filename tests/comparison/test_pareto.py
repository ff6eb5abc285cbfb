"""The Pareto front: by hand, and against its definition."""

import random

import pytest

from recbole_lightgnn.comparison.pareto import pareto_front


def test_by_hand():
    #           A    B    C    D    E    F
    costs = [4.0, 1.0, 2.0, 2.0, 9.0, 1.0]
    scores = [0.3, 0.1, 0.3, 0.2, 0.4, 0.1]
    # C is as accurate as A and cheaper, and more accurate than D. B and F are equal.
    assert pareto_front(costs, scores) == [1, 5, 2, 4]
    assert pareto_front([], []) == []
    assert pareto_front([7.0], [0.5]) == [0]


def beats(one, other):
    return one[0] <= other[0] and one[1] >= other[1] and one != other


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_no_point_beats(seed):
    draw = random.Random(seed)
    points = [(draw.randrange(8), draw.randrange(8)) for _ in range(30)]  # with many ties
    expected = {
        place
        for place, point in enumerate(points)
        if not any(beats(other, point) for other in points)
    }
    front = pareto_front(*zip(*points, strict=True))
    assert set(front) == expected
    assert [points[place][0] for place in front] == sorted(points[place][0] for place in front)
