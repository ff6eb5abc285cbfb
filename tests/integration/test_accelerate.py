"""RecBole's own models: through our command line, and accelerated by our sparse kernels."""

import json
import time
from itertools import product

import pytest
import torch
from helpers.planted import N_ITEMS, write_planted
from recbole.model.general_recommender import EASE
from recbole.utils import get_model, init_seed
from torch.testing import assert_close

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.loaders import load_data
from recbole_lightgnn.integration.accelerate import accelerate_model
from recbole_lightgnn.quick_start import run


@pytest.mark.slow
@pytest.mark.parametrize("model", ["BPR", "LightGCN", "NGCF", "SGL", "NCL"])
def test_a_recbole_model_runs_and_writes_a_record(model, tmp_path):
    path = tmp_path / "record.json"
    settings = ["--epochs=1", "--show_progress=False", f"--result_file={path}"]
    status = main(["run", f"--model={model}", "--dataset=ml-100k", *settings])
    assert status == 0
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["model"] == model
    assert {"recall@20", "ndcg@10", "precision@40", "hit@20"} <= record["test"].keys()
    assert 0 < record["test"]["recall@20"] < 1


BASELINES = ["Pop", "ItemKNN", "EASE", "BPR", "NeuMF", "MultiVAE", "NGCF", "GCMC", "DGCF"]
BASELINES += ["LightGCN", "SGL", "NCL"]


@pytest.mark.parametrize(
    ("model", "accelerate"), [*product(BASELINES, [False]), ("SGL", True), ("NCL", True)]
)
def test_it_runs_on_a_small_dataset_of_three_files(model, accelerate, tmp_path):
    write_planted(tmp_path / "dataset")
    path = tmp_path / "record.json"
    settings = ["--epochs=2", "--show_progress=False", f"--accelerate={accelerate}"]
    command = ["run", f"--model={model}", "--dataset=planted", f"--result_file={path}", *settings]
    assert main(command) == 0
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["rows"][0]["model"] == model
    assert 0.2 < record["test"]["recall@20"] <= 1  # random ranking: a third


@pytest.mark.parametrize("stage", ["alone", "teacher"])
def test_computation_in_a_models_constructor_counts_as_training_time(stage, tmp_path, monkeypatch):
    learn = EASE.__init__

    def learn_slowly(self, *args):
        time.sleep(0.5)
        learn(self, *args)

    monkeypatch.setattr(EASE, "__init__", learn_slowly)
    monkeypatch.chdir(tmp_path)
    write_planted(tmp_path / "dataset")
    settings = {"show_progress": False}
    if stage == "teacher":
        settings |= {"teacher": "EASE", "use_intermediate": False, "epochs": 1, "n_pruning_runs": 0}
    row, *_ = run("EASE" if stage == "alone" else "LightGNN", "planted", settings=settings)["rows"]
    assert row["model"] == "EASE"
    assert row["seconds"] > 0.5


@pytest.mark.parametrize("model", ["EASE", "ItemKNN", "Pop"])
def test_a_model_without_epochs_is_tested_without_a_checkpoint(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_planted(tmp_path / "dataset")
    settings = {"show_progress": False}
    before = run(model, "planted", settings=settings)["test"]
    monkeypatch.setattr("recbole_lightgnn.trainer.recbole_evaluation.load_recbole_checkpoint", None)
    assert run(model, "planted", settings=settings)["test"] == before
    with pytest.raises(TypeError):  # a model with epochs does read its checkpoint
        run("BPR", "planted", settings=settings | {"epochs": 1})


def test_more_clusters_than_users_are_refused(tmp_path, capsys):
    write_planted(tmp_path / "dataset")
    command = ["run", "--model=NCL", "--dataset=planted", "--num_clusters=91"]
    assert main([*command, "--show_progress=False"]) == 2
    message = "num_clusters must be at most the number of users, and of items, got 91: lower it"
    assert message in capsys.readouterr().err


# Settings that suit the 90 users and 60 items of planted, or that select the code to test.
SETTINGS = {
    "SGL": {"type": "ED"},
    "NCL": {"num_clusters": 10, "ssl_reg": 0.1, "proto_reg": 0.01},
    "GCMC": {"gcn_output_dim": 20},
}
SMALL = {"embedding_size": 16, "train_batch_size": 128}


def summed(loss):
    """Add up the loss terms; NCL returns them as a tuple."""
    return sum(loss) if isinstance(loss, tuple) else loss


@pytest.mark.parametrize(
    ("name", "dataset", "settings"),
    [
        ("LightGCN", "ml-100k", {"n_layers": 3, "train_batch_size": 2048}),
        ("LightGCN", "planted", SMALL),
        ("SGL", "planted", SMALL),
        ("SGL", "planted", SMALL | {"type": "ND"}),
        ("SGL", "planted", SMALL | {"type": "RW"}),
        ("NCL", "planted", SMALL),
        ("NCL", "planted", SMALL | {"n_layers": 1, "hyper_layers": 2}),
        ("NGCF", "planted", SMALL | {"hidden_size_list": [16, 8]}),
        ("GCMC", "planted", SMALL),
        ("GCMC", "planted", SMALL | {"accum": "sum", "sparse_feature": False}),
        ("DGCF", "planted", SMALL | {"n_layers": 2}),
    ],
)
def test_accelerated_models_have_the_same_losses_gradients_and_scores(
    name, dataset, settings, tmp_path
):
    if dataset == "planted":
        write_planted(tmp_path / "dataset")
    config = build_config(name, dataset, (), SETTINGS.get(name, {}) | settings)
    init_seed(1, True)
    train, _, test = load_data(config)
    batches, losses, gradients, scores = list(train)[:20], [], [], []
    for accelerate in (False, True):
        init_seed(2, True)
        model = get_model(name)(config, train.dataset)
        assert not accelerate or accelerate_model(model)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        model.train()
        if name == "NCL":
            model.e_step()
        for number, batch in enumerate(batches):
            loss = summed(model.calculate_loss(batch))
            optimizer.zero_grad()
            loss.backward()
            if number == 0:
                gradients.append([parameter.grad.clone() for parameter in model.parameters()])
            optimizer.step()
            losses.append(loss.item())
        model.eval()
        scores.append(model.full_sort_predict(next(iter(test))[0]))
    assert len(batches) > 5
    assert_close(losses[: len(batches)], losses[len(batches) :], rtol=1e-5, atol=1e-5)
    for expected, actual in zip(*gradients, strict=True):
        tolerance = 1e-6 * float(expected.abs().max()) + 1e-9
        assert_close(actual, expected, rtol=1e-4, atol=tolerance)
    assert_close(*scores, rtol=1e-3, atol=1e-4)


def test_a_replaced_matrix_supports_products_only(tmp_path):
    write_planted(tmp_path / "dataset")
    config = build_config("NGCF", "planted", (), {"node_dropout": 0.1})
    train = load_data(config)[0]
    model = get_model("NGCF")(config, train.dataset)
    assert not accelerate_model(model), "node dropout reads the matrix"
    config["node_dropout"] = 0.0
    model = get_model("NGCF")(config, train.dataset)
    assert accelerate_model(model)
    with pytest.raises(TypeError, match=r"'torch\.mm'"):
        torch.mm(model.norm_adj_matrix, torch.ones(152, 2))


def test_an_unsupported_model_is_not_changed():
    config = build_config("BPR", "ml-100k", (), {})
    model = get_model("BPR")(config, load_data(config)[0].dataset)
    assert not accelerate_model(model)


@pytest.mark.parametrize("model", ["GCMC", "ItemKNN", "DMF", "ADMMSLIM", "NCEPLRec"])
def test_the_size_of_a_model_counts_each_number_that_it_ranks_with_once(
    model, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_planted(tmp_path / "dataset")
    settings = {"show_progress": False, "epochs": 1}
    row, *_ = run(model, "planted", settings=settings)["rows"]
    config = build_config(model, "planted", [], settings)
    built = get_model(model)(config, load_data(config)[0]._dataset)
    parameters = sum(one.numel() for one in built.parameters())  # GCMC: shared ones count once
    others = {
        "GCMC": lambda: -2 * 500,  # padding rows do not count
        "DMF": lambda: 0,  # the item vectors, computed from the parameters, do not count
        "ItemKNN": lambda: built.w.nnz,  # the scores, computed from w, do not count
        "ADMMSLIM": lambda: built.interaction_matrix.nnz + (N_ITEMS + 1) * (N_ITEMS + 2),
        "NCEPLRec": lambda: built.user_embeddings.numel() + built.item_embeddings.numel(),
    }[model]()
    assert row["parameters"] == parameters + others
    if model == "GCMC":
        assert row["bytes"] == 4 * parameters
    if model == "NCEPLRec":
        assert row["bytes"] == 4 + built.user_embeddings.nbytes + built.item_embeddings.nbytes
