"""Archives of comparisons, and the archives in ``results/``."""

import csv
import importlib.util
import json
import shutil

import numpy as np
import pytest
from helpers.compared import FAILURE, write_compared
from helpers.paths import ROOT

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.comparison.report import report, report_tables
from recbole_lightgnn.runs.user_metrics import read_users

ARCHIVES = sorted(path.parent for path in (ROOT / "results").glob("*/comparison.json"))
TABLES = ("table.md", "table.csv", "table.tex")


@pytest.fixture
def folder(tmp_path):
    folder = write_compared(tmp_path / "out", ("LightGNN", "LightGCN", "Pop"))
    for place in (folder / "runs").iterdir():
        (place / "log.txt").write_text("epoch 0\n")
        (place / "saved").mkdir()
        (place / "saved" / "model.pth").write_bytes(b"weights")
    return folder


def test_an_archive_has_the_same_tables_without_large_files(folder, tmp_path, capsys):
    printed = report(folder)
    assert main(["report", str(folder), "--archive", str(tmp_path / "archive")]) == 0
    assert capsys.readouterr().out.strip() == printed.strip()
    names = {path.name for path in (tmp_path / "archive").rglob("*") if path.is_file()}
    assert names == {"comparison.json", "index.html", "record.json", "record.users.npz", *TABLES}
    for name in ("table.md", "table.tex"):
        assert (tmp_path / "archive" / name).read_bytes() == (folder / name).read_bytes()
    ours, theirs = (
        read_users(place / "runs" / "LightGNN-1" / "record.users.npz").rows["student-05"]
        for place in (tmp_path / "archive", folder)
    )
    assert {values.dtype for values in ours.values()} == {np.dtype(np.float32)}
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], rtol=1e-7)


def test_an_archive_has_the_rows_that_were_asked_for(folder, tmp_path):
    rows = ["--rows", "student-02,student-05"]
    assert main(["report", str(folder), *rows, "--archive", str(tmp_path / "archive")]) == 0
    first = (tmp_path / "archive" / "table.md").read_text()
    assert first.count("| LightGNN .") == 2
    assert report_tables(tmp_path / "archive") == first


def test_an_archive_can_be_updated(folder, tmp_path):
    archive, away = tmp_path / "archive", tmp_path / "away"
    place = folder / "runs" / "Pop-2"
    shutil.move(place, away)
    place.mkdir()
    (place / "failed.json").write_text(json.dumps({"reason": FAILURE}))
    assert main(["report", str(folder), "--archive", str(archive)]) == 0
    assert {file.name for file in (archive / "runs" / "Pop-2").iterdir()} == {"failed.json"}
    assert FAILURE in (archive / "table.md").read_text()
    shutil.rmtree(place)
    shutil.move(away, place)
    assert main(["report", str(folder), "--archive", str(archive)]) == 0
    assert not (archive / "runs" / "Pop-2" / "failed.json").exists()
    assert (archive / "table.md").read_text() == report_tables(folder)


def test_files_that_are_gone_are_removed_from_the_archive(folder, tmp_path):
    archive = tmp_path / "archive"
    lost = folder / "runs" / "LightGCN-2"
    shutil.move(lost, tmp_path / "away")
    lost.mkdir()
    (lost / "failed.json").write_text(json.dumps({"reason": FAILURE}))
    assert main(["report", str(folder), "--archive", str(archive)]) == 0
    (lost / "failed.json").unlink()
    (folder / "runs" / "Pop-1" / "record.users.npz").unlink()
    assert main(["report", str(folder), "--archive", str(archive)]) == 0
    assert (archive / "table.md").read_text() == report_tables(folder)
    assert "not done yet" in (archive / "table.md").read_text()
    assert not (archive / "runs" / "Pop-1" / "record.users.npz").exists()


def test_an_interrupted_archive_is_completed(folder, tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    command = ["report", str(folder), "--archive", str(tmp_path / "archive")]
    with monkeypatch.context() as patched:
        patched.setattr("recbole_lightgnn.comparison.archive.write_users", stopped)
        assert main(command) != 0
    assert main(command) == 0
    assert (tmp_path / "archive" / "table.md").read_text() == report_tables(folder)


def test_a_record_that_is_left_out_is_not_archived(folder, tmp_path):
    for seed in (1, 2, 3):
        file = folder / "runs" / f"Pop-{seed}" / "record.json"
        file.write_text(file.read_text().replace('"model": "Pop"', '"model": "BPR"'))
    assert main(["report", str(folder), "--archive", str(tmp_path / "archive")]) == 0
    assert not list((tmp_path / "archive").glob("runs/Pop-*/record*"))
    assert main(["report", str(folder)]) == 0


def test_an_archive_never_overwrites_something_else(folder, tmp_path, capsys):
    def refused(target, message, source=folder):
        assert main(["report", str(source), "--archive", str(target)]) != 0
        assert message in capsys.readouterr().err

    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("")
    refused(other, "has files, but no comparison.json of a comparison")
    refused(folder, "is a comparison itself")
    refused(other / "thesis.tex", "is no writable folder")
    assert [file.name for file in other.iterdir()] == ["thesis.tex"]

    # Another comparison, a comparison itself, and an archive with more runs.
    archive = tmp_path / "archive"
    assert main(["report", str(folder), "--archive", str(archive)]) == 0
    content = (archive / "comparison.json").read_text()
    (archive / "comparison.json").write_text(content.replace('"madeup"', '"other"'))
    refused(archive, "is of another comparison than")
    (archive / "comparison.json").write_text(content)
    (archive / "lock").touch()
    refused(archive, "is a comparison itself")
    (archive / "lock").unlink()
    before = {file: file.read_bytes() for file in archive.rglob("*.npz")}
    shutil.rmtree(folder / "runs" / "LightGCN-2")
    refused(archive, "has runs that")
    assert {file: file.read_bytes() for file in archive.rglob("*.npz")} == before
    refused(
        archive,
        "--archive is for the folder of one comparison",
        folder / "runs" / "LightGNN-1" / "record.json",
    )


def test_there_are_comparisons_in_results():
    assert [archive.name for archive in ARCHIVES] == [
        f"comparison-{name}" for name in ("any-lastfm", "any-ml-100k", "gowalla", "ml-100k", "yelp")
    ]


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name)
def test_the_tables_in_results_and_on_the_site_are_those_of_the_records(archive, tmp_path):
    shutil.copytree(archive, tmp_path / "copy", ignore=shutil.ignore_patterns(*TABLES))
    report_tables(tmp_path / "copy")
    for name in ("table.md", "table.tex"):
        assert (tmp_path / "copy" / name).read_bytes() == (archive / name).read_bytes()
    assert cells(tmp_path / "copy" / "table.csv") == cells(archive / "table.csv")
    dataset = archive.name.removeprefix("comparison-")
    page = "any-dataset" if dataset.startswith("any-") else dataset
    page = (ROOT / "docs" / "results" / f"{page}.md").read_text()
    assert f"{{include}} ../_generated/{archive.name}.md" in page
    generated = dict(site_pages()._comparison(archive))[f"{archive.name}.md"].decode()
    assert rows(generated) == rows((archive / "table.md").read_text())


def cells(file):
    """Read a table; the last digits of a p of 1e-280 depend on the version of SciPy."""
    with file.open(newline="") as lines:
        table = [dict(row) for row in csv.DictReader(lines)]
    for row in table:
        for name in row:
            if name.endswith(("_p", "_p_holm")) and row[name]:
                row[name] = f"{float(row[name]):.5g}"
    return table


def site_pages():
    """The module that makes the site's tables from records; it is in no package."""
    file = ROOT / "docs" / "_ext" / "result_pages.py"
    spec = importlib.util.spec_from_file_location("result_pages", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(text):
    """Rows of a Markdown table, without the line below the head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [line for line in lines if set(line) - set("|- ")]
