"""RecBole's own models through our command line, on ml-100k as RecBole ships it."""

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
from recbole_lightgnn.integration.accelerate import on_accelerate
from recbole_lightgnn.quick_start import run


@pytest.mark.slow
@pytest.mark.parametrize("model", ["BPR", "LightGCN", "NGCF", "SGL", "NCL"])
def test_recboles_model_runs_and_leaves_a_record(model, tmp_path):
    path = tmp_path / "record.json"
    settings = ["--epochs=1", "--show_progress=False", f"--result_file={path}"]
    status = main(["run", f"--model={model}", "--dataset=ml-100k", *settings])
    assert status == 0
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["model"] == model
    assert {"recall@20", "ndcg@10", "precision@40", "hit@20"} <= record["test"].keys()
    assert 0 < record["test"]["recall@20"] < 1


OF_THE_COMPARISON = ["Pop", "ItemKNN", "EASE", "BPR", "NeuMF", "MultiVAE", "NGCF", "GCMC", "DGCF"]
OF_THE_COMPARISON += ["LightGCN", "SGL", "NCL"]


@pytest.mark.parametrize(
    ("model", "ours"), [*product(OF_THE_COMPARISON, [False]), ("SGL", True), ("NCL", True)]
)
def test_it_runs_on_a_small_dataset_of_three_files(model, ours, tmp_path):
    write_planted(tmp_path / "dataset")
    path = tmp_path / "record.json"
    settings = ["--epochs=2", "--show_progress=False", f"--accelerate={ours}"]
    command = ["run", f"--model={model}", "--dataset=planted", f"--result_file={path}", *settings]
    assert main(command) == 0
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["rows"][0]["model"] == model
    assert 0.2 < record["test"]["recall@20"] <= 1  # a third is chance


@pytest.mark.parametrize("stage", ["alone", "teacher"])
def test_what_a_model_computes_when_it_is_made_is_training_time(stage, tmp_path, monkeypatch):
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
def test_what_has_no_epochs_is_tested_as_it_is_in_memory(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_planted(tmp_path / "dataset")
    settings = {"show_progress": False}
    before = run(model, "planted", settings=settings)["test"]
    monkeypatch.setattr("recbole_lightgnn.trainer.recbole_evaluation.load_stock_checkpoint", None)
    assert run(model, "planted", settings=settings)["test"] == before
    with pytest.raises(TypeError):  # which another model does read
        run("BPR", "planted", settings=settings | {"epochs": 1})


def test_more_clusters_than_users_are_refused(tmp_path, capsys):
    write_planted(tmp_path / "dataset")
    command = ["run", "--model=NCL", "--dataset=planted", "--num_clusters=91"]
    assert main([*command, "--show_progress=False"]) == 2
    message = "num_clusters must be at most the number of users, and of items, got 91: lower it"
    assert message in capsys.readouterr().err


# Settings that planted's 90 users and 60 items, or the paths to be tested, ask for.
OWN = {
    "SGL": {"type": "ED"},
    "NCL": {"num_clusters": 10, "ssl_reg": 0.1, "proto_reg": 0.01},
    "GCMC": {"gcn_output_dim": 20},
}
SMALL = {"embedding_size": 16, "train_batch_size": 128}


def summed(loss):
    """NCL gives its terms one by one."""
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
def test_recboles_models_by_accelerate_have_the_same_losses_gradients_and_scores(
    name, dataset, settings, tmp_path
):
    if dataset == "planted":
        write_planted(tmp_path / "dataset")
    config = build_config(name, dataset, (), OWN.get(name, {}) | settings)
    init_seed(1, True)
    train, _, test = load_data(config)
    batches, losses, gradients, scores = list(train)[:20], [], [], []
    for ours in (False, True):
        init_seed(2, True)
        model = get_model(name)(config, train.dataset)
        assert not ours or on_accelerate(model)
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
    for stock, mine in zip(*gradients, strict=True):
        assert_close(mine, stock, rtol=1e-4, atol=1e-6 * float(stock.abs().max()) + 1e-9)
    assert_close(*scores, rtol=1e-3, atol=1e-4)


def test_a_matrix_of_ours_is_for_products_alone(tmp_path):
    write_planted(tmp_path / "dataset")
    config = build_config("NGCF", "planted", (), {"node_dropout": 0.1})
    train = load_data(config)[0]
    assert not on_accelerate(get_model("NGCF")(config, train.dataset)), "it opens its matrix"
    config["node_dropout"] = 0.0
    model = get_model("NGCF")(config, train.dataset)
    assert on_accelerate(model)
    with pytest.raises(TypeError, match=r"'torch\.mm'"):
        torch.mm(model.norm_adj_matrix, torch.ones(152, 2))


def test_other_models_stay_as_they_are():
    config = build_config("BPR", "ml-100k", (), {})
    model = get_model("BPR")(config, load_data(config)[0].dataset)
    assert not on_accelerate(model)


@pytest.mark.parametrize("model", ["GCMC", "ItemKNN", "DMF", "ADMMSLIM", "NCEPLRec"])
def test_the_size_of_a_model_is_that_of_what_it_ranks_by_each_number_once(
    model, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_planted(tmp_path / "dataset")
    settings = {"show_progress": False, "epochs": 1}
    row, *_ = run(model, "planted", settings=settings)["rows"]
    config = build_config(model, "planted", [], settings)
    made = get_model(model)(config, load_data(config)[0]._dataset)
    own = sum(one.numel() for one in made.parameters())  # of GCMC: what is shared once
    beside = {
        "GCMC": lambda: -2 * 500,  # padding rows
        "DMF": lambda: 0,  # and not all items' vectors, which come of it
        "ItemKNN": lambda: made.w.nnz,  # and not all users' scores, which come of it
        "ADMMSLIM": lambda: made.interaction_matrix.nnz + (N_ITEMS + 1) * (N_ITEMS + 2),
        "NCEPLRec": lambda: made.user_embeddings.numel() + made.item_embeddings.numel(),
    }[model]()
    assert row["parameters"] == own + beside
    if model == "GCMC":
        assert row["bytes"] == 4 * own
    if model == "NCEPLRec":
        assert row["bytes"] == 4 + made.user_embeddings.nbytes + made.item_embeddings.nbytes
