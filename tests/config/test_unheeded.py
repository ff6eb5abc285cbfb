"""Settings that a run would ignore are refused."""

import pytest
from helpers.advice import followed, remedies

from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.registry import INTERMEDIATE, STUDENT, TEACHER

RATING = {"load_col": {"inter": ["user_id", "item_id", "rating"]}}
PARTS = {"benchmark_filename": ["train", "valid", "test"]}


def refused(model, settings):
    with pytest.raises(InputError) as error:
        build_config(model, "toy", (), settings)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("model", ["BPR", TEACHER])
@pytest.mark.parametrize(
    "settings",
    [
        {"rm_dup_inter": "first"},
        {"val_interval": {"rating": "[3,inf)"}, **RATING},
        {"user_inter_num_interval": "[5,inf)"},
        {"item_inter_num_interval": "[5,inf)"},
        {"filter_inter_by_user_or_item": False},
        {"split_seed": 3},
        {"eval_args": {"split": {"LS": "valid_and_test"}}},
        {"eval_args": {"split": {"RS": [0.7, 0.1, 0.2]}}},
        {"eval_args.order": "TO"},
        {"eval_args.group_by": "none"},
        {"eval_args.group_by": None},
    ],
)
def test_filters_and_splits_that_three_files_ignore_are_refused(model, settings):
    line = refused(model, {**settings, **PARTS})
    assert "would have no effect on toy: its files (train, valid, test) are not" in line
    assert "leave it out" in line
    build_config(model, "toy", (), settings)  # in one file they are heeded


def test_what_three_files_have_anyway_is_accepted():
    default = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "full"}
    settings = {"eval_args": default, "user_inter_num_interval": "[0,inf)", "split_seed": None}
    build_config("BPR", "toy", (), {**settings, **PARTS})
    build_config("BPR", "toy", (), {"eval_args.mode": "uni5", **PARTS})


@pytest.mark.parametrize("model", [TEACHER, STUDENT, "SimGCL"])
@pytest.mark.parametrize(
    "settings",
    [
        {"metric_decimal_place": 3},
        {"loss_decimal_place": 2},
        {"require_pow": True},
        {"preload_weight": {"item_id": "vector"}},
        {"normalize_all": True},
        {"normalize_field": ["rating"]},
        {"numerical_features": ["rating"]},
        {"transform": "mask_itemseq"},
        {"additional_feat_suffix": ["ent"]},
        {"seq_len": {"class": 3}},
        {"discretization": {"rating": {"method": "LD"}}},
    ],
)
def test_settings_that_no_model_of_ours_reads_are_refused(model, settings):
    line = refused(model, settings)
    assert line.startswith(next(iter(settings)))
    assert f" would have no effect on {model}, which" in line
    assert line.endswith(": leave it out")


def test_decimals_beyond_a_doubles_are_no_rounding():
    assert build_config(TEACHER, "toy", (), {"metric_decimal_place": 17})["topk"] == [10, 20, 40]
    assert build_config("BPR", "toy", (), {"metric_decimal_place": 3})["metric_decimal_place"] == 3


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("BPR", {"preload_weight": {"a": "b"}}, "no effect on BPR, which reads no weights"),
        ("BPR", {"valid_metric_bigger": False}, "as the metric itself says whether more is better"),
        ("BPR", {"threshold": {"rating": 3}, **RATING}, "takes every interaction of the file for"),
        (TEACHER, {"threshold": {"rating": 3}, **RATING}, "takes every interaction of the file fo"),
        ("NeuMF", {"threshold": {"rating": 3}, **RATING}, "takes every interaction of the file fo"),
        (
            "BPR",
            {"eval_args": {"split": {"LS": "valid_and_test"}, "group_by": "none"}},
            "on this split, which is always by user",
        ),
        (TEACHER, {"batch_by": "user", "shuffle": False}, "with batch_by=user, where users are"),
        (
            TEACHER,
            {"batch_by": "user", "train_neg_sample_args.sample_num": 2},
            "with batch_by=user, where users are",
        ),
    ],
)
def test_settings_without_effect_on_a_run_are_refused_with_what_works(model, settings, message):
    line = refused(model, settings)
    assert message in line
    for remedy in remedies(line):
        build_config(model, "toy", (), followed(settings, remedy))
    first = next(iter(settings)).partition(".")[0]
    if "leave it out" in line and first != "batch_by":
        build_config(model, "toy", (), {k: v for k, v in settings.items() if k != first})


def test_labels_that_are_learnt_or_measured_have_an_effect():
    labels = {"threshold": {"rating": 3}, **RATING}
    build_config("NeuMF", "toy", (), {**labels, "train_neg_sample_args": None})
    build_config("FM", "toy", (), labels)
    auc = {"metrics": ["AUC"], "valid_metric": "AUC", "eval_args.mode": "labeled"}
    build_config("BPR", "toy", (), {**labels, **auc})


# --- earlier stages ---------------------------------------------------------------------------

BY_USER = {"teacher_settings.batch_by": "user"}
XSIMGCL = {"teacher": "XSimGCL"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher_settings.loss_decimal_place": 2}, "on LightGNNTeacher, which logs losses with"),
        ({"teacher_settings.require_pow": True}, "on LightGNNTeacher, which regularizes by the"),
        ({"teacher_settings.transform": "mask_itemseq"}, "on LightGNNTeacher, which learns from"),
        ({"intermediate_settings.loss_decimal_place": 2}, "on LightGNNIntermediate, which logs"),
        ({"intermediate_settings.require_pow": True}, "on LightGNNIntermediate, which regulariz"),
        ({"intermediate_settings.transform": "crop_itemseq"}, "on LightGNNIntermediate, which le"),
        ({**XSIMGCL, "teacher_settings.require_pow": True}, "on XSimGCL, which regularizes by the"),
        (
            {"teacher_settings.train_neg_sample_args.sample_num": 2, **BY_USER},
            "write --teacher_settings.batch_by=interaction",
        ),
        (
            {"teacher_settings.train_neg_sample_args": {"distribution": "popularity"}, **BY_USER},
            "with batch_by=user, where users are shuffled",
        ),
        (
            {"teacher_settings.popularity_prior": 0.5, "teacher_settings.batch_by": "interaction"},
            "popularity_prior (0.5) has no effect with batch_by=interaction: set teacher_settings.",
        ),
        (
            {"teacher_settings.interaction_loss": "bpr", **BY_USER},
            "interaction_loss must be softmax with batch_by=user, where users are compared with "
            "all items, got bpr: set teacher_settings.batch_by=interaction or teacher_settings.",
        ),
        (
            {**XSIMGCL, "teacher_settings.contrast_layer": 9},
            "contrast_layer must be one of the n_layers (",
        ),
    ],
)
@pytest.mark.parametrize("model", [INTERMEDIATE, STUDENT])
def test_settings_of_a_stage_without_effect_are_refused_before_any_stage(model, settings, message):
    stage = next(key for key in settings if "." in key).partition(".")[0]
    if model == INTERMEDIATE and stage == "intermediate_settings":
        settings = {key.partition(".")[2]: value for key, value in settings.items()}
        stage = ""
    line = refused(model, settings)
    assert line.startswith(f"{stage}." if stage else next(iter(settings)))
    assert message in line
    for remedy in remedies(line):
        build_config(model, "toy", (), followed(settings, remedy))


def test_settings_of_a_stage_that_are_as_they_would_be_anyway_are_accepted():
    same = {"loss_decimal_place": 4, "require_pow": False, "transform": None}
    build_config(STUDENT, "toy", (), {"teacher_settings": same, "intermediate_settings": same})
    one = {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 2}}
    build_config(STUDENT, "toy", (), {"teacher_settings": {"batch_by": "interaction", **one}})
    build_config(STUDENT, "toy", (), {"teacher": "LightGCN", "teacher_settings.require_pow": True})


def test_a_stage_is_not_asked_again():
    config = build_config(STUDENT, "toy", (), PARTS)
    assert config.stage(TEACHER, {})["benchmark_filename"] == ["train", "valid", "test"]
