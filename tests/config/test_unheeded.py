"""Settings that a run would ignore are refused."""

import pytest
from helpers.advice import followed, remedies

from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.config.unheeded import shared_stages, unheeded_warning
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.quick_start import run
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


GRAPH, FEATURES = "knowledge graph", "features"
OF_A_KIND = [  # a model, settings that it does not read, and what it lacks
    *(("BPR", {key: value}, FEATURES) for key, value in {
        "normalize_all": True, "normalize_field": ["rating"], "numerical_features": ["rating"],
        "discretization": {"rating": {"method": "LD"}}, "seq_len": {"class": 3}}.items()),
    ("NeuMF", {"normalize_all": True}, FEATURES),
    ("EASE", {"normalize_field": "rating"}, FEATURES),
    ("CKE", {"seq_len": {"class": 3}}, FEATURES),
    *((model, {"MAX_ITEM_LIST_LENGTH": 10}, "sequences")
      for model in ("BPR", "LightGCN", "ItemKNN", "FM", "CKE", TEACHER, STUDENT)),
    *((model, {"kg_reverse_r": True}, GRAPH) for model in ("BPR", "SASRec", "FM", "Pop", TEACHER)),
    ("LightGCN", {"entity_kg_num_interval": "[5,inf)"}, GRAPH),
    ("GRU4Rec", {"relation_kg_num_interval": "[5,inf)"}, GRAPH),
    ("BPR", {"alias_of_entity_id": ["x"]}, GRAPH),
    ("DCN", {"alias_of_relation_id": "x"}, GRAPH),
]  # fmt: skip


@pytest.mark.parametrize(("model", "settings", "lacks"), OF_A_KIND)
def test_settings_for_models_of_another_kind_are_refused(model, settings, lacks):
    ((key, value),) = settings.items()
    line = refused(model, settings)
    reason = f"on {model}, which reads no {lacks}: leave it out"
    assert line == f"{key} ({value!r}) would have no effect {reason}"


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("SASRec", {"MAX_ITEM_LIST_LENGTH": 10}),
        ("DIN", {"MAX_ITEM_LIST_LENGTH": 10, "normalize_all": True, "seq_len": {"class": 3}}),
        ("CKE", {"kg_reverse_r": True, "entity_kg_num_interval": "[5,inf)"}),
        ("KSR", {"kg_reverse_r": True, "alias_of_entity_id": ["x"]}),
        ("GRU4RecKG", {"relation_kg_num_interval": "[5,inf)"}),
        ("FM", {"normalize_all": True, "numerical_features": ["rating"]}),
        ("DMF", {"normalize_field": ["rating"]}),
        ("DiffRec", {"normalize_field": ["timestamp"]}),
        ("LightGCN", {"require_pow": True}),
        ("SimpleX", {"require_pow": True}),
        ("BPR", {"MAX_ITEM_LIST_LENGTH": 50, "kg_reverse_r": False, "require_pow": False}),
    ],
)
def test_settings_for_models_of_their_kind_are_accepted(model, settings):
    build_config(model, "toy", (), {**settings, **RATING})


@pytest.mark.parametrize("model", ["BPR", "NGCF", "SGL", "NCL", "EASE", "SASRec", "FM", "CKE"])
def test_a_loss_that_a_model_does_not_have(model):
    line = refused(model, {"require_pow": True})
    reason = f"on {model}, which does not read it in its loss: leave it out"
    assert line == f"require_pow (True) would have no effect {reason}"


# --- models that are computed at once ----------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "settings", "named"),
    [
        ("EASE", {"epochs": 5}, "epochs has"),
        ("ItemKNN", {"learning_rate": 0.1, "learner": "sgd"}, "learning_rate, learner have"),
        (
            "Pop",
            {"train_batch_size": 5, "weight_decay": 0.1},
            "train_batch_size, weight_decay have",
        ),
        ("SLIMElastic", {"clip_grad_norm": {"max_norm": 5}}, "clip_grad_norm has"),
        ("ADMMSLIM", {"enable_amp": True}, "enable_amp has"),
        ("AsymKNN", {"stopping_step": 3}, "stopping_step has"),
        ("Random", {"epochs": 3}, "epochs has"),
        ("Spectral", {"learning_rate": 0.1}, "learning_rate has"),
        ("RP3beta", {"train_batch_size": 5}, "train_batch_size has"),
        ("IALS", {"epochs": 3, "learning_rate": 0.1}, "learning_rate has"),
        ("EASE", {"epochs": 300, "stopping_step": 10}, ""),
        ("IALS", {"epochs": 3, "stopping_step": 2}, ""),
        ("BPR", {"epochs": 3, "learning_rate": 0.1}, ""),
        (TEACHER, {"epochs": 3, "learning_rate": 0.1}, ""),
        ("XSimGCL", {"epochs": 3}, ""),
    ],
)
def test_settings_of_a_training_that_there_is_not_are_warned_of(model, settings, named):
    line = unheeded_warning(build_config(model, "toy", (), settings))
    their = "them" if "," in named else "it"
    reason = f"no effect on {model}, which is computed without gradients: leave {their} out"
    assert line == (f"{named} {reason}" if named else "")


def test_the_warning_is_in_the_log(settings, caplog):
    run("ItemKNN", "small", settings={**settings, "state": "WARNING", "epochs": 7})
    assert "epochs, train_batch_size have no effect on ItemKNN, which is computed" in caplog.text


def test_labels_that_are_learnt_or_measured_have_an_effect():
    labels = {"threshold": {"rating": 3}, **RATING}
    build_config("NeuMF", "toy", (), {**labels, "train_neg_sample_args": None})
    build_config("FM", "toy", (), labels)
    auc = {"metrics": ["AUC"], "valid_metric": "AUC", "eval_args.mode": "labeled"}
    build_config("BPR", "toy", (), {**labels, **auc})


# --- stages that are not trained ---------------------------------------------------------------

OF_TEACHER = {"teacher_checkpoint": __file__}
DIRECT, WITHOUT = {"use_intermediate": False}, {"ablation": "-IntKD"}
ALONE = {"intermediate_checkpoint": __file__}
GIVEN = "as teacher_checkpoint is given, and no teacher is trained: leave one of them out"
LEARNS = "as the student learns from intermediate_checkpoint alone: leave one of them out"
UNSET = "as use_intermediate is False: leave one of them out"
NOT_TRAINED = [
    *((model, OF_TEACHER, {"teacher_settings": {"epochs": 3}}, GIVEN)
      for model in (STUDENT, INTERMEDIATE, "UnKD", "SimRec", "RRD")),
    *((model, OF_TEACHER, {"n_teachers": 2}, GIVEN) for model in (STUDENT, INTERMEDIATE)),
    (STUDENT, {**OF_TEACHER, **DIRECT}, {"teacher_settings": {"n_layers": 3}}, GIVEN),
    (STUDENT, ALONE, {"teacher_settings": {"epochs": 3}}, LEARNS),
    (STUDENT, ALONE, {"intermediate_settings": {"epochs": 3}}, LEARNS),
    (STUDENT, ALONE, {"teacher": "BPR"}, LEARNS),
    (STUDENT, ALONE, {"n_teachers": 2}, LEARNS),
    (STUDENT, ALONE, OF_TEACHER, LEARNS),
    (STUDENT, DIRECT, {"intermediate_settings": {"epochs": 3}}, UNSET),
    (STUDENT, DIRECT, ALONE, UNSET),
    (STUDENT, WITHOUT, {"intermediate_settings": {"epochs": 3}}, "as ablation is -IntKD: leave o"),
    (STUDENT, WITHOUT, ALONE, "as ablation is -IntKD: leave one of them out"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "why", "without_effect", "message"), NOT_TRAINED)
def test_settings_of_a_stage_that_is_not_trained_are_refused(model, why, without_effect, message):
    ((key, value),) = without_effect.items()
    line = refused(model, {**why, **without_effect})
    assert line.startswith(f"{key} ({value!r}) would have no effect {message}")
    build_config(model, "toy", (), why)
    build_config(model, "toy", (), {} if key == "teacher_checkpoint" else without_effect)
    with shared_stages():
        build_config(model, "toy", (), {**why, **without_effect})


def test_what_the_stages_that_are_trained_need_is_accepted():
    build_config(STUDENT, "toy", (), {"teacher_checkpoint": [__file__, __file__], "n_teachers": 2})
    build_config(STUDENT, "toy", (), {**DIRECT, "teacher_settings.epochs": 3})
    build_config(STUDENT, "toy", (), {**OF_TEACHER, "intermediate_settings.epochs": 3})
    build_config(STUDENT, "toy", (), {**OF_TEACHER, "teacher": "BPR", "embedding_size": 64})
    build_config(STUDENT, "toy", (), {"recipe": "paper", **OF_TEACHER})  # the recipe's own
    build_config(STUDENT, "toy", (), {"recipe": "paper", **WITHOUT})


@pytest.mark.parametrize(
    ("teacher", "settings"),
    [
        ("EASE", {"epochs": 3}),
        ("ItemKNN", {"learning_rate": 0.1}),
        ("Spectral", {"learner": "sgd"}),
        ("IALS", {"weight_decay": 0.1}),
    ],
)
def test_settings_of_a_training_that_a_teacher_does_not_have_are_refused(teacher, settings):
    ((key, value),) = settings.items()
    given = {"teacher": teacher, "teacher_settings": settings}
    line = refused(STUDENT, given)
    reason = f"on {teacher}, which is computed without gradients: leave it out"
    assert line == f"teacher_settings.{key} ({value!r}) would have no effect {reason}"


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
