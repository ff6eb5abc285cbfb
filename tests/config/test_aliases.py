"""Old names of settings, values and keys: read, reported once, refused beside the new ones."""

import re
from importlib import import_module
from importlib.util import find_spec

import pytest

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.cli.options import read_settings
from recbole_lightgnn.config import aliases
from recbole_lightgnn.config.aliases import renamed, renamed_keys
from recbole_lightgnn.config.files import read_yaml
from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.config.schema import describe
from recbole_lightgnn.errors import InputError


@pytest.fixture(autouse=True)
def _nothing_reported_yet(monkeypatch):
    monkeypatch.setattr(aliases, "_warned", set())


def test_every_new_name_is_a_setting_and_no_old_one_is():
    known = {key for model in ("LightGNN", "LightGNNTeacher") for key in describe(model)}
    assert set(aliases.SETTINGS.values()) <= known
    assert not aliases.SETTINGS.keys() & known
    for key, values in aliases.VALUES.items():
        assert set(values.values()) <= set(describe("LightGNN")[key].choices)
        assert not values.keys() & set(describe("LightGNN")[key].choices)


def test_names_and_values_at_every_depth():
    old = {
        "our_products": True,
        "SGL.our_products": False,
        "batches": "users",
        "teacher_settings": {"batches": "interactions", "ranking_own": 1.5},
        "teacher_settings.teacher_scale": "spread",
        "rows": [{"settings": {"batches": "users"}}, 3],
        "space": {"batches": {"choices": ["users", "interactions"]}},
        "epochs": 3,
    }
    assert renamed(old) == {
        "accelerate": True,
        "SGL.accelerate": False,
        "batch_by": "user",
        "teacher_settings": {"batch_by": "interaction", "ranking_self_weight": 1.5},
        "teacher_settings.teacher_scale": "std",
        "rows": [{"settings": {"batch_by": "user"}}, 3],
        "space": {"batch_by": {"choices": ["user", "interaction"]}},
        "epochs": 3,
    }
    assert renamed(renamed(old)) == renamed(old)
    assert renamed_keys({"footing": 1, "fruitless": 2, "x": 3}) == {
        "protocol": 1,
        "epochs_without_improvement": 2,
        "x": 3,
    }


def test_both_names_are_refused():
    message = "batches is the old name of batch_by, and both are given: leave batches out"
    with pytest.raises(InputError, match=message):
        renamed({"batches": "users", "batch_by": "user"})
    with pytest.raises(InputError, match=r"^teacher_settings\.batches is the old name of teacher_"):
        renamed({"teacher_settings.batches": "users", "teacher_settings.batch_by": "user"})


def test_an_old_name_works_in_a_yaml_file_and_is_reported_once(tmp_path, capsys):
    file = tmp_path / "old.yaml"
    file.write_text("batches: users\nour_products: True\n", encoding="utf-8")
    assert read_yaml(file) == read_yaml(file) == {"batch_by": "user", "accelerate": True}
    assert capsys.readouterr().err == (
        f"warning: config file {file}: the setting batches is called batch_by now\n"
        f"warning: config file {file}: the setting our_products is called accelerate now\n"
    )


def test_an_old_value_is_reported(capsys):
    assert renamed({"teacher_scale": "spread"}, "the test") == {"teacher_scale": "std"}
    assert capsys.readouterr().err == (
        "warning: the test: teacher_scale 'spread' is called 'std' now\n"
    )


def test_an_old_name_works_on_the_command_line(capsys):
    given = read_settings(["--batches=users", "--teacher_settings.batches=users"])
    assert given == {"batch_by": "user", "teacher_settings.batch_by": "user"}
    line = "warning: the command line: the setting batches is called batch_by now\n"
    assert capsys.readouterr().err == line
    assert main(["run", "--batches=users", "--batch_by=user"]) == 2
    assert "both are given" in capsys.readouterr().err


def test_an_old_name_works_in_python(capsys):
    config = build_config("LightGNN", "ml-100k", (), {"batches": "users"})
    assert (config["batch_by"], config["batches"]) == ("user", None)
    line = "warning: settings: the setting batches is called batch_by now\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("old", ["encoder", "report.results", "losses.by_rows", "studies.desk"])
def test_a_module_that_has_moved_is_named(old):
    package = old.partition(".")[0]
    message = f"recbole_lightgnn.{old} has moved: it is recbole_lightgnn.{aliases.MODULES[old]} now"
    if package == "report":
        message = f"recbole_lightgnn.{package} has moved: "
    with pytest.raises(ImportError, match=re.escape(message)):
        import_module(f"recbole_lightgnn.{old}")


def test_every_module_is_where_the_table_says():
    for new in aliases.MODULES.values():
        for module in new.split(" and "):
            assert find_spec(f"recbole_lightgnn.{module}"), new
    with pytest.raises(ModuleNotFoundError, match="No module named"):
        import_module("recbole_lightgnn.nonsense")
