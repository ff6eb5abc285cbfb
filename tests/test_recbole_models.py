"""RecBole's own models through our command line, on ml-100k as RecBole ships it."""

import json

import pytest
import torch
from recbole.utils import get_model, init_seed
from torch.testing import assert_close

from recbole_lightgnn.cli import main
from recbole_lightgnn.config import build_config
from recbole_lightgnn.models.faster import on_our_products
from recbole_lightgnn.splits import load_data


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


def test_recboles_lightgcn_by_our_products_has_the_same_losses():
    config = build_config("LightGCN", "ml-100k", (), {"n_layers": 3, "train_batch_size": 2048})
    init_seed(1, True)
    train, _, test = load_data(config)
    batches, losses, scores = list(train)[:20], [], []
    for ours in (False, True):
        init_seed(2, True)
        model = get_model("LightGCN")(config, train.dataset)
        assert not ours or on_our_products(model)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for batch in batches:
            loss = model.calculate_loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        model.eval()
        scores.append(model.full_sort_predict(next(iter(test))[0]))
    assert len(batches) > 10
    assert_close(losses[: len(batches)], losses[len(batches) :], rtol=1e-5, atol=1e-5)
    assert_close(*scores, rtol=1e-3, atol=1e-4)


def test_other_models_stay_as_they_are():
    config = build_config("BPR", "ml-100k", (), {})
    model = get_model("BPR")(config, load_data(config)[0].dataset)
    assert not on_our_products(model)
