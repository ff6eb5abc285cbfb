"""The notes of a comparison's table, and where its settings come from."""

import json
import shutil

import pytest
from helpers.compared import change, write_compared
from helpers.reading import markdown_of, table_of, users_of
from scipy import stats

from recbole_lightgnn.comparison.figures import pictures
from recbole_lightgnn.comparison.report import report, report_tables
from recbole_lightgnn.comparison.results import Comparison


@pytest.fixture
def folder(tmp_path):
    return write_compared(tmp_path / "out", ("LightGNN", "LightGCN", "BPR", "Pop"))


def notes(folder):
    report_tables(folder)
    lines = (folder / "table.md").read_text().splitlines()
    return [line.removeprefix("- ") for line in lines if line.startswith("- ")]


def test_the_source_of_settings(tmp_path):
    sources = {"LightGNN": "tuned", "LightGCN": "by hand", "BPR": "default"}
    report_tables(folder := write_compared(tmp_path, tuple(sources), settings=sources))
    assert {line["model"]: line["settings"] for line in table_of(folder).values()} == sources


def test_times_are_of_every_machine_that_ran(folder):
    (first,) = (note for note in notes(folder) if note.startswith("Times are of"))
    assert first == "Times are of Abacus 5, 2 cores, 1 thread a run."
    other = {"processor": "Napier", "cores": 1, "threads": 2, "device": "Zuse Z3"}
    change(folder / "runs/BPR-3/record.json", environment=other)
    (both,) = (note for note in notes(folder) if note.startswith("Times are of"))
    assert both == f"{first[:-1]}; Zuse Z3, Napier, 1 core, 2 threads a run."


def test_models_that_are_not_validated_after_each_epoch(folder):
    assert not [note for note in notes(folder) if "validated every" in note]
    for seed in (1, 2, 3):
        change(folder / f"runs/BPR-{seed}/record.json", settings={"eval_step": 10})
    assert "BPR: validated every 10 epochs." in notes(folder)


@pytest.mark.slow
def test_deviations_are_explained_if_there_are_several_seeds(folder, tmp_path):
    report(folder)
    report(one := write_compared(tmp_path / "one", ("LightGNN", "BPR"), seeds=(1,)))
    both = "standard deviation over seeds"
    for place, said in ((folder, True), (one, False)):
        captions = [picture.caption for picture in pictures(Comparison(place))[:2]]
        assert [both in text for text in captions] == [said, said]
        assert (both in (place / "table.md").read_text()) == said
        assert (both in (place / "index.html").read_text()) == said


def test_models_that_are_accelerated(tmp_path):
    folder = write_compared(tmp_path, ("LightGNN", "LightGCN", "SGL", "NCL", "BPR"), seeds=(1,))
    said = (
        "RecBole's own, accelerated by this package's sparse kernels; the results differ only by "
    )
    said += "rounding."
    assert f"LightGCN, SGL, NCL: {said}" in notes(folder)
    change(folder / "runs/SGL-1/record.json", settings={"accelerate": False})
    change(folder / "runs/NCL-1/record.json", settings={"accelerate": True, "node_dropout": 0.1})
    file = folder / "runs/LightGNN-1/record.json"
    rows = json.loads(file.read_text())["rows"]
    teacher = rows[0] | {"model": "SGL", "settings": {"accelerate": True}}
    change(file, rows=[teacher, *rows[1:]])
    assert f"LightGNN's teacher, LightGCN: {said}" in notes(folder)
    shutil.rmtree(folder / "runs/LightGCN-1")
    change(file, rows=rows)
    assert not any("sparse kernels" in note for note in notes(folder))


def test_models_are_compared_over_the_seeds_that_both_have(tmp_path):
    without = [("LightGCN", 2), ("BPR", 1), ("BPR", 2), ("LightGNN", 3)]
    folder = write_compared(tmp_path, ("LightGNN", "LightGCN", "BPR", "Pop"), without=without)
    said = notes(folder)
    found, student = table_of(folder), ("LightGNN", "student-05", "recall@20")
    for model, seeds in (("LightGCN", (1,)), ("Pop", (1, 2))):
        pair = [users_of(folder, *of, seeds) for of in ((model, model, "recall@20"), student)]
        line = found[model]
        assert float(line["recall@20_difference"]) == pytest.approx((pair[0] - pair[1]).mean())
        assert float(line["recall@20_p"]) == pytest.approx(stats.ttest_rel(*pair).pvalue, rel=1e-6)
        assert f"p of {model}: over seeds {', '.join(map(str, seeds))} alone." in said
    assert found["BPR"]["recall@20_p"] == ""
    assert markdown_of(folder)["BPR (1 of 3 seeds)"]["p R@20"] == "no common seed"
    assert not any(note.startswith(("p of LightGNN", "p of BPR")) for note in said)
