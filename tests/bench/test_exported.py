"""``bench infer FILE``: what it measures, and that it checks first. No test depends on speed."""

import json
import os
from pathlib import Path

import pytest
from helpers.model_files import file_of, random_model
from helpers.paths import ROOT

from recbole_lightgnn.bench import exported
from recbole_lightgnn.bench.measure import WrongResult
from recbole_lightgnn.cli.main import main


@pytest.fixture(autouse=True)
def _files(monkeypatch):
    monkeypatch.setattr(exported, "STARTS", 1)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    for name, values in (("small", "int8"), ("exact", "float32")):
        model = random_model(0, n_users=60, n_items=40, width=8)
        Path(f"{name}.lgnn").write_bytes(file_of(model, values))
    Path("other.lgnn").write_bytes(file_of(random_model(0)))


def test_files_are_measured_side_by_side(capsys):
    command = ["bench", "infer", "small.lgnn", "exact.lgnn", "--json=s.json", "--plot=s.svg"]
    assert main(command) == 0
    result = json.loads(Path("s.json").read_text())
    assert (result["users"], result["items"]) == (60, 40)
    names = ["small.lgnn", "exact.lgnn"]
    assert list(result["models"]) == names
    for name in names:
        assert result["models"][name]["bytes"] == Path(name).stat().st_size
        assert 10 < result["models"][name]["peak_mb"] < 1000
    operations = [row["operation"] for row in result["rows"]]
    assert operations == ["cold start", "load", "top 20 for one user", "for all users"]
    for row in result["rows"]:
        assert list(row["seconds"]) == names
    cold, load, one, every = (row["seconds"]["small.lgnn"] for row in result["rows"])
    assert cold["median"] > load["median"], "cold start includes the start of the process"
    assert (cold["calls"], one["calls"], every["calls"]) == (1, 999, 3)
    assert result["deviation"] < 1e-6
    printed = capsys.readouterr().out
    assert "all recommendations are the best ones; largest error of a score: " in printed
    assert all(any(line.startswith(name) for line in printed.splitlines()) for name in names)
    assert "small.lgnn" in Path("s.svg").read_text()


def test_what_cannot_be_measured(capsys, monkeypatch):
    for files, what in (
        (["none.lgnn"], "no file at none.lgnn"),
        (["small.lgnn", "./small.lgnn"], "two of the files have one name"),
        (["small.lgnn", "other.lgnn"], "are models of different users or items"),
    ):
        assert main(["bench", "infer", *files]) == 2
        assert what in capsys.readouterr().err
    Path("small.lgnn").write_bytes(Path("small.lgnn").read_bytes()[:-1])
    assert main(["bench", "infer", "small.lgnn"]) == 2
    assert "error: small.lgnn is cut off" in capsys.readouterr().err
    wrong = {"ready": 0, "load": 0, "deviation": 0.1}
    monkeypatch.setattr(exported, "_in_new_process", lambda *_: wrong)
    with pytest.raises(WrongResult, match=r"recommendations are not the best, by 0\.1"):
        exported.run([Path("exact.lgnn")])
