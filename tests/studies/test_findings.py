"""What the studies say and draw, from small numbers with missing values."""

import math

import pytest

from recbole_lightgnn.comparison.drawing import png_of, svg_of
from recbole_lightgnn.studies import noise, overall, redundancy, report, stability
from recbole_lightgnn.studies.catalogue import STUDIES

FACTS = {
    "dataset": "d",
    "seeds": [1],
    "command": "recbole-lightgnn study",
    "environment": {"processor": "p", "git": None},
}


def drawn(study, content):
    """Draw every figure of a study; return the captions."""
    figures = study.figures({**FACTS, **content})
    for figure in figures:
        assert svg_of(figure.draw, size=figure.size, panels=figure.panels).startswith("<svg")
        assert png_of(figure.draw, size=figure.size, panels=figure.panels)[1:4] == b"PNG"
    return [figure.caption for figure in figures]


def test_a_row_with_recall_alone_is_not_below_the_paper():
    rows = [
        ["LightGNN .33", *[0.1] * 4, *[0.09] * 4, "above", 5.0],
        ["LightGNN .08", *[0.1] * 4, 0.08, None, None, None, "R above", 3.0],
        ["BPR", *[0.05] * 4, *[0.06] * 4, "R above, N below", 9.0],
        ["Pop", *[0.01] * 4, *[None] * 4, None, 1.0],
    ]
    content = {"tables": [{"rows": rows}], "reference": "LightGNN .33"}
    first, second, third = overall.findings(content)
    assert first.startswith("LightGNN .33, chosen on validation, has Recall@20 0.1000; the best")
    assert second.startswith("2 of 3 rows reach")
    assert third == "Below the paper in a metric: BPR."
    assert drawn(overall, content)


def test_a_row_that_is_chosen_and_last_counts_once():
    teacher, student = {"key": "teacher"}, {"key": "student-05"}
    assert stability._shown({"rows": [teacher, student]}, student) == [teacher, student]
    means = stability._means([[1, "student-05", 0.2, 0.1]])
    assert means[0][:2] == ["student-05", 0.2]
    assert math.isnan(means[0][2])


@pytest.mark.parametrize("count", [1, 2])
def test_redundancy_bears_missing_p_and_few_examples(count):
    lines = [{"title": "Toy Story", "genres": "Animation", "rating": 4.0, "pruned": True}]
    rows = [[0.1, None, None, 0, None, None, 0], [0.2, -0.1, 0.01, 5, 0.3, 0.002, 5]]
    content = {
        "tables": [{"rows": rows}],
        "examples": [{"user": str(n), "items": lines} for n in range(count)],
    }
    assert drawn(redundancy, content)
    alike, rated = redundancy.findings(content)
    assert "more alike than kept ones in 0 of 2 rows, and less alike in 1" in alike
    assert "higher than kept ones in 1 of 2 rows, and lower in 0" in rated


def test_noise_bears_a_pruning_run_that_removes_nothing():
    heads = len(noise.LEVELS)
    accuracy = {name: [[0.2]] * heads for name in noise.MODELS}
    rows = [[name, *[0.2] * heads, *[None] * heads] for name in noise.MODELS]
    found = [[0.0, None, 0.0, None, 0.0, 0.2], [0.1, 0.5, 0.25, 0.3, 0.15, 0.2]]
    content = {"tables": [{"rows": rows}, {"rows": found}], "accuracy": accuracy}
    assert len(noise.findings(content)) == 1
    assert len(drawn(noise, content)) == 2


def test_a_damaged_study_does_not_hide_the_others(tmp_path):
    (tmp_path / "noise.json").write_text('{"tables": []}')
    (tmp_path / "oversmoothing.json").write_text("[]")
    rows = [["LightGNN .33", *[0.1] * 4, *[None] * 4, None, 5.0], ["B", *[0.0] * 4, *[None] * 6]]
    table = {"name": "models", "title": "T", "columns": ["c"] * 11, "rows": rows}
    content = {**FACTS, "study": "overall", "tables": [table], "reference": "LightGNN .33"}
    report.write_study(STUDIES["overall"], content, tmp_path)
    page = (tmp_path / report.PAGE).read_text()
    assert page.count("<section") == 1
    (tmp_path / "overall-models.svg").unlink()
    assert "<section" not in report._page(tmp_path)


def test_cells_are_rounded_for_readers():
    values = (None, float("nan"), 3, "x", 0.12345, 12.345, 1234.5, 2_345_678.9)
    assert [report.cell(value) for value in values] == [
        *("", "", "3", "x", "0.1235", "12.35", "1234", "2345679"),
    ]


def test_a_column_without_a_value_is_not_shown():
    table = {"columns": ["a", "±", "b"], "rows": [["x", None, 1.5], ["y", float("nan"), None]]}
    shown = report._without_empty_columns(table)
    assert (shown["columns"], shown["rows"]) == (["a", "b"], [["x", 1.5], ["y", None]])
    assert "±" not in report._table({"title": "T", **table})
