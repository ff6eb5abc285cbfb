"""Metric x mode x model, sampling and columns: refused before training, with what would work."""

from pathlib import Path

import pytest
from helpers.advice import followed, remedies
from helpers.recbole_world import write_world

from recbole_lightgnn.config.compatibility import short_list_warning
from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.quick_start import run
from recbole_lightgnn.registry import STUDENT, TEACHER

RATING = {"load_col": {"inter": ["user_id", "item_id", "rating"]}}
TIME = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
LABELS = {**RATING, "threshold": {"rating": 4}}
AUC = {"metrics": ["AUC"], "valid_metric": "AUC"}
LOGLOSS = {"metrics": ["LogLoss"], "valid_metric": "LogLoss"}
RECALL = {"metrics": ["Recall"], "valid_metric": "Recall@10"}
UNI5, LABELED = {"eval_args.mode": "uni5"}, {"eval_args.mode": "labeled"}
UNSAMPLED = {"train_neg_sample_args": None}


def refused(model, settings, dataset="toy"):
    with pytest.raises(InputError) as error:
        build_config(model, dataset, (), settings)
    assert "\n" not in str(error.value)
    return str(error.value)


METRICS = [
    ("BPR", AUC, "metrics AUC need labels, and eval_args.mode full has none"),
    (TEACHER, AUC, "metrics AUC need labels, and eval_args.mode full has none"),
    ("BPR", {**AUC, "eval_args.mode": {"valid": "uni5", "test": "full"}}, "mode full has none"),
    ("BPR", {**AUC, "metrics": ["MAE", "AUC"]}, "metrics MAE, AUC need labels"),
    ("BPR", LABELED, "need rankings, and eval_args.mode labeled has none"),
    (STUDENT, LABELED, "need rankings, and eval_args.mode labeled has none"),
    ("BPR", {"eval_args.mode": {"valid": "labeled"}}, "need rankings"),
    ("FM", RECALL, "metrics Recall need rankings, and eval_args.mode labeled has none"),
    ("BPR", {"metrics": ["Recall", "AUC"]}, "can not be used at the same time"),
    ("BPR", {"metrics": ["AUC", "Recall"], **UNI5}, "can not be used at the same time"),
    ("FM", {"metrics": ["Recall", "AUC"]}, "can not be used at the same time"),
    ("BPR", {**LOGLOSS, **UNI5}, "LogLoss needs probabilities, and the scores of BPR are none"),
    ("LightGCN", {**LOGLOSS, **UNI5}, "LogLoss needs probabilities"),
    (TEACHER, {**LOGLOSS, **UNI5}, "LogLoss needs probabilities"),
    ("EASE", {**LOGLOSS, **UNI5}, "LogLoss needs probabilities"),
    ("GRU4Rec", {**LOGLOSS, **UNI5}, "LogLoss needs probabilities"),
    ("RippleNet", {**LOGLOSS, **UNI5}, "LogLoss needs probabilities"),
    ("MKR", {**LOGLOSS, **UNI5}, "LogLoss needs probabilities"),
    ("BPR", {**LOGLOSS, "metrics": ["AUC", "LogLoss"], **UNI5}, "LogLoss needs probabilities"),
    (TEACHER, {**AUC, **LABELED}, "eval_args.mode labeled has no meaning for LightGNNTeacher"),
]


@pytest.mark.parametrize(("model", "settings", "message"), METRICS)
def test_metrics_that_a_mode_or_model_cannot_give_are_refused(model, settings, message):
    line = refused(model, settings)
    assert message in line
    assert remedies(line)
    for remedy in remedies(line):
        build_config(model, "toy", (), followed(settings, remedy))


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("BPR", {**AUC, **UNI5}),
        ("BPR", {**AUC, **LABELED, **LABELS}),
        (TEACHER, {**AUC, **UNI5}),
        ("NeuMF", {**LOGLOSS, **UNI5}),
        ("DMF", {**LOGLOSS, **UNI5}),
        ("DCNV2", LOGLOSS),
        ("KD_DAGFM", LOGLOSS),
        ("FM", {}),
        ("FM", LOGLOSS),
        ("DIN", TIME),
        ("BPR", {"eval_args.mode": {"valid": "uni5", "test": "full"}}),
    ],
)
def test_metrics_that_they_can_give_are_not(model, settings):
    build_config(model, "toy", (), settings)


ONE_OF_SIX = {"topk": [5, 20], "valid_metric": "Recall@20", "metrics": ["Recall", "NDCG"]}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({**ONE_OF_SIX, **UNI5}, "uni5 a list has 6 items for each test item, so Recall@20 of"),
        ({**ONE_OF_SIX, "eval_args.mode": "pop19"}, "a list has 20 items for each test item"),
        ({**ONE_OF_SIX, "eval_args.mode": {"valid": "uni5", "test": "full"}}, "with eval_args.mo"),
        ({**ONE_OF_SIX, **UNI5, "metrics": ["Hit", "Recall"]}, "so Hit@20 and Recall@20 of users"),
        ({**ONE_OF_SIX, **UNI5, "topk": [6], "valid_metric": "Recall@6"}, "so Recall@6 of users"),
        ({**ONE_OF_SIX, **UNI5, "topk": [5], "valid_metric": "Recall@5"}, ""),
        ({**ONE_OF_SIX, "eval_args.mode": "uni20"}, ""),
        ({**ONE_OF_SIX, **UNI5, "metrics": ["NDCG"], "valid_metric": "NDCG@20"}, ""),
        ({**AUC, **UNI5}, ""),
        (ONE_OF_SIX, ""),
    ],
)
@pytest.mark.parametrize("model", ["BPR", TEACHER])
def test_a_cut_off_beyond_a_sampled_list_is_warned_of(model, settings, said):
    line = short_list_warning(build_config(model, "toy", (), settings).final_config_dict)
    assert said in line
    assert bool(line) == bool(said)
    for remedy in remedies(line):
        config = build_config(model, "toy", (), followed(settings, remedy))
        assert short_list_warning(config.final_config_dict) == ""


def test_the_warning_is_in_the_log_and_recall_is_1(settings, caplog):
    one_left_out = {"split": {"LS": "valid_and_test"}, "mode": "uni5"}
    given = {**ONE_OF_SIX, "eval_args": one_left_out, "state": "WARNING", "epochs": 1}
    record = run("BPR", "small", settings={**settings, **given})
    assert record["test"]["recall@20"] == 1
    assert "Recall@20 of users with one test item are 1 by construction" in caplog.text


SAMPLING = [
    (
        "BPR",
        UNSAMPLED,
        "train_neg_sample_args must name a distribution, uniform or popularity, got",
    ),
    ("LightGCN", {"train_neg_sample_args.distribution": "none"}, "LightGCN samples items"),
    ("CKE", {"train_neg_sample_args": {"distribution": None}}, "CKE samples items"),
    ("GRU4Rec", {"loss_type": "BPR", **UNSAMPLED}, "GRU4Rec samples items"),
    ("GRU4Rec", {"train_neg_sample_args.sample_num": 2}, "must be empty with loss_type CE"),
    (
        "SASRec",
        {"loss_type": "XE"},
        "loss_type must be one of BPR, CE, got 'XE' (did you mean 'CE'?",
    ),
    ("BPR", {"train_neg_sample_args.dynamic": True}, "dynamic chooses among candidates, and there"),
    (TEACHER, {"train_neg_sample_args.dynamic": True}, "dynamic must be False for LightGNNTeacher"),
    (
        STUDENT,
        {"teacher_settings.train_neg_sample_args.dynamic": True},
        "teacher_settings.train_neg_sample_args.dynamic must be False for LightGNNTeacher",
    ),
]


@pytest.mark.parametrize(("model", "settings", "message"), SAMPLING)
def test_sampling_that_a_loss_cannot_use_is_refused(model, settings, message):
    line = refused(model, settings)
    assert message in line
    for remedy in remedies(line):
        build_config(model, "toy", (), followed(settings, remedy))


def test_a_softmax_over_all_items_samples_none_unless_it_is_told_to():
    none = build_config("GRU4Rec", "toy", (), {})["train_neg_sample_args"]
    assert none["distribution"] == "none"
    assert build_config("BPR", "toy", (), {})["train_neg_sample_args"]["distribution"] == "uniform"
    sampled = build_config("GRU4Rec", "toy", (), {"loss_type": "BPR"})["train_neg_sample_args"]
    assert sampled["distribution"] == "uniform"


@pytest.mark.parametrize("none", [None, "None", "none"])
def test_no_sampling_is_written_in_several_ways(none):
    config = build_config("MultiVAE", "toy", (), {"train_neg_sample_args": {"distribution": none}})
    assert config["train_neg_sample_args"]["distribution"] == "none"


# --- keys of mappings -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"eval_args": {"splitt": {}}},
            "eval_args has no 'splitt' (did you mean 'split'?): it may",
        ),
        ({"eval_args.orders": "TO"}, "eval_args has no 'orders' (did you mean 'order'?)"),
        ({"eval_args": {"order": "T0"}}, "eval_args.order must be one of RO, TO, got 'T0' (did yo"),
        ({"eval_args": {"group_by": "item"}}, "eval_args.group_by must be one of user, none, got"),
        ({"eval_args": "full"}, "eval_args must be a mapping, got 'full'; write --eval_args.mode="),
        ({"eval_args.mode": "uni-5"}, "eval_args.mode must be full, labeled, uniN or popN"),
        ({"train_neg_sample_args": {"sample_nun": 3}}, "(did you mean 'sample_num'?)"),
        ({"train_neg_sample_args.sample_num": 0}, "sample_num must be an integer >= 1, got 0"),
        ({"train_neg_sample_args": {"distribution": "unifrom"}}, "(did you mean 'uniform'?)"),
        ({"train_neg_sample_args": {"alpha": -1}}, "alpha must be a number >= 0, got -1"),
        ({"train_neg_sample_args": 5}, "must be a mapping, got 5; write --train_neg_sample_args."),
        ({"clip_grad_norm": {"max_nor": 5}}, "clip_grad_norm has no 'max_nor' (did you mean 'max_"),
        (
            {"clip_grad_norm": {"norm_type": 2}},
            "clip_grad_norm needs max_norm, got {'norm_type': 2",
        ),
        (
            {"clip_grad_norm": 5},
            "clip_grad_norm must be a mapping, got 5; write --clip_grad_norm.m",
        ),
        ({"clip_grad_norm": {"max_norm": "5"}}, "clip_grad_norm.max_norm must be a number > 0"),
        (
            {"learner": "foo"},
            "learner must be one of adam, adamw, sgd, adagrad, rmsprop, got 'foo'",
        ),
        (
            {"rm_dup_inter": "frist"},
            "rm_dup_inter must be one of first, last, got 'frist' (did you",
        ),
        ({"field_separator": ""}, "field_separator must be a text, got an empty one"),
        ({"user_inter_num_interval": 5}, "write --user_inter_num_interval='[5,inf)'"),
        ({"load_col": {"iner": ["user_id"]}}, "got 'iner' (did you mean 'inter'?)"),
    ],
)
@pytest.mark.parametrize("model", ["BPR", TEACHER])
def test_a_bad_key_or_value_of_a_mapping_is_named(model, settings, message):
    line = refused(model, settings)
    assert message in line
    for remedy in remedies(line):
        build_config(model, "toy", (), followed(settings, remedy))


def test_keys_of_a_mapping_are_merged_over_the_models_own():
    split = {"LS": "valid_and_test"}
    config = build_config("GRU4Rec", "toy", (), {"eval_args.mode": "uni10"})
    assert config["eval_args"]["split"] == split
    assert config["eval_args"]["order"] == "TO"
    config = build_config("BPR", "toy", (), {"eval_args": {"split": split, "mode": "uni5"}})
    assert config["eval_args"]["split"] == split
    assert config["eval_args"]["mode"] == {"valid": "uni5", "test": "uni5"}


def test_a_learner_is_read_in_any_case():
    assert build_config("BPR", "toy", (), {"learner": "AdamW"})["learner"] == "AdamW"


def test_a_typed_tab_is_a_tab():
    assert build_config("BPR", "toy", (), {"field_separator": r"\t"})["field_separator"] == "\t"


def test_one_name_is_a_list_of_one():
    config = build_config("FM", "toy", (), {"normalize_field": "rating", "alias_of_user_id": "u"})
    assert (config["normalize_field"], config["alias_of_user_id"]) == (["rating"], ["u"])


def test_users_and_items_are_not_dropped():
    line = refused("BPR", {"unused_col": {"inter": ["user_id"]}})
    assert line == "unused_col.inter must not drop user_id (USER_ID_FIELD): leave it out"


# --- columns ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"load_col": {"inter": ["user_id"]}},
            "column item_id is not loaded (setting ITEM_ID_FIEL",
        ),
        ({"load_col": {"item": "*"}}, "the column user_id is not loaded (setting USER_ID_FIELD)"),
        ({"unload_col": {"inter": ["rating"]}}, "unload_col.inter has no effect beside load_col"),
    ],
)
def test_columns_that_are_needed_are_loaded(settings, message):
    given, line = dict(settings), refused("FM", settings)
    assert message in line
    for _ in range(3):  # a message names one column
        try:
            build_config("FM", "toy", (), given)
        except InputError as error:
            (remedy,) = remedies(str(error))
            given = followed(given, remedy)
    build_config("FM", "toy", (), given)


# --- what RecBole finds out at the end of the loading ------------------------------------------


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (
            "SASRec",
            {"eval_args.order": "RO"},
            "eval_args.order must be TO for SASRec, a sequential",
        ),
        ("DIN", {"eval_args": {"order": "RO"}}, "eval_args.order must be TO for DIN, a sequential"),
        ("GRU4Rec", {"repeatable": False}, "repeatable must be True for GRU4Rec, a sequential mod"),
        ("BPR", {"transform": "mask_itemseq"}, "transform mask_itemseq needs sequences, and BPR"),
        ("FM", {"transform": "crop_itemseq"}, "transform crop_itemseq needs sequences, and FM has"),
        ("SASRec", {"transform": "mask_itemseq"}, "mask_itemseq needs mask_ratio, and SASRec has"),
        (
            "FM",
            {"normalize_field": ["rating"], "normalize_all": True},
            "normalize_all and normalize_field (['rating']) exclude one another",
        ),
        (
            "BPR",
            {"alias_of_user_id": ["item_id"]},
            "column item_id cannot hold both users (alias_of_user_id) and items (ITEM_ID_FIELD)",
        ),
        ("BPR", {"alias_of_user_id": "x", "alias_of_item_id": ["x"]}, "column x cannot hold both"),
        (
            "BPR",
            {"USER_ID_FIELD": "item_id"},
            "cannot hold both users (USER_ID_FIELD) and items (ITEM_ID_FIELD): leave it out of",
        ),
    ],
)
def test_what_recbole_finds_at_the_end_of_the_loading_is_refused_before_it(
    model, settings, message
):
    line = refused(model, settings)
    assert message in line
    for remedy in remedies(line):
        build_config(model, "toy", (), followed(settings, remedy))


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("BERT4Rec", {}),
        ("BERT4Rec", {"mask_ratio": 0.5}),
        ("SHAN", {}),
        ("SASRec", {"transform": "reorder_itemseq"}),
        ("BPR", {"transform": "user_defined"}),
        ("FM", {"normalize_all": True}),
        ("BPR", {"alias_of_user_id": ["x"], "alias_of_item_id": ["y"]}),
    ],
)
def test_what_a_model_can_use_is_not(model, settings):
    build_config(model, "toy", (), settings)


def test_labels_of_one_kind_are_refused_before_the_training(settings):
    write_world(Path(settings["data_path"]))
    given = {**settings, "load_col": {"inter": ["user_id", "item_id", "rating"]}, "epochs": 1}
    del given["topk"], given["valid_metric"]
    for least, label in ((9, 0), (0, 1)):
        with pytest.raises(
            InputError, match=rf"^every label of the training data is {label}, so FM"
        ):
            run("FM", "world", settings={**given, "threshold": {"rating": least}})
    run("FM", "world", settings={**given, "threshold": {"rating": 4}})
