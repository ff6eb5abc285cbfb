"""Full ranking: metrics by hand, and equal to those of RecBole's own evaluator."""

import math

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer
from recbole.utils import get_model

from recbole_lightgnn.trainer import evaluation
from recbole_lightgnn.trainer.evaluation import METRICS, FullRanking, ranks_here

NAMES = ["Recall", "NDCG", "Hit", "Precision", "MRR", "MAP"]
N_ITEMS = 40
CPU = torch.device("cpu")


@pytest.fixture
def world(tmp_path):
    """RecBole's BPR with drawn embeddings, and its loaders: users of 4 to 30 interactions."""
    draw = np.random.default_rng(0)
    lines = ["user_id:token\titem_id:token"]
    for user in range(60):
        chosen = draw.choice(N_ITEMS, size=draw.integers(4, 31), replace=False)
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
            "eval_batch_size": 7 * (N_ITEMS + 1),
            "metrics": NAMES,
            "topk": [1, 3, 10, 20, N_ITEMS + 1],
            "valid_metric": "MRR@10",
            "metric_decimal_place": 17,
        },
    )
    train, valid, test = data_preparation(config, create_dataset(config))
    assert train._dataset.item_num == N_ITEMS + 1, "every item is there, and the padding"
    torch.manual_seed(1)
    model = get_model("BPR")(config, train._dataset)
    for table in (model.user_embedding, model.item_embedding):
        torch.nn.init.normal_(table.weight)
    return config, model, {"valid": valid, "test": test}


def tables(model):
    return model.user_embedding.weight, model.item_embedding.weight


@pytest.mark.parametrize("split", ["valid", "test"])
def test_metrics_equal_those_of_recbole(world, split):
    config, model, loaders = world
    theirs = Trainer(config, model).evaluate(loaders[split], load_best_model=False)
    ours = FullRanking(loaders[split], config["metrics"], config["topk"], CPU)
    result = ours.evaluate(*tables(model))
    assert list(result) == list(theirs)
    assert len(result) == 30
    assert result == pytest.approx(dict(theirs), abs=1e-9, rel=0)
    assert 0.05 < result["recall@10"] < 0.9  # neither trivial end


def test_chunks_do_not_change_the_metrics(world, monkeypatch):
    _, model, loaders = world
    at_once = FullRanking(loaders["test"], NAMES, [10], CPU).evaluate(*tables(model))
    for users_at_once in (1, 7):
        monkeypatch.setattr(evaluation, "_SCORES", users_at_once * (N_ITEMS + 1))
        chunked = FullRanking(loaders["test"], NAMES, [10], CPU).evaluate(*tables(model))
        assert chunked == pytest.approx(dict(at_once), abs=1e-12)


def test_what_is_masked_and_the_padding_item_take_no_rank(world):
    """Their scores are made the best of all: metrics stay as they are."""
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
    """RecBole's top-k fails there; here the ranks beyond hold nothing."""
    _, model, loaders = world
    ranking = FullRanking(loaders["test"], ["recall", "precision"], [N_ITEMS + 1, 82], CPU)
    result = ranking.evaluate(*tables(model))
    assert result["recall@82"] == result["recall@41"] == pytest.approx(1.0)
    assert result["precision@82"] == pytest.approx(result["precision@41"] / 2, rel=1e-12)


# Hits at ranks 2 and 4 of a user with three relevant items; none for one with a single item.
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


def test_which_metrics_are_known():
    assert ranks_here(NAMES)
    assert ranks_here(["recall"])
    assert not ranks_here(["Recall", "ItemCoverage"])
    assert not ranks_here(["GAUC"])
