"""``recipe: auto``: a search on validation finds the teachers of a student, on any dataset."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from helpers.planted import seal_test_split, write_planted

from recbole_lightgnn.data.loaders import load_data
from recbole_lightgnn.data.pairs import import_pairs
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.quick_start import choose, configure, run
from recbole_lightgnn.trainer.evaluation import FullRanking
from recbole_lightgnn.trainer.stage_trainer import StageTrainer
from recbole_lightgnn.trainer.teacher_search import _fits, _sample
from recbole_lightgnn.trainer.training import Training
from recbole_lightgnn.tuning.search import Search

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SHARED = {"show_progress": False, "topk": [5, 20], "valid_metric": "Recall@5", "n_pruning_runs": 1}
AUTO = SHARED | {"recipe": "auto", "search_trials": 3, "embedding_size": 16, "epochs": 2}


@pytest.fixture(autouse=True)
def _world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_planted(tmp_path / "dataset")


def results(record):
    """Each row's key, model, weights and metrics."""
    keys = ("key", "model", "weights", "valid", "test")
    return [{key: row[key] for key in keys if key in row} for row in record["rows"]]


def folder_of(record):
    return Path(record["result_file"]).parent


@pytest.fixture
def searched():
    return run("LightGNN", "planted", settings=AUTO)


def test_the_student_learns_from_the_best_sum(searched):
    *teachers, _, last = searched["rows"]
    tried = teachers[0]["search"]
    assert [one["model"] for one in tried[:3]] == ["LightGNNTeacher"] * 3
    assert {one["model"] for one in tried[3:]} == {"Spectral", "RP3beta", "EASE"}
    best = max(one["score"] for one in tried)
    assert max(row["valid"]["recall@5"] for row in teachers) >= best
    assert last["key"] == "student-01"
    assert last["entries_kept"] == pytest.approx(0.8, abs=0.01)
    if len(teachers) > 1:
        assert teachers[-1]["key"] == "teachers"
        assert len(teachers[-1]["weights"]) == len(teachers) - 1
    assert not list(folder_of(searched).glob("trial-*"))  # their files are removed


def test_the_settings_that_were_found_give_the_same_run_without_a_search(searched, monkeypatch):
    found = yaml.safe_load((folder_of(searched) / "recipe.yaml").read_text(encoding="utf-8"))
    assert found["recipe"] == "auto"
    monkeypatch.setattr("recbole_lightgnn.trainer.staged.TeacherSearch", None)
    files = [folder_of(searched) / "recipe.yaml"]
    again = run("LightGNN", "planted", settings=AUTO, config_files=files)
    assert results(again) == results(searched)
    assert "search" not in again["rows"][0]


def test_the_same_number_of_trials_gives_the_same_settings(searched):
    again = run("LightGNN", "planted", settings=AUTO)
    assert results(again) == results(searched)
    texts = [(folder_of(one) / "recipe.yaml").read_text() for one in (searched, again)]
    assert texts[0] == texts[1]


def test_the_search_and_the_student_never_see_the_test_split(monkeypatch):
    seal_test_split(monkeypatch)
    assert choose("LightGNN", "planted", settings=AUTO)["score"] > 0


def test_a_finished_search_is_not_repeated(searched, monkeypatch):
    monkeypatch.setattr("recbole_lightgnn.trainer.teacher_search.propose", None)
    again = run("LightGNN", "planted", settings=AUTO, resume=True)
    assert results(again) == results(searched)


def test_a_refit_takes_the_teachers_that_were_found(searched):
    refit = run("LightGNN", "planted", settings={**AUTO, "refit": True})
    assert [row["key"] for row in refit["rows"]] == [row["key"] for row in searched["rows"]]
    assert [row["valid"] for row in refit["rows"]] == [row["valid"] for row in searched["rows"]]
    assert refit["rows"][-1]["refit_seconds"] > 0


def test_no_trial_begins_after_the_time_is_over():
    (first, *_), *_ = [
        run("LightGNN", "planted", settings={**AUTO, "search_minutes": 1e-6})["rows"]
    ]
    trained = [one for one in first["search"] if one["model"] == "LightGNNTeacher"]
    assert len(trained) == 1


def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(monkeypatch):
    fit = Training.fit

    def fails_once(self, train_data):
        if self.label.key == "trial-00":
            raise InputError("the loss is not a number")
        return fit(self, train_data)

    monkeypatch.setattr(Training, "fit", fails_once)
    first = run("LightGNN", "planted", settings=AUTO)["rows"][0]
    assert first["search"][0]["error"] == "the loss is not a number"
    assert first["search"][0]["score"] is None
    assert first["search"][1]["score"] > 0


def test_if_every_trial_fails_the_run_says_why(monkeypatch):
    def fails(self, train_data):
        raise InputError("the loss is not a number")

    monkeypatch.setattr(Training, "fit", fails)
    monkeypatch.setattr("recbole_lightgnn.trainer.teacher_search._SOLVED", {})
    with pytest.raises(InputError, match="no trial of the search succeeded; the loss is not a num"):
        run("LightGNN", "planted", settings=AUTO)


def write_table(name, lines):
    Path(f"{name}.csv").write_text("\n".join(["user,item", *lines]), encoding="utf-8")
    import_pairs(Path(f"{name}.csv"), name, Path("dataset"), overwrite=False)


def test_with_few_validation_users_the_plainest_settings_are_taken(caplog):
    write_table("few", [f"u{u},i{(3 * u + n) % 9}" for u in range(10) for n in range(5)])
    (first, *rest) = run("LightGNN", "few", settings={**AUTO, "state": "INFO"})["rows"]
    assert "too few to compare settings: the search tries only the plainest ones" in caplog.text
    assert len(first["search"]) == 1
    assert [row["key"] for row in rest] == ["student-00", "student-01"]


def test_another_teacher_beside_the_search_is_refused():
    for key, value in {"teacher": "BPR", "n_teachers": 2, "teacher_settings.epochs": 3}.items():
        with pytest.raises(InputError, match="would have no effect as recipe=auto searches"):
            configure("LightGNN", "planted", settings={**AUTO, key: value})
    with pytest.raises(InputError, match=r"search_trials \(3\) would have no effect without a sea"):
        configure("LightGNN", "planted", settings={**SHARED, "search_trials": 3})


def test_a_checkpoint_takes_the_place_of_the_search(searched):
    file = str(folder_of(searched) / "teacher.safetensors")
    again = run("LightGNN", "planted", settings={**AUTO, "teacher_checkpoint": file})
    assert again["rows"][0]["valid"] == searched["rows"][0]["valid"]
    assert json.loads(Path(again["result_file"]).read_text())["rows"][0]["checkpoint"] == file


def test_with_sampled_rankings_the_best_trial_is_the_teacher():
    settings = {**AUTO, "eval_args.mode": "uni50"}
    (first, *rest) = run("LightGNN", "planted", settings=settings)["rows"]
    assert len(first["search"]) == 3
    assert [row["key"] for row in rest] == ["student-00", "student-01"]


def test_a_wide_student_gets_teachers_as_wide():
    settings = {**AUTO, "search_trials": 1, "embedding_size": 80}
    first = run("LightGNN", "planted", settings=settings)["rows"][0]
    assert first["search"][0]["settings"]["embedding_size"] == 80


def test_comparing_embeddings_of_teachers_of_any_width_is_refused():
    with pytest.raises(InputError, match="recipe=auto finds teachers of any width: set embedding_"):
        configure("LightGNN", "planted", settings={**AUTO, "embedding_kd_weight": 0.1})


def test_a_search_of_settings_and_an_ablation_have_no_search_in_each_training():
    write_table("other", [f"u{u},i{(3 * u + n) % 19}" for u in range(70) for n in range(8)])
    assert configure("LightGNN", "other")["recipe"] == "auto"
    space = Path("space.yaml")
    space.write_text("learning_rate: {low: 0.001, high: 0.01}", encoding="utf-8")
    search = Search(
        *("LightGNN", "other"), config_files=(), settings={"show_progress": False}, space=space,
        name="s", storage=None, environment=lambda device: {},
    )  # fmt: skip
    assert search.settings["recipe"] == "default"


def test_trials_on_large_data_are_compared_on_some_of_the_users(monkeypatch):
    config = configure("LightGNNTeacher", "planted", settings={"topk": [5, 20]})
    valid = load_data(config)[1]
    assert _sample(valid) is valid
    monkeypatch.setattr("recbole_lightgnn.trainer.teacher_search._MOST_SCORES", 61 * 20)
    monkeypatch.setattr("recbole_lightgnn.trainer.teacher_search._SAMPLED_USERS", 10)
    sample = _sample(valid)
    users = sample.uid_list.tolist()
    assert len(set(users)) == len(users) == 20
    assert set(users) < set(valid.uid_list.tolist())
    assert (users[0], users[-1]) == (valid.uid_list[0], valid.uid_list[-1])
    draw = torch.Generator().manual_seed(0)
    tables = [torch.randn(n, 4, generator=draw) for n in (valid._dataset.user_num, 61)]
    whole, part = (
        FullRanking(data, ["recall"], [5], torch.device("cpu")) for data in (valid, sample)
    )
    hits = dict(zip(valid.uid_list.tolist(), whole.rank(*tables)[1], strict=True))
    assert [hits[user].tolist() for user in users] == part.rank(*tables)[1].tolist()
    ranked, rank = [], StageTrainer._rank

    def spied(trainer, model, data):
        ranked.append((type(model).__name__, len(data.uid_list)))
        return rank(trainer, model, data)

    monkeypatch.setattr(StageTrainer, "_rank", spied)
    searched = run("LightGNN", "planted", settings=AUTO)["rows"]
    assert searched[-1]["key"] == "student-01"
    first_sum = next(number for number, one in enumerate(ranked) if one[0] == "Ensemble")
    trials = [size for name, size in ranked[:first_sum] if name in ("LightGNNTeacher", "Spectral")]
    whole = len(valid.uid_list)
    assert trials.count(20) > 20, "trials and their rankings"
    assert trials.count(whole) <= 4, "the teachers that were found"
    assert {size for name, size in ranked if name == "LightGNN"} >= {whole}
    assert searched[0]["curve"]["score"] == [searched[0]["valid"]["recall@5"]]


def test_spectral_is_not_computed_where_its_tables_would_be_large():
    assert _fits({"embedding_size": 128}, 100_000, 100_000)
    assert not _fits({"embedding_size": 256}, 100_000, 100_000)
    assert not _fits({"embedding_size": 64}, 64, 100)
    assert _fits({"beta": 0.2}, 10**7, 10**7)


def test_a_catalogue_shorter_than_the_ranked_list():
    """RecBole's evaluator cannot rank it, so models without tables are left out or refused."""
    write_table("short", [f"u{u},i{(u * n + n * n) % 17}" for u in range(120) for n in range(1, 7)])
    settings = {**AUTO, "topk": [5, 40]}
    rows = run("LightGNN", "short", settings=settings)["rows"]
    assert {one["model"] for one in rows[0]["search"]} == {"LightGNNTeacher", "Spectral"}
    assert rows[-1]["test"]["recall@40"] == 1
    message = "topk is 40, but 'short' has only 17 items; .* cannot rank more items than there are"
    plain = SHARED | {"topk": [5, 40], "epochs": 1}
    del plain["n_pruning_runs"]
    with pytest.raises(InputError, match=message):
        run("RP3beta", "short", settings=plain)
    taught = {**plain, "use_intermediate": False, "teachers": [{"model": "RP3beta"}]}
    with pytest.raises(InputError, match=message):
        run("LightGNN", "short", settings=taught)
