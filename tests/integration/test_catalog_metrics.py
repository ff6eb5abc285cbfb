"""Metrics of all users' lists, against values by hand and against RecBole's own."""

import collections
import math

import numpy as np
import pytest
from helpers.planted import write_planted

from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.loaders import load_data
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.integration.catalog_metrics import (
    gini_index,
    item_coverage,
    mean_over_lists,
    shannon_entropy,
    tail_items,
)
from recbole_lightgnn.quick_start import run

pytestmark = pytest.mark.filterwarnings("ignore")
LISTS = np.array([[1, 2], [1, 0], [0, 0]])  # the second user has one item left, the third none
METRICS = ["ItemCoverage", "GiniIndex", "ShannonEntropy", "AveragePopularity", "TailPercentage"]
SETTINGS = {"show_progress": False, "metrics": METRICS, "valid_metric": "ItemCoverage@20"}


# --- by hand ------------------------------------------------------------------------------------


def test_coverage_is_of_the_items_without_padding():
    assert item_coverage(LISTS, 3) == pytest.approx(2 / 3)


def test_gini_index_counts_items_that_are_never_recommended():
    # P in ascending order: 0, 1, 2; (-2 * 0 + 0 * 1 + 2 * 2) / (3 * 3)
    assert gini_index(LISTS, 3) == pytest.approx(4 / 9)
    assert gini_index(np.array([[1, 2], [3, 4]]), 4) == 0
    assert gini_index(np.array([[1], [1]]), 4) == pytest.approx(3 / 4)


def test_entropy_is_of_shares():
    expected = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    assert shannon_entropy(LISTS) == pytest.approx(expected)
    assert shannon_entropy(np.array([[1, 2], [3, 4]])) == pytest.approx(math.log(4))


def test_means_are_over_lists_as_long_as_they_are():
    popularity = np.array([99.0, 10, 4, 1])
    assert mean_over_lists(LISTS, popularity) == pytest.approx(((10 + 4) / 2 + 10) / 2)


def test_no_list_at_all():
    none = np.zeros((2, 3), dtype=int)
    assert item_coverage(none, 3) == gini_index(none, 3) == shannon_entropy(none) == 0
    assert mean_over_lists(none, np.ones(4)) == 0


@pytest.mark.parametrize(
    ("tail", "expected"), [(2, {1, 4}), (0.5, {1, 4}), (0.1, {1}), (1, {1, 2, 3, 4})]
)
def test_the_tail_is_recboles(tail, expected):
    assert set(tail_items({1: 1, 2: 3, 3: 9, 4: 2}, tail)) == expected


# --- in a run -----------------------------------------------------------------------------------


@pytest.fixture
def _world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_planted(tmp_path / "dataset")


def metrics_of(**settings):
    return run("Pop", "planted", settings={**SETTINGS, **settings})["test"]


@pytest.mark.usefixtures("_world")
def test_the_setting_chooses_the_values():
    exact, recboles = metrics_of(), metrics_of(catalog_metrics="recbole")
    for k in (10, 20, 40):
        covered = round(exact[f"itemcoverage@{k}"] * 60)
        assert exact[f"itemcoverage@{k}"] == pytest.approx(covered / 60)
        assert recboles[f"itemcoverage@{k}"] == pytest.approx(
            covered / 61
        )  # RecBole's padding item
        entropy = recboles[f"shannonentropy@{k}"] * covered
        assert exact[f"shannonentropy@{k}"] == pytest.approx(entropy)
        assert exact[f"averagepopularity@{k}"] == pytest.approx(recboles[f"averagepopularity@{k}"])
        assert exact[f"tailpercentage@{k}"] == pytest.approx(recboles[f"tailpercentage@{k}"])


@pytest.mark.usefixtures("_world")
def test_a_list_ends_with_the_items_that_may_be_recommended():
    """With k the number of items, a user's list is everything but the masked items."""
    exact = metrics_of(topk=[60], valid_metric="ItemCoverage@60")
    loaders = load_data(build_config("Pop", "planted", (), {}))
    train, valid, test = ([*zip(*columns(one), strict=True)] for one in loaders)
    popularity = collections.Counter(item for _, item in train)
    masked = collections.defaultdict(set)
    for user, item in train + valid:
        masked[user].add(item)
    means = []
    for user in {user for user, _ in test}:
        shown = [popularity[item] for item in range(1, 61) if item not in masked[user]]
        means.append(sum(shown) / len(shown))
    assert exact["averagepopularity@60"] == pytest.approx(sum(means) / len(means))


def columns(loader):
    """Users and items of a loader's interactions."""
    table = loader.dataset.inter_feat if hasattr(loader, "dataset") else loader._dataset.inter_feat
    return table["user_id"].tolist(), table["item_id"].tolist()


@pytest.mark.usefixtures("_world")
def test_another_value_is_refused():
    with pytest.raises(InputError, match="catalog_metrics"):
        metrics_of(catalog_metrics="right")
