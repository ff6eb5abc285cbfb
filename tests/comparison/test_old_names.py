"""Folders, records and flags with the names of earlier versions."""

import json
import shutil
from pathlib import Path

import pytest
from helpers.compared import write, write_compared
from helpers.comparing import OUT, compare
from helpers.paths import ROOT
from helpers.planted import write_planted

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.comparison.layout import run_folder
from recbole_lightgnn.comparison.report import report_tables
from recbole_lightgnn.comparison.results import Comparison
from recbole_lightgnn.comparison.seeds_report import read_records

TABLES = ("table.md", "table.csv", "table.tex")
# New name -> old name, of keys in files, of settings, and of values of a setting.
OLD_KEYS = {"protocol": "footing", "variants": "rivals"}
OLD_SETTINGS = {
    "accelerate": "our_products",
    "batch_by": "batches",
    "ranking_self_weight": "ranking_own",
}
OLD_VALUES = {
    "batches": {"user": "users", "interaction": "interactions"},
    "teacher_scale": {"std": "spread"},
}


def with_old_names(content, name=None):
    """JSON content as an earlier version wrote it; ``name`` is the old name of ``content``."""
    if isinstance(content, list):
        return [with_old_names(item) for item in content]
    if not isinstance(content, dict):
        return (
            OLD_VALUES.get(name, {}).get(content, content) if isinstance(content, str) else content
        )
    old = {}
    for key, value in content.items():
        prefix, dot, last = key.rpartition(".")
        last = {**OLD_KEYS, **OLD_SETTINGS}.get(last, last)
        old[f"{prefix}{dot}{last}"] = with_old_names(value, last)
    return old


def make_old(folder):
    """Rewrite the JSON files of a comparison with old names; return the number of files changed."""
    changed = 0
    for file in folder.rglob("*.json"):
        content = json.loads(file.read_text())
        write(file, with_old_names(content))
        changed += with_old_names(content) != content
    return changed


# --- tables -----------------------------------------------------------------------------------


def test_a_folder_with_old_names_has_the_same_tables(tmp_path):
    given = {"accelerate": True, "BPR.epochs": 5}
    variant = {"model": "LightGCN", "embedding_size": 8}
    folder = write_compared(
        tmp_path / "new", ("LightGNN", "LightGCN", "BPR"), given=given, variants={"Small": variant}
    )
    report_tables(folder)
    old = shutil.copytree(folder, tmp_path / "old", ignore=shutil.ignore_patterns(*TABLES))
    assert make_old(old) == 10  # comparison.json and nine records
    content = json.loads((old / "comparison.json").read_text())
    assert {"footing", "rivals"} <= content.keys()
    assert content["given"] == {"our_products": True, "BPR.epochs": 5}
    report_tables(old)
    for name in TABLES:
        assert (old / name).read_bytes() == (folder / name).read_bytes()
    notes = (old / "table.md").read_text()
    assert "LightGCN: RecBole's own" in notes
    assert "Settings given by hand: BPR.epochs=5.\n" in notes
    assert "Small: LightGCN with embedding_size=8.\n" in notes


def test_settings_given_under_old_names_are_shown_under_new_ones(tmp_path):
    folder = write_compared(tmp_path, ("LightGNN", "BPR"), given={"LightGNN.batches": "users"})
    assert Comparison(folder).given == {"LightGNN.batch_by": "user"}
    report_tables(folder)
    text = (folder / "table.md").read_text()
    assert "Settings given by hand: LightGNN.batch_by=user.\n" in text


def test_the_archives_in_results_have_old_names():
    """`test_archive.py` therefore tests their tables as those of old folders."""
    for name in ("gowalla", "ml-100k", "yelp"):
        file = ROOT / "results" / f"comparison-{name}" / "comparison.json"
        content = json.loads(file.read_text())
        assert {"footing", "rivals"} <= content.keys()
        assert content["given"]["our_products"]


def test_an_old_archive_can_be_updated(tmp_path):
    folder, archive = write_compared(tmp_path / "out", ("LightGNN", "BPR")), tmp_path / "archive"
    assert main(["report", str(folder), f"--archive={archive}"]) == 0
    assert make_old(archive)
    assert main(["report", str(folder), f"--archive={archive}"]) == 0
    assert json.loads((archive / "comparison.json").read_text())["protocol"]
    report_tables(folder)
    for name in ("table.md", "table.tex"):
        assert (archive / name).read_bytes() == (folder / name).read_bytes()


def test_records_with_old_and_new_names_are_in_one_table(tmp_path):
    folder = write_compared(tmp_path, ("LightGNN",), seeds=(1, 2))
    files = [run_folder(folder, "LightGNN", seed).record_file for seed in (1, 2)]
    write(files[0], with_old_names(json.loads(files[0].read_text())))
    assert "our_products" in json.loads(files[0].read_text())["settings"]
    first, second = read_records(files)
    assert first["settings"] == second["settings"]


# --- going on ---------------------------------------------------------------------------------


@pytest.fixture
def _world(tmp_path):
    write_planted(tmp_path / "dataset")


@pytest.mark.slow
@pytest.mark.usefixtures("_world")
def test_compare_goes_on_with_a_folder_with_old_names(capsys):
    given = ["--SoftmaxMF.epochs=1", "--SoftmaxMF.batch_by=user", "--topk=[20]"]
    assert compare("SoftmaxMF,Pop", *given) == 0
    assert make_old(OUT) == 6  # comparison.json, two files of each run, and one of a run folder
    settings_file = run_folder(OUT, "SoftmaxMF", 1).settings_file
    settings = json.loads(settings_file.read_text())["settings"]
    assert (settings["batches"], settings["our_products"]) == ("users", True)
    records = {file: file.read_bytes() for file in OUT.glob("runs/*/record.json")}
    capsys.readouterr()

    # What is finished is not repeated, and comparison.json is written with the new names.
    assert compare("SoftmaxMF,Pop", *given) == 0
    printed = capsys.readouterr()
    assert "2 runs done before, 0 to do" in printed.out
    assert "warning" not in printed.err
    assert {file: file.read_bytes() for file in records} == records
    content = json.loads((OUT / "comparison.json").read_text())
    assert content.keys() >= {"protocol", "variants"}
    assert not content.keys() & {"footing", "rivals"}
    assert content["given"]["accelerate"]

    # A run without a record is run again: its old settings are the same ones.
    run_folder(OUT, "Pop", 1).record_file.unlink()
    assert compare("SoftmaxMF,Pop", *given) == 0
    assert "1 runs done before, 1 to do" in capsys.readouterr().out

    # Other values under old names are other settings.
    write(settings_file, {"settings": settings | {"our_products": False}})
    assert compare("SoftmaxMF,Pop", *given) == 2
    assert "was begun with other settings (accelerate)" in capsys.readouterr().err


# --- flags ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("_world")
def test_the_old_flag_for_variants_is_accepted_with_a_warning(capsys):
    Path("small.yaml").write_text("Small: {model: Pop, epochs: 2}")
    assert compare("Small", "--rivals=small.yaml", "--topk=[20]") == 0
    assert json.loads((OUT / "comparison.json").read_text())["variants"] == {
        "Small": {"model": "Pop", "epochs": 2}
    }
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "warning: the flag --rivals is called --variants now"


def test_the_old_flag_for_archives_is_accepted_with_a_warning(tmp_path, capsys):
    folder = write_compared(tmp_path / "out", ("BPR",), seeds=(1,))
    assert main(["report", str(folder), "--keep", str(tmp_path / "archive")]) == 0
    assert (tmp_path / "archive" / "table.md").is_file()
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "warning: the flag --keep is called --archive now"
