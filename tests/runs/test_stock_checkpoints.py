"""Checkpoints that RecBole wrote without this package are read, and give the same test metrics."""

import json
import os
import subprocess
import sys

import pytest
import torch
from helpers.paths import HELPERS
from helpers.recbole_world import write_world
from recbole.quick_start import load_data_and_model
from recbole.utils import get_trainer

from recbole_lightgnn.runs.recbole_pickle import load_recbole_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SHARED = {
    **{"data_path": "dataset", "epochs": 1, "train_batch_size": 256, "eval_batch_size": 4096},
    **{"show_progress": False, "state": "ERROR", "use_gpu": False},
}
FEATURES = {
    "load_col": {
        "inter": ["user_id", "item_id", "timestamp"],
        "user": ["user_id", "age", "gender"],
        "item": ["item_id", "year", "class"],
    }
}
# Two tests of DIN by its default draw different items.
RANKING = {
    **FEATURES,
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
    "metrics": ["Recall", "NDCG"],
    "valid_metric": "Recall@10",
}
OVER_ALL_ITEMS = {**FEATURES, "train_neg_sample_args": None}
MODELS = {
    **{"BPR": {}, "EASE": {}, "KGCN": {}, "RippleNet": {}},
    **dict.fromkeys(("DIN", "DIEN"), RANKING),
    **dict.fromkeys(("GRU4RecF", "FDSA", "SASRecF"), OVER_ALL_ITEMS),
}
LAYERS = {"DIN": "embedding_layer", "DIEN": "embedding_layer"}
LAYERS |= dict.fromkeys(("GRU4RecF", "FDSA", "SASRecF"), "feature_embed_layer")


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """Folder with the checkpoints and the test metrics of RecBole alone."""
    folder = tmp_path_factory.mktemp("stock")
    write_world(folder / "dataset")
    item = folder / "dataset" / "world" / "world.item"
    # RecBole alone cannot read a column of sequences with pandas 3.
    item.write_text(item.read_text(encoding="utf-8").replace("token_seq", "token"))
    settings = {name: {**SHARED, **more} for name, more in MODELS.items()}
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-W", "ignore", str(HELPERS / "stock_recbole.py"), "settings.json"]
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_a_checkpoint_of_recbole_alone_gives_its_metrics(stock, monkeypatch, name):
    monkeypatch.chdir(stock)
    config, model, *_, test = load_data_and_model(f"{name}.pth")
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
    result = trainer.evaluate(test, model_file=f"{name}.pth")
    expected = json.loads((stock / f"{name}.json").read_text(encoding="utf-8"))
    assert result == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_a_pickled_layer_is_left_out_and_its_weights_are_there(stock, monkeypatch, name):
    monkeypatch.chdir(stock)
    read = load_recbole_checkpoint(f"{name}.pth")
    free = torch.load(f"{name}.pth", weights_only=False)  # this test wrote the file
    assert list(free["other_parameter"]) == [LAYERS[name]]
    assert read["other_parameter"] == {}
    weights = free["other_parameter"][LAYERS[name]].state_dict()
    assert weights
    for key, value in weights.items():
        assert torch.equal(read["state_dict"][f"{LAYERS[name]}.{key}"], value)


def test_training_goes_on_from_a_checkpoint_of_recbole_alone(stock, monkeypatch):
    monkeypatch.chdir(stock)
    config, model, _, train, valid, _ = load_data_and_model("DIN.pth")
    config["epochs"] = 2
    trainer = get_trainer(config["MODEL_TYPE"], "DIN")(config, model)
    trainer.resume_checkpoint("DIN.pth")
    assert trainer.start_epoch == 1
    trainer.fit(train, valid, saved=False, verbose=False)
    assert list(trainer.train_loss_dict) == [1]
