"""Every model of RecBole's, once: trained, tested and read again, as its page in the docs says."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import recbole
from helpers.paths import HELPERS, ROOT
from helpers.recbole_world import KINDS, recbole_models, write_world
from recbole.quick_start import load_data_and_model
from recbole.utils import get_trainer

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.cli.options import read_settings
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.quick_start import run

PAGE = ROOT / "docs/reference/recbole-models.md"
ONE_EPOCH = {
    **{"data_path": "dataset", "epochs": 1, "train_batch_size": 256, "eval_batch_size": 40_000},
    **{"show_progress": False, "state": "ERROR", "use_gpu": False},
}
# Settings without which two tests of the same weights would differ, or the test would be slow.
RANKING = {
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
    "metrics": ["Recall"],
    "valid_metric": "Recall@10",
}
EXACT = {
    **dict.fromkeys(("DIN", "DIEN"), RANKING),
    "S3Rec": {"pretrain_epochs": 1},
    "RaCT": {"pretrain_epochs": 1},
    "KTUP": {"use_st_gumbel": False},
}


@dataclass(frozen=True)
class Row:
    """A row of the page.

    Attributes:
        kind: name of RecBole's folder of the model.
        outcome: ``runs``, or ``needs PACKAGE``.
        flags: settings of its section and of the row.
    """

    kind: str
    outcome: str
    flags: str


def rows():
    """The rows of the page by model."""
    found = {}
    sections = re.split(r"^## .*$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    for kind, section in zip(KINDS, sections, strict=True):
        shared = re.search(r"```text\n(.*?)\n```", section, re.DOTALL)
        for line in re.findall(r"^\| (?!model |---)(.*) \|$", section, re.MULTILINE):
            model, outcome, own, _ = (cell.strip() for cell in f"{line} ".split(" |"))
            flags = f"{shared[1] if shared else ''} {own.strip('`')}"
            found[model] = Row(kind, outcome.replace("`", ""), flags)
    return found


def settings_of(flags):
    """The settings of flags; a later one takes precedence."""
    return {
        key: value for flag in shlex.split(flags) for key, value in read_settings([flag]).items()
    }


def test_the_page_lists_every_model_of_recbole():
    listed = {model: row.kind for model, row in rows().items()}
    models = {model: kind for kind, model in recbole_models()}
    if recbole.__version__ == "1.2.1":
        assert listed == models
    else:  # 1.2.0 lacks a few
        assert models.items() <= listed.items()


@pytest.mark.parametrize(
    ("model", "packages"),
    [("XGBoost", "lightgbm and xgboost"), ("LightGBM", "lightgbm and xgboost"),
     ("lightgbm", "lightgbm and xgboost"), ("KGAT", "'dgl'"), ("MCCLK", "'torch_scatter'")],
)  # fmt: skip
def test_a_missing_package_is_named_before_the_data_are_read(capsys, monkeypatch, model, packages):
    monkeypatch.setattr("recbole_lightgnn.trainer.recbole_needs.find_spec", _without(packages))
    write_world(Path("dataset"))
    assert main(["run", f"--model={model}", "--dataset=world", "--data_path=dataset"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {model} needs ")
    assert packages in line


def _without(packages):
    names = re.findall(r"\w+", packages)
    return lambda name: None if name in names else find_spec(name)


@pytest.mark.parametrize(
    ("model", "flags", "message"),
    [
        ("KGCN", "", "KGCN needs the file dataset/world/world.kg, which does not exist"),
        ("KSR", "", "KSR needs the file dataset/world/world.kg, which does not exist"),
        ("CKE", "--load_col=\"{inter: [user_id, item_id]}\"", "world.kg, which does not exist"),
        ("GRU4RecF", "", "needs the column 'class' of items (selected_features), which is not "
         'loaded: write --load_col="{inter: [user_id, item_id], item: [item_id, class]}"'),
        ("S3Rec", "--item_attribute=genre", "needs the column 'genre' of items (item_attribute), "
         "and dataset/world/world.item has item_id, year, class"),
        ("GRU4RecKG", "--alias_of_entity_id=None", "GRU4RecKG needs ent_id in alias_of_entity_id, "
         "so that vectors and knowledge graph have the same numbers: write --alias_of_entity_id="),
        ("KSR", "--alias_of_relation_id=None", 'write --alias_of_relation_id="[rel_id]"'),
        ("SASRecCPR", '--reranker_CAN_NUM="50,20" --n_facet_all=6', "reranker_CAN_NUM (50,20) must "
         "be at most the number of items, 40: write --reranker_CAN_NUM=40,20"),
        ("RaCT", "", "metrics_k (100) must be at most the number of items, 40"),
        ("RaCT", "--metrics_k=9 --train_stage=finetune", "train_stage finetune begins with the "
         "weights of stage critic_pretrain, and pre_model_path ('') is no file"),
        ("RaCT", "--metrics_k=9 --train_stage=finetun", "train_stage must be one of "
         "actor_pretrain, critic_pretrain, finetune, got 'finetun' (did you mean 'finetune'?)"),
    ],
)  # fmt: skip
def test_what_a_model_lacks_is_said_in_one_line_before_it_trains(capsys, model, flags, message):
    write_world(Path("dataset"))
    if "kg" in message:
        Path("dataset/world/world.kg").unlink()
    given = {**settings_of(flags), **ONE_EPOCH}
    with pytest.raises(InputError) as error:
        run(model, "world", settings=given)
    assert message in str(error.value)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with the dataset, which stays for all models."""
    folder = tmp_path_factory.mktemp("recbole")
    write_world(folder / "dataset")
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", rows())
def test_each_model_trains_tests_and_is_read_again(world, monkeypatch, model):
    row = rows()[model]
    monkeypatch.chdir(world)
    settings = {**settings_of(row.flags), **ONE_EPOCH, **EXACT.get(model, {})}
    package = row.outcome.removeprefix("needs ")
    if package != "runs" and find_spec(package) is None:
        with pytest.raises(InputError, match=package):
            run(model, "world", settings=settings)
        return
    before = set(Path("saved").glob("*.pth"))
    record = run(model, "world", settings=settings)
    assert record["best_valid"].keys() == record["test"].keys()
    new = set(Path("saved").glob("*.pth")) - before
    new = {file for file in new if "-temp" not in file.name}  # trees, which a checkpoint names
    file = max(new, key=lambda one: one.stat().st_mtime_ns)
    config, loaded, *_, test = load_data_and_model(str(file))
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, loaded)
    again = trainer.evaluate(test, load_best_model=False)
    if model != "Random":
        assert dict(again) == record["test"]


@pytest.mark.slow
def test_a_short_fuzz_run_of_settings_finds_nothing():
    script = HELPERS / "fuzz_settings.py"
    command = [sys.executable, str(script), "--minutes=0.5", "--seed=11"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no finding in" in done.stdout
