"""The two adapters: which model has which, and what a training without a test leaves on disk."""

from pathlib import Path

import pytest
from helpers.planted import QUICK, write_planted

from recbole_lightgnn.data.loaders import load_data
from recbole_lightgnn.quick_start import choose, configure
from recbole_lightgnn.registry import our_models
from recbole_lightgnn.trainer import recbole_resume
from recbole_lightgnn.trainer.adapters import OurTraining, RecBoleTraining, adapter_of

SETTINGS = {key: QUICK[key] for key in ("show_progress", "topk", "valid_metric")}
SETTINGS |= {"epochs": 3, "embedding_size": 8}


def test_the_adapter_of_each_model():
    assert {adapter_of(name) for name in our_models()} == {OurTraining}
    assert adapter_of("BPR") is adapter_of("EASE") is RecBoleTraining


@pytest.mark.parametrize("model", ["BPR", "LightGNNTeacher"])
def test_after_a_choice_no_state_and_no_record_is_left(model, tmp_path, monkeypatch):
    monkeypatch.setattr(recbole_resume, "SECONDS_APART", 0.0)
    write_planted(tmp_path / "dataset")
    validations = []
    chosen = choose(
        model,
        "planted",
        settings=SETTINGS,
        after_validation=lambda epoch, score: validations.append((epoch, score)),
    )
    assert [epoch for epoch, _ in validations] == [1, 2, 3]
    assert chosen["score"] == max(score for _, score in validations)
    assert not list(Path("saved").iterdir())


def test_without_a_validation_there_is_no_run_to_resume(tmp_path):
    write_planted(tmp_path / "dataset")
    for model in ("BPR", "LightGNNTeacher"):
        config = configure(model, "planted", settings=SETTINGS)
        assert adapter_of(model)(config, load_data(config)[0]).run_dir is None
