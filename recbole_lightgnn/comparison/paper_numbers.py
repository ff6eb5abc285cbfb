"""Results reported in the paper (Tables 2 and 3), with settings chosen on the test split."""

from typing import NamedTuple

METRICS = ("recall@20", "ndcg@20", "recall@40", "ndcg@40")


class Point(NamedTuple):
    """A result reported in the paper.

    Attributes:
        model: name of the model in the paper.
        entries_kept: share of embedding entries kept; 1 without pruning.
        interactions_kept: share of interactions kept; 1 without pruning.
        test: test scores by name of the metric, of `METRICS`; some may be missing.
    """

    model: str
    entries_kept: float
    interactions_kept: float
    test: dict[str, float]


def _whole(model: str, *values: float) -> Point:
    return Point(model, 1.0, 1.0, dict(zip(METRICS, values, strict=True)))


def _pruned(entries: float, interactions: float, *values: float) -> Point:
    return Point("LightGNN", entries, interactions, dict(zip(METRICS, values, strict=False)))


# The key is the hash of the train pairs, so that another split with the same name has no points.
POINTS = {
    "19619c3971ae1038859bbc1dae2aa253118fade5418f8b84820b8dba7bf05ef7": (  # yelp
        _pruned(0.33, 0.77, 0.0879, 0.0443, 0.1328, 0.0553),
        _pruned(0.26, 0.74, 0.0877),
        _pruned(0.11, 0.60, 0.0856),
        _pruned(0.08, 0.57, 0.0842),
        _whole("LightGCN", 0.0761, 0.0373, 0.1175, 0.0474),
        _whole("SimGCL", 0.0788, 0.0395, 0.1213, 0.0498),
        _whole("SGL", 0.0803, 0.0398, 0.1226, 0.0502),
        _whole("NCL", 0.0806, 0.0402, 0.1230, 0.0505),
        _whole("SimRec", 0.0823, 0.0414, 0.1251, 0.0519),
    ),
    "a90a1d455473a104a6455eb88c5358a40cd41221600db704294d0e81fa6bb1eb": (  # gowalla
        _pruned(0.33, 0.44, 0.2610, 0.1684, 0.3597, 0.1962),
        _pruned(0.26, 0.37, 0.2578),
        _pruned(0.11, 0.19, 0.2162),
        _pruned(0.08, 0.16, 0.1966),
        _whole("LightGCN", 0.2230, 0.1433, 0.3181, 0.1670),
        _whole("SimGCL", 0.2328, 0.1506, 0.3276, 0.1772),
        _whole("SGL", 0.2332, 0.1509, 0.3251, 0.1780),
        _whole("NCL", 0.2283, 0.1478, 0.3232, 0.1745),
        _whole("SimRec", 0.2434, 0.1592, 0.3399, 0.1865),
    ),
}
