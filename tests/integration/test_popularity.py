"""``Pop``: its ranking is that of the numbers of training interactions."""

import collections

import pytest
import torch
from helpers.planted import write_planted
from recbole.utils import get_model, get_trainer

from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.loaders import load_data
from recbole_lightgnn.quick_start import run

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_planted(tmp_path / "dataset")


def test_it_counts_training_interactions():
    train = load_data(build_config("Pop", "planted", (), {}))[0]
    model = get_model("Pop")(train.dataset.config, train.dataset)
    counts = torch.zeros(train.dataset.item_num, dtype=torch.long)
    for item in train.dataset.inter_feat["item_id"]:
        counts[item] += 1
    assert torch.equal(model.item_cnt[:, 0], counts)
    assert model.max_cnt == counts.max()
    before = model.item_cnt.clone()
    for batch in train:
        model.calculate_loss(batch)
    assert torch.equal(model.item_cnt, before)


@pytest.mark.parametrize("settings", [{"train_batch_size": 1_000_000}, {"epochs": 3}, {"seed": 5}])
def test_its_metrics_do_not_depend_on_how_it_is_trained(settings):
    given = {"show_progress": False}
    expected = run("Pop", "planted", settings=given)["test"]
    assert run("Pop", "planted", settings={**given, **settings})["test"] == expected


def write_pairs(folder, pairs):
    """Write a dataset named ``pairs`` with a rating and a time for each pair."""
    rows = [f"u{u}\ti{i}\t{1 + (u + i) % 5}\t{n}" for n, (u, i) in enumerate(pairs)]
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    (folder / "pairs").mkdir(parents=True)
    (folder / "pairs" / "pairs.inter").write_text("\n".join([header, *rows]), encoding="utf-8")


# Item i has i + 4 of 30 users: no two items are equally popular.
DISTINCT = [((7 * item + n) % 30, item) for item in range(15) for n in range(item + 4)]
TIES = [(user, item) for user in range(12) for item in range(user % 3, 18, 3)]

RATED = {"load_col": {"inter": ["user_id", "item_id", "rating"]}}


@pytest.mark.parametrize(
    ("pairs", "settings"),
    [
        (DISTINCT, {"train_batch_size": 1}),
        (DISTINCT, {"train_batch_size": 7}),
        (DISTINCT, {"train_batch_size": 1_000_000}),
        (DISTINCT, {"epochs": 4}),
        (DISTINCT, {"seed": 9, "split_seed": 3}),
        (DISTINCT, {"eval_args.split": {"RS": [0.5, 0.25, 0.25]}}),
        (DISTINCT, {"eval_args.split": {"LS": "valid_and_test"}, "eval_args.order": "TO"}),
        (DISTINCT, {"train_neg_sample_args.sample_num": 5}),
        (DISTINCT, {"train_neg_sample_args.distribution": "popularity"}),
        (DISTINCT, {**RATED, "val_interval": {"rating": "[2,5]"}}),
        (DISTINCT, {"item_inter_num_interval": "[4,inf)"}),
        (TIES, {"train_batch_size": 5}),
        (TIES, {"user_inter_num_interval": "[2,inf)"}),
        ([*TIES, *TIES], {"rm_dup_inter": "first"}),
    ],
)
def test_its_ranking_is_that_of_a_plain_count(tmp_path, pairs, settings):
    write_pairs(tmp_path / "dataset", pairs)
    given = {"epochs": 1, "data_path": "dataset", "show_progress": False, "topk": [5], **settings}
    given |= {"metrics": ["Recall"], "valid_metric": "Recall@5"}
    config = build_config("Pop", "pairs", (), given)
    train, valid, test = load_data(config)
    model = get_model("Pop")(config, train.dataset)
    trainer = get_trainer(config["MODEL_TYPE"], "Pop")(config, model)
    trainer.fit(train, valid, saved=False, verbose=False)
    counts = [0] * train.dataset.item_num
    for item in train.dataset.inter_feat["item_id"].tolist():
        counts[item] += 1
    scores = model.full_sort_predict({"user_id": torch.tensor([1])}).flatten().tolist()
    assert scores == pytest.approx([count / max(counts) for count in counts], abs=1e-7)
    seen, wanted = collections.defaultdict(set), collections.defaultdict(set)
    for loader, sets in ((train, seen), (valid, seen), (test, wanted)):
        table = loader._dataset.inter_feat
        for user, item in zip(table["user_id"].tolist(), table["item_id"].tolist(), strict=True):
            sets[user].add(item)
    recalls = []
    for user, items in wanted.items():
        unseen = torch.tensor([i > 0 and i not in seen[user] for i in range(len(counts))])
        left = torch.tensor(scores).where(unseen, -torch.inf)
        best = torch.topk(left, 5).indices.tolist()  # orders equal counts as RecBole does
        recalls.append(len(items.intersection(best)) / len(items))
    result = trainer.evaluate(test, load_best_model=False)["recall@5"]
    assert result == pytest.approx(sum(recalls) / len(recalls), abs=5e-5)
