"""``recbole-lightgnn export | recommend | explain`` on the planted dataset."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers.model_files import SECRET, kept_pairs
from helpers.planted import N_ITEMS, N_USERS, quick_settings

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.export import export
from recbole_lightgnn.quick_start import run
from recbole_lightgnn.runs.finished_run import TrainedRun
from recbole_lightgnn.serving.recommender import Recommender


def test_export_recommend_and_explain(place, trained, tmp_path, capsys):
    folder, file = str(place[1]), str(tmp_path / "m.lgnn")
    assert main(["export", folder, "--out", file, "--form=graph", "--row=student-01"]) == 0
    printed = capsys.readouterr().out
    size = Path(file).stat().st_size
    assert f"student-01, form graph, float32: {size:,} bytes" in printed
    assert f"{size / 4 / 64 / (N_USERS + N_ITEMS):.2%} of embeddings of 64" in printed
    assert f"validation recall@20: {trained.row('student-01')['valid']['recall@20']:.6f}" in printed
    recommender = Recommender.load(file)
    expected = recommender.recommend(["17", "3"], 4)

    assert main(["recommend", file, "--user=17", "--user", "3", "--k=4"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[2] for line in lines] == expected.items.ravel().tolist()
    assert [line[:2] for line in lines[:2]] == [["17", "1"], ["17", "2"]]

    assert main(["explain", file, "--user=17", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert [entry["item"] for entry in scores] == recommender.recommend(["17"], 5).items[0].tolist()
    for entry in scores:
        total = entry["own"] + sum(part["contribution"] for part in entry["carried"])
        assert total == pytest.approx(entry["score"], abs=1e-5)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_all_users_into_a_table(trained, tmp_path, capsys, suffix, monkeypatch):
    monkeypatch.setattr("recbole_lightgnn.cli.recommend._CHUNK", 7)
    export(trained, tmp_path / "m.lgnn")
    table = tmp_path / "folder" / f"recs.{suffix}"
    command = ["recommend", str(tmp_path / "m.lgnn"), "--all-users", "--k=60", "--out", str(table)]
    assert main(command) == 0
    assert f"recommendations: {table}" in capsys.readouterr().out
    if suffix == "csv":
        with table.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    else:
        from pyarrow import parquet

        rows = parquet.read_table(table).to_pylist()
    recommender = Recommender.load(tmp_path / "m.lgnn")
    users = recommender.users.names(np.arange(N_USERS))
    ranked = recommender.recommend(users, 60)
    expected = [
        (user, rank, item, float(score))
        for user, items, scores in zip(users, ranked.items, ranked.scores, strict=True)
        for rank, (item, score) in enumerate(zip(items, scores, strict=True), 1)
        if item is not None
    ]
    assert len(expected) == N_USERS * N_ITEMS - trained.row()["interactions"]
    got = [(r["user"], int(r["rank"]), r["item"], float(r["score"])) for r in rows]
    assert [row[:3] for row in got] == [row[:3] for row in expected]
    # Scores near zero are differences of terms near one, summed in another order in other chunks.
    np.testing.assert_allclose(
        [row[3] for row in got], [row[3] for row in expected], rtol=1e-5, atol=1e-6
    )
    assert main([*command, "--include-seen"]) == 0
    if suffix == "csv":
        assert len(table.read_text().splitlines()) == 1 + N_USERS * N_ITEMS


def test_explain_a_run_lists_pruned_interactions_with_their_run(place, trained, capsys):
    folder, planted = str(place[1]), place[2]["train"]
    assert main(["explain", folder, "--user=5", "--json", "--k=3"]) == 0
    explained = json.loads(capsys.readouterr().out)
    history = {entry["item"]: entry for entry in explained["interactions"]}
    assert {(5, int(item)) for item in history} == {pair for pair in planted if pair[0] == 5}
    users, items = (trained.dataset.field2id_token[f].tolist() for f in ("user_id", "item_id"))
    models = {run: trained.model(f"student-{run:02d}") for run in range(3)}
    for item, entry in history.items():
        last = max(
            run for run in models if (5, int(item)) in kept_pairs(trained, f"student-{run:02d}")
        )
        assert entry["pruned_in"] == (None if last == 2 else last + 1)
        pattern = models[last].graph.interactions.pattern
        is_edge = (pattern.row == users.index("5")) & (pattern.col == items.index(item))
        assert entry["weight"] == models[last].edge_weight[is_edge].item()
    runs = [entry["pruned_in"] for entry in explained["interactions"]]
    assert runs == sorted(runs, key=lambda run: -9 if run is None else -run)
    for entry in explained["scores"]:
        assert (5, int(entry["item"])) not in planted, "seen items are not recommended"
        kept = {part["item"] for part in entry["carried"]}
        assert kept == {item for item, past in history.items() if past["pruned_in"] is None}
    assert main(["explain", folder, "--user=5", "--item=7", "--row=student-01"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("interaction\tweight")
    assert any(line.startswith("7\t") for line in lines[-1:])


def bad(capsys, *arguments):
    """The last line of a command that fails with status 2."""
    assert main(list(map(str, arguments))) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("error: ")
    return line


def test_bad_input_ends_in_one_line(place, trained, tmp_path, capsys):
    run_dir, file = place[1], tmp_path / "m.lgnn"
    out = ("--out", file)
    assert "is no run folder" in bad(capsys, "export", tmp_path, *out)
    assert "--row must be one of" in bad(capsys, "export", run_dir, *out, "--row=student-1")
    assert "student-01" in bad(capsys, "export", run_dir, *out, "--row=student-1")
    assert "is a folder" in bad(capsys, "export", run_dir, "--out", tmp_path)
    hashed = ("--ids=hashed", *out)
    assert "--ids hashed needs a --key" in bad(capsys, "export", run_dir, *hashed)
    assert "cannot be read" in bad(capsys, "export", run_dir, *hashed, "--key=none.key")
    (tmp_path / "key").write_bytes(SECRET)
    assert "--key needs --ids hashed: give both" in bad(
        capsys, "export", run_dir, *out, "--key", tmp_path / "key"
    )
    (tmp_path / "short").write_bytes(b"short")
    assert "can be guessed" in bad(capsys, "export", run_dir, *hashed, "--key", tmp_path / "short")
    for flags, what in (
        (("--row=teacher", "--form=graph"), "a LightGNNTeacher has no form graph"),
        (("--seen=none", "--form=graph"), "--seen none has no form graph"),
    ):
        assert what in bad(capsys, "export", run_dir, *out, *flags)
    assert not file.exists()
    assert "no file at" in bad(capsys, "recommend", file, "--user=1")
    export(trained, file)
    assert "no user '90': users are numbers from 0 to 89" in bad(
        capsys, "recommend", file, "--user=90"
    )
    assert "k must be" in bad(capsys, "recommend", file, "--user=9", "--k=61")
    assert "--all-users needs --out" in bad(capsys, "recommend", file, "--all-users")
    assert "ends in .csv or .parquet" in bad(
        capsys, "recommend", file, "--all-users", "--out=recs.txt"
    )
    assert "no item 'x'" in bad(capsys, "explain", file, "--user=1", "--item=x")
    assert "no user 'x'" in bad(capsys, "explain", run_dir, "--user=x")
    assert "--row needs the folder of a run" in bad(capsys, "explain", file, "--user=1", "--row=x")
    assert "a LightGNNTeacher has no form graph" in bad(
        capsys, "explain", run_dir, "--user=1", "--row=teacher"
    )
    content = file.read_bytes()
    file.write_bytes(content[:-5])
    assert "is cut off" in bad(capsys, "recommend", file, "--user=1")
    file.write_bytes(content[:-5] + b"12345")
    assert "is damaged" in bad(capsys, "recommend", file, "--user=1")


def test_a_failed_export_leaves_the_old_file(trained, tmp_path, monkeypatch):
    file = tmp_path / "m.lgnn"
    export(trained, file)
    before = file.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        export(trained, file, values="int8")
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m.lgnn"]


def test_a_run_without_the_model_of_a_row(place, trained, tmp_path):
    again = run("LightGNN", "planted", settings=quick_settings(
        n_pruning_runs=0, epochs=1, checkpoint_dir=str(tmp_path / "other"),
        intermediate_checkpoint=str(place[1] / "intermediate.safetensors"),
    ))  # fmt: skip
    with pytest.raises(InputError, match=r"has no intermediate\.safetensors: the model of row"):
        TrainedRun(Path(again["result_file"]).parent).model("intermediate")
