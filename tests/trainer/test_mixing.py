"""Weights of several teachers: chosen greedily on validation, by the metric of the run."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from recbole.data.dataloader import FullSortEvalDataLoader

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.trainer import mixing
from recbole_lightgnn.trainer.mixing import choose_weights

N_USERS, N_ITEMS = 121, 301  # with RecBole's padding


class Scores:
    """A teacher that is a table of scores. Shape: (users, items)"""

    model = SimpleNamespace(device=torch.device("cpu"))

    def __init__(self, table):
        self.table = table

    def scores(self, user, item):
        return self.table[user][:, item]


class Validation(FullSortEvalDataLoader):
    """RecBole's loader, with the parts that a ranking reads."""

    is_sequential = False

    def __init__(self, relevant, history):
        self.uid_list = torch.tensor(sorted(relevant))
        self.uid2positive_item = np.empty(N_USERS, object)
        self.uid2history_item = np.empty(N_USERS, object)
        for user in relevant:
            self.uid2positive_item[user] = torch.tensor(relevant[user])
            self.uid2history_item[user] = torch.tensor(history[user])
        self._dataset = SimpleNamespace(item_num=N_ITEMS)


@pytest.fixture
def world():
    """Three teachers and a validation split: two teachers know other halves, the third is noise."""
    draw = torch.Generator().manual_seed(3)
    truth = torch.randn(N_USERS, N_ITEMS, generator=draw)
    noise = [torch.randn(N_USERS, N_ITEMS, generator=draw) for _ in range(3)]
    half = torch.zeros(N_ITEMS)
    half[: N_ITEMS // 2] = 1
    teachers = [Scores(truth * half + 0.3 * noise[0]), Scores(truth * (1 - half) + 0.3 * noise[1])]
    best = truth[:, 1:].topk(12, dim=1).indices + 1
    relevant = {user: best[user, :6].tolist() for user in range(1, N_USERS)}
    history = {user: best[user, 6:].tolist() for user in range(1, N_USERS)}
    return [*teachers, Scores(noise[2])], Validation(relevant, history)


def slow_metric(weights, teachers, valid, name, k):
    """The metric by full sorting and plain loops."""
    values = []
    for user in valid.uid_list.tolist():
        pairs = zip(weights, teachers, strict=True)
        total = sum(weight * one.table[user] for weight, one in pairs)
        total[0] = -torch.inf
        total[valid.uid2history_item[user]] = -torch.inf
        ranked = total.argsort(descending=True)[:k].tolist()
        relevant = set(valid.uid2positive_item[user].tolist())
        hits = [item in relevant for item in ranked]
        if name == "recall":
            values.append(sum(hits) / len(relevant))
        else:
            gain = sum(hit / np.log2(rank + 2) for rank, hit in enumerate(hits))
            ideal = sum(1 / np.log2(rank + 2) for rank in range(min(k, len(relevant))))
            values.append(gain / ideal)
    return float(np.mean(values))


@pytest.mark.parametrize("metric", ["Recall@20", "NDCG@10"])
def test_no_single_step_improves_the_chosen_weights(world, metric):
    name, k = metric.lower().split("@")
    weights = choose_weights(*world, metric)
    best = slow_metric(weights, *world, name, int(k))
    assert weights[0] > 0
    assert weights[1] > 0
    assert best > max(slow_metric(one, *world, name, int(k)) for one in np.eye(3).tolist()) + 0.1
    for number, step in itertools.product(range(3), mixing._STEPS):
        changed = list(weights)
        changed[number] += step
        if changed[number] >= 0:
            assert slow_metric(changed, *world, name, int(k)) <= best + 1e-9


def test_a_teacher_that_does_not_help_gets_weight_0(world):
    (first, second, _), valid = world
    useless = Scores(torch.arange(N_ITEMS).float().expand(N_USERS, -1))
    assert choose_weights([first, second, useless], valid, "recall@20")[2] == 0


@pytest.mark.parametrize("best", [5, 40, 200])
def test_only_the_best_items_of_each_teacher_are_summed(world, best, monkeypatch):
    monkeypatch.setattr(mixing, "_BEST", best)
    candidates = mixing._Candidates(*world, 5)
    assert candidates.scores.shape[2] == 3 * best
    weights = [1.0, 0.8, 0.1]
    error = 0.0 if best == 200 else 0.2  # few candidates miss items of the sum's list
    expected = slow_metric(weights, *world, "recall", 20)
    assert candidates.metric(weights, "recall", 20) == pytest.approx(expected, abs=error + 1e-9)


def test_a_part_of_the_users_is_enough(world, monkeypatch):
    monkeypatch.setattr(mixing, "_MOST_USERS", 60)
    assert len(mixing._Candidates(*world, 5).n_relevant) == 60
    assert choose_weights(*world, "recall@20")[0] > 0


@pytest.mark.parametrize("cutoff", [250, 290, 400])
def test_long_lists_count_no_item_twice(world, cutoff):
    """Lists longer than the candidates of one teacher, than the ranked items, than the items."""
    candidates = mixing._Candidates(*world, cutoff)
    found = candidates.metric([1.0, 0.8, 0.1], "recall", cutoff)
    assert found <= 1
    assert found == pytest.approx(slow_metric([1.0, 0.8, 0.1], *world, "recall", cutoff))


def test_few_validation_users_give_equal_weights_and_a_warning(world, caplog):
    teachers, valid = world
    valid.uid_list = valid.uid_list[:10]
    assert choose_weights(teachers, valid, "recall@20") == [1.0] * 3
    assert "validation has 10 users, too few to choose the weights" in caplog.text


def test_metrics_that_are_no_rankings_are_refused(world):
    with pytest.raises(InputError, match="not by gauc here: give each of the teachers a wei"):
        choose_weights(*world, "gauc")
