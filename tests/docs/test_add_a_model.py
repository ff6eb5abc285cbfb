"""A newcomer adds a model with the files that the tutorial shows, and nothing else."""

import shutil
import subprocess

import pytest
from helpers.doc_blocks import blocks_of, command_environment, run_block
from helpers.paths import ROOT

PAGE = ROOT / "docs" / "tutorials" / "add-a-model.md"
COPIED = ("recbole_lightgnn", "properties", "tests", "dataset/planted", "docs/reference")


@pytest.fixture
def checkout(tmp_path):
    """A copy of what the page needs of the checkout, under git."""
    folder = tmp_path / "checkout"
    for name in COPIED:
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*_cache")
        )
    for name in ("pyproject.toml", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    person = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*person, "commit", "-q", "-m", "before"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@pytest.mark.slow
def test_the_tutorial_adds_a_model(checkout, tmp_path):
    scripts = tmp_path / "bin"
    scripts.mkdir()
    environment = command_environment(scripts, checkout)
    blocks = blocks_of(PAGE)
    assert [block.file for block in blocks if block.file] == [
        "recbole_lightgnn/baselines/popmf.py",
        "properties/model/PopMF.yaml",
        "tests/baselines/test_popmf.py",
    ]
    assert all(block.reason is None for block in blocks)
    for block in blocks:
        run_block(block, checkout, {}, environment)
    changed = subprocess.run(
        ["git", "status", "--short", "--untracked-files=all"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    left_by_runs = ("?? saved/", "?? log/", "?? log_tensorboard/")
    assert [line for line in changed if line and not line.startswith(left_by_runs)] == [
        " M docs/reference/models.md",
        "?? properties/model/PopMF.yaml",
        "?? recbole_lightgnn/baselines/popmf.py",
        "?? tests/baselines/test_popmf.py",
    ]
