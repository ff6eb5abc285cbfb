"""``bench epochs``: what it measures and refuses; no speed is tested."""

import json
from pathlib import Path

import pytest
from helpers.planted import write_planted

from recbole_lightgnn.bench import epochs
from recbole_lightgnn.cli.main import main


@pytest.mark.slow
def test_every_stage_is_measured_in_a_process_of_its_own(tmp_path, capsys):
    write_planted(Path("dataset"))
    command = ["bench", "epochs", "--dataset=planted", "--models=EASE,SLRec,GraphDA"]
    assert main([*command, "--json=e.json"]) == 0
    rows = {row["model"]: row for row in json.loads(Path("e.json").read_text())["rows"]}
    assert list(rows) == ["EASE", "SLRec", "GraphDA"]
    stages = {model: [epoch["stage"] for epoch in row["epochs"]] for model, row in rows.items()}
    assert stages == {"EASE": ["EASE"], "SLRec": ["SLRec"], "GraphDA": ["teacher", "GraphDA"]}
    for row in rows.values():
        assert 100 < row["peak_mb"] < 10_000
        assert all(0 < epoch["seconds"] < 600 for epoch in row["epochs"])
    printed = capsys.readouterr().out
    assert "epoch on planted" in printed
    assert "GraphDA" in printed


def test_by_default_every_baseline_is_measured():
    names = epochs.baselines()
    assert {"EASE", "LightGCN", "SimRec", "UltraGCN", "Spectral"} <= set(names)
    assert len(names) == len(set(names))
    assert not {"LightGNN", "LightGNNTeacher"} & set(names)


def test_an_unknown_model_is_refused(capsys):
    assert main(["bench", "epochs", "--models=LightGCN,LigthGCN"]) == 2
    assert "no model is named 'LigthGCN' (did you mean 'LightGCN'?)" in capsys.readouterr().err
