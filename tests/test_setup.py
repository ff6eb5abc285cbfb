"""``make .venv/ready`` where pip finds no CPU build of torch, with an index in a folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distributions

import pytest
from helpers.paths import ROOT
from packaging.specifiers import SpecifierSet

CONSTRAINTS = "torch==2.13.0\nnumpy==1.0\nhatchling==1.27\n"
PYPROJECT = """
[build-system]
requires = []
build-backend = "hatchling"
[project]
name = "recbole-lightgnn"
version = "0"
"""
# A build backend of a few lines, in place of the real one.
HATCHLING = """
import zipfile
def get_requires_for_build_editable(settings=None): return []
def build_editable(folder, settings=None, metadata=None):
    name = "recbole_lightgnn-0-py3-none-any.whl"
    info = "recbole_lightgnn-0.dist-info"
    metadata = ["Metadata-Version: 2.1", "Name: recbole-lightgnn", "Version: 0", ""]
    tags = ["Wheel-Version: 1.0", "Root-Is-Purelib: true", "Tag: py3-none-any", ""]
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", "\\n".join(metadata))
        wheel.writestr(f"{info}/WHEEL", "\\n".join(tags))
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""


def write_wheel(folder, name, version, code, requires=()):
    """Write a wheel with one module into a folder that pip searches."""
    info = f"{name}-{version}.dist-info"
    metadata = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {r}" for r in requires)]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", code)
        wheel.writestr(f"{info}/METADATA", "\n".join(["Metadata-Version: 2.1", *metadata, ""]))
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def set_up(tmp_path):
    """Function that runs the set-up of the Makefile with a torch of the given code."""

    def set_up(torch, requires):
        index, checkout = tmp_path / "index", tmp_path / "checkout"
        index.mkdir()
        checkout.mkdir()
        write_wheel(index, "torch", "2.13.0", torch, requires)
        write_wheel(index, "cuda_libraries", "13.0", "")
        write_wheel(index, "numpy", "1.0", "")
        write_wheel(index, "hatchling", "1.27", HATCHLING)
        shutil.copy(ROOT / "Makefile", checkout)
        (checkout / "constraints.txt").write_text(CONSTRAINTS)
        (checkout / "pyproject.toml").write_text(PYPROJECT)
        here = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": os.devnull}
        done = subprocess.run(
            ["make", ".venv/ready", f"PYTHON={sys.executable}"],
            cwd=checkout,
            env={**os.environ, **here},
            capture_output=True,
            text=True,
        )
        return done, checkout / ".venv"

    return set_up


@pytest.mark.slow
def test_torch_comes_with_the_libraries_that_it_requires(set_up):
    done, venv = set_up("import cuda_libraries", ["cuda_libraries==13.0"])
    assert done.returncode == 0, done.stderr
    assert (venv / "ready").exists()
    python = [venv / "bin" / "python", "-c", "import torch, cuda_libraries, numpy"]
    assert subprocess.run(python).returncode == 0


@pytest.mark.slow
def test_a_torch_that_does_not_import_ends_the_set_up_with_what_to_do(set_up):
    code = "raise OSError('libcudnn.so.9: cannot open shared object file')"
    done, venv = set_up(code, [])
    assert done.returncode != 0
    assert "libcudnn.so.9" in done.stderr
    assert "error: torch is installed in .venv, but does not import here" in done.stderr
    assert ".venv/bin/pip install --force-reinstall" in done.stderr
    assert not (venv / "ready").exists()


def test_no_installed_package_needs_a_newer_release_of_this_python():
    """Debian 12 has Python 3.11.2, and soupsieve 3.0.4, for example, needs 3.11.5."""
    first = "{}.{}.0".format(*sys.version_info)
    needs = {
        one.metadata["Name"]: one.metadata["Requires-Python"]
        for one in distributions()
        if not SpecifierSet(one.metadata["Requires-Python"] or "").contains(first)
    }
    assert needs == {}
