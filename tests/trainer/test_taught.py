"""Models that learn from a teacher: its training or checkpoint, its row, and what is refused."""

from pathlib import Path

import pytest
from helpers.comparing import compare, table
from helpers.planted import QUICK, write_planted

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.quick_start import run

SHARED = {key: QUICK[key] for key in ("show_progress", "topk", "valid_metric", "train_batch_size")}
SHARED |= {"embedding_size": 16, "epochs": 2}
TEACHER = {"embedding_size": 16, "epochs": 2}
MODELS = ["RRD", "SimRec", "UnKD"]


@pytest.fixture(autouse=True)
def world(tmp_path):
    write_planted(tmp_path / "dataset")


def stages(record):
    return [(row["key"], row["model"]) for row in record["rows"]]


@pytest.mark.parametrize("model", MODELS)
def test_the_papers_teacher_is_trained_first_and_recorded(model):
    record = run(model, "planted", settings={**SHARED, "teacher_settings": TEACHER})
    assert stages(record) == [("teacher", "LightGCN"), (model, model)]
    teacher, last = record["rows"]
    assert teacher["settings"]["n_layers"] == 8
    assert teacher["settings"]["epochs"] == 2
    assert teacher["test"].keys() == last["test"].keys() == record["test"].keys()


@pytest.mark.parametrize("model", MODELS)
def test_lightgnns_teacher_teaches_by_one_setting_with_its_own_defaults(model):
    config = build_config(model, "planted", (), {"teacher": "LightGNNTeacher"})
    assert config["teacher_settings"] == {}
    settings = {**SHARED, "teacher": "LightGNNTeacher", "teacher_settings": TEACHER}
    first = run(model, "planted", settings=settings)
    assert stages(first) == [("teacher", "LightGNNTeacher"), (model, model)]
    file = Path(first["result_file"]).parent / "teacher.safetensors"
    del settings["teacher_settings"]
    again = run(model, "planted", settings={**settings, "teacher_checkpoint": str(file)})
    assert again["rows"][0]["checkpoint"] == str(file)
    assert again["test"] == first["test"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher": None}, "teacher must be a name, got None"),
        ({"teacher": "LightGNN"}, "must be a general recommender that needs no teacher itself"),
        ({"teacher": "UnKD"}, "must be a general recommender that needs no teacher itself"),
        ({"teacher_checkpoint": "no/such"}, "teacher_checkpoint: there is no file no/such"),
        ({"teacher_settings.ssl_tau": 1}, "teacher_settings.ssl_tau is a setting of|unknown sett"),
    ],
)
def test_a_teacher_that_cannot_be_is_refused_in_one_line(model, settings, message, capsys):
    with pytest.raises(InputError, match=message):
        build_config(model, "planted", (), settings)
    command = [f"--{key}={value}" for key, value in settings.items()]
    assert main(["run", f"--model={model}", "--dataset=planted", *command]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_checkpoint_of_another_model_is_refused():
    other = run("LightGNNTeacher", "planted", settings=SHARED)
    file = str(Path(other["result_file"]).parent / "teacher.safetensors")
    with pytest.raises(InputError, match=r"teacher_checkpoint .* LightGNNTeacher"):
        run("UnKD", "planted", settings={**SHARED, "teacher_checkpoint": file})


@pytest.mark.slow
def test_a_comparison_shows_the_model_by_its_name_and_its_teacher():
    settings = ["--UnKD.teacher_settings.epochs=1", "--UnKD.epochs=1"]
    assert compare("UnKD", *settings) == 0
    assert list(table()) == ["UnKD's teacher", "UnKD"]
    assert compare("UnKD", *settings, "--rows=teacher") == 0
    assert list(table()) == ["UnKD's teacher"]
