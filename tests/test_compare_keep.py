"""What is kept of a comparison, and the comparisons kept in ``results/``."""

import json
import shutil
from pathlib import Path

import pytest
from compared import FAILURE, write_compared

from recbole_lightgnn.cli import main
from recbole_lightgnn.report.comparison_report import report

ROOT = Path(__file__).parents[1]
KEPT = sorted(path.parent for path in (ROOT / "results").glob("*/comparison.json"))
TABLES = ("table.md", "table.csv", "table.tex")


@pytest.fixture
def folder(tmp_path):
    folder = write_compared(tmp_path / "out", ("LightGNN", "LightGCN", "Pop"))
    for place in (folder / "runs").iterdir():
        (place / "log.txt").write_text("epoch 0\n")
        (place / "saved").mkdir()
        (place / "saved" / "model.pth").write_bytes(b"weights")
    return folder


def test_a_copy_has_the_same_tables_without_what_is_large(folder, tmp_path, capsys):
    printed = report(folder)
    assert main(["report", str(folder), "--keep", str(tmp_path / "kept")]) == 0
    assert capsys.readouterr().out.strip() == printed.strip()
    kept = {path.name for path in (tmp_path / "kept").rglob("*") if path.is_file()}
    assert kept == {"comparison.json", "index.html", "record.json", "record.users.npz", *TABLES}
    for name in ("table.md", "table.tex"):
        assert (tmp_path / "kept" / name).read_bytes() == (folder / name).read_bytes()
    ours, theirs = (
        next((place / "runs" / "LightGNN-1").glob("*.npz")).stat().st_size
        for place in (tmp_path / "kept", folder)
    )
    assert ours < theirs


def test_a_copy_is_of_the_rows_that_were_asked_for(folder, tmp_path):
    rows = ["--rows", "student-02,student-05"]
    assert main(["report", str(folder), *rows, "--keep", str(tmp_path / "kept")]) == 0
    first = (tmp_path / "kept" / "table.md").read_text()
    assert first.count("| LightGNN .") == 2
    assert report(tmp_path / "kept") == first


def test_a_copy_follows_what_it_is_of(folder, tmp_path):
    kept = tmp_path / "kept"
    assert main(["report", str(folder), "--keep", str(kept)]) == 0
    place = folder / "runs" / "Pop-2"
    (place / "record.json").unlink()
    (place / "record.users.npz").unlink()
    (place / "failed.json").write_text(json.dumps({"reason": FAILURE}))
    assert main(["report", str(folder), "--keep", str(kept)]) == 0
    assert {file.name for file in (kept / "runs" / "Pop-2").iterdir()} == {"failed.json"}
    assert FAILURE in (kept / "table.md").read_text()


def test_a_copy_is_refused_where_it_would_be_in_the_way(folder, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("")
    for target, message in (
        (other, "has files, but no comparison.json of a comparison"),
        (folder, "is the comparison itself"),
        (other / "thesis.tex", "is no writable folder"),
    ):
        assert main(["report", str(folder), "--keep", str(target)]) != 0
        assert message in capsys.readouterr().err
    record = folder / "runs" / "LightGNN-1" / "record.json"
    assert main(["report", str(record), "--keep", str(tmp_path / "kept")]) != 0
    assert "--keep is for the folder of one comparison" in capsys.readouterr().err
    assert [file.name for file in other.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.name)
def test_the_tables_in_results_and_in_the_readme_are_those_of_the_records(kept, tmp_path):
    shutil.copytree(kept, tmp_path / "copy", ignore=shutil.ignore_patterns(*TABLES))
    report(tmp_path / "copy")
    for name in TABLES:
        assert (tmp_path / "copy" / name).read_bytes() == (kept / name).read_bytes()
    lines = (kept / "table.md").read_text().splitlines()
    table = "\n".join(line for line in lines if line.startswith("|"))
    assert table in (ROOT / "README.md").read_text()
