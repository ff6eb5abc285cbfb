"""Metrics of each test user: against a plain loop, and in the file beside the record."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.planted import QUICK, write_planted
from recbole.data.interaction import Interaction
from recbole.utils import get_model, get_trainer, init_seed

from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.loaders import load_data
from recbole_lightgnn.quick_start import run
from recbole_lightgnn.runs.user_metrics import read_users
from recbole_lightgnn.trainer.evaluation import metrics_by_user
from recbole_lightgnn.trainer.recbole_evaluation import rank_by_tables, ranked_by

FILE = Path("record.users.npz")


@pytest.fixture(autouse=True)
def _world(tmp_path):
    write_planted(tmp_path / "dataset")


def items_of(part):
    """Return the items of each user in a split, from the dataset's file."""
    lines = Path(f"dataset/planted/planted.{part}.inter").read_text().splitlines()[1:]
    found = {}
    for line in lines:
        user, item = line.split("\t")[:2]
        found.setdefault(user, set()).add(item)
    return found


@pytest.mark.parametrize(
    "name", ["BPR", "EASE", "ENMF"]
)  # ranked by tables, and by RecBole's evaluator
def test_each_users_metrics_by_a_plain_loop(name):
    settings = {"show_progress": False, "topk": [3, 5], "valid_metric": "Recall@5"}
    config = build_config(name, "planted", (), settings)
    train, _, test = load_data(config)
    init_seed(4, True)
    model = get_model(name)(config, train._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
    rank_by_tables(trainer)
    trainer.eval_collector.data_collect(train)
    ranked = ranked_by(trainer, test)
    found = metrics_by_user(ranked, test, [3, 5])
    assert found.keys() == {"recall@3", "recall@5", "ndcg@3", "ndcg@5"}

    dataset = train._dataset
    users, items = (dataset.field2id_token[field] for field in ("user_id", "item_id"))
    seen, wanted = [items_of("train"), items_of("valid")], items_of("test")
    for place, user in enumerate(test.uid_list.tolist()):
        token = users[user]
        scores = model.full_sort_predict(Interaction({"user_id": torch.tensor([user])})).flatten()
        masked = {"[PAD]"}.union(*(part.get(token, set()) for part in seen)) - wanted[token]
        order = np.argsort(-np.asarray(scores.detach(), dtype=float), kind="stable")
        ranking = [items[item] for item in order if items[item] not in masked]
        for k in (3, 5):
            hits = [item in wanted[token] for item in ranking[:k]]
            gain = sum(hit / math.log2(rank + 2) for rank, hit in enumerate(hits))
            best = sum(1 / math.log2(rank + 2) for rank in range(min(k, len(wanted[token]))))
            assert found[f"recall@{k}"][place] == pytest.approx(sum(hits) / len(wanted[token]))
            assert found[f"ndcg@{k}"][place] == pytest.approx(gain / best)
    assert 0 < found["recall@3"].mean() < 1
    assert ranked.metrics["ndcg@5"] == pytest.approx(found["ndcg@5"].mean(), abs=1e-12)


@pytest.mark.parametrize("name", ["LightGNN", "LightGCN", "Pop", "MultiVAE"])
def test_averages_over_users_are_the_records_metrics(name):
    settings = QUICK if name == "LightGNN" else {"epochs": 2, "topk": [5, 20], "state": "error"}
    settings = settings | {"show_progress": False, "valid_metric": "Recall@5"}
    record = run(name, "planted", settings=settings, result_file="record.json")
    assert record["rows"] == json.loads(Path("record.json").read_text())["rows"]
    users = read_users(FILE)
    wanted, seen = items_of("test"), items_of("train")
    assert set(users.user.tolist()) == set(wanted)
    assert users.degree.tolist() == [len(seen[user]) for user in users.user]
    assert list(users.rows) == [row["key"] for row in record["rows"]]
    for row in record["rows"]:
        for metric, values in users.rows[row["key"]].items():
            assert row["test"][metric] == pytest.approx(values.mean(), abs=1e-12)
        assert len(users.rows[row["key"]]) == 4
        assert row["test_seconds"] > 0


def test_the_curve_of_a_row_leads_to_its_best_epoch():
    record = run("LightGNN", "planted", settings=QUICK)
    for row in record["rows"]:
        curve = row["curve"]
        assert curve["epoch"] == list(range(1, row["epochs"] + 1))
        assert max(curve["score"]) == row["valid"]["recall@5"]
        assert curve["score"][row["best_epoch"] - 1] == row["valid"]["recall@5"]
        assert curve["seconds"] == sorted(curve["seconds"])
        assert curve["seconds"][-1] <= row["seconds"]


def test_the_curve_of_a_recbole_model_and_of_a_recbole_teacher():
    teacher = {"teacher": "BPR", "teacher_settings": {"epochs": 4, "embedding_size": 16}}
    for name, settings in (("BPR", {"epochs": 4}), ("LightGNN", QUICK | teacher)):
        shared = {"topk": [5, 20], "valid_metric": "Recall@5", "show_progress": False}
        row = run(name, "planted", settings=shared | settings)["rows"][0]
        assert row["curve"]["epoch"] == [1, 2, 3, 4]
        assert max(row["curve"]["score"]) == row["valid"]["recall@5"]
        assert row["curve"]["score"][row["best_epoch"] - 1] == row["valid"]["recall@5"]


@pytest.mark.parametrize(
    "settings",
    [
        {"metrics": ["Recall"]},
        {"eval_args": {"mode": "uni10"}, "topk": [5]},
    ],
)
def test_without_user_metrics_the_file_of_an_earlier_run_is_removed(settings):
    FILE.write_bytes(b"of an earlier run")
    shared = {"epochs": 1, "valid_metric": "Recall@5", "topk": [5, 20], "state": "error"}
    run("BPR", "planted", settings=shared | settings, result_file="record.json")
    assert not FILE.exists()
