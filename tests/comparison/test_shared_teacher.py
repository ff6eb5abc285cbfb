"""Runs of a comparison take over a teacher that another run has trained."""

import json
import re
from pathlib import Path

import pytest
from helpers.comparing import compare
from helpers.planted import write_planted

from recbole_lightgnn.comparison.layout import Run, run_folder
from recbole_lightgnn.comparison.plan import make_plan
from recbole_lightgnn.comparison.shared_teacher import take_teachers
from recbole_lightgnn.comparison.variants import read_variants
from recbole_lightgnn.registry import model_names, properties_dir
from recbole_lightgnn.utils.files import write_json

TEACHER = {"model": "SoftmaxMF", "settings": {"embedding_size": 64, "temperature": 0.2}}
WANTED = {"key": "teacher", "own_seed": True, **TEACHER}
ROW = {"key": "teacher", "run": None, "seconds": 3.0, **TEACHER}
SECOND = {**ROW, "key": "teacher-01", "run": 1}
VARIANTS = """
Int8: {model: CompressedTables, teacher: TEACHER, teacher_settings: {epochs: 2}}
Narrow: {model: CompressedTables, teacher: TEACHER, teacher_settings: {epochs: 2}, rank: 4}
Longer: {model: CompressedTables, teacher: TEACHER, teacher_settings: {epochs: 3}}
"""


def a_run(name="PQ", seed=1, teachers=(WANTED,)):
    settings = {"seed": seed, "compression": "pq"}
    folder = run_folder(Path("out"), name, seed)
    return Run(name, "CompressedTables", "planted", seed, {}, settings, folder, {}, list(teachers))


def trained(name, seed=1, rows=(ROW,), settings=None):
    """A folder as a run leaves it, with the checkpoint of its teacher."""
    folder = run_folder(Path("out"), name, seed).checkpoints / "UnKD-planted-1"
    write_json(
        folder / "run.json",
        {"settings": settings or {}, "data": {"train": "a"}, "rows": list(rows)},
    )
    for row in rows:
        (folder / f"{row['key']}.safetensors").write_bytes(b"tensors of " + row["key"].encode())


# --- one teacher copied, or not --------------------------------------------------------------


def test_a_run_gets_the_row_and_the_checkpoint_and_its_own_settings():
    trained("UnKD", rows=[ROW, {"key": "UnKD"}])
    run = a_run()
    assert take_teachers(run) == "UnKD seed 1"
    (folder,) = run.folder.checkpoints.iterdir()
    assert sorted(file.name for file in folder.iterdir()) == ["run.json", "teacher.safetensors"]
    assert (folder / "teacher.safetensors").read_bytes() == b"tensors of teacher"
    content = json.loads((folder / "run.json").read_text())
    assert content == {"settings": run.settings, "data": {"train": "a"}, "rows": [ROW]}
    assert take_teachers(run) is None  # it has begun


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [SECOND],
        [{**ROW, "model": "LightGCN"}],
        [{**ROW, "settings": {"embedding_size": 64, "temperature": 0.1}}],
        [{**ROW, "checkpoint": "given.safetensors"}],
    ],
)
def test_another_teacher_is_not_taken(rows):
    trained("UnKD", rows=rows)
    assert take_teachers(a_run()) is None
    assert not a_run().folder.path.exists()


def test_several_teachers_are_taken_together():
    two = [WANTED, {**WANTED, "key": "teacher-01"}]
    trained("UnKD")
    assert take_teachers(a_run(teachers=two)) is None  # only one of them
    trained("RRD", rows=[ROW, SECOND, {"key": "RRD"}])
    run = a_run(teachers=two)
    assert take_teachers(run) == "RRD seed 1"
    (folder,) = run.folder.checkpoints.iterdir()
    assert json.loads((folder / "run.json").read_text())["rows"] == [ROW, SECOND]
    assert (folder / "teacher-01.safetensors").read_bytes() == b"tensors of teacher-01"


@pytest.mark.parametrize("settings", [{"teachers": [{"model": "SoftmaxMF"}]}, {"recipe": "auto"}])
def test_teachers_with_other_seeds_or_of_a_search_are_not_taken(settings):
    trained("UnKD", settings=settings)
    assert take_teachers(a_run()) is None


def test_a_teacher_of_another_seed_or_in_a_damaged_folder_is_not_taken():
    trained("UnKD", seed=2)
    trained("RRD", seed=11)
    trained("SimRec")
    (file,) = Path("out/runs/SimRec-1").rglob("run.json")
    for text in ("", "[]", '{"rows": []}'):
        file.write_text(text)
        assert take_teachers(a_run()) is None
    assert take_teachers(a_run(seed=11)) == "RRD seed 11"


def test_a_run_without_a_teacher_or_after_a_failure_takes_none():
    trained("UnKD")
    assert take_teachers(a_run(teachers=())) is None
    write_json(a_run().folder.failure_file, {"reason": "killed", "status": 1})
    assert take_teachers(a_run()) is None


def test_which_runs_train_one_teacher(tmp_path):
    write_planted(tmp_path / "dataset")
    variants = read_variants(properties_dir() / "study" / "variants.yaml", model_names())
    names = ["BPR", "UnKD", "Taught-21", "LightGNN", "Int8SoftmaxMF", "RRD"]
    given = {"LightGNN.n_teachers": 2, "UnKD.teachers": [{"model": "Pop"}, {"model": "BPR"}]}
    plan = make_plan("planted", names, [1], Path("out"), given=given, rows=None, variants=variants)
    found = {run.name: [one["model"] for one in run.teachers] for run in plan.runs}
    assert found == {
        "BPR": [],
        "UnKD": ["Pop", "BPR"],
        "Taught-21": ["LightGNNTeacher"],
        "LightGNN": ["LightGNNTeacher"] * 2,
        "Int8SoftmaxMF": ["SoftmaxMF"],
        "RRD": ["LightGCN"],
    }
    teachers = {run.name: run.teachers for run in plan.runs}
    assert teachers["RRD"][0]["settings"]["n_layers"] == 8
    assert [one["key"] for one in teachers["LightGNN"]] == ["teacher", "teacher-01"]
    assert [one["own_seed"] for one in teachers["UnKD"]] == [False, False]


# --- in a comparison -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("teacher", ["SoftmaxMF", "LightGCN"])
def test_the_results_are_those_of_runs_that_train_their_teacher(teacher, tmp_path, capsys):
    write_planted(tmp_path / "dataset")
    Path("own.yaml").write_text(VARIANTS.replace("TEACHER", teacher))
    assert compare("Int8,Narrow,Longer", "--variants=own.yaml") == 0
    told = re.findall(r"^(\w+) seed 1: (begins.*)$", capsys.readouterr().out, re.MULTILINE)
    assert told == [
        ("Int8", "begins"),
        ("Narrow", "begins with teachers of Int8 seed 1"),
        ("Longer", "begins"),
    ]
    rows = {name: record(name)["rows"] for name in ("Int8", "Narrow")}
    assert rows["Narrow"][0]["seconds"] == rows["Int8"][0]["seconds"] > 0
    Path("out").rename("together")
    assert compare("Narrow", "--variants=own.yaml") == 0
    for shared, alone in zip(rows["Narrow"], record("Narrow")["rows"], strict=True):
        for key in ("test", "valid", "best_epoch", "bytes"):
            assert shared[key] == alone[key]
    assert capsys.readouterr().out.count("begins with teachers") == 0


def record(name):
    return json.loads(Path(f"out/runs/{name}-1/record.json").read_text())
