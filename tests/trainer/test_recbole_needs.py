"""What a RecBole model needs of data and machine: refused before the training, with what works."""

from pathlib import Path

import pytest
from helpers.advice import followed, remedies
from helpers.recbole_world import write_world

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.quick_start import run

QUICK = {"data_path": "dataset", "epochs": 1, "train_batch_size": 256, "show_progress": False}
QUICK |= {"state": "ERROR", "use_gpu": False}


@pytest.fixture(autouse=True)
def world():
    write_world(Path("dataset"))


def refused(model, settings):
    with pytest.raises(InputError) as error:
        run(model, "world", settings={**QUICK, **settings})
    assert "\n" not in str(error.value)
    return str(error.value)


# --- numbers of 16 bits ------------------------------------------------------------------------

AMP = {"enable_amp": True}
ON_CPU = ["DGCF", "GCMC", "LightGCN", "NGCF", "SGL", "SpectralCF", "RepeatNet"]


@pytest.mark.parametrize("model", [*ON_CPU, "GRU4RecCPR", "SASRecCPR"])
def test_a_model_without_16_bits_on_the_cpu_is_refused(model):
    line = refused(model, {**AMP, "reranker_CAN_NUM": 10} if "CPR" in model else AMP)
    assert line.startswith(f"enable_amp must be False for {model} on the CPU, where some of its")
    assert remedies(line) == [{"enable_amp": False}]


@pytest.mark.parametrize("model", ["GCMC", "NGCF", "SGL"])
def test_16_bits_are_refused_with_accelerated_products_of_32(model):
    line = refused(model, {**AMP, "accelerate": True})
    assert line.startswith(f"enable_amp must be False for {model} with accelerate, as its sparse")
    assert remedies(line) == [{"enable_amp": False}]


@pytest.mark.parametrize("model", ["BPR", "NeuMF"])
def test_other_models_train_with_16_bits(model):
    assert run(model, "world", settings={**QUICK, **AMP})["test"]


def test_a_teacher_without_16_bits_is_refused():
    settings = {"teacher": "LightGCN", "teacher_settings.enable_amp": True, "topk": [5]}
    line = refused("LightGNN", {**settings, "valid_metric": "Recall@5", "n_pruning_runs": 0})
    assert line.startswith("teacher_settings.enable_amp must be False for LightGCN on the CPU")


# --- groups of features ------------------------------------------------------------------------

LOADED = {"load_col": {"inter": ["user_id", "item_id", "rating"], "user": ["user_id", "age"]}}
LOADED |= {"threshold": {"rating": 4}, "numerical_features": ["age"]}
FIELDS = [
    3,
    "user_id",
    ["user_id", "item_id", "age"],
    {},
    {0: ["user_id"]},
    {0: ["user_id", "item_id"], 1: ["years"]},
    {0: ["user_id", "item_id"], 1: ["age", "user_id"]},
    {0: ["user_id", "item_id"], 1: ["age", "rating"]},
    {0: ["user_id", "item_id"], 1: "age"},
    {0: ["user_id", "item_id"], 1: ["age"], 2: []},
    {1: ["user_id", "item_id"], 2: ["age"]},
    {"ids": ["user_id", "item_id"], "others": ["age"]},
]


@pytest.mark.slow
@pytest.mark.parametrize("fields", FIELDS, ids=map(str, FIELDS))
def test_groups_of_features_that_are_none(fields):
    line = refused("FFM", {**LOADED, "fields": fields})
    assert line.startswith("fields of FFM must have each of user_id, item_id, age in one list, ")
    assert f"got {fields!r}: write --fields=" in line
    (remedy,) = remedies(line)
    assert run("FFM", "world", settings=followed({**QUICK, **LOADED}, remedy))["test"]


def test_groups_of_features_are_accepted():
    assert refused("FFM", {**LOADED, "fields": FIELDS[5]}).startswith("fields of FFM must have")
    for fields in ({0: ["user_id", "item_id"], 1: ["age"]}, {0: ["age", "user_id", "item_id"]}):
        assert run("FFM", "world", settings={**QUICK, **LOADED, "fields": fields})["test"]
