"""The wheel alone is enough: yaml and console script come along, and nothing needs the checkout."""

import json
import os
import subprocess
import sys

import pytest
from helpers.paths import ROOT
from helpers.planted import QUICK, write_planted

PIP = ("-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check")
OFFLINE = ("--no-deps", "--no-index")
WHERE = """
import recbole_lightgnn
from recbole_lightgnn.config.files import properties_dir
print(recbole_lightgnn.__file__, properties_dir(), sep="\\n")
"""


def python(*arguments, cwd, **environment):
    """Run this Python with the arguments and return what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def listing():
    """Where building might leave something: the top of the checkout and of the package."""
    return {*ROOT.iterdir(), *(ROOT / "recbole_lightgnn").iterdir()}


def yaml_files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.yaml")}


@pytest.mark.slow
def test_the_wheel_works_away_from_the_checkout(tmp_path):
    site, place = tmp_path / "site", tmp_path / "place"
    write_planted(place / "dataset")

    before = listing()
    python(*PIP, "wheel", *OFFLINE, "--no-build-isolation", "-w", tmp_path, ROOT, cwd=tmp_path)
    assert listing() == before, "building left something behind"
    (wheel,) = tmp_path.glob("*.whl")
    python(*PIP, "install", *OFFLINE, "--target", site, wheel, cwd=tmp_path)
    package = site / "recbole_lightgnn"
    assert yaml_files(package / "properties") == yaml_files(ROOT / "properties")

    def installed(*arguments):
        return python(*arguments, cwd=place, PYTHONPATH=str(site))

    assert installed("-c", WHERE).splitlines() == [
        str(package / "__init__.py"),
        str(package / "properties"),
    ]
    command = site / "bin" / "recbole-lightgnn"
    assert "Settings of LightGNN, with their defaults." in installed(
        command, "settings", "LightGNN"
    )

    settings = {**QUICK, "n_pruning_runs": 1, "epochs": 1, "use_gpu": False}
    flags = [f"--{key}={json.dumps(value)}" for key, value in settings.items()]
    printed = installed(command, "run", "-m", "LightGNN", "-d", "planted", *flags)
    (path,) = (place / "saved").glob("LightGNN-planted-*/record.json")
    assert f"record: {path.relative_to(place)}" in printed
    record = json.loads(path.read_text())
    keys = [row["key"] for row in record["rows"]]
    assert keys == ["teacher", "intermediate", "student-00", "student-01"]
    # A community has 20 items; chance would find a third of what is wanted among 20 of 60.
    assert record["test"]["recall@20"] > 0.9
