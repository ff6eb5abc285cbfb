"""Interrupted trainings of RecBole's models resume to the same result."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.planted import QUICK, write_planted
from recbole.trainer import NCLTrainer, Trainer

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.comparison.plan import make_plan
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.quick_start import Interrupted, run
from recbole_lightgnn.runs.recbole_pickle import load_recbole_checkpoint
from recbole_lightgnn.runs.user_metrics import read_users, users_file
from recbole_lightgnn.trainer import recbole_resume
from recbole_lightgnn.trainer.adapters import RecBoleTraining
from recbole_lightgnn.trainer.recbole_resume import RESUMABLE
from recbole_lightgnn.utils.files import read_json

SETTINGS = {key: QUICK[key] for key in ("show_progress", "topk", "valid_metric")}
SETTINGS |= {"train_batch_size": 256, "epochs": 6, "learning_rate": 0.01}
SMALL = {"embedding_size": 8}
OWN = {
    "BPR": SMALL,
    "NGCF": SMALL,
    "LightGCN": SMALL | {"accelerate": True},
    "SGL": SMALL | {"accelerate": True},
    "NCL": SMALL | {"num_clusters": 5, "warm_up_step": 2},
    "NCL, an E-step in two epochs": SMALL | {"num_clusters": 5, "warm_up_step": 0, "m_step": 2},
    "DGCF": SMALL | {"n_factors": 2, "n_iterations": 2},
    "GCMC": {"gcn_output_dim": 16},
    "NeuMF": {"mf_embedding_size": 8, "mlp_embedding_size": 8, "mlp_hidden_size": [16, 8]},
    "MultiVAE": {"train_batch_size": 64, "mlp_hidden_size": [16]},
}


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(recbole_resume, "SECONDS_APART", 0.0)


@pytest.fixture(autouse=True)
def _one_thread():
    """With several threads, uninterrupted runs of NGCF or GCMC differ in the last bits too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def settings_of(case, **changes):
    return SETTINGS | OWN.get(case, {}) | changes


def once(folder, case, monkeypatch, resume=None, **changes):
    """Run in ``folder``; return the record without times, the users' metrics and the best state."""
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    if not (folder / "dataset").exists():
        write_planted(folder / "dataset")
    settings = settings_of(case, **changes)
    record = run(case.partition(",")[0], "planted", settings=settings, resume=resume)
    for row in record["rows"]:
        del row["seconds"], row["test_seconds"], row["curve"]["seconds"]
    users = read_users(users_file(Path(record["result_file"])))
    (file,) = (folder / "saved").glob("*.pth")
    return record, users, load_recbole_checkpoint(file)["state_dict"]


def interrupt_epoch(monkeypatch, number):
    """Raise Ctrl-C after the ``number``-th epoch of training, before its validation."""
    begun = []
    for trainer in (Trainer, NCLTrainer):

        def interrupted(self, *arguments, own=trainer._train_epoch, **options):
            losses = own(self, *arguments, **options)
            begun.append(1)
            if len(begun) == number:
                raise KeyboardInterrupt
            return losses

        monkeypatch.setattr(trainer, "_train_epoch", interrupted)


def disturb():
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)


@pytest.mark.parametrize("case", [*RESUMABLE, "NCL, an E-step in two epochs"])
def test_an_interrupted_training_resumes_to_the_same_result(case, tmp_path, monkeypatch):
    expected, users, weights = once(tmp_path / "whole", case, monkeypatch)
    assert expected["rows"][0]["epochs"] == 6
    assert not any(path.is_dir() for path in Path("saved").iterdir())  # the saved state is removed
    with monkeypatch.context() as patch:
        interrupt_epoch(patch, 4)
        with pytest.raises(Interrupted) as stopped:
            once(tmp_path / "parts", case, monkeypatch)
    assert (stopped.value.run_dir / "progress.safetensors").is_file()
    disturb()
    found, found_users, found_weights = once(tmp_path / "parts", case, monkeypatch, resume=True)
    assert (found["resumed"], expected["resumed"]) == (True, False)
    assert found["rows"] == expected["rows"]
    assert found["best_valid"] == expected["best_valid"]
    for name, values in users.rows[expected["rows"][0]["key"]].items():
        assert np.array_equal(found_users.rows[expected["rows"][0]["key"]][name], values), name
    for name, value in weights.items():
        assert value.equal(found_weights[name]), name
    assert not any(path.is_dir() for path in Path("saved").iterdir())


@pytest.mark.parametrize("changes", [{}, {"epochs": 40, "stopping_step": 0}], ids=["last", "early"])
def test_interrupted_after_its_last_epoch(changes, tmp_path, monkeypatch):
    expected, _, weights = once(tmp_path / "whole", "BPR", monkeypatch, **changes)
    assert changes == {} or expected["rows"][0]["epochs"] < 40

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RecBoleTraining, "test", interrupted)
        with pytest.raises(Interrupted):
            once(tmp_path / "parts", "BPR", monkeypatch, **changes)
    found, _, found_weights = once(tmp_path / "parts", "BPR", monkeypatch, resume=True, **changes)
    assert found["rows"] == expected["rows"]
    assert all(value.equal(found_weights[name]) for name, value in weights.items())


def test_the_best_state_is_restored_if_recboles_file_was_damaged(tmp_path, monkeypatch):
    """RecBole overwrites its best state in place, so the saved state has a copy of it."""
    changes = {"learning_rate": 0.1, "epochs": 12}
    expected, users, weights = once(tmp_path / "whole", "BPR", monkeypatch, **changes)
    best = expected["rows"][0]["best_epoch"]
    assert best < 10
    with monkeypatch.context() as patch:
        interrupt_epoch(patch, 11)
        with pytest.raises(Interrupted):
            once(tmp_path / "parts", "BPR", monkeypatch, **changes)
    (file,) = Path("saved").glob("*.pth")
    file.write_bytes(b"half of a later state")
    found, found_users, found_weights = once(
        tmp_path / "parts", "BPR", monkeypatch, resume=True, **changes
    )
    assert found["rows"] == expected["rows"]
    assert np.array_equal(found_users.rows["BPR"]["recall@5"], users.rows["BPR"]["recall@5"])
    assert all(value.equal(found_weights[name]) for name, value in weights.items())


def test_validated_in_every_second_epoch(tmp_path, monkeypatch):
    changes = {"eval_step": 2, "epochs": 7, "stopping_step": 1}
    expected, _, weights = once(tmp_path / "whole", "BPR", monkeypatch, **changes)
    with monkeypatch.context() as patch:
        interrupt_epoch(patch, 5)
        with pytest.raises(Interrupted):
            once(tmp_path / "parts", "BPR", monkeypatch, **changes)
    found, _, found_weights = once(tmp_path / "parts", "BPR", monkeypatch, resume=True, **changes)
    assert found["rows"] == expected["rows"]
    assert all(value.equal(found_weights[name]) for name, value in weights.items())


def test_a_folder_with_other_files_stays(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_epoch(patch, 4)
        with pytest.raises(Interrupted) as stopped:
            once(tmp_path, "BPR", monkeypatch)
    folder = stopped.value.run_dir
    file = folder / "record.json"
    run("BPR", "planted", settings=settings_of("BPR"), resume=folder, result_file=file)
    assert {one.name for one in folder.iterdir()} == {"record.json", "record.users.npz"}


def test_states_are_saved_at_most_every_seconds_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(recbole_resume, "SECONDS_APART", 3600.0)
    interrupt_epoch(monkeypatch, 4)
    with pytest.raises(Interrupted) as stopped:
        once(tmp_path / "run", "BPR", monkeypatch)
    assert stopped.value.run_dir is None
    assert not any(path.is_dir() for path in Path("saved").iterdir())


def test_the_time_before_the_interruption_is_counted(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_epoch(patch, 4)
        with pytest.raises(Interrupted) as stopped:
            once(tmp_path, "BPR", monkeypatch)
    before = recbole_resume.checkpoint.load(stopped.value.run_dir / "progress.safetensors")[1]
    row = run("BPR", "planted", settings=settings_of("BPR"), resume=True)["rows"][0]
    assert row["curve"]["seconds"][:3] == before["curve"]["seconds"]
    assert row["curve"]["seconds"] == sorted(row["curve"]["seconds"])
    assert row["seconds"] >= row["curve"]["seconds"][-1] > before["seconds"]


def test_a_run_that_cannot_be_resumed_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_epoch(patch, 4)
        with pytest.raises(Interrupted) as stopped:
            once(tmp_path, "BPR", monkeypatch)
    folder = stopped.value.run_dir
    with pytest.raises(InputError, match=r"run with other settings \(embedding_size\)"):
        once(tmp_path, "BPR", monkeypatch, resume=folder, embedding_size=9)
    with pytest.raises(InputError, match=r"nothing to resume: no run of BPR"):
        once(tmp_path, "BPR", monkeypatch, resume=True, seed=9)
    with pytest.raises(InputError, match=r"BPR is RecBole's own and cannot be resumed"):
        once(tmp_path, "BPR", monkeypatch, resume=True, worker=1)
    (best,) = folder.glob("BPR.best-*.pth")
    best.rename("away.pth")
    with pytest.raises(InputError, match=r"the best state until then, which is not there"):
        once(tmp_path, "BPR", monkeypatch, resume=folder)
    Path("away.pth").rename(best)
    state = folder / "progress.safetensors"
    whole = state.read_bytes()
    state.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"remove it and resume"):
        once(tmp_path, "BPR", monkeypatch, resume=folder)
    state.write_bytes(whole)
    shutil.rmtree("dataset")
    write_planted(Path("dataset"), seed=1)
    with pytest.raises(InputError, match="other interactions"):
        once(tmp_path, "BPR", monkeypatch, resume=folder)
    with pytest.raises(InputError, match=r"EASE is RecBole's own and cannot be resumed"):
        once(tmp_path, "EASE", monkeypatch, resume=True)


def test_the_command_says_how_to_resume(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_planted(Path("dataset"))
    settings = [f"--{key}={value}" for key, value in settings_of("BPR").items()]
    command = ["run", "--model=BPR", "--dataset=planted", *settings, "--result_file=record.json"]
    with monkeypatch.context() as patch:
        interrupt_epoch(patch, 4)
        assert main(command) != 0
    assert "--resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert read_json(Path("record.json"))["rows"][0]["epochs"] == 6


@pytest.mark.slow
def test_a_comparison_resumes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_planted(Path("dataset"))
    given = {"topk": [5, 20], "valid_metric": "Recall@5", "BPR.epochs": 6, "BPR.embedding_size": 8}
    plan = make_plan("planted", ["BPR"], [1], Path("out"), given=given, rows=None, variants={})
    (one,) = plan.runs
    plan.begin()
    one.begin()
    with monkeypatch.context() as patch:
        interrupt_epoch(patch, 4)
        assert main(["run", *one.arguments()]) == 130
    assert one.record() is None
    settings = [f"--{key}={value}" for key, value in given.items()]
    command = ["compare", "--dataset=planted", "--models=BPR", "--seeds=1", *settings]
    assert main([*command, "--out=out"]) == 0
    assert "BPR seed 1: goes on" in capsys.readouterr().out
    record = one.record()
    assert record["resumed"]
    assert main([*command, "--out=whole"]) == 0
    whole = read_json(Path("whole/runs/BPR-1/record.json"))
    assert not whole["resumed"]
    assert whole["test"] == record["test"]
