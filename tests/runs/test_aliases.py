"""Files of earlier versions, with old names of settings and keys, are still read."""

import json
from pathlib import Path

import pytest
import torch
from helpers.planted import QUICK, quick_settings, write_planted
from recbole.trainer import Trainer

from recbole_lightgnn.config import aliases
from recbole_lightgnn.quick_start import Interrupted, run
from recbole_lightgnn.runs import checkpoint
from recbole_lightgnn.runs.finished_run import TrainedRun
from recbole_lightgnn.runs.recbole_pickle import load_recbole_checkpoint
from recbole_lightgnn.runs.run_folder import RunFolder
from recbole_lightgnn.trainer import recbole_resume
from recbole_lightgnn.trainer.training import Training

BY_USER = {"batch_by": "user", "train_batch_size": 32}
OURS = {
    **QUICK,
    **BY_USER,
    "n_pruning_runs": 1,
    "teacher_settings": QUICK["teacher_settings"] | BY_USER | {"ranking_self_weight": 0.5},
    "intermediate_settings": QUICK["intermediate_settings"] | {"batch_by": "interaction"},
}
RECBOLE = {key: QUICK[key] for key in ("show_progress", "topk", "valid_metric")}
RECBOLE |= {"embedding_size": 8, "epochs": 5, "accelerate": True}


@pytest.fixture(autouse=True)
def _world(tmp_path, monkeypatch):
    write_planted(tmp_path / "dataset")
    monkeypatch.setattr(recbole_resume, "SECONDS_APART", 0.0)


def old_names(value):
    """Rename settings, their values and keys to their old names, at every depth."""
    if isinstance(value, list):
        return [old_names(item) for item in value]
    if not isinstance(value, dict):
        return value
    names = {new: old for table in (aliases.SETTINGS, aliases.KEYS) for old, new in table.items()}
    result = {}
    for key, item in value.items():
        old_values = {new: old for old, new in aliases.VALUES.get(key, {}).items()}
        item = old_values.get(item, item) if isinstance(item, str) else old_names(item)
        result[names.get(key, key)] = item
    return result


def rewrite_json(file):
    content = old_names(json.loads(file.read_text(encoding="utf-8")))
    file.write_text(json.dumps(content), encoding="utf-8")


def rewrite_checkpoint(file):
    tensors, meta = checkpoint.load(file)
    checkpoint.save(file, tensors, old_names(meta))


def rewrite_pickle(file):
    """Rewrite a checkpoint of RecBole's, which RecBole reads back without restrictions."""
    content = torch.load(file, weights_only=False)
    config = content["config"]
    config.final_config_dict = old_names(config.final_config_dict)
    torch.save(content, file, pickle_protocol=4)


def rewrite_run(folder):
    rewrite_json(folder / "run.json")
    for file in folder.glob("*.safetensors"):
        rewrite_checkpoint(file)
    for file in folder.glob("*.pth"):
        rewrite_pickle(file)


def interrupt_epoch(monkeypatch, owner, number):
    """Raise Ctrl-C after the ``number``-th epoch of training, before its validation."""
    epochs, train_epoch = [], owner._train_epoch

    def interrupted(self, *arguments, **options):
        losses = train_epoch(self, *arguments, **options)
        epochs.append(losses)
        if len(epochs) == number:
            raise KeyboardInterrupt
        return losses

    monkeypatch.setattr(owner, "_train_epoch", interrupted)


def results(record):
    """Return the rows without times, and without the name of the record."""
    rows = [
        {key: value for key, value in row.items() if key not in ("seconds", "test_seconds")}
        for row in record["rows"]
    ]
    for row in rows:
        row["curve"] = {**row["curve"], "seconds": None}
    return rows


@pytest.mark.parametrize(
    ("model", "settings", "owner", "epoch", "old"),
    [
        # The teacher has 8 epochs, the intermediate 3, a student 3: in the first student.
        ("LightGNN", OURS, Training, 13, [b"batches", b"interactions", b"users", b"ranking_own"]),
        ("LightGCN", RECBOLE, Trainer, 4, [b"our_products"]),
    ],
)
def test_a_run_of_an_earlier_version_resumes_to_the_same_result(
    model, settings, owner, epoch, old, monkeypatch, capsys
):
    whole = run(model, "planted", settings=settings)
    with monkeypatch.context() as patch:
        interrupt_epoch(patch, owner, epoch)
        with pytest.raises(Interrupted) as stopped:
            run(model, "planted", settings=settings)
    folder = stopped.value.run_dir
    rewrite_run(folder)
    for name in old:
        assert name in (folder / "run.json").read_bytes()
    assert b'\\"fruitless\\"' in (folder / "progress.safetensors").read_bytes()
    capsys.readouterr()

    resumed = run(model, "planted", settings=settings, resume=folder)
    assert resumed["resumed"]
    assert results(resumed) == results(whole)
    assert resumed["best_valid"] == whole["best_valid"]
    assert "is called" not in capsys.readouterr().err  # files are read without a warning


def test_a_folder_of_an_earlier_version_is_found_by_its_settings(monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_epoch(patch, Trainer, 4)
        with pytest.raises(Interrupted) as stopped:
            run("LightGCN", "planted", settings=RECBOLE)
    rewrite_run(stopped.value.run_dir)
    assert run("LightGCN", "planted", settings=RECBOLE, resume=True)["resumed"]


def test_a_teacher_checkpoint_of_an_earlier_version_is_accepted():
    whole = run("LightGNN", "planted", settings=OURS)
    file = Path(whole["result_file"]).parent / "teacher.safetensors"
    rewrite_checkpoint(file)
    assert b'\\"batches\\": \\"users\\"' in file.read_bytes()
    again = run(
        "LightGNN", "planted", settings=quick_settings(**OURS, teacher_checkpoint=str(file))
    )
    assert again["test"] == whole["test"]
    assert again["rows"][0]["settings"] == whole["rows"][0]["settings"]


def test_a_teacher_of_recboles_of_an_earlier_version_is_accepted():
    teacher = {"teacher": "LightGCN", "teacher_settings": {"epochs": 2, "embedding_size": 16}}
    settings = OURS | teacher | {"accelerate": True, "n_pruning_runs": 0}
    whole = run("LightGNN", "planted", settings=settings)
    file = Path(whole["result_file"]).parent / "teacher.pth"
    rewrite_pickle(file)
    assert b"our_products" in file.read_bytes()
    rewritten = torch.load(file, weights_only=False)["config"].final_config_dict
    assert "accelerate" not in rewritten
    assert load_recbole_checkpoint(file)["config"]["accelerate"] is True
    again = run(
        "LightGNN", "planted", settings=quick_settings(**settings, teacher_checkpoint=str(file))
    )
    assert again["test"] == whole["test"]


def test_a_finished_run_of_an_earlier_version_is_read():
    record = run("LightGNN", "planted", settings=OURS)
    folder = Path(record["result_file"]).parent
    before = {row["key"]: row for row in record["rows"]}
    rewrite_run(folder)
    rewrite_json(folder / "record.json")
    trained = TrainedRun(folder)
    assert trained.row("teacher") == before["teacher"]
    assert trained.row("teacher")["settings"]["ranking_self_weight"] == 0.5
    assert trained.row() == before["student-01"]
    assert trained.config("teacher")["batch_by"] == "user"
    user, item = trained.model("student-01").final_embeddings()
    assert (len(user), len(item)) == (91, 61)
    content = RunFolder(folder).content
    assert content["settings"]["batch_by"] == "user"
    assert content["settings"]["teacher_settings"]["ranking_self_weight"] == 0.5
