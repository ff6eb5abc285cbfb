"""``recbole-lightgnn tune``: search spaces, and input that is refused before any training."""

import shutil
import sys
from pathlib import Path

import optuna
import pytest
from helpers.planted import write_planted
from helpers.tuned import SHIPPED, TEACHER, TWO_RATES, space, tune

from recbole_lightgnn import quick_start
from recbole_lightgnn.tuning.space import Choices, Range, read_space, samples, settle


@pytest.fixture(autouse=True)
def _world(tmp_path):
    write_planted(tmp_path / "dataset")


# --- bad input --------------------------------------------------------------------------------


def bad(capsys, *arguments):
    """Tune, expect bad input before any training, and return the line of the error."""
    assert tune(*arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: ")
    assert len([line for line in lines if line.startswith(("error", "Traceback"))]) == 1
    assert not Path("log_tensorboard").exists()
    return lines[-1]


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("temperatur: {low: 1, high: 2}", ["unknown setting temperatur", "'temperature'"]),
        (
            "entry_ratio: {low: 0.1, high: 1}",
            ["entry_ratio is a setting of GLT and LightGNN, not of"],
        ),
        ("teacher_settings.epochs: {low: 1, high: 2}", ["teacher_settings is a setting of"]),
        ("temperature: {low: 2, high: 1}", ["temperature: low must be at most high", "2", "1"]),
        ("temperature: {low: 0, high: 1, log: true}", ["low must be more than 0", "got 0"]),
        ("temperature: {low: 0, high: 1}", ["temperature must be", "> 0, got 0"]),
        ("temperature: {low: 1, high: .inf}", ["temperature: high must be a number, got inf"]),
        ("temperature: {low: x, high: 1}", ["temperature: low must be a number, got 'x'"]),
        ("temperature: {low: true, high: 1}", ["low must be a number, got True"]),
        ("temperature: {low: 1}", ["temperature: high is missing"]),
        ("temperature: {low: 1, hihg: 2}", ["unknown 'hihg' (did you mean 'high'?)"]),
        ("temperature: {low: 1, high: 2, log: 3}", ["log must be true or false, got 3"]),
        ("temperature: {low: 1, high: 2, step: 0}", ["step must be more than 0"]),
        ("temperature: {low: 1, high: 2, step: 3}", ["at most high - low, that is 1, got 3"]),
        ("temperature: {low: 1, high: 2, step: 1, log: true}", ["expected log or step, got both"]),
        ("temperature: {choices: []}", ["choices must be a list of at least one value, got []"]),
        ("temperature: {choices: 3}", ["choices must be a list"]),
        ("temperature: {choices: [0.1, 0.1]}", ["choices has 0.1 twice"]),
        ("temperature: {choices: [0.1], low: 1}", ["expected choices alone or a range"]),
        ("temperature: {choices: [0.1, -1]}", ["temperature must be", "got -1"]),
        ("temperature: 0.3", ["temperature: expected {low: , high: }", "got 0.3"]),
        ("n_layers: {low: 1, high: 2, step: 0.5}", ["n_layers is an integer"]),
        ("n_layers: {low: 0.5, high: 2}", ["n_layers must be an integer >= 0, got 0.5"]),
        ("similarity: {low: 0, high: 1}", ["similarity must be a name, got 0"]),
        ("similarity: {choices: [inner, cosin]}", ["'cosin' (did you mean 'cosine'?)"]),
        ("popularity_prior: {low: 0, high: 1}", ["has no effect with batch_by=interaction"]),
        ("metrics: {choices: [[NDCG], [Recall]]}", ["valid_metric must be METRIC@K"]),
        ("eval_mask: {choices: [train]}", ["eval_mask is a setting of data or evaluation"]),
        ("seed: {low: 1, high: 9}", ["seed is a setting of data or evaluation"]),
        ("model: {choices: [BPR]}", ["model cannot be searched: give --model=NAME"]),
        ("epochs: {choices: [3]}", ["at least one `key:", "not held fixed"]),
        ("", ["expected at least one `key: {low"]),
        ("- a", ["must hold `key: value` lines"]),
        ("a: [1", ["is not YAML"]),
    ],
)
def test_a_space_that_cannot_be_used(capsys, text, facts):
    space(text + "\n")
    line = bad(capsys, *TEACHER)
    for fact in ("space.yaml", *facts):
        assert fact in line


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["--space=no.yaml"], ["no.yaml cannot be read"]),
        (["--trials=0"], ["--trials", "whole number from 1, got '0'"]),
        (["--minutes=-1"], ["--minutes", "minutes above 0, got '-1'"]),
        (["--study=a/b"], ["--study=a/b: expected letters"]),
        (["--seed=x"], ["seed must be an integer"]),
        (["--storage=dataset"], ["storage dataset is a folder"]),
        (["--storage=tuning/LightGNNTeacher-planted.json"], ["is where the results go"]),
        (["--storage=space.yaml"], ["space.yaml is not a journal of Optuna's"]),
        (["--storage=torn.log"], ["torn.log cannot be read as a journal of Optuna's"]),
        (["--temperatur=1"], ["unknown setting temperatur"]),
        (["-d", "planten"], ["'planten' not found", "'planted'"]),
        (["-m", "BPS"], ["no model is named 'BPS'"]),
        (["--trials", "3", "stray"], ["unexpected argument 'stray'"]),
    ],
)
def test_a_command_that_cannot_be_used(capsys, arguments, facts):
    space(TWO_RATES)
    Path("torn.log").write_text('{"op_code"\n{"op_code"\n')
    line = bad(capsys, *TEACHER, *arguments)
    for fact in facts:
        assert fact in line


def test_a_model_without_a_space_of_its_own(capsys):
    line = bad(capsys, "-m", "Pop", "-d", "planted")
    assert f"no search space comes with Pop (only with {', '.join(SHIPPED)})" in line


def test_without_optuna_the_extra_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    space(TWO_RATES)
    assert "pip install 'recbole-lightgnn[tune]'" in bad(capsys, *TEACHER)


def test_a_study_is_continued_only_as_it_was_begun(capsys, tmp_path):
    space(TWO_RATES)
    assert tune(*TEACHER, "--trials=1", "--study=s") == 0
    before = Path("tuning/s.json").read_text()

    def refused(*arguments):
        assert tune("--study=s", *arguments) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("error: study s in tuning/s.log ")
        assert line.endswith("or name another with --study")
        return line

    assert "other settings (n_layers)" in refused(*TEACHER, "--n_layers=1")
    assert "other settings (seed)" in refused(*TEACHER, "--seed=1")
    assert "is of model LightGNNTeacher, not of BPR" in refused("-m", "BPR", *TEACHER[2:5])
    space("learning_rate: {choices: [0.02, 1.0e-6]}\n")
    assert "another space (learning_rate)" in refused(*TEACHER)
    space(TWO_RATES)
    dataset, moved = tmp_path / "dataset", tmp_path / "moved"
    dataset.rename(moved)
    write_planted(dataset, seed=1)
    assert "other interactions than planted has now" in refused(*TEACHER)
    shutil.rmtree(dataset)
    moved.rename(dataset)
    assert Path("tuning/s.json").read_text() == before
    assert tune(*TEACHER, "--trials=2", "--study=s") == 0


# --- ranges -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("temperature: {low: 1, high: 2}", Range(1.0, 2.0, False, None)),
        ("n_layers: {low: 1, high: 4, step: 3}", Range(1, 4, False, 3)),
        ("learning_rate: {low: 1e-4, high: 1, log: true}", Range(1e-4, 1.0, True, None)),
        ("weight_decay: {low: 0, high: 1}", Range(0.0, 1.0, False, None)),  # from RecBole's yaml
        ("temperature: {low: 0.1, high: 0.3, step: 0.2}", Range(0.1, 0.3, False, 0.2)),
        ("teacher_settings.epochs: {low: 1, high: 2}", Range(1, 2, False, None)),
        ("intermediate_settings.temperature: {low: 1, high: 2}", Range(1.0, 2.0, False, None)),
        ("ablation: {choices: [none, BnEdge]}", Choices(("none", "BnEdge"))),
    ],
)
def test_a_range_is_of_the_settings_type(text, expected):
    space(text + "\n")
    read = read_space(Path("space.yaml"), {})
    config = quick_start.configure("LightGNN", "planted", settings=next(iter(samples(read))))
    (settled,) = settle(read, Path("space.yaml"), config).values()
    assert settled == expected
    assert [type(value) for value in settled.ends] == [type(value) for value in expected.ends]


def test_choices_may_be_of_any_kind():
    values = Choices((None, "a", 2, True, [64, 32], {"b": 1}))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = [values.suggest(study.ask(), "x") for _ in range(60)]
    assert all(value in values.values for value in seen)
    assert [64, 32] in seen
    assert {"b": 1} in seen
