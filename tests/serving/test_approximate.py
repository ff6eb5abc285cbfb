"""Approximate search compared to exact ranking, its commands and its benchmark."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.model_files import random_model, write_model
from helpers.service_process import Service, rows

from recbole_lightgnn.bench import approximate as bench
from recbole_lightgnn.bench.measure import WrongResult
from recbole_lightgnn.cli.main import main
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.serving import approximate
from recbole_lightgnn.serving.approximate import ApproximateIndex
from recbole_lightgnn.serving.lists import ItemLists
from recbole_lightgnn.serving.recommender import Recommender

WORLD = {"n_users": 40, "n_items": 500, "width": 6}


def no_exclusions(n_queries):
    return ItemLists.from_arrays([np.empty(0, np.int64)] * n_queries)


def tables(seed=0, n_items=700, width=5):
    """Random embeddings of 9 users and of the items."""
    draw = np.random.default_rng(seed)
    sizes = (9, width), (n_items, width)
    return (draw.normal(size=size).astype(np.float32) for size in sizes)


# --- the index -------------------------------------------------------------------------------


@pytest.mark.parametrize("max_gathered", [1, 1 << 22])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_the_best_of_the_nearest_lists_by_a_plain_loop(share, max_gathered, monkeypatch):
    monkeypatch.setattr(approximate, "_MAX_GATHERED", max_gathered)
    users, items = tables()
    index = ApproximateIndex(items, share)
    n_lists = round(4 * 700**0.5)
    directions = index._lists.quantizer.reconstruct_n(0, n_lists)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, rtol=1e-5)
    lists = np.argmax(items @ directions.T, axis=1)
    excluded = [np.arange(user, 700, 3 + user) for user in range(9)]
    found, scores = index.search(users, 4, ItemLists.from_arrays(excluded))
    for user in range(9):
        near = np.argsort(-(directions @ users[user]))[: round(share * n_lists)]
        searched = [i for i in np.flatnonzero(np.isin(lists, near)) if i not in excluded[user]]
        order = sorted(searched, key=lambda item: -float(items[item] @ users[user]))[:4]
        assert found[user].tolist() == order + [-1] * (4 - len(order))
        expected = [items[item] @ users[user] for item in order]
        np.testing.assert_allclose(scores[user, : len(order)], expected, rtol=1e-5, atol=1e-6)
        assert (scores[user, len(order) :] == -np.inf).all()


@pytest.mark.parametrize("n_items", [1, 2, 5, 40])
def test_a_share_of_1_is_exact_even_with_ties(n_items):
    draw = np.random.default_rng(n_items)
    users, items = (draw.integers(0, 2, (n, 3)).astype(np.float32) for n in (20, n_items))
    excluded = [np.flatnonzero(draw.random(n_items) < 0.3) for _ in range(20)]
    index = ApproximateIndex(items, 1)
    found, scores = index.search(users, n_items, ItemLists.from_arrays(excluded))
    for user in range(20):
        truth = items @ users[user]
        left = [item for item in range(n_items) if item not in excluded[user]]
        order = sorted(left, key=lambda item: (-truth[item], item))
        assert found[user].tolist() == order + [-1] * (n_items - len(order))
        assert scores[user, : len(order)].tolist() == truth[order].tolist()


def test_clustered_items_are_found_with_a_small_share():
    draw = np.random.default_rng(0)
    centers = draw.normal(size=(50, 16))
    item = (centers[np.arange(2000) % 50] + draw.normal(0, 0.2, (2000, 16))).astype(np.float32)
    user = (centers + draw.normal(0, 0.2, centers.shape)).astype(np.float32)
    found, _ = ApproximateIndex(item, 1 / 16).search(user, 10, no_exclusions(50))
    truth = np.argsort(-(user @ item.T), axis=1)[:, :10]
    hits = [len({*got} & {*best}) for got, best in zip(found, truth, strict=True)]
    assert np.mean(hits) > 9.5


def test_the_same_items_give_the_same_index():
    users, items = tables()
    first, second = (
        ApproximateIndex(items, 0.05).search(users, 10, no_exclusions(9)) for _ in range(2)
    )
    assert (first[0] == second[0]).all()


def test_faiss_prints_no_warnings(capfd):
    for n_items in (1, 30, 3000):
        _, items = tables(n_items=n_items)
        ApproximateIndex(items, 0.1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("share", [0, -1, 1.01, float("nan"), float("inf")])
def test_an_invalid_share_is_refused(share):
    with pytest.raises(InputError, match="must be above 0 and up to 1, got"):
        Recommender(random_model(), share)


# --- recommenders ----------------------------------------------------------------------------


@pytest.mark.parametrize("final", [False, True])
def test_recommendations_with_a_share_of_1_are_exact(final):
    model = random_model(2, final=final, **WORLD)
    exact, approximated = Recommender(model), Recommender(model, 1)
    users = exact.users.names(slice(None, -1)).tolist()
    for arguments in (
        {"k": 1},
        {"k": 20},
        {"k": 500},
        {"k": 20, "exclude_seen": False},
        {"k": 20, "exclude_items": ["7", "14", "21"]},
        {"k": 20, "filter_items": ["7", "14", "21"]},
    ):
        got = approximated.recommend(users, **arguments)
        truth = exact.recommend(users, **arguments)
        np.testing.assert_allclose(got.scores, truth.scores, rtol=1e-5, atol=1e-5)
        assert (
            got.items == truth.items
        ).mean() > 0.99  # rounding may swap items with nearly equal scores
    if not final:
        for history in (["7"], ["7", "14", "700"]):
            got, truth = approximated.fold_in(history, 9), exact.fold_in(history, 9)
            assert got.items.tolist() == truth.items.tolist()


def test_all_items_are_ranked_where_the_search_finds_fewer_than_k():
    model = random_model(2, **WORLD)
    exact, approximated = Recommender(model), Recommender(model, 0.01)
    assert approximated.index is not None
    everything = exact.items.names(slice(None, -1)).tolist()
    seen = [everything[3:], everything[:490], []]
    users = ["0", "7", "14"]
    got, truth = (each.recommend(users, 10, seen) for each in (approximated, exact))
    assert got.items[:2].tolist() == truth.items[:2].tolist()
    assert set(got.items[0]) == {*everything[:3], None}
    assert None not in got.items[2]
    truth = exact.recommend(users, 500)
    assert approximated.recommend(users, 500).items.tolist() == truth.items.tolist()


def test_what_was_seen_is_not_recommended():
    model = random_model(2, **WORLD)
    exact, approximated = Recommender(model), Recommender(model, 0.05)
    users = exact.users.names(slice(None, -1)).tolist()
    got = approximated.recommend(users, 20)
    allowed = exact.recommend(users, 500)
    for items, unseen in zip(got.items, allowed.items, strict=True):
        assert None not in items
        assert len(set(items)) == 20
        assert set(items) <= set(unseen)


def test_models_without_items_have_no_index():
    assert Recommender(random_model(n_items=0), 0.1).index is None


# --- the commands ----------------------------------------------------------------------------


def test_recommend_approximately(capsys):
    write_model(Path("m.lgnn"), **WORLD)
    assert main(["recommend", "m.lgnn", "--user=0", "--k=5"]) == 0
    exact = capsys.readouterr().out
    assert main(["recommend", "m.lgnn", "--user=0", "--k=5", "--approximate=1"]) == 0
    assert capsys.readouterr().out == exact
    assert main(["recommend", "m.lgnn", "--user=0", "--k=5", "--approximate"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert main(["recommend", "m.lgnn", "--user=0", "--approximate=2"]) == 2
    assert "must be above 0 and up to 1, got 2.0" in capsys.readouterr().err


def test_without_faiss(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    write_model(Path("m.lgnn"))
    assert main(["recommend", "m.lgnn", "--user=0", "--approximate"]) == 2
    assert "pip install 'recbole-lightgnn[ann]'" in capsys.readouterr().err


def test_serve_approximately(tmp_path):
    file = write_model(tmp_path / "m.lgnn", **WORLD)
    approximated = Recommender.load(file, share=0.125)
    with Service(file, "--approximate=0.125") as service:
        assert service.get("/model")["approximate"] == 0.125
        got = service.get("/recommend?user=7&k=20")
        assert got == rows(approximated.recommend(["7"], 20))[0]
        assert got != rows(Recommender.load(file).recommend(["7"], 20))[0]
        assert service.post("/fold_in", items=["7"]) == rows(approximated.fold_in(["7"], 10))[0]


# --- its benchmark ---------------------------------------------------------------------------


@pytest.fixture
def _short(monkeypatch):
    monkeypatch.setattr(bench, "_SECONDS", 0.1)
    monkeypatch.setattr(bench, "_USERS", 50)


@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize("which", ["m.lgnn", "--items=3000"])
def test_bench_approximate_reports_recall(capsys, which):
    write_model(Path("m.lgnn"), **WORLD)
    command = ["bench", "approximate", which, "--json=a.json", "--plot=a.svg"]
    assert main(command) == 0
    result = json.loads(Path("a.json").read_text())
    names = ["share 0.015625", "share 0.03125", "share 0.0625", "share 0.125"]
    assert list(result["recall"]) == names
    (one,) = result["rows"]
    assert list(one["seconds"]) == ["exact", *names]
    assert result["build"] > 0
    printed = capsys.readouterr().out
    assert f"{result['recall'][names[0]]:.4f}" in printed
    if which == "m.lgnn":
        assert (result["users"], result["items"], result["width"]) == (40, 500, 6)
        recommenders = [Recommender.load("m.lgnn", share=share) for share in (None, 0.125)]
        users = recommenders[0].users.names(slice(None, -1)).tolist()
        pairs = zip(*(each.recommend(users, 20).items for each in recommenders), strict=True)
        hits = [len({*best} & {*got}) for best, got in pairs]
        assert result["recall"][names[3]] == pytest.approx(np.mean(hits) / 20)
        assert 0.5 < result["recall"][names[3]] < 1
        assert result["recall"][names[0]] == 1  # fewer than k are found, so all items are ranked
    else:
        assert (result["items"], result["width"]) == (3000, 64)
        assert "3000 random items" in printed


def test_bench_approximate_refuses_empty_models(capsys):
    write_model(Path("m.lgnn"), n_items=0)
    for which, what in (("m.lgnn", "no users or no items"), ("--items=0", "no users or no items")):
        assert main(["bench", "approximate", which]) == 2
        assert what in capsys.readouterr().err


def test_a_wrong_score_is_reported():
    exact = Recommender(random_model(2, **WORLD))
    users = np.array(["0", "7"])
    truth = exact.recommend(users, 20)
    assert bench._recall("it", truth, truth, exact, users) == 1
    with pytest.raises(WrongResult, match="it: scores are wrong by"):
        bench._recall("it", exact.recommend(["7", "0"], 20), truth, exact, users)
    with pytest.raises(WrongResult, match="it: scores are wrong by"):
        bench._recall("it", exact.recommend(users, 20, False), truth, exact, users)
