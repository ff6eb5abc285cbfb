"""`recbole-lightgnn compare`: bad input is refused before the first run."""

import shutil
from pathlib import Path

import pytest
from helpers.comparing import OUT, compare
from helpers.planted import write_planted


@pytest.fixture(autouse=True)
def _world(tmp_path):
    write_planted(tmp_path / "dataset")


@pytest.fixture
def _no_run(monkeypatch):
    monkeypatch.setattr(
        "recbole_lightgnn.comparison.runner._start", lambda *_: pytest.fail("a run was begun")
    )


@pytest.mark.usefixtures("_no_run")
@pytest.mark.parametrize(
    ("models", "rest", "facts"),
    [
        ("Pop,LightGNC", [], "no model is named 'LightGNC' here (did you mean 'Light"),
        ("Pop,Dense-12", [], "no model or variant is named 'Dense-12' (did you mean 'Dense-"),
        ("Pop,GRU4Rec", [], "GRU4Rec is no general recommender (it needs sequences, features or"),
        ("Pop,FM", [], "FM is no general recommender (it needs sequences, features or knowledge)"),
        ("Pop,Pop", [], "expected each once, separated by commas, got 'Pop,Pop'"),
        ("Pop,", [], "expected each once, separated by commas"),
        ("Pop", ["--seeds=1,x"], "expected whole numbers from 0 to 2^32 - 1"),
        ("Pop", ["--seeds=-1"], "expected whole numbers from 0 to 2^32 - 1"),
        ("Pop", ["--seeds=2,2"], "expected each once"),
        ("Pop", ["--jobs=0"], "expected a whole number from 1, got '0'"),
        ("Pop", ["--dataset=plantd"], "dataset 'plantd' not found (did you mean 'planted'?)"),
        ("BPR", ["--BPR.dataset=x"], "--BPR.dataset is no setting for a comparison: see --dataset"),
        ("Small", ["--variants=seeded.yaml"], "the variant Small cannot have seed, which the comp"),
        ("Pop", ["--metrics=[Recall,NDCG,GAUC]", "--valid_metric=GAUC"], "as Recall@20 does"),
        ("Pop", ["--seed=3"], "--seed is no setting for a comparison: see --seeds"),
        ("Pop", ["--result_file=x"], "--result_file is no setting for a comparison: see --out"),
        ("Pop", ["--BPR.epochs=2"], "--BPR.epochs: BPR is not one of --models Pop"),
        ("BPR", ["--BPR.epoch=2"], "unknown setting epoch (did you mean 'epochs'?)"),
        ("BPR", ["--n_pruning_runs=2"], "n_pruning_runs is a setting of GLT and LightGNN"),
        ("LightGNN", ["--LightGNN.n_layers=-1"], "n_layers must be an integer >= 0, got -1"),
        ("Pop,BPR", ["--BPR.topk=[20]"], "BPR and Pop would not have the same protocol"),
        ("Pop,BPR", ["--metrics=[Recall]"], "metrics must have both, got Recall"),
        ("Pop", ["--topk=[100]", "--valid_metric=Recall@100"], "has only 60 items"),
        ("Pop", ["--variants=none.yaml"], "none.yaml"),
        ("Pop", ["--variants=taken.yaml"], "taken.yaml: 'BPR' cannot be a variant's name"),
        ("Pop", ["--variants=form.yaml"], "form.yaml: Small must be {model: MODEL, setting: value"),
        ("Small", ["--variants=small.yaml"], "unknown setting epoch (did you mean 'epochs'?)"),
        ("Small", ["--variants=odd.yaml"], "no model is named 'BPRR'"),
        ("Pop", ["--variants=small.yaml", "--Small.epochs=1"], "Small is not one of --models Pop"),
        ("LightGNN", ["--rows=student-09"], "there is no student-09, as LightGNN has 5 pruning"),
        ("Pop", ["--rows=student-01"], "there is no student-01, as LightGNN is not among --models"),
        ("Pop", ["--rows=teacher"], "there is no teacher, as LightGNN is not among --models"),
        ("LightGNN", ["--rows=best"], "'best' is no row of a record"),
    ],
)
def test_bad_input(capsys, models, rest, facts):
    Path("taken.yaml").write_text("BPR: {model: LightGNN}")
    Path("form.yaml").write_text("Small: 8")
    Path("small.yaml").write_text("Small: {model: BPR, epoch: 8}")
    Path("seeded.yaml").write_text("Small: {model: BPR, seed: 8}")
    Path("odd.yaml").write_text("Small: {model: BPRR}")
    assert compare(models, *rest) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert facts in line
    assert not OUT.exists()


@pytest.mark.usefixtures("_no_run")
def test_a_model_that_needs_a_missing_package(capsys, monkeypatch):
    monkeypatch.setattr(
        "recbole_lightgnn.trainer.recbole_needs.find_spec",
        lambda name: None if name == "faiss" else True,
    )
    assert compare("Pop,NCL") == 2
    assert "NCL needs the package 'faiss', which is not installed" in capsys.readouterr().err


@pytest.mark.slow
def test_the_folder_of_another_comparison_is_refused(capsys, tmp_path):
    assert compare("Pop,BPR", "--BPR.epochs=1") == 0
    capsys.readouterr()

    def refused(*rest, models="Pop,BPR"):
        assert compare(models, *rest) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    line = refused("--BPR.epochs=2")
    assert "out/runs/BPR-1 was begun with other settings (epochs): go on with those" in line
    assert "other settings of data or evaluation (topk)" in refused("--topk=[20]", "--BPR.epochs=1")
    write_planted(tmp_path / "dataset", "other", seed=1)
    # The batch size of evaluation depends on the memory, and may be changed.
    assert compare("Pop,BPR", "--BPR.epochs=1", "--eval_batch_size=100") == 0
    printed = capsys.readouterr().out
    assert "2 runs done before" in printed
    assert "eval_batch_size" not in printed  # the runs had another value
    line = refused("--dataset=other")
    assert "out has a comparison on planted, not on other: name another --out" in line
    shutil.rmtree(tmp_path / "dataset" / "planted")
    write_planted(tmp_path / "dataset", seed=1)
    assert "other interactions than planted has now: put the files back" in refused()
    Path("out/comparison.json").write_text("[]")
    assert "out/comparison.json is damaged (it must have dataset, dataset_finger" in refused()
    Path("out/comparison.json").write_text("{")
    assert "is no JSON: restore it" in refused()
    Path("out/comparison.json").unlink()
    assert "has files, but no comparison.json of a comparison: name a new folder" in refused()
