"""``refit``: the chosen model is trained again on train and validation interactions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.planted import QUICK, write_planted

from recbole_lightgnn.comparison.layout import Run, run_folder
from recbole_lightgnn.comparison.runner import _position
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.export import export, metrics_of
from recbole_lightgnn.quick_start import run
from recbole_lightgnn.runs import checkpoint
from recbole_lightgnn.runs.finished_run import TrainedRun
from recbole_lightgnn.serving.recommender import Recommender

SHARED = {key: QUICK[key] for key in ("show_progress", "topk", "valid_metric", "train_batch_size")}
SMALL = SHARED | {"embedding_size": 16, "epochs": 4, "learning_rate": 0.01}


def write_merged() -> None:
    """Write ``merged``: planted's train and valid in one file; a test pair is the new valid."""
    write_planted(Path("dataset"))
    parts = {
        part: Path(f"dataset/planted/planted.{part}.inter").read_text().splitlines()
        for part in ("train", "valid", "test")
    }
    head, *test = parts["test"]
    lines = {
        "train": [*parts["train"], *parts["valid"][1:]],
        "valid": [head, test[0]],
        "test": [head, *test[1:]],
    }
    Path("dataset/merged").mkdir()
    for part, content in lines.items():
        Path(f"dataset/merged/merged.{part}.inter").write_text("\n".join(content) + "\n")


def trained_on_merged(model: str, epochs: int, settings: dict) -> Path:
    """Train on ``merged`` for a number of epochs; return the checkpoint after the last one."""
    settings = settings | {"epochs": epochs, "eval_step": epochs, "checkpoint_dir": "merged"}
    settings["benchmark_filename"] = ["train", "valid", "test"]
    run(model, "merged", settings=settings)
    (file,) = [f for f in Path("merged").rglob("*") if f.suffix in (".safetensors", ".pth")]
    return file


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["softmax", "bpr"])
def test_our_model_equals_a_training_on_the_merged_file(loss):
    write_merged()
    settings = SMALL | {"interaction_loss": loss}
    record = run("LightGNNTeacher", "planted", settings=settings | {"refit": True})
    (row,) = record["rows"]
    folder = Path(record["result_file"]).parent
    tensors, meta = checkpoint.load(folder / "teacher.safetensors")
    assert folder.name == "refit"
    assert meta["epoch"] == row["best_epoch"]
    twin = checkpoint.load(trained_on_merged("LightGNNTeacher", row["best_epoch"], settings))[0]
    assert all(torch.equal(tensors[name], twin[name]) for name in twin)


@pytest.mark.slow
def test_a_limit_of_the_work_gives_both_trainings_the_same_number_of_epochs():
    """The second graph has more edges, so that the limit alone would allow it fewer epochs."""
    write_merged()
    settings = SMALL | {"epochs": 6, "learning_rate_end": 0.1}
    first = run("LightGNNTeacher", "planted", settings=settings | {"epochs": 1})["rows"][0]
    batches = -(-first["interactions"] // SMALL["train_batch_size"])
    limited = settings | {"max_edge_visits": 3 * batches * first["interactions"], "eval_step": 3}
    record = run("LightGNNTeacher", "planted", settings=limited | {"refit": True})
    (row,) = record["rows"]
    assert row["planned_epochs"] == row["best_epoch"] == 3
    folder = Path(record["result_file"]).parent
    tensors = checkpoint.load(folder / "teacher.safetensors")[0]
    twin = checkpoint.load(trained_on_merged("LightGNNTeacher", 3, settings))[0]
    assert all(torch.equal(tensors[name], twin[name]) for name in twin)


@pytest.mark.slow
def test_recboles_model_equals_a_training_on_the_merged_file():
    write_merged()
    record = run("BPR", "planted", settings=SMALL | {"refit": True})
    (file,) = Path("saved").glob("BPR-*-refit.pth")
    ours = torch.load(file, weights_only=False)["state_dict"]
    merged = trained_on_merged("BPR", record["rows"][0]["best_epoch"], SMALL)
    twin = torch.load(merged, weights_only=False)["state_dict"]
    assert all(torch.equal(ours[name], twin[name]) for name in twin)


@pytest.mark.slow
@pytest.mark.parametrize("mask", ["train", "train+valid"])
def test_the_record_has_the_choice_and_the_second_models_test(mask):
    write_planted(Path("dataset"))
    settings = SMALL | {"eval_mask": mask}
    plain = run("LightGNNTeacher", "planted", settings=settings)
    record = run("LightGNNTeacher", "planted", settings=settings | {"refit": True})
    (before,), (row,) = plain["rows"], record["rows"]
    assert record["settings"]["refit"] is True
    assert record["masking"] == "train+valid"
    assert row["valid"] == before["valid"]
    assert row["curve"]["score"] == before["curve"]["score"]
    assert row["test"] != before["test"]
    assert row["interactions"] == sum(
        record["dataset_fingerprint"][part]["pairs"] for part in ("train", "valid")
    )
    assert row["seconds"] > row["refit_seconds"] > 0
    assert record["dataset_fingerprint"] == plain["dataset_fingerprint"]


def test_validation_items_are_masked_in_the_test_ranking():
    write_planted(Path("dataset"))
    settings = SHARED | {"refit": True, "metrics": ["Recall"], "topk": [1], "eval_mask": "train"}
    settings |= {"valid_metric": "Recall@1", "embedding_size": 20}
    record = run("Spectral", "planted", settings=settings)
    trained = TrainedRun(Path(record["result_file"]).parent)
    _, valid, test = trained.loaders
    for user in test.uid_list.tolist():
        validated = set(valid._dataset.inter_matrix("csr")[user].indices.tolist())
        tested = set(test._dataset.inter_matrix("csr")[user].indices.tolist())
        assert validated - tested <= set(test.uid2history_item[user].tolist())
    user, item = trained.model("Spectral").final_embeddings()
    scores = (user @ item.T).detach().numpy()
    scores[:, 0] = -np.inf
    hits = []
    for number in test.uid_list.tolist():
        scores[number, test.uid2history_item[number]] = -np.inf
        tested = test._dataset.inter_matrix("csr")[number].indices
        hits.append((scores[number].argmax() in tested) / len(tested))
    assert record["test"]["recall@1"] == pytest.approx(np.mean(hits))


@pytest.mark.slow
def test_all_stages_of_a_staged_run_are_trained_again():
    write_planted(Path("dataset"))
    record = run("LightGNN", "planted", settings=QUICK | {"refit": True})
    folder = Path(record["result_file"]).parent
    chosen = json.loads((folder.parent / "run.json").read_text())["rows"]
    again = json.loads((folder / "run.json").read_text())["rows"]
    assert [row["key"] for row in again] == [row["key"] for row in record["rows"]]
    for first, second, row in zip(chosen, again, record["rows"], strict=True):
        assert second["epochs"] == first["best_epoch"] == row["best_epoch"]
        assert second["valid"] == {}
        assert second["curve"]["epoch"] == []
        assert row["valid"] == first["valid"]
    pairs = record["dataset_fingerprint"]
    n_pairs = pairs["train"]["pairs"] + pairs["valid"]["pairs"]
    assert record["rows"][2]["interactions"] == n_pairs
    assert record["rows"][-1]["interactions_kept"] == pytest.approx(0.81, abs=2 / n_pairs)


@pytest.mark.slow
def test_a_recbole_teacher_is_trained_again():
    write_planted(Path("dataset"))
    teacher = {"teacher": "LightGCN", "teacher_settings": {"epochs": 3, "embedding_size": 16}}
    record = run("UnKD", "planted", settings=SMALL | teacher | {"refit": True})
    folder = Path(record["result_file"]).parent
    chosen = json.loads((folder.parent / "run.json").read_text())["rows"]
    again = json.loads((folder / "run.json").read_text())["rows"]
    assert [row["epochs"] for row in again] == [row["best_epoch"] for row in chosen]


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("UnKD", {"teacher_checkpoint": "a.safetensors"}, "leave teacher_checkpoint or refit out"),
        (
            "LightGNN",
            {"intermediate_checkpoint": "a.safetensors"},
            "leave intermediate_checkpoint or refit out",
        ),
        ("BPR", {"refit": "yes"}, "refit must be"),
    ],
)
def test_what_cannot_be_refitted_is_refused(model, settings, message):
    write_planted(Path("dataset"))
    Path("a.safetensors").touch()
    with pytest.raises(InputError, match=message):
        run(model, "planted", settings={"refit": True} | settings)


@pytest.mark.slow
def test_the_second_model_is_exported(tmp_path):
    write_planted(Path("dataset"))
    record = run("LightGNNTeacher", "planted", settings=SMALL | {"refit": True})
    trained = TrainedRun(Path(record["result_file"]).parent.rename("moved"))
    result = export(trained, tmp_path / "model.npz")
    assert result["valid"] is None  # it is trained on the validation split
    tested = metrics_of(Recommender.load(tmp_path / "model.npz"), trained, "teacher", "test")
    assert tested["recall@20"] == pytest.approx(record["test"]["recall@20"])


def test_a_comparison_sees_the_progress_of_the_second_training():
    folder = run_folder(Path("out"), "BPR", 1)
    one = Run("BPR", "BPR", "planted", 1, {}, {}, folder, {})
    assert _position(one) is None
    first = folder.checkpoints / "BPR-planted-0"
    (first / "refit").mkdir(parents=True)
    for rows, path in ((3, first), (2, first / "refit")):
        (path / "run.json").write_text(json.dumps({"rows": [{}] * rows}))
    assert _position(one) == [5, 0]
