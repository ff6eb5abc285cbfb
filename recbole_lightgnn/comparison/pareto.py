"""The Pareto front of cost and accuracy: the models that no other model beats."""

from collections.abc import Sequence


def pareto_front(costs: Sequence[float], scores: Sequence[float]) -> list[int]:
    """Find the points that no other point beats.

    A point beats another point if it has no higher cost and no lower score, and is better in one of
    the two. Equal points do not beat each other.

    Args:
        costs: cost of each point; less is better.
        scores: score of each point; more is better.

    Returns:
        Positions of the points on the front, sorted by cost.
    """
    front: list[int] = []
    for place in sorted(range(len(costs)), key=lambda one: (costs[one], -scores[one])):
        last = front[-1] if front else None
        if last is None or scores[place] > scores[last] or _equal(costs, scores, place, last):
            front.append(place)
    return front


def _equal(costs: Sequence[float], scores: Sequence[float], one: int, other: int) -> bool:
    return (costs[one], scores[one]) == (costs[other], scores[other])
