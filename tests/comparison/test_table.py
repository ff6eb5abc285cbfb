"""Tables and page of a comparison: every number is recomputed from the records."""

import json
import re
import statistics
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from helpers.compared import FACTORS, FAILURE, METRICS, change, write, write_compared
from helpers.reading import Page, markdown_of, rows_of, table_of, users_of
from scipy import stats

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.comparison.report import report, report_tables
from recbole_lightgnn.comparison.results import Comparison, shown_rows
from recbole_lightgnn.comparison.significance import holm
from recbole_lightgnn.comparison.table import count
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.runs.user_metrics import read_users, write_users

SHOWN = ("LightGNN", "LightGCN", "BPR", "Pop")


@pytest.fixture
def folder(tmp_path):
    return write_compared(tmp_path / "out", SHOWN)


# --- the numbers --------------------------------------------------------------------------------


def test_csv_has_every_number_as_recomputed_from_the_records(folder):
    report_tables(folder)
    found = table_of(folder)
    student = "LightGNN .33 / .77"
    keys = {
        "LightGNN's teacher": ("LightGNN", "teacher"),
        student: ("LightGNN", "student-05"),
        "LightGNN .09 / .57": ("LightGNN", "student-11"),
        **{model: (model, model) for model in SHOWN[1:]},
    }
    assert list(found) == list(keys)
    p_values = {}
    for label, (model, key) in keys.items():
        line, rows = found[label], rows_of(folder, model, key)
        assert (line["model"], line["row"], line["seeds_done"]) == (model, key, "1 2 3")
        assert line["settings"] == ("tuned" if model == "LightGNN" else "default")
        limits = {"teacher": ("9", "2"), "Pop": ("", "")}.get(key, ("300", "10"))
        assert (line["epochs_at_most"], line["patience"]) == limits
        for metric in METRICS:
            values = [row["test"][metric] for row in rows]
            assert float(line[f"{metric}_mean"]) == pytest.approx(
                statistics.mean(values), rel=1e-12
            )
            assert float(line[f"{metric}_std"]) == pytest.approx(statistics.stdev(values), rel=1e-9)
        assert float(line["parameters"]) == pytest.approx(rows[0]["parameters"])
        assert float(line["bytes"]) == pytest.approx(rows[0]["bytes"])
        assert float(line["ranking_ms_per_user"]) == pytest.approx(1000 * 0.002 / 400)
        if label == student:
            continue
        for metric in METRICS[:2]:
            pair = [users_of(folder, *keys[one], metric) for one in (label, student)]
            difference, p = float(line[f"{metric}_difference"]), float(line[f"{metric}_p"])
            assert difference == pytest.approx((pair[0] - pair[1]).mean(), rel=1e-9)
            assert p == pytest.approx(stats.ttest_rel(*pair).pvalue, rel=1e-6)
            p_values[label, metric] = p
    assert len(p_values) == 10
    largest = 0.0
    for place, (label, metric) in enumerate(sorted(p_values, key=p_values.get)):
        largest = max(largest, min(1.0, (10 - place) * p_values[label, metric]))
        assert float(found[label][f"{metric}_p_holm"]) == pytest.approx(largest)
    assert found[student]["recall@20_p"] == ""


def test_training_time_has_the_stages_before(folder):
    report_tables(folder)
    found = table_of(folder)
    by_seed = (1.1, 1.2, 1.3)
    teacher, student = (400 * f for f in by_seed), ((400 + 6 * 80) * f for f in by_seed)
    line = found["LightGNN's teacher"]
    assert float(line["training_seconds"]) == pytest.approx(statistics.mean(teacher))
    line = found["LightGNN .33 / .77"]
    assert float(line["training_seconds"]) == pytest.approx(statistics.mean(student))


def test_markdown_is_the_csv_rounded(folder):
    report_tables(folder)
    shown, exact = markdown_of(folder), table_of(folder)
    assert list(shown) == list(exact)
    names = dict(zip(METRICS, ("R@20", "N@20", "R@40", "N@40"), strict=True))
    for label, line in shown.items():
        for metric, name in names.items():
            mean, std = (float(exact[label][f"{metric}_{of}"]) for of in ("mean", "std"))
            assert line[name].strip("*") == f"{mean:.4f} ± {std:.4f}".replace("0.", ".")
            best = max(float(one[f"{metric}_mean"]) for one in exact.values())
            assert line[name].startswith("**") == (f"{mean:.4f}" == f"{best:.4f}")
        for metric in METRICS[:2]:
            p = exact[label][f"{metric}_p_holm"]
            if not p:
                assert line[f"p {names[metric]}"] == "reference"
                continue
            sign = "−" if float(exact[label][f"{metric}_difference"]) < 0 else "+"
            rounded = "<.001" if float(p) < 0.001 else f"{float(p):.3f}".replace("0.", ".")
            assert line[f"p {names[metric]}"] == f"{sign} {rounded}"
    assert shown["LightGCN"]["size"] == "17.8 MB"
    assert shown["LightGCN"]["parameters"] == "4.45 M"
    assert shown["LightGCN"]["training"] == "48 min"
    assert shown["LightGCN"]["epochs / patience"] == "300 / 10"
    assert shown["Pop"]["epochs / patience"] == ""
    assert shown["Pop"]["training"] == "720 ms"
    assert shown["Pop"]["ranking"] == "0.005 ms"


def test_latex_and_page_have_the_cells_of_markdown(folder):
    report(folder)
    expected = [list(line.values()) for line in markdown_of(folder).values()]
    lines = (folder / "table.tex").read_text().splitlines()
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    signs = {r"$\pm$": "±", "$-$": "−", "$<$": "<", "$+$": "+"}
    found = []
    for line in body:
        text = line.removesuffix(r" \\")
        for command, sign in signs.items():
            text = text.replace(command, sign)
        found.append([re.sub(r"\\textbf\{(.*)\}", r"**\1**", cell) for cell in text.split(" & ")])
    assert found == expected
    seen = Page((folder / "index.html").read_text())
    assert seen.rows[1:] == [[cell.strip("*") for cell in line] for line in expected]
    assert seen.bold == [c.strip("*") for line in expected for c in line if c.startswith("**")]


def test_one_seed_has_no_deviation(tmp_path):
    folder = write_compared(tmp_path, ("LightGNN", "BPR"), seeds=(7,))
    report_tables(folder)
    assert re.fullmatch(r"\.\d{4}", markdown_of(folder)["BPR"]["R@20"])
    assert table_of(folder)["BPR"]["recall@20_std"] == ""
    assert "test, seed 7;" in (folder / "table.md").read_text()


def test_made_twice_it_is_the_same(folder):
    files = ["table.md", "table.csv", "table.tex", "index.html"]
    report(folder)
    first = [(folder / name).read_bytes() for name in files]
    assert main(["report", str(folder)]) == 0
    assert [(folder / name).read_bytes() for name in files] == first


# --- what is missing ----------------------------------------------------------------------------


def test_a_failed_model_has_its_reason_in_its_line(tmp_path):
    models = ("LightGNN", "LightGCN", "NCL", "BPR")
    failed = [("NCL", 1), ("NCL", 2), ("NCL", 3), ("LightGCN", 2)]
    folder = write_compared(tmp_path, models, failed=failed, without=[("BPR", 1), ("BPR", 3)])
    report(folder)
    shown = markdown_of(folder)
    assert shown["NCL"]["parameters"] == f"seeds 1, 2, 3 failed: {FAILURE}"
    assert shown["NCL"]["R@20"] == ""
    assert rf"seeds 1, 2, 3 failed: {FAILURE}" in (folder / "table.tex").read_text()
    assert [line for line in Page((folder / "index.html").read_text()).rows if "NCL" in line] == [
        ["NCL", "contrastive", "default", f"seeds 1, 2, 3 failed: {FAILURE}"]
    ]
    values = [row["test"]["recall@20"] for row in rows_of(folder, "LightGCN", "LightGCN", (1, 3))]
    line = table_of(folder)["LightGCN"]
    assert float(line["recall@20_mean"]) == pytest.approx(statistics.mean(values))
    assert line["problems"] == f"seed 2 failed: {FAILURE}"
    assert {"LightGCN (2 of 3 seeds)", "BPR (1 of 3 seeds)"} <= shown.keys()
    text = (folder / "table.md").read_text()
    assert f"- LightGCN: seed 2 failed: {FAILURE}.\n" in text
    assert "- BPR: seeds 1, 3 not done yet.\n" in text


def test_without_user_metrics_of_the_reference_nothing_is_tested(tmp_path):
    folder = write_compared(tmp_path, ("LightGNN", "BPR"), without_users=("LightGNN",))
    report_tables(folder)
    assert markdown_of(folder)["BPR"]["p R@20"] == "no user data"
    assert "paired t-test" not in (folder / "table.md").read_text()


@pytest.mark.parametrize(
    ("number", "text"),
    [(999, "999"), (999_499, "999 k"), (999_744, "1 M"), (4_450_304, "4.45 M"), (999.9e6, "1 G")],
)
def test_counts_have_three_digits(number, text):
    assert count(number) == text


def test_a_model_without_user_metrics_is_not_tested(tmp_path):
    folder = write_compared(tmp_path, ("LightGNN", "EASE", "BPR"), without_users=("EASE",))
    report_tables(folder)
    assert markdown_of(folder)["EASE"]["p R@20"] == "no user data"
    assert markdown_of(folder)["BPR"]["p R@20"] == "− <.001"
    lines = [line for line in table_of(folder).values() if line["recall@20_p"]]
    given = [[float(line[f"{m}_{what}"]) for line in lines for m in METRICS[:2]]
             for what in ("p", "p_holm")]  # fmt: skip
    assert len(given[0]) == 6  # of 8
    assert given[1] == pytest.approx(holm(given[0]))


def test_nothing_is_done_yet(tmp_path):
    failed = [("BPR", seed) for seed in (1, 2, 3)]
    folder = write_compared(tmp_path, ("BPR",), failed=failed)
    report(folder)
    assert markdown_of(folder)["BPR"]["parameters"].startswith("seeds 1, 2, 3 failed: ")
    assert "No run is done." in (folder / "index.html").read_text()


@pytest.mark.parametrize("odd", [{"seed": 1}, {"model": "Pop"}, {"dataset_fingerprint": {}}])
def test_a_record_that_does_not_belong_is_left_out(tmp_path, odd):
    folder = write_compared(tmp_path / "out", ("LightGNN", "BPR"))
    change(folder / "runs/BPR-2/record.json", **odd)
    report_tables(folder)
    reason = "seed 2 left out: its record is damaged, or of another model, seed or split;"
    line = table_of(folder)["BPR"]
    assert line["seeds_done"] == "1 3"
    assert line["problems"].startswith(reason)
    assert f"- BPR: {reason}" in (folder / "table.md").read_text()


def test_none_belongs(tmp_path):
    folder = write_compared(tmp_path / "out", ("BPR",))
    data = json.loads((folder / "comparison.json").read_text())["dataset_fingerprint"]
    change(folder / "comparison.json", dataset_fingerprint=data | {"items": 7})
    report_tables(folder)
    assert markdown_of(folder)["BPR"]["parameters"].startswith("seeds 1, 2, 3 left out: ")


def test_a_folder_of_no_comparison(tmp_path, capsys):
    for content in (None, "[]", '{"dataset": "planted"}'):
        if content:
            (tmp_path / "comparison.json").write_text(content)
        assert main(["report", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert "is no folder of a comparison (it has no comparison.json, or a damaged" in error


@pytest.mark.parametrize("content", ["[]", "{}", '"text"'])
def test_a_damaged_record_is_left_out(folder, content):
    (folder / "runs/BPR-2/record.json").write_text(content)
    report_tables(folder)
    assert table_of(folder)["BPR"]["problems"].startswith("seed 2 left out: its record is damaged")


@pytest.mark.parametrize("gone", ["bytes", "parameters", "test_seconds", "every row"])
def test_a_record_with_less_is_left_out(folder, gone):
    file = folder / "runs/BPR-2/record.json"
    (row,) = json.loads(file.read_text())["rows"]
    rows = [{k: v for k, v in row.items() if k != gone}] if gone in row else []
    change(file, rows=rows)
    report_tables(folder)
    assert table_of(folder)["BPR"]["problems"].startswith("seed 2 left out: its record is damaged")


def test_every_flipped_byte_of_users_is_refused_or_harmless(tmp_path):
    rows = {"a": {"recall@1": np.linspace(0, 1, 50)}}
    write_users(file := tmp_path / "x.npz", [f"u{n}" for n in range(50)], np.arange(50), rows)
    whole = file.read_bytes()
    for place in range(len(whole)):
        flipped = bytes([whole[place] ^ 0xFF])
        file.write_bytes(whole[:place] + flipped + whole[place + 1 :])
        with suppress(InputError):
            read_users(file)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", "pickle", "short", "other"])
def test_damaged_users_are_refused(folder, capsys, content):
    file = folder / "runs/BPR-2/record.users.npz"
    whole = dict(np.load(file, allow_pickle=False))
    if content == "pickle":
        whole["user"] = np.array([{"a": 1}] * 400, dtype=object)
    elif content == "short":
        whole["recall@20"] = whole["recall@20"][:, :-1]
    elif content == "other":
        whole["user"] = whole["user"][::-1]
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        np.savez(file, **whole)
    assert main(["report", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "record.users.npz is " in error
    assert ("of other users" if content == "other" else "no file of users' metrics") in error


def test_users_are_read_as_they_were_written(tmp_path):
    rows = {"a": {"recall@1": np.array([0.5, 1 / 3])}, "b": {"recall@1": np.array([0.0, 1.0])}}
    write_users(tmp_path / "sub" / "x.npz", ["u", "ü"], np.array([3, 4]), rows)
    found = read_users(tmp_path / "sub" / "x.npz")
    assert found.user.tolist() == ["u", "ü"]
    assert found.degree.tolist() == [3, 4]
    assert found.rows["a"]["recall@1"].tolist() == [0.5, 1 / 3]
    assert list(found.rows) == ["a", "b"]
    assert read_users(tmp_path / "absent.npz") is None


# --- rows and reference -------------------------------------------------------------------------


def lightgnn_rows(n_runs, *others):
    students = [(f"student-{run:02d}", "student", 0.8**run) for run in range(n_runs + 1)]
    keys = [(key, "teacher", 1.0) for key in others] + students
    return [dict(zip(("key", "stage", "entries_kept"), row, strict=True)) for row in keys]


@pytest.mark.parametrize(
    ("rows", "asked", "shown"),
    [
        (lightgnn_rows(11, "teacher"), None, ["teacher", "student-05", "student-11"]),
        (lightgnn_rows(5, "teacher"), None, ["teacher", "student-05"]),
        (lightgnn_rows(2, "teacher"), None, ["teacher", "student-02"]),
        (
            lightgnn_rows(11, "teacher", "teacher-01", "teachers"),
            None,
            ["teachers", "student-05", "student-11"],
        ),
        (lightgnn_rows(11, "teacher"), ["student-11", "student-00"], ["student-00", "student-11"]),
        ([{"key": "BPR", "stage": "BPR", "entries_kept": 1.0}], ["teacher"], ["BPR"]),
        ([{"key": "BPR", "stage": "BPR", "entries_kept": 1.0}], None, ["BPR"]),
    ],
)
def test_which_rows_are_shown(rows, asked, shown):
    assert shown_rows(rows, asked) == shown


def test_the_reference_is_chosen_by_validation(tmp_path):
    folder = write_compared(tmp_path, ("LightGNN", "BPR"), rows=["student-00", "student-03"])
    for seed in (1, 2, 3):
        file = folder / f"runs/LightGNN-{seed}/record.json"
        record = json.loads(file.read_text())
        for row in record["rows"]:  # the better on test is the worse on validation
            run = int(row["key"][-2:]) if row["stage"] == "student" else 99
            row["valid"]["recall@20"], row["test"]["recall@20"] = run / 1000, 0.1 - run / 1000
        write(file, record)
    assert Comparison(folder).reference.key == "student-03"
    report_tables(folder)
    assert list(table_of(folder)) == ["LightGNN 1.00 / 1.00", "LightGNN .51 / .86", "BPR"]
    assert main(["report", str(folder), "--rows=teacher,student-03"]) == 0
    assert list(table_of(folder)) == ["LightGNN's teacher", "LightGNN .51 / .86", "BPR"]
    assert Comparison(write_compared(tmp_path / "2", ("Pop", "BPR"))).reference.label == "BPR"


def test_seeds_that_found_one_teacher_and_several_share_a_line(tmp_path):
    """The line is that of what the student learned from."""
    folder = write_compared(tmp_path, ("LightGNN", "BPR"))
    several = folder / "runs/LightGNN-2"
    record = json.loads((several / "record.json").read_text())
    users = read_users(several / "record.users.npz")
    first, students = record["rows"][0], record["rows"][1:]
    second = first | {"key": "teacher-01", "seconds": 50.0}
    doubled = {metric: 2 * value for metric, value in first["test"].items()}
    whole = first | {"key": "teachers", "test": doubled, "seconds": 0.0}
    write(several / "record.json", record | {"rows": [first, second, whole, *students]})
    of_users = users.rows | {"teacher-01": (single := users.rows["teacher"])}
    of_users["teachers"] = {metric: 2 * values for metric, values in single.items()}
    write_users(several / "record.users.npz", users.user, users.degree, of_users)

    line = Comparison(folder).done()[0]
    assert (line.label, line.key, line.seeds) == ("LightGNN's teachers", "teachers", [1, 2, 3])
    alone = [
        json.loads((folder / f"runs/LightGNN-{seed}/record.json").read_text()) for seed in (1, 3)
    ]
    one, three = (record["rows"][0]["test"]["recall@20"] for record in alone)
    assert line.test["recall@20"] == [one, doubled["recall@20"], three]
    seconds = sum(record["rows"][0]["seconds"] for record in [*alone, record])
    assert line.seconds == pytest.approx((seconds + 50.0) / 3)
    means = [read_users(folder / f"runs/LightGNN-{seed}/record.users.npz") for seed in (1, 3)]
    expected = sum(one.rows["teacher"]["recall@20"].astype(float) for one in means)
    expected = (expected + of_users["teachers"]["recall@20"]) / 3
    assert line.users["recall@20"] == pytest.approx(expected, rel=1e-6)
    assert main(["report", str(folder), "--rows=teacher-01,student-03"]) == 0
    other, student = Comparison(folder, ["teacher-01", "student-03"]).done()[:2]
    assert (other.key, other.seeds, student.seeds) == ("teacher-01", [2], [1, 2, 3])
    assert other.problems == ["seed 1 has no teacher-01", "seed 3 has no teacher-01"]
    assert other.paired_seeds == [2]


def test_a_row_that_no_record_has_is_refused(folder, capsys):
    assert main(["report", str(folder), "--rows=teacher,student-12"]) == 2
    error = capsys.readouterr().err
    assert "--rows must be one of BPR, LightGCN, Pop, student-00, " in error
    assert "got 'student-12' (did you mean 'student-11'?)" in error


def test_factors_are_those_of_the_file(folder):
    """The tests above rely on it: the made-up metrics are means over their users."""
    for metric, factor in FACTORS.items():
        (row, *_) = rows_of(folder, "BPR", "BPR")
        users = users_of(folder, "BPR", "BPR", metric, seeds=(1,))
        assert row["test"][metric] == pytest.approx(users.mean())
        assert users == pytest.approx(factor * users_of(folder, "BPR", "BPR", "recall@20", (1,)))


def test_the_files_are_where_they_are_said_to_be(folder, capsys):
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.strip() == (folder / "table.md").read_text().strip()
    assert {file.name for file in Path(folder).iterdir()} == {
        *("comparison.json", "runs", "table.md", "table.csv", "table.tex", "index.html")
    }
