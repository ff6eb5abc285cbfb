"""`recbole-lightgnn compare` on the planted dataset: real runs, and runs that are killed."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from helpers.comparing import (
    LIGHTGNN,
    OUT,
    begun,
    command_of,
    compare,
    process,
    runs_of,
    table,
    timeless,
    wait_for,
)
from helpers.planted import write_planted

from recbole_lightgnn.comparison.layout import Run, RunFolder
from recbole_lightgnn.comparison.plan import make_plan
from recbole_lightgnn.comparison.runner import _note_failure, _prepare, lock_folder
from recbole_lightgnn.comparison.variants import read_variants
from recbole_lightgnn.config.settings_diff import other_settings, settings_of
from recbole_lightgnn.quick_start import configure
from recbole_lightgnn.registry import model_names, properties_dir
from recbole_lightgnn.runs import checkpoint


@pytest.fixture(autouse=True)
def _world(tmp_path):
    write_planted(tmp_path / "dataset")


# --- what is run --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_comparison_is_run_once_and_its_table_written(capsys):
    assert compare("Pop,BPR", "--BPR.epochs=2", "--topk=[20]", "--jobs=2") == 0
    told = capsys.readouterr().out
    assert sorted(begun(told)) == [("BPR seed 1", "begins"), ("Pop seed 1", "begins")]
    assert "2 of 2 runs done" in told
    assert {name: line["settings"] for name, line in table().items()} == {
        "Pop": "default",
        "BPR": "by hand",
    }
    record = json.loads(Path("out/runs/BPR-1/record.json").read_text())
    assert record["settings"]["epochs"] == 2
    assert record["rows"][0]["curve"]["epoch"] == [1, 2]
    assert float(table()["BPR"]["recall@20_mean"]) == record["test"]["recall@20"]
    assert {"R@20", "N@20", "p R@20"} <= set(Path("out/table.md").read_text().split(" | "))
    assert Path("out/table.md").read_text().strip() in told
    written = {file: file.stat().st_mtime_ns for file in Path("out/runs").rglob("*")}

    assert compare("Pop,BPR", "--BPR.epochs=2", "--topk=[20]") == 0
    again = capsys.readouterr().out
    assert not begun(again)
    assert "2 runs done before, 0 to do" in again
    assert {file: file.stat().st_mtime_ns for file in Path("out/runs").rglob("*")} == written


def test_the_source_of_settings(tmp_path, monkeypatch):
    folder = shutil.copytree(properties_dir(), tmp_path / "properties")
    text = "tuned: [LightGCN]\nLightGCN: {n_layers: 1}\nBPR: {learning_rate: 0.01}\n"
    (folder / "dataset" / "planted.yaml").write_text(text)
    monkeypatch.setattr("recbole_lightgnn.config.recbole_config.properties_dir", lambda: folder)
    models, given = ["LightGCN", "BPR", "SGL", "NCL"], {"NCL.n_layers": 1, "topk": [20]}
    plan = make_plan("planted", models, [1], Path("out"), given=given, rows=None, variants={})
    assert list(plan.settings_source.values()) == ["tuned", "by hand", "default", "by hand"]


@pytest.mark.slow
def test_a_failed_run_is_reported_the_others_go_on_and_it_is_tried_again(capsys):
    wrong = "--BPR.learning_rate=1e30"
    assert compare("BPR,Pop", wrong, "--BPR.epochs=4") == 1
    told = capsys.readouterr()
    reason = "BPR cannot be ranked, scores must be finite: the training has diverged"
    assert "BPR seed 1: failed after " in told.out
    assert table()["BPR"]["problems"].startswith(f"seed 1 failed: {reason}")
    line = f"| BPR | matrix factorization | by hand | seed 1 failed: {reason}"
    assert line in Path("out/table.md").read_text()
    assert float(table()["Pop"]["recall@20_mean"]) > 0
    assert "1 of 2 runs failed: BPR seed 1 (BPR cannot be ranked" in told.err
    assert "the same command tries them again" in told.err
    assert compare("BPR,Pop", wrong, "--BPR.epochs=4") == 1
    assert begun(capsys.readouterr().out) == [("BPR seed 1", "begins")]


@pytest.mark.slow
def test_models_and_seeds_can_be_added_and_left_out(capsys):
    assert compare("Pop") == 0
    assert compare("Pop,Random", seeds="1,2") == 0
    told = begun(capsys.readouterr().out)
    assert len(told) == 4  # one run first, and then three
    assert table()["Pop"]["seeds_done"] == "1 2"
    assert compare("Random", seeds="2") == 0
    assert not begun(capsys.readouterr().out)
    assert list(table()) == ["Random"]


@pytest.mark.slow
def test_seeds_have_one_split_where_the_dataset_is_a_single_file(tmp_path):
    pairs = [f"u{user}\ti{(user * 7 + k * 3) % 20}" for user in range(30) for k in range(8)]
    (tmp_path / "dataset/single").mkdir()
    file = tmp_path / "dataset/single/single.inter"
    file.write_text("\n".join(["user_id:token\titem_id:token", *pairs]))
    rest = ["--dataset=single", "--topk=[5]", "--valid_metric=Recall@5", "--BPR.epochs=1"]
    assert compare("Pop,BPR", *rest, seeds="1,2") == 0
    records = [json.loads(file.read_text()) for file in OUT.glob("runs/*/record.json")]
    assert {(one["settings"]["seed"], one["settings"]["split_seed"]) for one in records} == {
        (1, 2020),
        (2, 2020),
    }
    assert len({one["dataset_fingerprint"]["train"]["sha256"] for one in records}) == 1
    assert {line["seeds_done"] for line in table().values()} == {"1 2"}
    text = (OUT / "table.md").read_text()
    assert "- One split, RecBole's, for all runs (split_seed 2020).\n" in text
    by_hand = "topk=[5], valid_metric=Recall@5, BPR.epochs=1"
    assert f"- Settings given by hand: {by_hand}.\n" in text
    assert compare("Pop,BPR", *rest, "--split_seed=3", seeds="1,2") == 2


# --- kills --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_and_given_again_it_ends_the_same_and_repeats_nothing():
    models, rest = "Pop,LightGNN,BPR", [*LIGHTGNN, "--BPR.epochs=3"]
    killed = process(models, *rest)
    state = Path("out/runs/LightGNN-1/saved")

    def teacher_done():
        return any('"student-01"' in file.read_text() for file in state.glob("*/run.json"))

    wait_for(teacher_done)
    (run,) = runs_of(killed.pid)
    killed.kill()
    told = killed.communicate()[0]
    assert begun(told) == [("Pop seed 1", "begins"), ("LightGNN seed 1", "begins")]
    wait_for(lambda: not command_of(run))  # the run ends with the comparison
    assert not Path("out/runs/LightGNN-1/record.json").exists()
    pop = Path("out/runs/Pop-1/record.json").stat().st_mtime_ns
    rows = json.loads(next(state.glob("*/run.json")).read_text())["rows"]

    again = process(models, *rest)
    told, errors = again.communicate()
    assert again.returncode == 0, errors
    assert begun(told) == [("LightGNN seed 1", "goes on"), ("BPR seed 1", "begins")]
    assert Path("out/runs/Pop-1/record.json").stat().st_mtime_ns == pop
    record = json.loads(Path("out/runs/LightGNN-1/record.json").read_text())
    assert record["resumed"]
    kept = {row["key"]: row["seconds"] for row in rows}  # trainings that were not repeated
    assert len(kept) >= 3
    assert {row["key"]: row["seconds"] for row in record["rows"] if row["key"] in kept} == kept

    whole = process(models, *rest, out="whole")
    _, errors = whole.communicate()
    assert whole.returncode == 0, errors
    assert timeless() == timeless("whole")


@pytest.mark.slow
def test_a_run_that_is_killed_is_a_failure_and_goes_on_when_tried_again():
    comparison = process("LightGNN,Pop", *LIGHTGNN)
    wait_for(lambda: list(Path("out/runs/LightGNN-1/saved").glob("*/progress.safetensors")))
    (run,) = runs_of(comparison.pid)
    os.kill(run, signal.SIGKILL)
    told, errors = comparison.communicate()
    assert comparison.returncode == 1
    assert "LightGNN seed 1 (ended by SIGKILL: out of memory, perhaps)" in errors
    assert "ended by SIGKILL" in table()["LightGNN"]["problems"]
    assert table()["Pop"]["seeds_done"] == "1"
    again = process("LightGNN,Pop", *LIGHTGNN)
    told, errors = again.communicate()
    assert again.returncode == 0, errors
    assert begun(told) == [("LightGNN seed 1", "goes on")]


def test_what_fails_by_itself_goes_on_and_begins_anew_if_it_gets_no_further(tmp_path):
    folder = RunFolder(tmp_path / "LightGNN-1")
    run = Run("LightGNN", "LightGNN", "planted", 1, {}, {}, folder, {})
    done = folder.checkpoints / "LightGNN-planted-1" / "run.json"

    def tried(status, finished, epoch=0):
        """Run once, ending with so many trainings and epochs; return where it resumed from."""
        after = _prepare(run)
        done.parent.mkdir(parents=True, exist_ok=True)
        done.write_text(json.dumps({"rows": finished * [{}]}))
        checkpoint.save(done.with_name("progress.safetensors"), {}, {"epoch": epoch})
        folder.log_file.write_text("internal error: RuntimeError: no memory\n")
        assert _note_failure(run, status, after) is not None
        return after

    assert tried(1, finished=2) is None, "at first there is nothing to go on with"
    assert tried(1, finished=3) == [2, 0]
    assert tried(1, finished=3, epoch=7) == [3, 0]
    assert tried(-9, finished=3, epoch=7) == [3, 7]
    assert tried(1, finished=3, epoch=7) == [3, 7], "it was killed, and has not failed by itself"
    assert tried(1, finished=1) is None, "it got no further by itself"
    done.write_text("{")
    assert _prepare(run) is None
    assert not done.exists()


@pytest.mark.slow
def test_a_run_that_failed_in_a_later_stage_keeps_the_earlier_ones(capsys):
    rest = [*LIGHTGNN, "--LightGNN.learning_rate=1e30"]
    told = []
    for _ in range(3):
        assert compare("LightGNN", *rest) == 1
        told += begun(capsys.readouterr().out)
    assert [how for _, how in told] == ["begins", "goes on", "begins"]


@pytest.mark.slow
def test_ctrl_c_stops_the_runs():
    comparison = process("LightGNN,BPR,Pop", *LIGHTGNN, "--BPR.epochs=300", "--jobs=2")
    runs = wait_for(lambda: len(runs_of(comparison.pid)) == 2 and runs_of(comparison.pid))
    wait_for(lambda: list(Path("out/runs/LightGNN-1/saved").glob("*/progress.safetensors")))
    comparison.send_signal(signal.SIGINT)
    _, errors = comparison.communicate()
    assert comparison.returncode == 130
    assert errors.splitlines()[-1] == "interrupted; continue with the same command"
    assert not any(map(command_of, runs))
    log = Path("out/runs/LightGNN-1/log.txt").read_text()
    assert "interrupted; continue with" in log
    assert not list(Path("out/runs").glob("*/failed.json"))


def test_two_comparisons_in_one_folder_are_refused(capsys, monkeypatch):
    monkeypatch.setattr("recbole_lightgnn.comparison.runner._LOCK_SECONDS", 0)
    OUT.mkdir()
    with lock_folder(OUT):
        assert compare("Pop") == 2
    assert "is at work in out: wait for it, or stop it" in capsys.readouterr().err


@pytest.mark.slow
def test_variants_are_models_with_settings_of_their_own(capsys):
    Path("small.yaml").write_text(
        "Small: {model: BPR, embedding_size: 8}\n"
        "Taught-8: {model: LightGNN, embedding_size: 16, n_pruning_runs: 0}\n"
    )
    given = ["--epochs=1", "--Small.embedding_size=4", "--Taught-8.embedding_size=8"]
    assert compare("BPR,Small,Taught-8", "--variants=small.yaml", *given) == 0
    assert list(table()) == ["BPR", "Small", "Taught-8"], "the teacher of a variant is not shown"
    records = {
        name: json.loads((OUT / f"runs/{name}-1/record.json").read_text()) for name in table()
    }
    assert [record["model"] for record in records.values()] == ["BPR", "BPR", "LightGNN"]
    sizes = {name: record["settings"]["embedding_size"] for name, record in records.items()}
    assert sizes == {"BPR": 64, "Small": 4, "Taught-8": 8}
    text = (OUT / "table.md").read_text()
    assert "- Small: BPR with embedding_size=8.\n" in text
    by_hand = "epochs=1, Small.embedding_size=4, Taught-8.embedding_size=8"
    assert f"- Settings given by hand: {by_hand}.\n" in text


def test_the_shipped_variants_can_be_run_and_dense_ones_are_trained_as_the_usual_one():
    file = properties_dir() / "study" / "variants.yaml"
    for name, variant in read_variants(file, model_names()).items():
        config = configure(variant.model, "planted", settings=variant.settings)
        if name.startswith("Dense-"):  # the dataset's settings, with another size
            usual = configure("SoftmaxLightGCN", "planted", settings={})
            differing = other_settings(settings_of(config), settings_of(usual))
            assert (differing, config["embedding_size"]) == (["embedding_size"], int(name[6:]))
        if name == "MagnitudePruned":  # it takes only its first embeddings from a teacher
            weights = ("prediction_kd", "embedding_kd", "interaction")
            assert [config[f"{loss}_weight"] for loss in weights] == [0.0, 0.0, 1.0]
            assert (config["batch_by"], config["similarity"]) == ("user", "cosine")
            assert config["weight_importance"] == config["score_importance"] == 0.0
            assert (config["teacher"], config["n_teachers"]) == ("SoftmaxLightGCN", 1)
        if name == "PrunedLightGCN":
            assert config["prediction_kd_weight"] == config["embedding_kd_weight"] == 0.0
            assert (config["interaction_loss"], config["teacher"]) == ("bpr", "LightGCN")
            assert config["n_layers"] == config["teacher_settings"]["n_layers"]
