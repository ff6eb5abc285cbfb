"""RecBole's models ranked by their tables: same metrics, and RecBole's evaluator if needed."""

import numpy as np
import pytest
import torch
from helpers.planted import QUICK, quick_settings, write_planted
from recbole.data.interaction import Interaction
from recbole.trainer import Trainer
from recbole.utils import get_model, get_trainer, init_seed

from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.loaders import load_data
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher
from recbole_lightgnn.models.scoring_tables import final_tables
from recbole_lightgnn.quick_start import run
from recbole_lightgnn.trainer.recbole_evaluation import rank_by_tables

SETTINGS = {
    "benchmark_filename": ["train", "valid", "test"],
    "show_progress": False,
    "metrics": ["Recall", "NDCG", "Hit", "Precision", "MRR", "MAP"],
    "topk": [1, 5, 20],
    "valid_metric": "Recall@5",
    "metric_decimal_place": 17,
}
# BPR and LINE score by their parameters, the others by propagated embeddings.
FACTORIZED = ["BPR", "LightGCN", "NGCF", "SGL", "DGCF", "SpectralCF", "LINE"]
# Single pairs; rows without tables; a sum over histories; a cosine; weights between the tables.
OTHERS = ["NeuMF", "EASE", "FISM", "DMF", "ENMF"]


@pytest.fixture
def make(tmp_path):
    """Return a function that makes settings, model and loaders on the planted world."""
    write_planted(tmp_path / "dataset")

    def make(name, **changes):
        config = build_config(name, "planted", (), {**SETTINGS, **changes})
        init_seed(3, True)
        loaders = load_data(config)
        init_seed(4, True)
        return config, get_model(name)(config, loaders[0]._dataset), loaders

    return make


def trainer_of(config, model):
    return get_trainer(config["MODEL_TYPE"], config["model"])(config, model)


def forbid_recboles(monkeypatch, owner):
    for way in ("_full_sort_batch_eval", "_neg_sample_batch_eval"):
        monkeypatch.setattr(owner, way, lambda *_: pytest.fail("RecBole's evaluator was used"))


def watch(monkeypatch, trainer, way):
    """Record the calls of a method of the trainer; return the list of calls."""
    calls, original = [], getattr(trainer, way)

    def watched(batch):
        calls.append(batch)
        return original(batch)

    monkeypatch.setattr(trainer, way, watched)
    return calls


@pytest.mark.parametrize("name", FACTORIZED)
def test_metrics_are_those_of_recbole_to_the_last_digit(make, monkeypatch, name):
    config, model, loaders = make(name)
    ours = trainer_of(config, model)
    rank_by_tables(ours)
    forbid_recboles(monkeypatch, ours)
    for loader in loaders[1:]:
        expected = trainer_of(config, model).evaluate(loader, load_best_model=False)
        result = ours.evaluate(loader, load_best_model=False)
        assert len(expected) == 18
        assert list(result) == list(expected)
        assert result == expected
    assert 0 < result["recall@5"] < 1


def test_metrics_are_rounded_as_recbole_rounds_them(make):
    config, model, loaders = make("BPR", metric_decimal_place=2)
    ours = trainer_of(config, model)
    expected = ours.evaluate(loaders[2], load_best_model=False)
    rank_by_tables(ours)
    result = ours.evaluate(loaders[2], load_best_model=False)
    assert result == expected
    assert {type(value) for value in [*result.values(), *expected.values()]} == {np.float64}
    assert all(value == round(value, 2) for value in result.values())


@pytest.mark.parametrize("name", ["BPR", "LightGCN", "SGL"])
def test_a_training_has_the_same_validations_and_test(make, monkeypatch, name):
    """The best epoch is the same too, and the test loads its state."""
    outcomes = []
    for way in ("recbole", "ours"):
        changes = {"epochs": 4, "metric_decimal_place": 4, "checkpoint_dir": way}
        config, model, (train, valid, test) = make(name, **changes)
        trainer = trainer_of(config, model)
        if way == "ours":
            rank_by_tables(trainer)
            forbid_recboles(monkeypatch, trainer)
        scores = []
        best = trainer.fit(train, valid, callback_fn=lambda *seen, into=scores: into.append(seen))
        for parameter in model.parameters():
            torch.nn.init.zeros_(parameter)  # the best model must be loaded for the test
        outcomes.append((scores, best, trainer.evaluate(test)))
        with pytest.raises(InputError, match=r"no\.pth does not exist"):
            trainer.evaluate(test, model_file="no.pth")
    assert len(outcomes[0][0]) == 4
    assert outcomes[0] == outcomes[1]
    assert outcomes[1][2]["hit@5"] > 0


@pytest.mark.parametrize("name", OTHERS)
def test_a_model_without_tables_is_ranked_by_recbole(make, monkeypatch, name):
    config, model, (_, valid, _) = make(name)
    expected = trainer_of(config, model).evaluate(valid, load_best_model=False)
    assert final_tables(model) is None
    ours = trainer_of(config, model)
    rank_by_tables(ours)
    calls = watch(monkeypatch, ours, "_full_sort_batch_eval")
    assert ours.evaluate(valid, load_best_model=False) == expected
    assert calls


@pytest.mark.parametrize(
    ("changes", "way"),
    [
        ({"metrics": ["Recall", "GAUC"]}, "_full_sort_batch_eval"),
        ({"eval_args": {"mode": "uni5"}, "topk": [5]}, "_neg_sample_batch_eval"),
    ],
)
def test_other_metrics_and_sampled_lists_are_left_to_recbole(make, monkeypatch, changes, way):
    config, model, (_, valid, _) = make("BPR", **changes)
    ours = trainer_of(config, model)
    rank_by_tables(ours)
    calls = watch(monkeypatch, ours, way)
    init_seed(5, True)
    result = ours.evaluate(valid, load_best_model=False)
    assert calls
    init_seed(5, True)
    assert result == trainer_of(config, model).evaluate(valid, load_best_model=False)


def test_the_mask_keeps_its_effect(make):
    found = {}
    for mask in ("train", "train+valid"):
        config, model, (_, _, test) = make("BPR", eval_mask=mask)
        ours = trainer_of(config, model)
        rank_by_tables(ours)
        found[mask] = ours.evaluate(test, load_best_model=False)
        assert found[mask] == Trainer(config, model).evaluate(test, load_best_model=False)
    assert found["train"]["ndcg@20"] < found["train+valid"]["ndcg@20"]


@pytest.mark.parametrize("name", ["NeuMF", "DMF", "BPR"])
def test_a_model_that_has_diverged_is_refused(make, name):
    make(name)
    settings = SETTINGS | {"epochs": 1, "learning_rate": 1e30}
    with pytest.raises(InputError, match=r"(cannot be ranked|NaN).*lower learning_rate"):
        run(name, "planted", settings=settings)


@pytest.mark.slow
def test_neither_one_user_with_nan_nor_masked_items_count_as_divergence(make, monkeypatch):
    """RecBole's evaluator computes the scores of one user at a time."""
    config, model, (_, valid, _) = make("NeuMF", eval_batch_size=1)
    trainer = trainer_of(config, model)
    rank_by_tables(trainer)
    predict, bad = model.predict, {1}
    monkeypatch.setattr(
        model,
        "predict",
        lambda asked: predict(asked).where(
            torch.tensor([user not in bad for user in asked["user_id"].tolist()]), torch.nan
        ),
    )
    assert trainer.evaluate(valid, load_best_model=False)["hit@20"] > 0
    bad.update(range(model.n_users))
    with pytest.raises(InputError, match="NeuMF cannot be ranked, scores must be finite"):
        trainer.evaluate(valid, load_best_model=False)
    bad.clear()
    assert trainer.evaluate(valid, load_best_model=False)["hit@20"] > 0
    with torch.no_grad():
        next(model.parameters())[0, 0] = torch.inf
    with pytest.raises(InputError, match="lower learning_rate"):
        trainer.evaluate(valid, load_best_model=False)


# --- tables ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FACTORIZED)
def test_the_tables_multiply_to_the_scores(make, name):
    _, model, _ = make(name)
    model.eval()
    user, item = final_tables(model)
    assert not user.requires_grad
    everyone = torch.arange(model.n_users)
    with torch.no_grad():
        scores = model.full_sort_predict(Interaction({"user_id": everyone}))
    assert torch.allclose(user @ item.T, scores.view(len(user), -1), rtol=1e-5, atol=1e-7)
    frozen = FrozenTeacher(model, scale="none")
    assert torch.equal(frozen.user, user)
    assert torch.equal(frozen.item, item)


def test_a_table_is_verified_by_scores_and_not_taken_by_name(make, monkeypatch):
    """With a bias, a cosine or NaN, BPR's tables have the same names and other scores."""
    config, model, (_, valid, _) = make("BPR")
    model.eval()
    user, item = model.user_embedding.weight, model.item_embedding.weight
    predict, bias = model.full_sort_predict, torch.zeros(model.n_items)

    def biased(interaction):
        return predict(interaction) + bias.repeat(len(interaction))

    def cosine(interaction):
        rows = torch.nn.functional.normalize(user[interaction["user_id"]])
        return (rows @ torch.nn.functional.normalize(item).T).view(-1)

    monkeypatch.setattr(model, "full_sort_predict", biased)
    assert final_tables(model) is not None, "a bias of zero"
    bias[17] = 1e-3
    assert final_tables(model) is None
    ours = trainer_of(config, model)
    rank_by_tables(ours)
    bias.normal_()
    result = ours.evaluate(valid, load_best_model=False)
    assert result == Trainer(config, model).evaluate(valid, load_best_model=False)
    monkeypatch.setattr(model, "full_sort_predict", predict)
    assert ours.evaluate(valid, load_best_model=False) != result

    monkeypatch.setattr(model, "full_sort_predict", cosine)
    assert final_tables(model) is None
    monkeypatch.setattr(model, "full_sort_predict", predict)
    with torch.no_grad():
        item[5] = torch.nan
    assert final_tables(model) is None


# --- runs ------------------------------------------------------------------------------------


def test_a_run_of_a_recbole_model_is_ranked_by_tables(make, monkeypatch):
    make("BPR")
    settings = SETTINGS | {"epochs": 2}
    record = run("BPR", "planted", settings=settings)
    forbid_recboles(monkeypatch, Trainer)
    assert run("BPR", "planted", settings=settings)["test"] == record["test"]


@pytest.mark.parametrize("teacher", ["BPR", "LightGCN"])
def test_a_recbole_teacher_is_ranked_by_tables(make, monkeypatch, teacher):
    make("BPR")
    forbid_recboles(monkeypatch, Trainer)
    changes = {"n_pruning_runs": 0, "epochs": 1, "teacher": teacher}
    changes["teacher_settings"] = {"epochs": 2, "embedding_size": 16}
    record = run("LightGNN", "planted", settings=QUICK | changes)
    assert record["rows"][0]["model"] == teacher
    assert record["rows"][0]["test"]["recall@20"] > 0
    again = run(
        "LightGNN",
        "planted",
        settings=quick_settings(**changes, teacher_checkpoint=f"{record_dir(record)}/teacher.pth"),
    )
    assert again["rows"][0]["test"] == record["rows"][0]["test"]


def record_dir(record):
    return record["result_file"].rpartition("/")[0]
