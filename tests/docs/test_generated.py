"""Fragments of the documentation that are made from the code and from ``results/``."""

import importlib.util
import sys

import pytest
from helpers.paths import ROOT

from recbole_lightgnn.cli import main as command_line
from recbole_lightgnn.comparison.families import FAMILIES
from recbole_lightgnn.config.schema import describe


def extension(name):
    """A module of ``docs/_ext``."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "_ext" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reference():
    return dict(extension("reference_pages").fragments())


def test_every_command_and_flag_is_on_the_page(reference):
    _, commands = command_line._parser()
    for name, parser in commands.items():
        assert f"## `recbole-lightgnn {name}`" in reference["commands.md"]
        for action in parser._actions:
            for flag in action.option_strings:
                if flag not in ("-h", "--help") and action.help != "==SUPPRESS==":
                    assert f"`{flag}" in reference["commands.md"], f"{name} {flag}"


@pytest.mark.parametrize("model", ["LightGNN", "LightGNNTeacher", "SimGCL"])
def test_every_setting_of_a_model_is_on_the_page(model, reference):
    for key, setting in describe(model).items():
        assert f"| `{key}` |" in reference["settings.md"]
        assert " ".join(setting.meaning.split()).replace("|", "\\|") in reference["settings.md"]


def test_every_family_is_on_the_page_with_its_models(reference):
    lines = [line for line in reference["families.md"].splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0][2:] for line in lines[1:]] == list(FAMILIES)
    (pruned,) = (line for line in lines if line.startswith("| pruned |"))
    assert pruned.endswith("| `CompressedELSA`, `GLT`, `LightGNN` |")


def test_every_package_has_a_page_with_its_modules():
    pages = dict(extension("reference_pages").api_pages())
    assert ".. automodule:: recbole_lightgnn.losses\n" in pages["losses.md"]
    packages = {file.parent.name for file in (ROOT / "recbole_lightgnn").glob("*/__init__.py")}
    assert {f"{name}.md" for name in packages - {"cli", "bench"}} | {"package.md"} == set(pages)


def test_tables_of_results_have_the_numbers_of_the_records():
    results = extension("result_pages")
    summary = results._summary(ROOT / "results").decode()
    assert "| .33 / .44 | .2795 ± .0003 | 4.7 MB | .33 / .77 | .0932 ± .0007 | 7.0 MB |" in summary
    ablation = results._short_ablation(ROOT / "results" / "ablation-gowalla.json").decode()
    line = next(line for line in ablation.splitlines() if line.startswith("| pairwise"))
    assert line.split(" | ")[1:4] == ["−906", "−1086", "−648"]
    recipe = results._paper_recipe(ROOT / "results").decode()
    assert "| gowalla, paper's recipe | .2277 | .2337 | .2353 | .2214 | .1340 | .1051 |" in recipe
