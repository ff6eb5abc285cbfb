"""Saved datasets and loaders are used only where they are what would be made now."""

import logging
import pickle
import shutil
from pathlib import Path

import pytest
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.quick_start import run_recbole
from recbole.utils import init_seed

from recbole_lightgnn.data.loaders import fingerprint
from recbole_lightgnn.quick_start import configure, fingerprint_of, run

SAVE = {"dataset": {"save_dataset": True}, "loaders": {"save_dataloaders": True}}


@pytest.fixture(params=SAVE)
def saved(request, settings, caplog):
    """Settings that save, after a run that saved."""
    caplog.set_level(logging.INFO)
    given = settings | SAVE[request.param] | {"seed": 1, "split_seed": 7, "epochs": 1}
    given |= {"metric_decimal_place": 16, "state": "INFO"}
    given["first"] = fingerprint_of(configure("BPR", "small", settings=given))
    caplog.clear()
    return given


def data_of(settings, model="BPR", **changes):
    given = {key: value for key, value in settings.items() if key != "first"} | changes
    return fingerprint_of(configure(model, "small", settings=given))


def without_saving(settings, tmp_path, **changes):
    never = {key: False for one in SAVE.values() for key in one}
    return data_of(settings, **changes, **never, checkpoint_dir=str(tmp_path / "none"))


def said(caplog, text):
    return [r.getMessage() for r in caplog.records if text in r.getMessage()]


def test_the_same_run_uses_saved_data(saved, caplog):
    assert data_of(saved) == saved["first"]
    assert len(said(caplog, "Saved data are used")) == 1
    assert not said(caplog, "made anew")


def test_what_does_not_shape_the_data_may_differ(saved, caplog):
    assert data_of(saved, topk=[3], valid_metric="NDCG@3", learning_rate=0.1) == saved["first"]
    assert said(caplog, "Saved data are used")


def test_the_same_files_may_be_newer_and_named_by_another_path(saved, tmp_path, caplog):
    (tmp_path / "dataset" / "small" / "small.inter").touch()
    (tmp_path / "dataset" / "small" / "smaller.inter").write_text("another dataset's")
    for path in ("dataset", "./dataset/../dataset", str(tmp_path / "dataset")):
        assert data_of(saved, data_path=path) == saved["first"]
    assert len(said(caplog, "Saved data are used")) == 3


def test_a_dataset_with_an_odd_name_is_not_stale_either(saved, tmp_path, caplog):
    folder = tmp_path / "dataset" / "a[b] *"
    shutil.copytree(tmp_path / "dataset" / "small", folder)
    for file in folder.iterdir():
        file.rename(folder / file.name.replace("small", "a[b] *"))
    given = {key: value for key, value in saved.items() if key != "first"}
    assert fingerprint_of(configure("BPR", "a[b] *", settings=given)) == saved["first"]
    file = folder / "a[b] *.inter"
    file.write_text(file.read_text().replace("u1\ti7\n", ""))
    now = fingerprint_of(configure("BPR", "a[b] *", settings=given))
    assert said(caplog, "made of other files (a[b] *.inter)")
    assert now != saved["first"]


def other_folder(settings, tmp_path):
    """Another dataset of the same name, with half of the rows."""
    shutil.copytree(tmp_path / "dataset", tmp_path / "other")
    drop_rows(tmp_path / "other")
    return {"data_path": str(tmp_path / "other")}


def drop_rows(folder):
    file = folder / "small" / "small.inter"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([lines[0], *(x for n, x in enumerate(lines[1:]) if n % 8 < 5)]))


def edit_file(settings, tmp_path):
    drop_rows(tmp_path / "dataset")
    return {}


def edit_items(settings, tmp_path):
    file = tmp_path / "dataset" / "small" / "small.item"
    file.write_text(file.read_text().replace("i1\t1", "i1\t9"))
    return {}


SETTINGS = {
    "split_seed": {"split_seed": 8},
    "no split_seed": {"split_seed": None},
    "seed": {"seed": 2},
    "eval_args": {"eval_args": {"split": {"RS": [0.5, 0.25, 0.25]}, "group_by": "user"}},
    "leave one out": {"eval_args": {"split": {"LS": "valid_and_test"}, "group_by": "user"}},
    "a filter": {"item_inter_num_interval": "[1,12]"},
    "load_col": {"load_col": {"inter": ["user_id", "item_id"], "item": ["item_id", "price"]}},
    "repeated pairs": {"rm_dup_inter": "first"},
    "encoding": {"encoding": "latin-1"},
    "mask": {"eval_mask": "train"},
}
CHANGES = {name: lambda *_, change=change: change for name, change in SETTINGS.items()}
CHANGES |= {"another data_path": other_folder, "an edited file": edit_file, "items": edit_items}


@pytest.mark.parametrize("change", CHANGES)
def test_other_data_are_made_anew_and_the_log_says_so(saved, change, tmp_path, caplog):
    changes = CHANGES[change](saved, tmp_path)
    now = data_of(saved, **changes)
    assert len(said(caplog, "is not used, the data are made anew: it was made of other ")) == 1
    assert now == without_saving(saved, tmp_path, **changes)
    caplog.clear()
    assert data_of(saved, **changes) == now, "what was made anew was saved"
    assert said(caplog, "Saved data are used")


def stock_data_of(settings, **changes):
    """The data of RecBole's own API, without our settings."""
    given = {key: value for key, value in settings.items() if key not in ("first", "split_seed")}
    config = Config("BPR", "small", config_dict=given | changes)
    init_seed(config["seed"], True)
    return fingerprint(*data_preparation(config, create_dataset(config)))


@pytest.mark.parametrize("change", [name for name in CHANGES if "split_seed" not in name])
def test_recboles_own_api_makes_other_data_anew_too(saved, change, tmp_path, caplog):
    assert (first := stock_data_of(saved)) == stock_data_of(saved)
    assert said(caplog, "Saved data are used")
    caplog.clear()
    changes = CHANGES[change](saved, tmp_path)
    now = stock_data_of(saved, **changes)
    assert said(caplog, "is not used, the data are made anew: it was made of other ")
    never = {key: False for one in SAVE.values() for key in one}
    folder = str(tmp_path / "none")
    assert now == stock_data_of(saved, **changes, **never, checkpoint_dir=folder)
    if change in ("another data_path", "an edited file", "seed", "eval_args"):
        assert now != first


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_of_ours_makes_other_data_anew_too(saved, change, tmp_path, caplog):
    first = data_of(saved, "LightGNNTeacher")
    caplog.clear()
    changes = CHANGES[change](saved, tmp_path)
    now = data_of(saved, "LightGNNTeacher", **changes)
    assert said(caplog, "is not used, the data are made anew: it was made of other ")
    assert now == without_saving(saved, tmp_path, model="LightGNNTeacher", **changes)
    if change in ("another data_path", "an edited file", "split_seed", "eval_args"):
        assert now != first


def test_the_count_in_the_log_is_that_of_the_split(saved, tmp_path, caplog):
    now = data_of(saved, **other_folder(saved, tmp_path))
    rows = sum(now[split]["pairs"] for split in ("train", "valid", "test"))
    assert rows < sum(saved["first"][split]["pairs"] for split in ("train", "valid", "test"))
    (text,) = said(caplog, "The number of inters")
    assert f": {rows}\n" in text


@pytest.mark.parametrize("save", SAVE)
def test_metrics_are_those_of_a_run_that_saves_nothing(settings, save):
    settings = settings | {"seed": 3, "epochs": 1}
    plain = run("BPR", "small", settings=settings)["test"]
    for _ in range(2):  # saves, then loads
        assert run("BPR", "small", settings=settings | SAVE[save])["test"] == plain


@pytest.mark.slow
@pytest.mark.parametrize("save", SAVE)
@pytest.mark.parametrize("model", ["BPR", "MultiVAE", "SASRec"])
def test_metrics_of_unmodified_recbole_are_those_of_a_run_that_saves_nothing(settings, save, model):
    settings = settings | {"metric_decimal_place": 16, "seed": 3}
    if model == "SASRec":
        order = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user"}
        settings |= {"eval_args": order, "TIME_FIELD": "time", "loss_type": "BPR"}
        file = Path(settings["data_path"], "small", "small.inter")
        header, *rows = file.read_text().splitlines()
        rows = [f"{row}\t{nth * 37 % 91}" for nth, row in enumerate(rows)]
        file.write_text("\n".join([header + "\ttime:token", *rows, ""]))
    plain = run_recbole(model, "small", config_dict=settings)["test_result"]
    for _ in range(2):
        assert (
            run_recbole(model, "small", config_dict=settings | SAVE[save])["test_result"] == plain
        )


def damage(file):
    data = file.read_bytes()
    file.write_bytes(data[:100] + b"!" + data[101:])


BROKEN = {
    "damaged": (damage, "it is damaged"),
    "cut": (lambda file: file.write_bytes(file.read_bytes()[:-9]), "is not known"),
    "empty": (lambda file: file.write_bytes(b""), "is not known"),
    "recbole's": (lambda file: file.write_bytes(pickle.dumps({"a": 1})), "is not known"),
    "text": (lambda file: file.write_text("1\n2"), "is not known"),
    "json": (lambda file: file.write_text('{\n{"sha256": 1, "content": 2}'), "it is damaged"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_made_anew(saved, kind, caplog):
    (file,) = Path(saved["checkpoint_dir"]).glob("*.pth")
    BROKEN[kind][0](file)
    assert data_of(saved) == saved["first"]
    assert BROKEN[kind][1] in said(caplog, "made anew")[0]


def test_a_foreign_pickle_is_not_executed(saved, tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    (file,) = Path(saved["checkpoint_dir"]).glob("*.pth")
    file.write_bytes(pickle.dumps(Evil()))
    assert data_of(saved) == saved["first"]
    assert not (tmp_path / "ran").exists()


def test_a_path_that_is_given_is_used_and_one_that_is_missing_is_named(saved, tmp_path, caplog):
    (file,) = Path(saved["checkpoint_dir"]).glob("*.pth")
    key = "dataset_save_path" if saved.get("save_dataset") else "dataloaders_save_path"
    moved = file.rename(tmp_path / "moved.pth")
    assert data_of(saved, **{key: str(moved)}) == saved["first"]
    assert said(caplog, "Saved data are used")
    caplog.clear()
    assert data_of(saved, **{key: "nowhere.pth"}) == saved["first"]
    assert said(caplog, f"{key}: there is no file nowhere.pth")


@pytest.mark.slow
def test_loaders_of_a_knowledge_model_can_be_saved(tmp_path, settings, caplog):
    caplog.set_level(logging.INFO)
    folder = tmp_path / "dataset" / "small"
    (folder / "small.item").unlink()
    links = [f"i{n}\te{n}" for n in range(20)]
    (folder / "small.link").write_text("\n".join(["item_id:token\tentity_id:token", *links, ""]))
    triples = [f"e{n}\tr{n % 3}\te{(n * 3 + 1) % 20}" for n in range(20)]
    header = "head_id:token\trelation_id:token\ttail_id:token"
    (folder / "small.kg").write_text("\n".join([header, *triples, ""]))
    columns = {"inter": ["user_id", "item_id"], "link": ["item_id", "entity_id"]}
    columns["kg"] = ["head_id", "relation_id", "tail_id"]
    given = settings | {"load_col": columns, "epochs": 1, "metric_decimal_place": 16}
    plain = run_recbole("CKE", "small", config_dict=given)["test_result"]
    for save in SAVE.values():
        for _ in range(2):
            assert run_recbole("CKE", "small", config_dict=given | save)["test_result"] == plain
