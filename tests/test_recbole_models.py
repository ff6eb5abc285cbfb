"""RecBole's own models through our command line, on ml-100k as RecBole ships it."""

import json

import pytest

from recbole_lightgnn.cli import main


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
