"""Studies and ablations of earlier versions, which have old names of settings, are continued."""

import json
from pathlib import Path

import pytest
from helpers.old_names import OLD_NAME, age_journal, age_json
from helpers.planted import write_planted
from helpers.tuned import TEACHER, record, space, tune

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.tuning.search import Search

SPACE = "batch_by: {choices: [interaction, user]}\nranking_self_weight: {low: 0.5, high: 2}\n"
JOURNAL = Path("tuning/LightGNNTeacher-planted.log")


@pytest.fixture(autouse=True)
def _world(tmp_path):
    write_planted(tmp_path / "dataset")


def has_names(file, names):
    """Those of some names of settings that a file contains."""
    text = file.read_text()
    return [name for name in names if f'"{name}"' in text or f'.{name}"' in text]


# --- tune -------------------------------------------------------------------------------------


def opened(name=None):
    """A search of the settings in `SPACE`; nothing is trained."""
    space(SPACE)
    return Search(
        "LightGNNTeacher",
        "planted",
        config_files=[],
        settings={"state": "warning"},
        space=Path("space.yaml"),
        name=name,
        storage=None,
        environment=lambda device: {"device": device},
    )


def draw_until(search, number):
    """Draw trials and give them made-up scores; returns the settings of all trials."""
    while len(search.trials("finished")) < number:
        trial = search._next_trial(None)
        weight, by_user = trial.params["ranking_self_weight"], trial.params["batch_by"] == "user"
        search.study.tell(trial, weight + by_user)
        search.locks.release(trial.number)
    return [trial.params for trial in search.study.trials]


def test_a_study_draws_the_same_settings_after_its_names_were_changed():
    """Optuna draws 10 trials at random; each later one depends on all earlier ones."""
    whole = opened("whole")
    expected = draw_until(whole, 16)
    whole.close()
    assert len({trial["batch_by"] for trial in expected}) == 2
    search = opened()
    draw_until(search, 12)
    search.close()
    age_journal(JOURNAL)
    assert has_names(JOURNAL, OLD_NAME.values()) == list(OLD_NAME.values())
    assert has_names(JOURNAL, OLD_NAME) == []
    search = opened()
    assert draw_until(search, 16) == expected
    search.close()
    search = opened()  # the journal has old names, then new ones
    assert [trial.params for trial in search.trials("finished")] == expected
    search.close()


def test_trials_that_wait_or_were_killed_are_run_with_their_settings():
    search = opened()
    killed = search._next_trial(None).params
    search.study.enqueue_trial({"batch_by": "user", "ranking_self_weight": 0.75})
    search.close()  # as the system closes the files of a killed process
    age_journal(JOURNAL)
    search = opened()
    assert search._next_trial(None).params == {"batch_by": "user", "ranking_self_weight": 0.75}
    assert search._next_trial(None).params == killed
    search.close()


def test_the_command_continues_a_study_and_its_record_has_todays_names():
    space(SPACE.replace("interaction, ", ""))
    assert tune(*TEACHER, "--trials=1") == 0
    before = record()
    age_journal(JOURNAL)
    space("batches: {choices: [users]}\nranking_own: {low: 0.5, high: 2}\n")
    assert tune(*TEACHER, "--trials=2") == 0
    after = record()
    assert [trial["state"] for trial in after["trials"]] == ["finished", "finished"]
    assert after["trials"][0] == before["trials"][0]
    assert {key: after[key] for key in ("space", "settings")} == {
        key: before[key] for key in ("space", "settings")
    }
    assert after["trials"][1]["settings"].keys() == {"batch_by", "ranking_self_weight"}


# --- ablate -----------------------------------------------------------------------------------

OUT = Path("out")
ABLATE = ["ablate", "--dataset=planted", "--variants=variants.yaml", "--out=out"]
ABLATE += ["--topk=[5,20]", "--valid_metric=Recall@5", "--embedding_size=16", "--epochs=2"]
ABLATE += ["--n_pruning_runs=1", "--use_intermediate=False", "--seed=1"]
ABLATE += ["--teacher_settings.embedding_size=16", "--teacher_settings.epochs=1"]
NEW = ["--teacher_settings.batch_by=user", "--teacher_scale=std"]
OLD = ["--teacher_settings.batches=users", "--teacher_scale=spread"]
VARIANTS = (
    "by interaction: {teacher_settings.batch_by: interaction}\nno scale: {teacher_scale: none}"
)


def test_an_ablation_is_continued_and_nothing_is_run_again(capsys):
    Path("variants.yaml").write_text(VARIANTS, encoding="utf-8")
    assert main([*ABLATE, *NEW, "--only=by interaction"]) == 0
    files = [OUT / f"{name}.json" for name in ("study", "all", "by-interaction")]
    before = [json.loads(file.read_text()) for file in files]
    for file in files:
        age_json(file)
        assert {"batches"} <= set(has_names(file, OLD_NAME.values()))
        assert has_names(file, OLD_NAME) == []
    Path("variants.yaml").write_text(
        VARIANTS.replace("batch_by: interaction", "batches: interactions"), encoding="utf-8"
    )
    capsys.readouterr()
    assert main([*ABLATE, *OLD]) == 0
    printed = capsys.readouterr().out
    assert "/3 all" not in printed
    assert "/3 by interaction" not in printed
    assert "3/3 no scale\n" in printed
    study = json.loads(files[0].read_text())
    assert study["settings"] == before[0]["settings"]
    assert study["variants"] == before[0]["variants"] | {"no scale": {"teacher_scale": "none"}}
    results = json.loads((OUT / "ablation.json").read_text())
    assert [result["variant"] for result in results] == ["all", "by interaction", "no scale"]


def test_an_ablation_with_other_settings_is_still_refused(capsys):
    Path("variants.yaml").write_text(VARIANTS, encoding="utf-8")
    assert main([*ABLATE, *NEW, "--only=by interaction"]) == 0
    age_json(OUT / "study.json")
    assert main([*ABLATE, "--teacher_settings.batch_by=user", "--teacher_scale=none"]) == 2
    assert "out holds a study of other settings" in capsys.readouterr().err
    age_json(OUT / "all.json")
    content = json.loads((OUT / "all.json").read_text())
    content["settings"]["teacher_scale"] = "none"
    (OUT / "all.json").write_text(json.dumps(content))
    assert main([*ABLATE, *NEW]) == 2
    assert "all.json is the record of a run with other teacher_scale:" in capsys.readouterr().err
