"""``recbole-lightgnn study`` on small data: real runs, all files, and bad input."""

import json
import re
import shutil
from pathlib import Path

import pytest
from helpers.planted import write_planted

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.studies import ablation, noise, oversmoothing, ratios
from recbole_lightgnn.studies.place import Place

OUT = Path("out")
BRIEF = [
    *("--epochs=3", "--train_batch_size=256", "--embedding_size=16"),
    *("--LightGNN.n_pruning_runs=2", "--LightGNN.use_intermediate=False"),
    "--LightGNN.teacher_settings={embedding_size: 16, epochs: 5, learning_rate: 0.01}",
]


def study(name, *flags):
    return main(["study", name, "--dataset=planted", f"--out={OUT}", *flags])


def content(name):
    return json.loads((OUT / f"{name}.json").read_text())


def begun(told):
    return re.findall(r"^(.*): begins", told, re.MULTILINE)


@pytest.fixture
def _world():
    write_planted(Path("dataset"))


@pytest.mark.slow
@pytest.mark.usefixtures("_world")
def test_studies_share_runs_and_write_everything(monkeypatch, capsys):
    two = ("LightGCN", "LightGNN")
    monkeypatch.setattr(oversmoothing, "MODELS", two)
    monkeypatch.setattr(oversmoothing, "DRAWN", two)
    monkeypatch.setattr(noise, "MODELS", two)
    monkeypatch.setattr(noise, "LEVELS", (0.0, 0.2))
    assert study("oversmoothing", *BRIEF) == 0
    told = capsys.readouterr().out
    assert sorted(begun(told)) == [f"{model} seed 1" for model in two]
    (mad,) = content("oversmoothing")["tables"]
    assert [row[0] for row in mad["rows"]] == list(two)
    assert all(0 < value < 2 for row in mad["rows"] for value in row[1:4])

    assert study("noise", *BRIEF) == 0
    # The runs without noise are there already.
    assert sorted(begun(capsys.readouterr().out)) == [f"{model} seed 1" for model in two]
    accuracy, found = content("noise")["tables"]
    assert [row[0] for row in accuracy["rows"]] == list(two)
    assert len(found["rows"]) == 2
    for pruned, precision, recall, *_, share in found["rows"]:
        assert share == pytest.approx(0.2, abs=0.01)
        assert precision * pruned == pytest.approx(recall * share)

    names = {path.name for path in OUT.iterdir()}
    for name, figures in {"noise": ("accuracy", "found"), "oversmoothing": ("tsne", "pca")}.items():
        assert {f"{name}.json", f"{name}.md"} <= names
        assert {f"{name}-{f}.{form}" for f in figures for form in ("svg", "png")} <= names
    assert {"noise-accuracy.csv", "noise-found.csv", "oversmoothing-mad.csv", "index.html"} <= names
    page = (OUT / "index.html").read_text()
    assert page.count("<section") == 2
    assert page.count("<figure>") == 4
    assert "http" not in page.replace("http-equiv", "")

    before = content("noise")
    assert study("noise", *BRIEF) == 0
    assert not begun(capsys.readouterr().out)
    assert content("noise") == before


@pytest.mark.slow
@pytest.mark.usefixtures("_world")
def test_ratios_have_a_row_for_each_student_and_line(monkeypatch, capsys):
    variants = {
        name: {**ratios.VARIANTS[name], "n_pruning_runs": 2} for name in ("Mild", "MildBinary")
    }
    monkeypatch.setattr(ratios, "VARIANTS", variants)
    monkeypatch.setattr(ratios, "LINES", ("LightGCN", "SimGCL"))
    assert study("ratios", *BRIEF) == 0  # what is given for LightGNN holds for its variants
    assert "MildBinary seed 1: begins with teachers of Mild seed 1" in capsys.readouterr().out
    rows = content("ratios")["tables"][0]["rows"]
    assert [row[0] for row in rows] == [
        *["mild pruning"] * 3,
        *["mild, binary edge weights"] * 3,
        *("LightGCN", "SimGCL"),
    ]
    adds = [row[6] for row in rows[:3]]
    assert adds == sorted(adds, reverse=True)
    # A later study of other models leaves these in the comparison.
    monkeypatch.setattr(oversmoothing, "MODELS", ("LightGCN", "LightGNN"))
    monkeypatch.setattr(oversmoothing, "DRAWN", ("LightGNN",))
    assert study("oversmoothing", *BRIEF) == 0
    told = capsys.readouterr().out
    assert begun(told.replace(" with teachers of Mild seed 1", "")) == ["LightGNN seed 1"]
    compared = json.loads((OUT / "comparison/comparison.json").read_text())
    assert compared["models"] == ["Mild", "MildBinary", "LightGCN", "SimGCL", "LightGNN"]
    assert [*compared["variants"]] == ["Mild", "MildBinary"]


@pytest.mark.slow
@pytest.mark.usefixtures("_world")
def test_an_ablation_has_every_variant_at_every_ratio(monkeypatch):
    monkeypatch.setattr(ablation, "RECIPES", {"default": "our recipe"})
    monkeypatch.setattr(ablation, "STUDENTS", ("student-01", "student-02"))
    assert study("ablation", *BRIEF, "--LightGNN.epochs=1") == 0
    (table,) = content("ablation")["tables"]
    assert [row[0] for row in table["rows"]] == list(ablation.VARIANTS)
    rows = {row[0]: row[1:3] for row in table["rows"]}
    assert rows.pop("-IntKD") == [None, None]  # there is no intermediate model anyway
    assert all(0 < value < 1 for row in rows.values() for value in row)
    assert rows["~BothP"] != rows["LightGNN"]
    record = json.loads((OUT / "ablation/default-1/all.json").read_text())
    last = next(row for row in record["rows"] if row["key"] == "student-02")
    assert rows["LightGNN"][1] == last["test"]["recall@20"]


@pytest.mark.usefixtures("_world")
def test_a_random_split_is_that_of_the_comparison():
    places = (Place(name, [7], OUT, 1, {}, OUT) for name in ("ml-100k", "planted"))
    assert [place.split() for place in places] == [{"split_seed": 2020}, {}]


@pytest.mark.slow
def test_redundancy_reads_genres_and_ratings(capsys):
    flags = ["--epochs=1", "--n_pruning_runs=1", "--use_intermediate=False"]
    flags.append("--teacher_settings={epochs: 1}")
    command = ["study", "redundancy", "--dataset=ml-100k", f"--out={OUT}", *flags]
    assert main(command) == 0, capsys.readouterr().err
    (table,) = content("redundancy")["tables"]
    ((pruned, alike, p, users, rating, *_),) = table["rows"]
    assert 0.05 < pruned < 0.15
    assert abs(alike) < 1
    assert 0 < p <= 1
    assert users > 100
    assert 0 < abs(rating) < 4  # in stars, not normalized
    lines = [line for one in content("redundancy")["examples"] for line in one["items"]]
    assert {line["rating"] for line in lines} <= {1, 2, 3, 4, 5}


@pytest.mark.slow
@pytest.mark.usefixtures("_world")
def test_a_dataset_without_genres_is_refused_in_one_line(capsys):
    assert study("redundancy", *BRIEF) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("error: the study redundancy needs genres and ratings, and planted has")


@pytest.mark.usefixtures("_world")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nose", "-d=planted", "--out=out"], "NAME must be one of"),
        (["noise", "--out=out"], "`study noise` needs --dataset"),
        (["noise", "--dataset=planted"], "`study noise` needs --out"),
        (["noise", "--dataset=planted", "--out=out", "--seeds=x"], "whole numbers"),
        (["noise", "-d=planted", "--out=out", "--train_noise=.1"], "the study noise sets it"),
        (["noise", "-d=planted", "--out=out", "--LightGN.epochs=1"], "the model must be one of"),
        (["noise", "-d=planted", "--out=dataset"], "has files, but none of a study"),
        (["noise", "-d=planted", "--out=out", "--topk=[20]"], "Recall and NDCG at 20 and 40"),
    ],
)
def test_a_wrong_command_is_refused(arguments, message, capsys):
    assert main(["study", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("_world")
def test_a_folder_of_another_dataset_is_refused(capsys):
    OUT.mkdir()
    (OUT / "noise.json").write_text('{"dataset": "gowalla"}')
    assert study("noise", *BRIEF) == 2
    assert "--out out has studies of gowalla, not of planted" in capsys.readouterr().err


@pytest.mark.usefixtures("_world")
def test_a_model_without_checkpoints_is_named(capsys, monkeypatch):
    monkeypatch.setattr(oversmoothing, "MODELS", ("LightGNN",))
    flags = [*BRIEF[:3], "--LightGNN.n_pruning_runs=0", *BRIEF[4:]]
    assert study("oversmoothing", *flags) == 0
    shutil.rmtree(OUT / "comparison/runs/LightGNN-1/saved")
    assert study("oversmoothing", *flags) == 2
    assert "LightGNN-1 has a record but no checkpoints" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("_world")
def test_all_goes_on_after_a_study_that_fails_and_one_without_data(monkeypatch, capsys):
    from recbole_lightgnn.studies import catalogue

    few = {name: catalogue.STUDIES[name] for name in ("redundancy", "oversmoothing", "noise")}
    monkeypatch.setattr(catalogue, "STUDIES", few)
    monkeypatch.setattr(oversmoothing, "MODELS", ("LightGNN", "NCL"))
    monkeypatch.setattr(oversmoothing, "DRAWN", ("LightGNN",))
    monkeypatch.setattr(noise, "MODELS", ("LightGNN",))
    monkeypatch.setattr(noise, "LEVELS", (0.0, 0.2))
    # NCL fails: more clusters than users.
    assert study("all", *BRIEF, "--NCL.num_clusters=1000", "--NCL.m_step=1") == 1
    told = capsys.readouterr()
    assert "left out: redundancy: the study redundancy needs genres and ratings" in told.out
    assert "error: oversmoothing: the study needs all its runs" in told.err
    assert content("noise")["tables"][1]["rows"]
    assert not (OUT / "oversmoothing.json").exists()


def test_the_numbers_of_runs_are_those_of_the_modules():
    from recbole_lightgnn.studies import efficiency, overall, stability
    from recbole_lightgnn.studies.catalogue import STUDIES

    assert {name: study.runs for name, study in STUDIES.items()} == {
        "overall": len(overall.MODELS),
        "ablation": len(ablation.RECIPES) * len(ablation.VARIANTS),
        "ratios": len(ratios.VARIANTS) + len(ratios.LINES),
        "efficiency": len(efficiency.MODELS) + 1,
        "oversmoothing": len(oversmoothing.MODELS),
        "noise": len(noise.MODELS) * len(noise.LEVELS),
        "redundancy": 1,
        "stability": 1 + sum(map(len, stability.CHANGES.values())),
    }


def test_a_recipe_that_is_found_once_holds_for_variants_and_other_data(monkeypatch, tmp_path):
    write_planted(tmp_path / "dataset")
    monkeypatch.setattr(Place, "_found_recipe", lambda self: {"teachers": ["found"]})
    given = {"epochs": 3, "LightGNN.n_layers": 1, "LightGNN.edge_ratio": 0.5, "BPR.epochs": 9}
    place = Place("planted", [1], OUT, 1, given, OUT / "comparison")
    planned = []

    def stop(self, models, variants, given, folder):
        planned.append(given)
        raise InputError("enough")

    monkeypatch.setattr(Place, "_planned", stop)
    variants = {"Wide": {"model": "LightGNN", "edge_ratio": 0.9}}
    for models, folder in ((["LightGNN", "Wide", "LightGCN"], None), (["LightGNN"], "noise")):
        with pytest.raises(InputError, match="enough"):
            place.train(models, variants, folder=folder)
    plain, noisy = planned
    assert plain == {
        "epochs": 3,
        "LightGNN.n_layers": 1,
        "LightGNN.edge_ratio": 0.5,
        "Wide.teachers": ["found"],
        "Wide.n_layers": 1,
    }
    assert noisy == {
        "epochs": 3,
        "LightGNN.teachers": ["found"],
        "LightGNN.n_layers": 1,
        "LightGNN.edge_ratio": 0.5,
    }


def test_the_list_names_every_study(capsys):
    from recbole_lightgnn.studies.catalogue import STUDIES

    assert main(["study", "list"]) == 0
    told = capsys.readouterr().out
    assert all(f"{name}: {study.question}" in told for name, study in STUDIES.items())
