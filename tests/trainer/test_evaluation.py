"""Full ranking: metrics by hand, and equal to those of RecBole's evaluator."""

import math

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer
from recbole.utils import get_model

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.trainer import evaluation
from recbole_lightgnn.trainer.evaluation import (
    METRICS,
    FullRanking,
    Rankings,
    _maxima,
    _top,
    supports_metrics,
)

NAMES = ["Recall", "NDCG", "Hit", "Precision", "MRR", "MAP"]
N_ITEMS = 40
CPU = torch.device("cpu")


@pytest.fixture
def world(tmp_path, request):
    """Return RecBole's BPR with random embeddings, and loaders: users have 4 to 30 interactions."""
    n_items = getattr(request, "param", N_ITEMS)
    draw = np.random.default_rng(0)
    lines = ["user_id:token\titem_id:token"]
    for user in range(60 * n_items // N_ITEMS):
        chosen = draw.choice(n_items, size=draw.integers(4, 31), replace=False)
        lines += [f"u{user}\ti{item}" for item in chosen]
    folder = tmp_path / "drawn"
    folder.mkdir()
    (folder / "drawn.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = Config(
        model="BPR",
        dataset="drawn",
        config_dict={
            "data_path": str(tmp_path),
            "use_gpu": False,
            "show_progress": False,
            "state": "ERROR",
            "embedding_size": 8,
            "eval_args": {"split": {"RS": [0.5, 0.2, 0.3]}, "order": "RO", "mode": "full"},
            "eval_batch_size": 7 * (n_items + 1),
            "metrics": NAMES,
            "topk": [1, 3, 10, 20, N_ITEMS + 1],
            "valid_metric": "MRR@10",
            "metric_decimal_place": 17,
        },
    )
    train, valid, test = data_preparation(config, create_dataset(config))
    assert train._dataset.item_num == n_items + 1, "every item and the padding"
    torch.manual_seed(1)
    model = get_model("BPR")(config, train._dataset)
    for table in (model.user_embedding, model.item_embedding):
        torch.nn.init.normal_(table.weight)
    return config, model, {"valid": valid, "test": test}


def tables(model):
    return model.user_embedding.weight, model.item_embedding.weight


@pytest.mark.parametrize("world", [N_ITEMS, 700], indirect=True)
@pytest.mark.parametrize("split", ["valid", "test"])
def test_metrics_equal_those_of_recbole(world, split):
    config, model, loaders = world
    theirs = Trainer(config, model).evaluate(loaders[split], load_best_model=False)
    ours = FullRanking(loaders[split], config["metrics"], config["topk"], CPU)
    result = ours.evaluate(*tables(model))
    assert list(result) == list(theirs)
    assert len(result) == 30
    assert {name: round(np.float64(value), 17) for name, value in result.items()} == theirs
    assert 0.01 < result["recall@10"] < 0.9  # neither 0 nor 1


@pytest.mark.parametrize("world", [700], indirect=True)
def test_chunks_do_not_change_the_metrics(world, monkeypatch):
    _, model, loaders = world
    at_once = FullRanking(loaders["test"], NAMES, [10], CPU)
    assert len(at_once.chunks) == 1
    monkeypatch.setattr(evaluation, "_SCORES", 0)
    for users_at_once in (1, 7):
        monkeypatch.setattr(evaluation, "_LEAST_USERS", users_at_once)
        chunked = FullRanking(loaders["test"], NAMES, [10], CPU)
        assert len(chunked.chunks) == math.ceil(len(loaders["test"].uid_list) / users_at_once)
        expected = at_once.evaluate(*tables(model))
        assert chunked.evaluate(*tables(model)) == pytest.approx(dict(expected), abs=1e-12)


@pytest.mark.gpu
@pytest.mark.parametrize("world", [700], indirect=True)
def test_metrics_are_the_same_on_a_gpu(world):
    _, model, loaders = world
    here, there = (
        FullRanking(loaders["test"], NAMES, [3, 41], torch.device(device)).evaluate(
            *(table.to(device) for table in tables(model))
        )
        for device in ("cpu", "cuda")
    )
    assert there == pytest.approx(dict(here), abs=1e-9, rel=0)


def test_masked_items_and_the_padding_item_take_no_rank(world):
    """Metrics do not change when these items get the largest scores."""
    _, model, loaders = world
    loader = loaders["test"]
    ranking = FullRanking(loader, NAMES, [1, 10], CPU)
    before = ranking.evaluate(*tables(model))
    user, item = tables(model)
    scores = (user @ item.T).detach()  # (users, items)
    scores[:, 0] = 1e6
    for number in loader.uid_list.tolist():
        scores[number, loader.uid2history_item[number]] = 1e5
    after = ranking.evaluate(torch.eye(model.n_users), scores.T)
    assert after == pytest.approx(dict(before), abs=1e-9)


def test_the_perfect_ranking_scores_one(world):
    _, model, loaders = world
    loader = loaders["test"]
    wanted = torch.zeros(model.n_users, model.n_items)
    for number in loader.uid_list.tolist():
        wanted[number, loader.uid2positive_item[number]] = 1.0
    result = FullRanking(loader, NAMES, [1, N_ITEMS], CPU).evaluate(
        torch.eye(model.n_users), wanted.T
    )
    for metric in ("ndcg", "hit", "precision", "mrr", "map"):
        assert result[f"{metric}@1"] == 1.0
    for metric in ("recall", "ndcg", "hit", "mrr", "map"):
        assert result[f"{metric}@{N_ITEMS}"] == pytest.approx(1.0, abs=1e-12)


def test_a_cut_off_beyond_the_catalogue(world):
    """RecBole's top-k fails in this case; here the ranks beyond the items are no hits."""
    _, model, loaders = world
    ranking = FullRanking(loaders["test"], ["recall", "precision"], [N_ITEMS + 1, 82], CPU)
    result = ranking.evaluate(*tables(model))
    assert result["recall@82"] == result["recall@41"] == pytest.approx(1.0)
    assert result["precision@82"] == pytest.approx(result["precision@41"] / 2, rel=1e-12)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1e25])
@pytest.mark.parametrize("side", [0, 1])
def test_scores_that_are_not_finite_are_refused(world, wrong, side):
    """torch's top-k ranks NaN first; here a diverged model is refused."""
    _, model, loaders = world
    both = [table.detach().clone() for table in tables(model)]
    ranking = FullRanking(loaders["test"], ["recall"], [10], CPU)
    both[side][-1, 3] = wrong
    both[1 - side][-1, 3] = 1e15
    with pytest.raises(InputError, match="cannot be ranked, scores must be finite: the training"):
        ranking.evaluate(*both)


@pytest.mark.parametrize("world", [700], indirect=True)
def test_without_a_hit_every_metric_is_zero(world):
    _, model, loaders = world
    loader = loaders["test"]
    unwanted = torch.zeros(model.n_users, model.n_items)
    for number in loader.uid_list.tolist():
        unwanted[number, loader.uid2positive_item[number]] = -1.0
    result = FullRanking(loader, NAMES, [1, 10], CPU).evaluate(torch.eye(model.n_users), unwanted.T)
    assert set(result.values()) == {0.0}
    assert len(result) == 12


@pytest.mark.parametrize("world", [700], indirect=True)
def test_equal_scores_are_always_ranked_the_same_and_not_by_relevance(world):
    _, model, loaders = world
    ranking = FullRanking(loaders["test"], NAMES, [10, 20], CPU)
    same = torch.ones(model.n_users, 2), torch.ones(model.n_items, 2)
    first = ranking.evaluate(*same)
    assert ranking.evaluate(*same) == first
    assert first["recall@10"] < 0.1, "recall would be 1 if relevant items came first"


# --- parts of the ranking --------------------------------------------------------------------


@pytest.mark.parametrize(("width", "k", "n_levels"), [(64, 3, 2), (704, 3, 3), (704, 41, 2)])
@pytest.mark.parametrize("distinct", [4, 10_000_000])
def test_the_best_of_the_best_groups_are_the_best(width, k, n_levels, distinct):
    draw = torch.Generator().manual_seed(width + k)
    scores = torch.randint(distinct, (50, width), generator=draw).float()
    scores[:10, 5:] = -torch.inf  # leaves k scores, or fewer
    levels = _maxima(scores, k)
    assert [level.shape[1] for level in levels] == [width // 8**i for i in range(n_levels)]
    row = torch.tensor([0, 3, 9, 10, 30, 30, 49])
    columns = _top(levels, row, k)
    assert torch.equal(scores[row[:, None], columns], scores[row].topk(k).values)
    assert all(len(set(columns_of_one)) == k for columns_of_one in columns.tolist())


def test_rankings_are_cached_and_only_for_supported_metrics(world):
    config, _, loaders = world
    rankings = Rankings(config, CPU)
    assert rankings.of(loaders["test"]) is rankings.of(loaders["test"])
    assert rankings.of(loaders["test"]) is not rankings.of(loaders["valid"])
    assert rankings.of([1, 2]) is None
    config["metrics"] = ["Recall", "GAUC"]
    assert rankings.of(loaders["test"]) is None


# Hits at ranks 2 and 4 for a user with three relevant items; none for a user with one.
HITS = np.array([[False, True, False, True], [False, False, False, False]])
N_RELEVANT = np.array([3, 1])
LOG3, LOG5 = math.log2(3), math.log2(5)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("recall", [0, 1 / 3, 1 / 3, 2 / 3]),
        ("precision", [0, 1 / 2, 1 / 3, 1 / 2]),
        ("hit", [0, 1, 1, 1]),
        ("mrr", [0, 1 / 2, 1 / 2, 1 / 2]),
        (
            "ndcg",
            [
                0,
                1 / LOG3 / (1 + 1 / LOG3),
                1 / LOG3 / (1 + 1 / LOG3 + 1 / 2),
                (1 / LOG3 + 1 / LOG5) / (1 + 1 / LOG3 + 1 / 2),
            ],
        ),
        ("map", [0, (1 / 2) / 2, (1 / 2) / 3, (1 / 2 + 2 / 4) / 3]),
    ],
)
def test_metrics_by_hand(metric, expected):
    by_cutoff = METRICS[metric](HITS, N_RELEVANT)
    assert by_cutoff[0].tolist() == pytest.approx(expected, rel=1e-12)
    assert by_cutoff[1].tolist() == [0, 0, 0, 0]


def test_which_metrics_are_supported():
    assert supports_metrics(NAMES)
    assert supports_metrics(["recall"])
    assert not supports_metrics(["Recall", "ItemCoverage"])
    assert not supports_metrics(["GAUC"])
