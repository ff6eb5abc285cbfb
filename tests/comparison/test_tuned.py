"""`recbole-lightgnn compare --tune-trials`: the same search for every model before its runs."""

import json
import sys
from pathlib import Path

import pytest
from helpers.compared import change, write
from helpers.comparing import OUT, begun, compare, process, table, timeless, wait_for
from helpers.planted import write_planted

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.comparison.layout import study_folder
from recbole_lightgnn.comparison.plan import make_plan
from recbole_lightgnn.comparison.popularity_score import with_popularity
from recbole_lightgnn.comparison.runner import _note_failure, _prepare
from recbole_lightgnn.comparison.study import Budget, Study

# BPR with one number a user and almost no training; popularity has .3667 on planted.
AT_CHANCE = ["--BPR.embedding_size=1", "--BPR.epochs=1", "--BPR.learning_rate=1e-9"]


@pytest.fixture(autouse=True)
def _world(tmp_path):
    write_planted(tmp_path / "dataset")


def plan(models, budget, **given):
    given = {key.replace("__", "."): value for key, value in given.items()}
    return make_plan(
        "planted", models, [1], OUT, given=given, rows=None, variants={}, budget=budget
    )


def content(file):
    return json.loads((OUT / file).read_text())


# --- real searches ------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_twice_and_given_again_it_ends_with_the_same_table():
    Path("small.yaml").write_text("Small: {model: BPR, embedding_size: 8}\n")
    rest = ["--tune-trials=3", "--variants=small.yaml", "--LightGCN.epochs=20"]
    rest.append("--Small.epochs=3")

    def killed(condition):
        comparison = process("LightGCN,Small,Pop", *rest)
        wait_for(condition)
        comparison.kill()
        return begun(comparison.communicate()[0])

    def in_a_search():
        """Whether the second trial has begun its training."""
        journal = study_folder(OUT, "LightGCN").journal
        return journal.is_file() and journal.read_text().count('"user_attr":{"settings":') == 2

    assert not killed(in_a_search)
    assert not (OUT / "studies/LightGCN/chosen.json").exists()
    first = killed(lambda: (OUT / "runs/Small-1/asked.json").exists())
    assert first[0] == ("LightGCN seed 1", "begins")
    again = process("LightGCN,Small,Pop", *rest)
    told, errors = again.communicate()
    assert again.returncode == 0, errors
    assert "search" not in told.split("3 models x 1 seeds")[0], "the searches were finished before"
    assert "LightGCN seed 1: begins" not in told

    whole = process("LightGCN,Small,Pop", *rest, out="whole")
    _, errors = whole.communicate()
    assert whole.returncode == 0, errors
    assert timeless() == timeless("whole")
    for name in ("LightGCN", "Small"):
        chosen = [study_folder(out, name).record() for out in (OUT, Path("whole"))]
        assert chosen[0] | {"seconds": 0} == chosen[1] | {"seconds": 0}
        settings = content(f"runs/{name}-1/record.json")["settings"]
        assert chosen[0]["settings"].items() <= settings.items()
    states = [trial["state"] for trial in study_folder(OUT, "LightGCN").trials()["trials"]]
    assert states == ["finished", "killed", "finished", "finished"]
    sources = {name: line["settings"] for name, line in table().items()}
    tuned = dict.fromkeys(("LightGCN", "Small"), "tuned, 3 trials")
    assert sources == tuned | {"Pop": "not tuned"}
    assert content("comparison.json")["popularity"] == pytest.approx(
        content("runs/Pop-1/record.json")["best_valid"]["recall@20"], rel=1e-12
    )


@pytest.mark.slow
def test_a_model_at_chance_is_named_in_log_and_tables_with_what_to_try(capsys):
    assert compare("BPR,EASE,Pop", *AT_CHANCE) == 0
    told = capsys.readouterr().out
    warning = "not above popularity (validation recall@20 0.3519, popularity 0.3667): try a search "
    warning += "(--tune-trials), or other values of learning_rate, weight_decay, train_batch_size"
    assert f"BPR seed 1: {warning}\n" in told
    assert f"- BPR: {warning}.\n" in (OUT / "table.md").read_text()
    assert {name: line["warning"] for name, line in table().items()} == {
        "BPR": warning,
        "EASE": "",
        "Pop": "",
    }
    assert f"<li>BPR: {warning}.</li>" in (OUT / "index.html").read_text()
    assert (
        r"BPR: not above popularity (validation recall@20 0.3519" in (OUT / "table.tex").read_text()
    )
    assert told.count("not above popularity") == 2, "once in the log, once in the table"


@pytest.mark.slow
def test_a_failed_search_is_reported_the_others_go_on_and_it_begins_anew_in_the_end(capsys):
    command = ["--tune-trials=1", "--BPR.learning_rate=1e30", "--BPR.epochs=4"]
    reason = "every trial failed (1); the last: BPR cannot be ranked, scores must be finite"
    told = []
    for _ in range(3):
        assert compare("BPR,Pop", *command) == 1
        printed = capsys.readouterr()
        told += [line for line in printed.out.splitlines() if line.startswith("BPR search: ")]
        assert f"1 of 2 runs failed: BPR seed 1 (its search failed: {reason}" in printed.err
    starts = [line for line in told if "failed" not in line]
    assert starts == [f"BPR search: {how}" for how in ("begins", "goes on", "begins")]
    assert table()["BPR"]["problems"].startswith(f"seed 1 not done, its search failed: {reason}")
    assert table()["BPR"]["settings"] == "not tuned"
    assert float(table()["Pop"]["recall@20_mean"]) > 0


# --- the plan -----------------------------------------------------------------------------------


def test_models_with_a_search_space_are_searched_unless_all_of_it_is_given():
    given = {"BPR__learning_rate": 0.1, "IALS__embedding_size": 8}
    given |= {"IALS__unobserved_weight": 0.1, "IALS__reg_weight": 0.1}
    found = plan(["BPR", "IALS", "SLIMElastic", "Pop"], Budget(2, None), **given)
    assert [study.name for study in found.searches] == ["BPR"]
    assert [run.name for run in found.ready] == ["IALS", "SLIMElastic", "Pop"]
    assert set(found.settings_source.values()) == {"not tuned"}
    command = found.searches[0].command(resumed=False)
    assert {"--learning_rate=0.1", "--trials=2", "--study=BPR", "--seed=2020"} <= set(command)


def test_a_model_that_searches_in_its_runs_has_no_other_search_but_the_same_budget():
    found = plan(["LightGNN", "SoftmaxLightGCN"], Budget(4, 3.5), LightGNN__recipe="auto")
    assert [study.name for study in found.searches] == ["SoftmaxLightGCN"]
    assert found.settings_source == {"LightGNN": "tuned", "SoftmaxLightGCN": "not tuned"}
    run = found.ready[0]
    assert {"--search_trials=4", "--search_minutes=3.5"} <= set(run.command(resumed=False))
    assert found.given == {"accelerate": True, "LightGNN.recipe": "auto"}
    searched = plan(["LightGNN"], Budget(4, None), LightGNN__recipe="default")
    assert [study.name for study in searched.searches] == ["LightGNN"]


@pytest.mark.parametrize(
    ("budget", "given", "limits"),
    [
        (Budget(4, None), {}, (4, 1e6)),
        (Budget(None, 2.5), {}, (1_000_000, 2.5)),
        (Budget(4, 2.5), {"search_trials": 2}, (2, 2.5)),
        (Budget(4, 2.5), {"LightGNN__search_minutes": 1.0}, (4, 1.0)),
        (None, {}, (24, 10.0)),
    ],
)
def test_a_limit_that_is_not_given_does_not_end_the_search_in_a_run(budget, given, limits):
    found = plan(["LightGNN"], budget, LightGNN__recipe="auto", **given)
    settings = found.ready[0].settings
    assert (settings["search_trials"], settings["search_minutes"]) == limits
    assert found.settings_source == {"LightGNN": "tuned"}
    by_hand = plan(["LightGNN"], budget, LightGNN__recipe="auto", LightGNN__epochs=3, **given)
    assert by_hand.settings_source == {"LightGNN": "by hand"}


def test_runs_have_the_settings_that_were_chosen():
    budget = Budget(1, None)
    plan(["LightGCN"], budget).begin()
    chosen = {"settings": {"n_layers": 1, "reg_weight": 0.25}, "trials": 1, "seconds": 1.0}
    chosen |= {"valid_metric": "recall@20", "best_valid": {"recall@20": 0.5}}
    write(study_folder(OUT, "LightGCN").record_file, chosen)
    found = plan(["LightGCN"], budget)
    (run,) = found.ready
    assert {"--n_layers=1", "--reg_weight=0.25"} <= set(run.command(resumed=False))
    assert (run.settings["n_layers"], run.settings["reg_weight"]) == (1, 0.25)
    assert found.settings_source == {"LightGCN": "tuned, 1 trial"}
    assert found.searches[0].settings["n_layers"] == 2, "the search was begun with the default"


@pytest.mark.parametrize(
    ("begun_with", "given", "said"),
    [
        (None, ["--tune-trials=2"], "begun without a search, not with --tune-trials=2: give the"),
        (Budget(2, None), [], "begun with --tune-trials=2, not without a search: give the command"),
        (
            Budget(2, None),
            ["--tune-trials=3", "--tune-minutes=1"],
            "begun with --tune-trials=2, not with --tune-trials=3 --tune-minutes=1.0: give the",
        ),
    ],
)
def test_a_comparison_goes_on_only_with_the_search_that_it_was_begun_with(
    begun_with, given, said, capsys
):
    plan(["Pop"], begun_with).begin()
    assert compare("Pop", *given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --out out has a comparison that was {said}")


def test_a_comparison_of_an_earlier_version_is_continued():
    plan(["Pop"], None).begin()
    change(OUT / "comparison.json", "search", "popularity")
    found = with_popularity(plan(["Pop"], None))
    assert found.popularity == pytest.approx(0.36667, abs=1e-5)
    found.begin()
    assert content("comparison.json")["popularity"] == found.popularity


@pytest.mark.parametrize("search", ["5", {"trials": 5}, []])
def test_a_damaged_search_is_refused(search, capsys):
    plan(["Pop"], None).begin()
    change(OUT / "comparison.json", search=search)
    assert compare("Pop") == 2
    assert "damaged (search must have trials and minutes, got" in capsys.readouterr().err
    assert main(["report", "out"]) == 2


def test_without_optuna_the_extra_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert compare("Pop", "--tune-trials=2") == 2
    error = capsys.readouterr().err
    assert "--tune-trials=2 needs Optuna, which is not installed: pip install" in error


@pytest.mark.parametrize("flag", ["--tune-trials=0", "--tune-trials=x", "--tune-minutes=0"])
def test_limits_that_are_no_limits(flag, capsys):
    assert compare("Pop", flag) == 2
    assert "expected a " in capsys.readouterr().err
    assert not OUT.exists()


# --- one study ----------------------------------------------------------------------------------


@pytest.fixture
def study():
    return Study("BPR", "BPR", "planted", {}, {"a": 1}, study_folder(OUT, "BPR"), Budget(None, 2))


def trials(study, *states):
    """Write trials of 30 seconds; the scores rise."""
    rows = [
        {"state": state, "settings": {"n": n}, "seconds": 30.0, "valid": {"recall@20": n / 10}}
        for n, state in enumerate(states)
    ]
    best = max((n for n, state in enumerate(states) if state == "finished"), default=None)
    found = {"best": best, "valid_metric": "recall@20", "trials": rows}
    write(study.folder.trials_file, found)
    study.folder.journal.touch()


def test_the_time_of_earlier_processes_counts(study):
    assert "--minutes=2.0" in study.command(resumed=False)
    trials(study, "finished", "failed", "killed")
    assert "--minutes=1.0" in study.command(resumed=True)
    trials(study, *["finished"] * 5)
    assert "--minutes=1e-09" in study.command(resumed=True)


def test_the_best_settings_are_written_once_the_process_has_ended_well(study):
    trials(study, "finished", "finished", "failed", "killed", "running")
    log = study.folder.log_file
    log.write_text("error: no memory\n")
    assert _note_failure(study, 1, None) == "no memory"
    assert study.record() is None
    assert study.settings_source() == "not tuned"
    assert _prepare(study) == [3]
    assert _note_failure(study, 0, [3]) is None
    assert study.record()["settings"] == {"n": 1}
    assert study.record()["best_valid"] == {"recall@20": 0.1}
    assert study.settings_source() == "tuned, 3 trials"


def test_a_search_without_a_finished_trial_has_failed(study):
    trials(study, "killed")
    study.folder.log_file.write_text("0 trials finished, 0 failed\n")
    assert _note_failure(study, 0, None).endswith("of its log: 0 trials finished, 0 failed")


def test_a_search_that_was_begun_with_other_settings_is_refused(capsys):
    found = plan(["BPR"], Budget(1, None))
    found.begin()
    found.searches[0].begin()
    assert compare("BPR", "--tune-trials=1", "--BPR.learning_rate=0.5") == 2
    error = capsys.readouterr().err
    assert "out/studies/BPR was begun with other settings (learning_rate): go on with" in error


def test_an_archive_has_the_studies_and_can_be_continued(study, capsys):
    plan(["BPR", "Pop"], Budget(None, 2)).begin()
    trials(study, "finished")
    study.begin()
    study.conclude()
    assert main(["report", str(OUT), "--archive", "kept"]) == 0
    names = {str(file.relative_to("kept/studies")) for file in Path("kept/studies").rglob("*.*")}
    assert names == {f"BPR/{name}" for name in ("asked.json", "chosen.json", "saved/BPR.json")}
    assert json.loads(Path("kept/comparison.json").read_text())["search"]["minutes"] == 2
    assert (
        "| BPR | matrix factorization | not tuned | seed 1 not done yet |"
        in capsys.readouterr().out
    )
