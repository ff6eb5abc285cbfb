"""The setting ``teachers``: several different teachers, with given weights or chosen ones."""

from pathlib import Path

import pytest
import torch
from helpers.planted import QUICK, quick_settings, write_planted

from recbole_lightgnn.config.teachers import teachers_of
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.ensemble import Ensemble
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher
from recbole_lightgnn.quick_start import configure, run

pytestmark = pytest.mark.filterwarnings("ignore")

GRAPH = {"model": "LightGNNTeacher", **QUICK["teacher_settings"]}
SPECTRAL = {"model": "Spectral", "embedding_size": 8}
EASE = {"model": "EASE", "reg_weight": 50}
OWN = {key: value for key, value in QUICK.items() if key != "teacher_settings"}
DIRECT = {**OWN, "use_intermediate": False, "n_pruning_runs": 1}
DIRECT.pop("intermediate_settings")


@pytest.fixture
def _world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_planted(tmp_path / "dataset")


def weighted(*pairs):
    return [{**teacher, "weight": weight} for teacher, weight in pairs]


def test_without_the_setting_there_are_n_teachers_of_one_kind():
    settings = {"teachers": [], "teacher": "BPR", "teacher_settings": {"epochs": 3}}
    one, other = teachers_of({**settings, "n_teachers": 2})
    assert one == other == ("BPR", 1.0, {"epochs": 3}, "teacher_settings.")


@pytest.mark.slow
@pytest.mark.usefixtures("_world")
def test_each_is_trained_by_its_own_settings_and_their_sum_teaches():
    teachers = weighted((GRAPH, 1.0), (SPECTRAL, 0.5), (EASE, 0.25))
    record = run("LightGNN", "planted", settings={**DIRECT, "teachers": teachers})
    rows = {row["key"]: row for row in record["rows"]}
    assert list(rows)[:4] == ["teacher", "teacher-01", "teacher-02", "teachers"]
    assert [row["model"] for row in record["rows"][:3]] == ["LightGNNTeacher", "Spectral", "EASE"]
    assert rows["teachers"]["weights"] == [1.0, 0.5, 0.25]
    alone = run("LightGNN", "planted", settings={**QUICK, "n_pruning_runs": 0})["rows"][0]
    assert rows["teacher"]["valid"] == alone["valid"]
    assert rows["teachers"]["test"] not in [rows[key]["test"] for key in list(rows)[:3]]


@pytest.mark.slow
@pytest.mark.usefixtures("_world")
def test_without_weights_validation_chooses_them_and_leaves_out_what_does_not_help():
    record = run("LightGNN", "planted", settings={**DIRECT, "teachers": [GRAPH, SPECTRAL, EASE]})
    row = next(row for row in record["rows"] if row["key"] == "teachers")
    members = [one for one in record["rows"] if one["key"].startswith("teacher-")]
    best = max(one["valid"]["recall@5"] for one in [record["rows"][0], *members])
    assert row["valid"]["recall@5"] >= best
    assert len(row["weights"]) == 3
    given = [
        {**teacher, "weight": weight}
        for teacher, weight in zip([GRAPH, SPECTRAL, EASE], row["weights"], strict=True)
        if weight
    ]
    if len(given) > 1:
        again = run("LightGNN", "planted", settings={**DIRECT, "teachers": given})
        assert again["rows"][-1]["test"] == record["rows"][-1]["test"]


@pytest.mark.slow
@pytest.mark.usefixtures("_world")
def test_checkpoints_take_the_place_of_the_listed_teachers():
    settings = {**DIRECT, "teachers": weighted((GRAPH, 1.0), (EASE, 0.5))}
    record = run("LightGNN", "planted", settings=settings)
    folder = Path(record["result_file"]).parent
    files = [str(folder / "teacher.safetensors"), str(folder / "teacher-01.pth")]
    again = run("LightGNN", "planted", settings={**settings, "teacher_checkpoint": files})
    assert [row["test"] for row in again["rows"]] == [row["test"] for row in record["rows"]]
    with pytest.raises(InputError, match="teacher_checkpoint has 1 files, and teachers lists 2"):
        run("LightGNN", "planted", settings={**settings, "teacher_checkpoint": files[:1]})


def test_a_weighted_sum_is_the_sum_of_the_weighted_scores(build):
    members = [build("LightGNNTeacher"), build("Pop"), build("BPR")]
    alone = [FrozenTeacher(member) for member in members]
    together = FrozenTeacher(Ensemble(members, [1.0, 0.2, 0.5]), scale="none")
    users, items = torch.arange(1, 20), torch.arange(1, 30)
    parts = zip((1.0, 0.2, 0.5), alone, strict=True)
    expected = sum(weight * one.scores(users, items) for weight, one in parts)
    torch.testing.assert_close(together.scores(users, items), expected, rtol=1e-4, atol=1e-5)
    pairs = together.pair_scores(torch.tensor([3, 5]), torch.tensor([7, 9]))
    torch.testing.assert_close(pairs, expected[[2, 4], [6, 8]], rtol=1e-4, atol=1e-5)
    assert torch.equal(together.initial_embeddings()[0], members[0].user_embedding)
    with pytest.raises(ValueError, match="does not score by two tables"):
        together.model.final_embeddings()


def test_tables_are_concatenated_with_the_weights(build):
    members = [build("LightGNNTeacher"), build("BPR")]
    whole = Ensemble(members, [1.0, 0.5])
    user, item = whole.final_embeddings()
    alone = [FrozenTeacher(member) for member in members]
    users, items = torch.arange(1, 9), torch.arange(1, 7)
    expected = alone[0].scores(users, items) + 0.5 * alone[1].scores(users, items)
    torch.testing.assert_close(user[1:9] @ item[1:7].T, expected, rtol=1e-4, atol=1e-5)


EXAMPLE = r"write --teachers=\"\[\{model: LightGNNTeacher\}, \{model: Spectral\}\]\""


@pytest.mark.usefixtures("_world")
@pytest.mark.parametrize(
    ("teachers", "message"),
    [
        ("EASE", f"teachers must be a list of mappings, got 'EASE': {EXAMPLE}"),
        ([{"weight": 1}], r"teachers\[0\] must be a mapping with a model"),
        (["EASE"], r"teachers\[0\] must be a mapping with a model, got 'EASE'"),
        ([{"model": "EASY"}], r"teachers\[0\].model: no model is named 'EASY'.*'EASE'"),
        ([{"model": "LightGNN"}], r"teachers\[0\].model must be a general recommender that needs"),
        ([{"model": "UnKD"}], r"teachers\[0\].model must be a general recommender that needs no"),
        ([{"model": "EASE", "weight": 0}], r"teachers\[0\].weight must be a number > 0, got 0"),
        ([{"model": "EASE", "weight": "x"}], r"teachers\[0\].weight must be a number > 0"),
        ([{"model": "EASE", "weight": True}], r"teachers\[0\].weight must be a number > 0"),
        ([{"model": "EASE", "weight": 1}, {"model": "BPR"}], "every teacher has a weight, or none"),
        ([EASE, SPECTRAL, EASE], r"teachers\[2\] is equal to an earlier teacher, and would be th"),
        ([GRAPH, {**SPECTRAL, "embeding_size": 3}], r"unknown setting teachers\[1\].embeding_size"),
        ([{**SPECTRAL, "embedding_size": 0}], r"teachers\[0\].embedding_size must be an integer"),
        ([{**GRAPH, "topk": [3]}], r"teachers\[0\].topk is not a stage's own setting"),
        ([{**GRAPH, "n_teachers": 2}], r"teachers\[0\].n_teachers is not a stage's own setting"),
        ([{**EASE, "learning_rate": 0.1}], r"teachers\[0\].learning_rate .* would have no effect"),
    ],
    ids=str,
)
def test_wrong_lists_are_refused(teachers, message):
    with pytest.raises(InputError, match=message):
        configure("LightGNN", "planted", settings={**DIRECT, "teachers": teachers})


@pytest.mark.usefixtures("_world")
@pytest.mark.parametrize(
    ("key", "value"),
    [("teacher", "BPR"), ("teacher_settings", {"epochs": 3}), ("n_teachers", 2)],
)
def test_settings_of_a_single_teacher_beside_the_list_are_refused(key, value):
    settings = {**DIRECT, "teachers": [GRAPH, EASE], key: value}
    with pytest.raises(InputError, match=rf"{key} .* as teachers lists the teachers: leave one"):
        configure("LightGNN", "planted", settings=settings)


@pytest.mark.usefixtures("_world")
def test_a_model_that_needs_tables_refuses_a_listed_teacher_without_them():
    settings = quick_settings(teachers=[{"model": "BPR"}, EASE])
    own = {key: settings[key] for key in ("show_progress", "topk", "valid_metric", "teachers")}
    with pytest.raises(InputError, match=r"GraphDA needs the final .* EASE gives only scores"):
        configure("GraphDA", "planted", settings=own)


@pytest.mark.usefixtures("_world")
def test_weights_that_validation_cannot_choose_are_refused_before_the_training():
    settings = {**DIRECT, "teachers": [GRAPH, EASE], "eval_args.mode": "uni50"}
    with pytest.raises(
        InputError, match="not by Recall@5 here: give each of the teachers a weight"
    ):
        run("LightGNN", "planted", settings=settings)
    assert not list(Path("saved").glob("*/teacher*"))
