"""Metrics of all users' lists, against values by hand and against RecBole's own."""

import collections
import math

import numpy as np
import pytest
import torch
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
from recbole_lightgnn.registry import our_models
from recbole_lightgnn.trainer.adapters import adapter_of

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


def in_a_loop(lists, n_items, popularity, tail):
    """Every metric of lists without padding, item by item."""
    counts = collections.Counter(item for one in lists for item in one)
    total = sum(counts.values())
    ordered = sorted(counts[item] for item in range(1, n_items + 1))
    gini = sum((2 * i - n_items - 1) * count for i, count in enumerate(ordered, 1))
    means = [
        [sum(v[item] for item in one) / len(one) for one in lists if one]
        for v in (popularity, tail)
    ]
    return {
        "itemcoverage": len(counts) / n_items,
        "giniindex": gini / (n_items * total),
        "shannonentropy": -sum(n / total * math.log(n / total) for n in counts.values()),
        "averagepopularity": sum(means[0]) / len(means[0]),
        "tailpercentage": sum(means[1]) / len(means[1]),
    }


@pytest.mark.parametrize("seed", range(20))
def test_values_are_those_of_a_plain_loop_over_lists_of_any_length(seed):
    draw = np.random.default_rng(seed)
    n_users, n_items, k = draw.integers(1, 30), draw.integers(1, 40), draw.integers(1, 25)
    lists = []
    for _ in range(n_users):
        length = draw.integers(0, min(k, n_items) + 1)
        lists.append(draw.choice(np.arange(1, n_items + 1), length, replace=False).tolist())
    lists[0] = lists[0] or [1]
    padded = np.array([one + [0] * (k - len(one)) for one in lists])
    popularity, tail = draw.integers(0, 9, n_items + 1), draw.integers(0, 2, n_items + 1)
    expected = in_a_loop(lists, n_items, popularity, tail)
    assert item_coverage(padded, n_items) == pytest.approx(expected["itemcoverage"])
    assert gini_index(padded, n_items) == pytest.approx(expected["giniindex"])
    assert shannon_entropy(padded) == pytest.approx(expected["shannonentropy"])
    popular = mean_over_lists(padded, popularity.astype(float))
    assert popular == pytest.approx(expected["averagepopularity"])
    assert mean_over_lists(padded, tail.astype(float)) == pytest.approx(expected["tailpercentage"])


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


@pytest.mark.usefixtures("_world")
@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("BPR", {"topk": [1]}),
        ("BPR", {"topk": [5, 20]}),
        ("BPR", {"topk": [3, 60]}),
        ("BPR", {"topk": [10], "eval_batch_size": 61}),
        ("BPR", {"topk": [10], "eval_mask": "train"}),
        ("BPR", {"topk": [10], "tail_ratio": 0.5}),
        ("BPR", {"topk": [10], "tail_ratio": 5}),
        ("BPR", {"topk": [45], "seed": 7}),
        ("LightGCN", {"topk": [10, 60]}),
        ("NeuMF", {"topk": [10]}),
        ("DirectAU", {"topk": [10, 50]}),
        ("LightGNNTeacher", {"topk": [10, 50]}),
    ],
)
def test_metrics_of_a_run_are_those_of_a_plain_loop(model, settings):
    given = {**SETTINGS, "valid_metric": f"ItemCoverage@{settings['topk'][0]}", "epochs": 1}
    given |= {} if model in our_models() else {"metric_decimal_place": 12}
    config = build_config(model, "planted", (), {**given, **settings})
    train, valid, test = load_data(config)
    training = adapter_of(model)(config, train)
    training.fit(valid, saved=True)
    result = training.test(test)[0][-1]["test"]
    pairs = [[*zip(*columns(one), strict=True)] for one in (train, valid, test)]
    popularity = collections.Counter(item for _, item in pairs[0])
    tail = dict.fromkeys(tail_items(popularity, config["tail_ratio"] or 0.1), 1)
    masked = pairs[0] if settings.get("eval_mask") == "train" else pairs[0] + pairs[1]
    seen = collections.defaultdict(set)
    for user, item in masked:
        seen[user].add(item)
    ranked = []
    for user in sorted({user for user, _ in pairs[2]}):
        batch = {"user_id": torch.full((61,), user), "item_id": torch.arange(61)}
        scores = training.trainer.model.predict(batch)
        unseen = [item for item in range(1, 61) if item not in seen[user]]
        ranked.append(sorted(unseen, key=lambda item: -scores[item]))
    for k in settings["topk"]:
        lists = [one[:k] for one in ranked]
        expected = in_a_loop(lists, 60, popularity, collections.Counter(tail))
        for name, value in expected.items():
            assert result[f"{name}@{k}"] == pytest.approx(value, abs=1e-9), (name, k)
