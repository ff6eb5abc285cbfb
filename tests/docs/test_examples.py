"""The scripts and the notebook in ``examples/`` run on the planted dataset."""

import shutil
import subprocess
import sys

import pytest
from helpers.doc_blocks import command_environment
from helpers.paths import ROOT

EXAMPLES = ROOT / "examples"
OUTPUT = {
    "train_compress_serve.py": ["student-02", "model.lgnn: ", "user 0: ", "score "],
    "compare_models.py": ["LightGCN ", "LightGNN .64 / .81 ", "reference: LightGNN "],
}


@pytest.fixture
def environment(tmp_path, tmp_path_factory):
    shutil.copytree(ROOT / "dataset" / "planted", tmp_path / "dataset" / "planted")
    return command_environment(tmp_path_factory.mktemp("bin"), ROOT)


def test_every_example_is_run():
    scripts = {file.name for file in EXAMPLES.glob("*.py")}
    assert scripts == set(OUTPUT)
    assert [file.name for file in EXAMPLES.glob("*.ipynb")] == ["explore.ipynb"]


@pytest.mark.slow
@pytest.mark.parametrize("name", OUTPUT)
def test_the_script_runs(name, tmp_path, environment):
    command = [sys.executable, str(EXAMPLES / name)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for start in OUTPUT[name]:
        assert any(line.startswith(start) for line in done.stdout.splitlines()), done.stdout


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, environment, monkeypatch):
    import nbformat  # of the extra `docs`, which the fast tests do without
    from nbclient import NotebookClient

    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    notebook = nbformat.read(EXAMPLES / "explore.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not stripped"
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    texts = [
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    ]
    (line,) = [text for text in texts if text.startswith("kept: ")]
    of_noise, of_rest = (float(part.split()[0]) for part in line.split(":")[1].split(","))
    assert of_noise < of_rest, "pruning must drop more of the noise"
