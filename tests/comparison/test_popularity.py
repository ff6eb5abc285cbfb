"""Models that are not above popularity: what the tables say, on a made-up comparison."""

import pytest
from helpers.compared import write_compared
from helpers.reading import Page, rows_of, table_of

from recbole_lightgnn.comparison.popularity import Popularity, popularity_of
from recbole_lightgnn.comparison.report import report

AT_HALF = Popularity(0.5, "recall@20", bigger=True, searched=False)


@pytest.mark.parametrize(("score", "low"), [(0.4999, True), (0.5, True), (0.5001, False)])
def test_a_score_that_is_the_same_is_not_above(score, low):
    assert (AT_HALF.warning("BPR", {1: score}) is not None) == low


def test_where_a_lower_score_is_better():
    popularity = Popularity(0.5, "averagepopularity@20", bigger=False, searched=False)
    assert popularity.warning("BPR", {1: 0.4}) is None
    assert popularity.warning("BPR", {1: 0.6}).startswith("not above popularity (validation ")


def test_seeds_are_named_if_only_some_are_low():
    scores = {1: 0.4, 2: 0.6, 3: 0.2}
    low = AT_HALF.warning("BPR", scores)
    assert low.startswith("not above popularity with seeds 1, 3 (validation recall@20 0.3000, ")
    low = AT_HALF.warning("BPR", {1: 0.4, 3: 0.2})
    assert low.startswith("not above popularity (validation recall@20 0.3000, popularity 0.5000):")


@pytest.mark.parametrize(
    ("model", "advice"),
    [
        (
            "SimGCL",
            "learning_rate, contrast_weight, contrast_temperature, reg_weight",
        ),
        ("SGL", "learning_rate, ssl_weight, ssl_tau, reg_weight"),
        ("IALS", "embedding_size, unobserved_weight, reg_weight"),
    ],
)
def test_what_to_try(model, advice):
    first = AT_HALF.warning(model, {1: 0.1})
    assert first.endswith(f"try a search (--tune-trials), or other values of {advice}")
    searched = Popularity(0.5, "recall@20", bigger=True, searched=True).warning(model, {1: 0.1})
    assert searched.endswith(f"try more trials (--tune-trials), or other values of {advice}")


def test_models_without_a_search_space_or_settings():
    advice = "try other settings, such as learning_rate if the model has one"
    assert AT_HALF.warning("SLIMElastic", {1: 0.1}).endswith(advice)
    assert AT_HALF.warning("Pop", {1: 0.5}) is None
    assert AT_HALF.warning("Random", {1: 0.1}) is None


def test_every_form_of_the_table_has_the_note(tmp_path):
    models = ("LightGNN", "BPR", "NeuMF", "Pop")
    folder = write_compared(tmp_path / "new", models)
    scores = {
        model: [row["valid"]["recall@20"] for row in rows_of(folder, model, model)]
        for model in ("BPR", "NeuMF")
    }
    assert min(scores["BPR"]) > max(scores["NeuMF"])
    between = (min(scores["BPR"]) + max(scores["NeuMF"])) / 2
    write_compared(tmp_path / "new", models, popularity=between, search=None)
    report(folder)
    said = f"not above popularity (validation recall@20 {sum(scores['NeuMF']) / 3:.4f}, popularity "
    said += f"{between:.4f}): try a search (--tune-trials), or other values of learning_rate"
    warnings = {label: line["warning"] for label, line in table_of(folder).items()}
    assert warnings.pop("NeuMF").startswith(said)
    assert set(warnings.values()) == {""}
    assert f"\n- NeuMF: {said}" in (folder / "table.md").read_text()
    assert f"<li>NeuMF: {said}" in (folder / "index.html").read_text()
    tex = said.replace("_", r"\_").replace("%", r"\%")
    assert rf"\par\footnotesize NeuMF: {tex}" in (folder / "table.tex").read_text()
    assert len(Page((folder / "index.html").read_text()).rows) == 1 + len(warnings) + 1


def test_an_older_comparison_has_no_popularity_and_no_warning(tmp_path):
    folder = write_compared(tmp_path, ("LightGNN", "NeuMF"))
    report(folder)
    assert "warning" not in table_of(folder)["NeuMF"]
    assert "popularity" not in (folder / "table.md").read_text()
    assert popularity_of({}) is None


def test_the_table_says_how_many_trials_tuned_means(tmp_path):
    sources = {"LightGNN": "tuned, 5 trials", "Pop": "not tuned"}
    search = {"trials": 5, "minutes": None}
    folder = write_compared(tmp_path, tuple(sources), settings=sources, search=search)
    report(folder)
    assert {line["model"]: line["settings"] for line in table_of(folder).values()} == sources
    text = (folder / "table.md").read_text()
    assert "- settings tuned, N trials: the best on this dataset's validation split of " in text
    assert "(--tune-trials=5)" in text
    assert "by hand: some are set" not in text
