"""``recbole-lightgnn tune`` on the planted dataset, with unmodified Optuna."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import optuna
import pytest
import yaml
from helpers.paths import HELPERS
from helpers.planted import seal_test_split, write_planted
from helpers.tuned import SHIPPED, TEACHER, TWO_RATES, record, space, tune
from optuna.trial import create_trial

from recbole_lightgnn import quick_start
from recbole_lightgnn.cli.main import main
from recbole_lightgnn.registry import properties_dir
from recbole_lightgnn.tuning.search import Search
from recbole_lightgnn.tuning.space import read_space, samples, settle
from recbole_lightgnn.tuning.trial_states import MOST_KILLS, reason_of, state_of

PROCESS = HELPERS / "tuning_process.py"
EASE = [
    "-m",
    "EASE",
    "-d",
    "planted",
    "--space=space.yaml",
    "--topk=[5]",
    "--valid_metric=Recall@5",
]
# LightGNN in a second.
SHORT = ["--trials=1", "--n_pruning_runs=0", "--use_intermediate=False"]
SHORT += ["--teacher_settings.epochs=1", "--teacher_settings.embedding_size=64"]
WEIGHTS = "reg_weight: {low: 0.1, high: 1000, log: true}\n"


@pytest.fixture(autouse=True)
def _world(tmp_path):
    write_planted(tmp_path / "dataset")


def teacher(text=TWO_RATES, name=None, **changes):
    """A search of LightGNNTeacher."""
    space(text)
    settings = {"epochs": 1, "embedding_size": 8, "state": "warning", "show_progress": False}
    return Search(
        "LightGNNTeacher",
        "planted",
        config_files=[],
        settings=settings | changes,
        space=Path("space.yaml"),
        name=name,
        storage=None,
        environment=lambda device: {"device": device},
    )


# --- results ----------------------------------------------------------------------------------


def test_the_better_settings_are_found_and_their_command_repeats_the_score(capsys):
    space(TWO_RATES + "temperature: {low: 0.2, high: 0.4}\n")
    assert tune(*TEACHER, "--trials=5") == 0
    found = record()
    scores = {t["number"]: t["score"] for t in found["trials"]}
    rates = {t["settings"]["learning_rate"] for t in found["trials"]}
    best = found["trials"][found["best"]]
    assert rates == {0.02, 1e-7}
    assert best["settings"]["learning_rate"] == 0.02
    assert best["score"] == max(scores.values()) == best["valid"]["recall@5"]
    printed = capsys.readouterr().out
    (command,) = (line for line in printed.splitlines() if line.startswith("recbole-lightgnn run"))
    assert main([*shlex.split(command)[1:], "--result_file=best.json"]) == 0
    assert json.loads(Path("best.json").read_text())["best_valid"] == best["valid"]
    lines = yaml.safe_load(printed.split("\n\n")[2])
    assert lines == best["settings"]


def test_the_record_says_what_every_trial_was():
    space(WEIGHTS)
    assert tune(*EASE, "--trials=2", "--seed=7", "--study=mine", "--storage=here/x.log") == 0
    found = json.loads(Path("here/mine.json").read_text())
    assert (found["study"], found["model"], found["dataset"]) == ("mine", "EASE", "planted")
    assert (found["seed"], found["valid_metric"]) == (7, "recall@5")
    assert found["space"] == {"reg_weight": {"low": 0.1, "high": 1000, "log": True, "step": None}}
    assert found["settings"]["topk"] == [5]
    assert "reg_weight" not in found["settings"]
    whole = quick_start.run("EASE", "planted")["dataset_fingerprint"]
    assert whole == found["dataset_fingerprint"] | {"card_sha256": whole["card_sha256"]}
    for trial in found["trials"]:
        assert (trial["state"], trial["seed"], trial["reason"]) == ("finished", 7, None)
        assert trial["seconds"] > 0
        assert trial["environment"]["optuna"] == optuna.__version__
        assert {"git", "libraries", "device"} <= trial["environment"].keys()
    assert not any("test" in key for key in found["trials"][0])


def suggestions(*stops, **changes):
    """Values that a search draws which is stopped and continued at each number of trials."""
    for stop in stops:
        search = teacher("temperature: {low: 0.1, high: 1}\n", name=f"{stops}{changes}", **changes)
        for _ in range(len(search.trials("finished")), stop):
            trial = search._next_trial(None)
            search.study.tell(trial, trial.params["temperature"])
            search.locks.release(trial.number)
        search.close()
    return [trial.params["temperature"] for trial in search.study.trials]


def test_one_seed_gives_the_same_suggestions_also_where_the_search_was_stopped():
    whole = suggestions(15)  # Optuna draws 10 at random
    assert suggestions(4, 12, 15) == whole
    assert suggestions(2, seed=1)[1] != whole[1]  # the first trial has the default
    assert len(set(whole)) == 15


@pytest.mark.slow
@pytest.mark.parametrize("drawn", [0, 1, 2])
def test_kills_do_not_change_the_suggestions(drawn):
    """Kill a trial before it has drawn a value, after the first value, and in its training."""
    two = "temperature: {low: 0.1, high: 1}\nlearning_rate: {low: 0.001, high: 0.1}\n"

    def begin_and_die(search):
        if drawn == 2:
            search._next_trial(None)
            return
        if not search.study.trials:
            search.study.enqueue_trial(search.first)
        trial = search.study.ask()
        search.study.sampler = optuna.samplers.TPESampler(seed=search._seed_of(trial))
        for key in list(search.space)[:drawn]:
            search.space[key].suggest(trial, key)

    def values(name, kills):
        for number in range(13):  # Optuna draws 10 at random
            if number in kills:
                search = teacher(two, name=name)
                begin_and_die(search)
                search.close()  # the operating system releases the locks of a killed process
            search = teacher(two, name=name)
            trial = search._next_trial(None)
            search.study.tell(trial, trial.params["temperature"])
            search.close()
        return [trial.params for trial in search.trials("finished")]

    assert values("killed", (0, 3, 11)) == values("undisturbed", ())


def test_a_search_by_a_score_that_is_better_when_lower():
    space("reg_weight: {choices: [0.1, 1000]}\n")
    gini = ["--metrics=[GiniIndex]", "--valid_metric=GiniIndex@5"]
    assert tune(*EASE[:-1], "--trials=4", *gini) == 0
    found = record("EASE-planted")
    scores = [trial["score"] for trial in found["trials"]]
    assert found["trials"][found["best"]]["score"] == min(scores) < max(scores)


def test_the_first_trial_is_what_a_run_would_be_without_a_search():
    space(
        "reg_weight: {low: 10, high: 1000, log: true}\n"
        "train_batch_size: {low: 1024, high: 4096, step: 1024}\n"
        "clip_grad_norm: {choices: [{max_norm: 1.0}, null]}\n"
    )
    assert tune(*EASE, "--trials=2") == 0
    first, second = (trial["settings"] for trial in record("EASE-planted")["trials"])
    defaults = {"reg_weight": 250.0, "train_batch_size": 2048, "clip_grad_norm": None}
    assert first == defaults
    assert second != defaults


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("reg_weight: {low: 300, high: 1000}\ntrain_batch_size: {choices: [2048, 1]}", {1: 2048}),
        ("reg_weight: {low: 0, high: 1000, step: 100}", {}),
        ("reg_weight: {choices: [1, 250]}", {0: 250}),  # RecBole's default is 250.0
    ],
)
def test_where_the_space_does_not_have_the_settings_in_force_they_are_drawn(text, first):
    space(text + "\n")
    search = Search(
        "EASE",
        "planted",
        config_files=[],
        settings={"state": "warning"},
        space=Path("space.yaml"),
        name=None,
        storage=None,
        environment=lambda device: {"device": device},
    )
    keys = ["reg_weight", "train_batch_size"]
    assert search.first == {keys[n]: value for n, value in first.items()}
    assert all(type(value) is int for value in search.first.values())
    search.close()


def test_the_first_trial_reaches_into_the_stages():
    space(
        "teacher_settings.embedding_size: {choices: [64, 128, 256]}\n"
        "intermediate_settings.epochs: {low: 1, high: 50}\n"
        "learning_rate: {low: 1.0e-4, high: 1.0e-2}\n"
    )
    assert tune(*["-m", "LightGNN", "-d", "planted", "--space=space.yaml"], *SHORT[:2]) == 0
    (trial,) = record("LightGNN-planted")["trials"]
    whole = quick_start.configure("LightGNN", "planted")
    stages = [whole.stage(f"LightGNN{name}", {}) for name in ("Teacher", "Intermediate")]
    assert trial["settings"] == {
        "teacher_settings.embedding_size": stages[0]["embedding_size"],
        "intermediate_settings.epochs": stages[1]["epochs"],
        "learning_rate": whole["learning_rate"],
    }


def test_killed_before_it_is_begun_the_first_trial_is_still_the_first():
    search = teacher("temperature: {low: 0.1, high: 1}\n")
    search.study.enqueue_trial(search.first)
    search.study.ask()  # the process is killed before a setting is drawn
    trial = search._next_trial(None)
    assert trial.params == search.first == {"temperature": 0.2}
    search.close()


def test_a_given_setting_is_held_fixed_even_if_the_space_contains_it(capsys):
    space(TWO_RATES + "n_layers: {low: 1, high: 9}\n")
    assert tune(*TEACHER, "--trials=1", "--n_layers=1") == 0
    assert "searching learning_rate\n" in capsys.readouterr().out
    assert record()["settings"]["n_layers"] == 1
    assert record()["trials"][0]["settings"].keys() == {"learning_rate"}


def test_what_is_held_fixed_may_need_what_the_space_says():
    space("batches: {choices: [users]}\npopularity_prior: {low: 0, high: 1}\n")
    assert tune(*TEACHER, "--trials=1", "--popularity_prior=0.5") == 0


def test_a_search_reaches_into_a_stage():
    space("teacher_settings: {learning_rate: {choices: [0.01]}}\nepochs: {low: 1, high: 2}\n")
    assert tune("-m", "LightGNN", "-d", "planted", "--space=space.yaml", *SHORT) == 0
    found = record("LightGNN-planted")
    assert found["trials"][0]["settings"]["teacher_settings.learning_rate"] == 0.01
    assert found["settings"]["teacher_settings"] == {"epochs": 1, "embedding_size": 64}


# NCL has more prototypes by default than the planted dataset has users. Three of the four widths of
# Spectral are above the planted dataset's 60 items; their trials fail.
NOT_ON_PLANTED = {"NCL": ["--num_clusters=4", "--warm_up_step=1"], "Spectral": ["--trials=8"]}
NOT_ON_PLANTED |= {model: ["--teacher_settings.epochs=1"] for model in ("UnKD", "SimRec", "RRD")}


@pytest.mark.slow
@pytest.mark.parametrize("model", SHIPPED)
def test_the_spaces_that_are_shipped(model):
    arguments = SHORT if model == "LightGNN" else ["--epochs=1", *NOT_ON_PLANTED.get(model, ())]
    file = properties_dir() / "space" / f"{model}.yaml"
    read = read_space(file, {})
    configs = [quick_start.configure(model, "planted", settings=sample) for sample in samples(read)]
    assert settle(read, file, configs[0]).keys() == read.keys()
    assert tune("-m", model, "-d", "planted", "--trials=1", *arguments) == 0


# --- the test split ---------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["LightGNNTeacher", "BPR", "MultiVAE"])
def test_no_trial_opens_the_test_split(model, monkeypatch, capsys):
    seal_test_split(monkeypatch)
    space("learning_rate: {choices: [0.01]}\n")
    arguments = ["-m", model, "-d", "planted", "--epochs=1", "--topk=[5]"]
    arguments += ["--valid_metric=Recall@5", "--state=error", "--show_progress=False"]
    assert tune(*arguments, "--space=space.yaml", "--trials=1") == 0
    assert record(f"{model}-planted")["trials"][0]["state"] == "finished"
    assert main(["run", *arguments]) == 1  # a run opens the test split
    assert "the test split was opened" in capsys.readouterr().err


def test_the_score_is_not_changed_by_the_test_split(tmp_path):
    space("learning_rate: {choices: [0.02]}\n")
    assert tune(*TEACHER, "--trials=1", "--study=a") == 0
    file = tmp_path / "dataset" / "planted" / "planted.test.inter"
    head, *rows = file.read_text().splitlines()
    file.write_text("\n".join([head, *rows[: len(rows) // 2]]) + "\n")
    assert tune(*TEACHER, "--trials=1", "--study=b") == 0
    assert record("a")["trials"][0]["valid"] == record("b")["trials"][0]["valid"]
    assert record("a")["dataset_fingerprint"]["test"] != record("b")["dataset_fingerprint"]["test"]


# --- killed, shared, failed -------------------------------------------------------------------


def process(moment, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(PROCESS.parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, PROCESS, moment, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_killed_search_is_continued_and_repeats_the_unfinished_trial():
    space("temperature: {low: 0.1, high: 1}\n")
    killed = process("kill:3", *TEACHER, "--trials=4")
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert len(record()["trials"]) == 2  # written after each trial; the third was running
    assert tune(*TEACHER, "--trials=4") == 0
    trials = record()["trials"]
    states = [trial["state"] for trial in trials]
    assert states == ["finished", "finished", "killed", "finished", "finished"]
    assert trials[3]["settings"] == trials[2]["settings"]
    assert trials[2]["score"] is None
    assert tune(*TEACHER, "--trials=4") == 0  # all trials are finished
    assert record()["trials"] == trials


@pytest.mark.slow
def test_processes_share_the_trials_of_a_study():
    space("temperature: {low: 0.1, high: 1}\n")
    together = [process("meet:2", *TEACHER, "--trials=7") for _ in range(2)]
    printed = [one.communicate() for one in together]
    assert [one.returncode for one in together] == [0, 0], printed
    lines = [[line for line in out.splitlines() if line.startswith("trial ")] for out, _ in printed]
    assert len(lines[0]) + len(lines[1]) == 7
    assert min(map(len, lines)) >= 1
    trials = record()["trials"]
    assert [trial["number"] for trial in trials] == list(range(7))
    assert {trial["state"] for trial in trials} == {"finished"}, [t["reason"] for t in trials]
    assert len({trial["settings"]["temperature"] for trial in trials}) == 7


@pytest.mark.parametrize("model", ["LightGNNTeacher", "BPR"])
def test_a_trial_below_the_median_is_stopped_and_said_to_be(model, capsys):
    rates = "learning_rate: {choices: [1.0e-7, 0.02]}\n"
    space(rates)
    fixed = ["--embedding_size=8", "--epochs=9", "--stopping_step=9", "--state=warning"]
    names = [f"--model={model}", "--dataset=planted", "--space=space.yaml"]
    assert tune(*names, *fixed, "--trials=12", "--seed=1", "--median-stopping") == 0
    found = record(f"{model}-planted")
    states = Counter(trial["state"] for trial in found["trials"])
    assert states["finished"] + states["stopped"] == 12
    stopped = [trial for trial in found["trials"] if trial["state"] == "stopped"]
    assert 0 < len(stopped) <= 8
    for trial in stopped:
        assert trial["settings"]["learning_rate"] == 1e-7
        assert trial["score"] is trial["valid"] is None
        assert re.fullmatch(r"stopped after epoch [5-9], worse than the median", trial["reason"])
    assert found["trials"][found["best"]]["settings"]["learning_rate"] == 0.02
    printed = capsys.readouterr().out
    assert f"0 failed, {len(stopped)} stopped by the median" in printed
    assert f"] {stopped[0]['reason']}\n" in printed


@pytest.mark.slow
def test_the_median_is_of_what_all_processes_have_finished():
    space("learning_rate: {choices: [1.0e-7, 0.02]}\n")
    fixed = ["--embedding_size=8", "--epochs=9", "--stopping_step=9", "--state=warning"]
    names = ["--model=BPR", "--dataset=planted", "--space=space.yaml"]
    command = [*names, *fixed, "--trials=14", "--seed=1", "--median-stopping"]
    together = [process("meet:2", *command) for _ in range(2)]
    printed = [one.communicate() for one in together]
    assert [one.returncode for one in together] == [0, 0], printed
    states = Counter(trial["state"] for trial in record("BPR-planted")["trials"])
    assert states["finished"] + states["stopped"] == 14
    assert states["stopped"] > 0
    for trial in record("BPR-planted")["trials"]:
        assert trial["state"] == "finished" or trial["settings"]["learning_rate"] == 1e-7


@pytest.mark.parametrize("metric", ["Recall@20", "averagepopularity@20"])
def test_the_median_is_of_the_same_epoch_and_of_four_finished_trials_at_least(metric):
    sign = 1 if metric == "Recall@20" else -1  # a lower average popularity is better
    space(TWO_RATES)
    search = Search(
        "BPR",
        "planted",
        config_files=[],
        settings={"metrics": ["Recall", "AveragePopularity"], "valid_metric": metric},
        space=Path("space.yaml"),
        name=None,
        storage=None,
        environment=lambda device: {"device": device},
        median_stopping=True,
    )
    assert search.bigger == (sign == 1)

    def finished(*scores):
        reports = {epoch: sign * score for epoch, score in enumerate(scores, 1)}
        search.study.add_trial(
            create_trial(value=reports[len(reports)], intermediate_values=reports)
        )

    def stopped_after(*scores):
        trial = search.study.ask()
        for epoch, score in enumerate(scores, 1):
            try:
                search._report(trial, epoch, sign * score)
            except optuna.TrialPruned:
                return epoch
        return None

    for _ in range(3):
        finished(*[0.5] * 6, *[0.9] * 3)
    assert stopped_after(*[0.1] * 9) is None
    finished(*[0.5] * 6)  # early stopping: for later epochs there are three scores only
    assert stopped_after(*[0.1] * 9) == 5
    assert stopped_after(*[0.55] * 9) is None
    assert stopped_after(0.1, 0.55, 0.1, 0.1, 0.1, 0.1) is None  # the best so far counts
    for _ in range(3):
        finished(*[0.7] * 9)
    assert stopped_after(*[0.55] * 9) == 7  # the median is .5 before epoch 7, and .8 from then on
    search.median_stopping = False
    assert stopped_after(*[0.1] * 9) is None
    search.close()


@pytest.mark.parametrize("model", ["LightGNN", "LightGNNIntermediate"])
def test_models_of_several_stages_are_not_stopped_by_the_median(model, capsys):
    space(TWO_RATES)
    names = [f"--model={model}", "--dataset=planted", "--space=space.yaml"]
    assert tune(*names, "--trials=1", "--median-stopping") == 2
    assert f"{model} trains several stages: leave it out" in capsys.readouterr().err


def test_a_trial_that_ends_its_process_again_and_again_has_failed():
    begun = []
    for _ in range(MOST_KILLS):
        search = teacher("temperature: {low: 0.1, high: 1}\n")
        begun.append(search._next_trial(None).user_attrs["settings"])
        search.close()  # the operating system closes the files of a killed process
    assert begun[0] == begun[1] == begun[2]
    search = teacher("temperature: {low: 0.1, high: 1}\n")
    assert search._next_trial(None).user_attrs["settings"] != begun[0]
    trials = search.study.trials
    assert [state_of(trial) for trial in trials] == ["killed", "killed", "failed", "running"]
    assert reason_of(trials[2]) == "its process was ended 3 times before it was done"


def test_a_line_of_the_journal_that_was_cut_off_is_left_out():
    search = teacher()
    search.run(1, None, lambda trial: None)
    search.close()
    file = Path("tuning/LightGNNTeacher-planted.log")
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"op_code":4,"wor')
    search = teacher()
    search.run(2, None, lambda trial: None)
    assert len(search.trials("finished")) == 2
    assert file.read_bytes().startswith(whole)


def test_a_trial_that_fails_is_recorded_and_the_others_go_on(capsys):
    space("learning_rate: {choices: [0.02, 1.0e+38]}\n")
    assert tune(*TEACHER, "--trials=6") == 0
    by_rate = {trial["settings"]["learning_rate"]: trial for trial in record()["trials"]}
    assert by_rate[0.02]["state"] == "finished"
    failed = by_rate[1e38]
    assert (failed["state"], failed["score"]) == ("failed", None)
    assert "the loss is not a number in epoch 1" in failed["reason"]
    assert len(record()["trials"]) == 6  # failed trials are counted
    printed = capsys.readouterr().out
    assert f"failed: {failed['reason']}" in printed
    assert "trials finished," in printed


def test_a_trial_with_an_unexpected_error_is_recorded_and_the_others_go_on(monkeypatch):
    def no_memory(*_, settings, **__):
        if settings["learning_rate"] == 1e-7:
            raise RuntimeError("not enough memory:\nyou tried to allocate 18 GB")
        return quick_start.choose("LightGNNTeacher", "planted", settings=settings)

    space(TWO_RATES)
    monkeypatch.setattr("recbole_lightgnn.tuning.search.choose", no_memory)
    assert tune(*TEACHER, "--trials=6") == 0
    by_rate = {trial["settings"]["learning_rate"]: trial for trial in record()["trials"]}
    assert by_rate[0.02]["state"] == "finished"
    reason = "RuntimeError: not enough memory: you tried to allocate 18 GB"
    assert (by_rate[1e-7]["state"], by_rate[1e-7]["reason"]) == ("failed", reason)


def test_a_search_without_a_successful_trial_reports_the_reason(capsys):
    space("learning_rate: {choices: [1.0e+38]}\n")
    assert tune(*TEACHER, "--trials=2") == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: every trial failed (2); the last: ")
    assert "the loss is not a number" in line
    assert record()["best"] is None


def test_an_interrupted_search_is_continued(capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    space(TWO_RATES)
    with monkeypatch.context() as patch:
        patch.setattr("recbole_lightgnn.trainer.training.Training._train_epoch", interrupted)
        assert tune(*TEACHER, "--trials=1") == 130
    assert capsys.readouterr().err == "interrupted; continue with the same command\n"
    assert tune(*TEACHER, "--trials=1") == 0
    assert [trial["state"] for trial in record()["trials"]] == ["killed", "finished"]


def test_no_trial_is_begun_after_the_minutes():
    space(WEIGHTS)
    assert tune(*EASE, "--minutes=1e-9") == 0
    assert not Path("tuning/EASE-planted.json").exists()
