"""A run that was killed at any moment and resumed has the result of an undisturbed run."""

import json
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from helpers.paths import HELPERS
from helpers.planted import QUICK, write_planted

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.quick_start import run
from recbole_lightgnn.runs import checkpoint

SCRIPT = HELPERS / "killed_run.py"
FINAL = {
    "LightGNNTeacher": "teacher",
    "LightGNNIntermediate": "intermediate",
    "LightGNN": "student-02",
    "LightGNN batch_by user": "student-02",
    "LightGNN auto": "student-01",
    "LightGCN teaches": "student-02",
    "LightGNN rewinds": "student-02",
    "LightGNN refits": "refit/student-02",
    "SimGCL": "SimGCL",
    "AutoRec": "AutoRec",
    "AutoCF": "AutoCF",
    "GLT": "student-02",
    **{name: name for name in ("UnKD", "SimRec", "RRD")},
}


def start(folder: Path, model: str, moment: str, *rest: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "ignore", str(SCRIPT), model, moment, "record.json", *rest]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)


def outcome(folder: Path, model: str) -> tuple[list, dict, dict]:
    """Return the rows without times, and the tensors and metadata of the final checkpoint."""
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    rows = record["rows"]
    for row in rows:
        del row["seconds"], row["test_seconds"]
        row.pop("refit_seconds", None)
        row.get("curve", {}).pop("seconds", None)  # an ensemble has no curve
        for trial in row.get("search", ()):
            trial.pop("seconds", None)
    (path,) = (folder / "saved").glob(f"*-planted-*/{FINAL[model]}.safetensors")
    tensors, meta = checkpoint.load(path)
    return rows, tensors, meta


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return a function that gives the outcome of a run that is not killed."""

    @cache
    def run_through(model):
        folder = tmp_path_factory.mktemp(model)
        write_planted(folder / "dataset")
        done = start(folder, model, "never")
        assert done.returncode == 0, done.stderr.decode()
        return outcome(folder, model)

    return run_through


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "moments"),
    [
        ("LightGNN", ("step:7",)),  # in the teacher's second epoch
        (
            "LightGNN",
            ("write:progress.safetensors:4:half",),
        ),  # while the teacher's state is written
        ("LightGNN", ("write:run.json:2:before",)),  # the teacher is trained and not yet recorded
        ("LightGNN", ("write:intermediate.safetensors:1:half",)),
        ("LightGNN", ("write:progress.safetensors:9:after",)),  # in the intermediate's training
        ("LightGNN", ("write:student-00.safetensors:1:after",)),
        ("LightGNN", ("write:run.json:4:after",)),  # before the first pruning
        ("LightGNN", ("write:student-01.safetensors:1:before",)),
        ("LightGNN", ("write:run.json:6:after",)),  # between the last training and its test
        # killed several times:
        (
            "LightGNN",
            ("step:11", "write:progress.safetensors:2:half", "step:9", "write:run.json:1:after"),
        ),
        ("LightGNN batch_by user", ("step:7",)),
        ("LightGNN batch_by user", ("write:teacher-01.safetensors:1:half",)),
        ("LightGNN batch_by user", ("write:progress.safetensors:20:after",)),
        # In the first trial, in the second, while Spectral is computed, and before the student:
        ("LightGNN auto", ("step:20", "write:search.json:2:half", "write:search.json:2:after")),
        ("LightGNN auto", ("write:run.json:2:before", "write:recipe.yaml:1:before", "step:3")),
        ("LightGCN teaches", ("write:progress.safetensors:1:after",)),  # between its two epochs
        ("LightGCN teaches", ("write:student-00.safetensors:1:after",)),
        ("LightGNN rewinds", ("write:student-00.safetensors:1:after",)),
        ("LightGNN rewinds", ("write:student-01.safetensors:1:after",)),
        # The second training's folder begins with the seventh write of a run.json.
        ("LightGNN refits", ("write:run.json:7:before", "write:run.json:2:after")),
        ("LightGNN refits", ("write:run.json:9:after", "write:progress.safetensors:1:half")),
        ("LightGNNTeacher", ("step:7",)),
        ("SimGCL", ("step:7", "write:progress.safetensors:1:half")),
        ("AutoRec", ("write:progress.safetensors:2:after",)),
        ("LightGNNIntermediate", ("write:run.json:2:after",)),  # between teacher and intermediate
        ("UnKD", ("write:progress.safetensors:1:after", "step:7")),  # in the teacher, then in UnKD
        ("SimRec", ("step:7",)),
        ("RRD", ("step:7", "write:RRD.safetensors:1:half")),
        ("AutoCF", ("step:7", "step:3")),
        ("GLT", ("write:student-01.safetensors:1:after", "step:2")),
    ],
    ids=str,
)
def test_killed_and_resumed(model, moments, undisturbed, tmp_path):
    write_planted(tmp_path / "dataset")
    for number, moment in enumerate(moments):
        killed = start(tmp_path, model, moment, *["resume"] * bool(number))
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    resumed = start(tmp_path, model, "never", "resume")
    assert resumed.returncode == 0, resumed.stderr.decode()

    rows, tensors, meta = outcome(tmp_path, model)
    expected_rows, expected_tensors, expected_meta = undisturbed(model)
    assert rows == expected_rows
    assert meta == expected_meta
    assert tensors.keys() == expected_tensors.keys()
    for name, tensor in tensors.items():
        assert tensor.equal(expected_tensors[name]), name


def test_a_finished_run_resumes_to_its_record_without_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_planted(tmp_path / "dataset")
    settings = {**QUICK, "n_pruning_runs": 1, "epochs": 1}
    first = run("LightGNN", "planted", settings=settings)
    monkeypatch.setattr("recbole_lightgnn.trainer.training.Training.fit", None)
    fewer_at_once = {**settings, "eval_batch_size": 100}  # as after running out of memory
    again = run("LightGNN", "planted", settings=fewer_at_once, resume=True)
    for row in again["rows"] + first["rows"]:
        assert row.pop("test_seconds") > 0
    assert again["rows"] == first["rows"]


def test_a_run_of_a_version_with_fewer_settings_is_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_planted(tmp_path / "dataset")
    settings = {**QUICK, "n_pruning_runs": 0, "epochs": 1}
    first = run("LightGNN", "planted", settings=settings)
    file = Path(first["result_file"]).with_name("run.json")
    content = json.loads(file.read_text())
    for added in ("rewind", "refit", "catalog_metrics"):
        del content["settings"][added]
    file.write_text(json.dumps(content))
    assert run("LightGNN", "planted", settings=settings, resume=True)["test"] == first["test"]
    with pytest.raises(InputError, match=r"other settings \(rewind\)"):
        run("LightGNN", "planted", settings={**settings, "rewind": True}, resume=file.parent)


def test_what_cannot_be_resumed_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_planted(tmp_path / "dataset")
    with pytest.raises(InputError, match="nothing to resume"):
        run("LightGNN", "planted", settings=QUICK, resume=True)
    with pytest.raises(InputError, match=r"is no run folder \(it has no run.json\)"):
        run("LightGNN", "planted", settings=QUICK, resume=tmp_path)
    settings = {**QUICK, "n_pruning_runs": 0, "epochs": 1}
    folder = Path(run("LightGNN", "planted", settings=settings)["result_file"]).parent
    changed = {**settings, "epochs": 2, "learning_rate": 0.1}
    with pytest.raises(InputError, match=r"other settings \(epochs, learning_rate\)"):
        run("LightGNN", "planted", settings=changed, resume=folder)
    older = folder.with_name("LightGNN-planted-99999999")  # the newest by name
    older.mkdir()
    (older / "run.json").write_text('{"settings": {}, "rows": []}', encoding="utf-8")
    assert run("LightGNN", "planted", settings=settings, resume=True)["resumed"]
    with pytest.raises(InputError, match="is damaged or of an older version"):
        run("LightGNN", "planted", settings=settings, resume=older)
    inter = tmp_path / "dataset" / "planted" / "planted.valid.inter"
    whole = inter.read_text(encoding="utf-8")
    inter.write_text(whole.rsplit("\n", 2)[0] + "\n", encoding="utf-8")
    for given in (folder, True):
        with pytest.raises(InputError, match="was run on other interactions than planted has now"):
            run("LightGNN", "planted", settings=settings, resume=given)
    inter.write_text(whole, encoding="utf-8")
    (folder / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"run.json is damaged or"):
        run("LightGNN", "planted", settings=settings, resume=folder)
