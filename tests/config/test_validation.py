"""The checks that settings pass before a run: one by one, and the stages beside one another."""

import pytest
from recbole.config import Config

from recbole_lightgnn.config.files import defaults_of
from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.registry import INTERMEDIATE, STUDENT, TEACHER


def config_of(model=STUDENT, dataset="ml-100k", files=(), **settings):
    return build_config(model, dataset, files, settings)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


# --- bad settings ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperatur": 0.3}, "unknown setting temperatur (did you mean 'temperature'?)"),
        ({"config_file": "a.yaml"}, "unknown setting config_file (did you mean 'config_files'?)"),
        ({"device": "cpu"}, "device is no setting: write --use_gpu=False, or choose a GPU by"),
        ({"fill_nan": True}, "unknown setting fill_nan; `recbole-lightgnn settings LightGNN`"),
        ({"temperature": 0}, "temperature must be a number > 0, got 0"),
        ({"edge_ratio": 0}, "edge_ratio must be a number x with 0 < x <= 1, got 0"),
        ({"entry_ratio": 1.1}, "entry_ratio must be a number x with 0 < x <= 1, got 1.1"),
        ({"epochs": 0}, "epochs must be an integer >= 1, got 0"),
        ({"epochs": "many"}, "epochs must be an integer >= 1, got 'many'"),
        (
            {"recipe": "papr"},
            "recipe must be one of default, auto, paper, got 'papr' (did you",
        ),
        ({"ablation": "EmbP"}, "got 'EmbP' (did you mean '~EmbP'?)"),
        ({"interaction_loss": "sofmax"}, "must be one of bpr, softmax, got 'sofmax'"),
        ({"teacher": "LightGCNN"}, "teacher: no model is named 'LightGCNN' (did you mean 'Light"),
        ({"teacher": "LightGNN"}, "teacher must be a general recommender that needs no teacher"),
        ({"teacher_checkpoint": "no/such"}, "teacher_checkpoint: there is no file no/such"),
        ({"teacher_settings": 3}, "teacher_settings must be a mapping, got 3"),
        ({"teacher_settings.n_layer": 3}, "teacher_settings.n_layer (did you mean 'n_layers'?)"),
        ({"teacher_settings.epochs": 0}, "teacher_settings.epochs must be an integer >= 1"),
        (
            {"intermediate_settings": {"augmentation": "hop"}},
            "intermediate_settings.augmentation must be one of hops, none, got 'hop'",
        ),
        (
            {"intermediate_settings.edge_ratio": 0.5},
            "edge_ratio is a setting of GLT and LightGNN, not of LightGNNIntermediate",
        ),
        ({"teacher": "SGL", "teacher_settings.ssl_tua": 1}, "ssl_tua (did you mean 'ssl_tau'?)"),
        ({"eval_mask": "trian"}, "eval_mask must be one of train+valid, train, got 'trian'"),
        ({"metrics": ["Recal"]}, "got 'Recal' (did you mean 'Recall'?)"),
        ({"valid_metric": "Recall@5"}, "one of Recall@10, Recall@20, Recall@40, NDCG@10, "),
        ({"valid_metric": "Recall"}, "valid_metric must be METRIC@K with K one of topk, that is "),
        ({"valid_metric": "MAP@20"}, "got 'MAP@20'"),
        ({"eval_step": 0}, "eval_step must be an integer >= 1, got 0"),
        ({"checkpoint_dir": 3}, "checkpoint_dir must be a name, got 3"),
        ({"uniformity_slack": 0.5}, "uniformity_slack must be an integer >= 0, got 0.5"),
        ({"teacher_scale": "spred"}, "must be one of std, none, got 'spred' (did you mean "),
        ({"topk": [0]}, "topk must be an integer >= 1, got 0"),
    ],
)
def test_a_bad_setting_is_named_with_what_it_must_be(settings, message):
    with pytest.raises(InputError) as error:
        config_of(**settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_setting_of_another_model_names_that_model():
    with pytest.raises(InputError, match="recipe is a setting of LightGNN, not of LightGNNTeacher"):
        config_of(TEACHER, recipe="paper")


def test_unknown_settings_are_found_in_files_and_in_stock_recbole_too(tmp_path, monkeypatch):
    file = write(tmp_path / "a.yaml", "n_layer: 3\n")
    with pytest.raises(InputError, match="n_layer "):
        config_of(files=[file])
    monkeypatch.setattr("sys.argv", ["x", "--durations=3"])  # stock RecBole reads any argv
    with pytest.raises(InputError, match="n_layer "):
        Config(STUDENT, "ml-100k", config_dict={"n_layer": 3})
    assert Config(STUDENT, "ml-100k")["n_layers"] == defaults_of(STUDENT)["n_layers"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eval_args": {"mode": "uni5"}}, "full ranking, got eval_args mode 'uni5'"),
        ({"eval_args": {"mode": {"valid": "full", "test": "pop9"}}}, "got eval_args mode 'pop9'"),
        ({"eval_args": {"mode": {"valid": "uni5"}}}, "got eval_args mode 'uni5'"),
        ({"eval_args": {"mode": {"valid": "uni5", "test": "full"}}}, None),
        ({"eval_args": {"group_by": "user"}}, None),
    ],
)
def test_the_papers_mask_needs_a_full_ranking_of_the_test(settings, message):
    assert config_of("BPR", **settings)["eval_mask"] == "train+valid"
    if message is None:
        assert config_of("BPR", eval_mask="train", **settings)["eval_mask"] == "train"
    else:
        with pytest.raises(InputError, match=message):
            config_of("BPR", eval_mask="train", **settings)


def test_metrics_without_a_length_choose_by_their_names():
    sampled = {"metrics": ["AUC"], "eval_args": {"mode": "uni5"}}
    assert config_of("BPR", valid_metric="auc", **sampled)["valid_metric"] == "auc"
    assert config_of("BPR", valid_metric="GAUC", metrics=["GAUC"])["valid_metric"] == "GAUC"
    with pytest.raises(InputError, match="one of AUC, got 'AUC@10'"):
        config_of("BPR", valid_metric="AUC@10", **sampled)


def test_a_checkpoint_dir_is_writable_or_refused(tmp_path):
    blocked = write(tmp_path / "file", "") / "saved"
    with pytest.raises(InputError, match=rf"checkpoint_dir {blocked} cannot be written: "):
        config_of(checkpoint_dir=str(blocked))
    config_of("BPR", checkpoint_dir=str(tmp_path / "new" / "saved"))
    assert not (tmp_path / "new").exists(), "asked, not made"


# --- what only our trainer cannot do --------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"enable_amp": True}, "enable_amp must be False for {}, got True: LightGNN's trainer "),
        ({"enable_scaler": True}, "enable_scaler must be False for {}, got True: "),
        ({"log_wandb": True}, "log_wandb must be False for {}, got True: LightGNN's trainer wr"),
        ({"train_neg_sample_args": None}, "train_neg_sample_args must name a distribution, unif"),
        ({"train_neg_sample_args": "None"}, "got 'None': {} samples items"),
        ({"train_neg_sample_args": {"distribution": "none"}}, "{} samples items"),
        ({"train_neg_sample_args": {"distribution": None}}, "{} samples items"),
    ],
)
def test_what_our_trainer_does_not_do_is_refused_for_our_models(settings, message):
    with pytest.raises(InputError) as error:
        config_of(STUDENT, **settings)
    assert message.format(STUDENT) in str(error.value)
    with pytest.raises(InputError) as error:
        config_of(teacher_settings=settings)
    assert str(error.value).startswith("teacher_settings.")
    assert message.format(TEACHER) in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [{"enable_amp": True}, {"enable_scaler": True}],
)
def test_what_recboles_trainers_do_is_left_to_them(settings):
    config_of("SGL", **settings)
    assert config_of(teacher="SGL", teacher_settings=settings)["teacher_settings"] == settings


def test_a_teacher_needs_sampled_items_only_if_it_compares_with_them():
    config_of(teacher="MultiVAE", teacher_settings={"train_neg_sample_args": None})
    with pytest.raises(InputError, match=r"^teacher_settings.train_neg_.*got None: SGL samples it"):
        config_of(teacher="SGL", teacher_settings={"train_neg_sample_args": None})


def test_other_ways_to_sample_are_left_alone():
    for sampling in ({"sample_num": 2}, {"distribution": "popularity"}):
        got = config_of(train_neg_sample_args=sampling)["train_neg_sample_args"]
        assert sampling.items() <= got.items()


# --- the stages of a run, beside one another ------------------------------------------------

NO_KD = {"prediction_kd_weight": 0, "embedding_kd_weight": 0}
NO_KD_BEFORE = {f"intermediate_settings.{key}": 0 for key in NO_KD}


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (STUDENT, {"reg_weight": 1.0}, "as interaction_weight, prediction_kd_weight, embedding_kd"),
        (STUDENT, {"reg_weight": 1.0}, "uniformity_weight are all 0"),
        (
            STUDENT,
            {"interaction_weight": 1, "interaction_runs": 5},
            "interaction_runs must be more than n_pruning_runs (5) where the interaction loss is "
            "the only one, got 5",
        ),
        (INTERMEDIATE, {"reg_weight": 1.0}, "interaction_weight, prediction_kd_weight, embedding"),
    ],
)
def test_a_model_without_a_loss_is_refused(model, settings, message):
    with pytest.raises(InputError) as error:
        config_of(model, **NO_KD, **settings)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"uniformity_weight": 0.1},
        {"interaction_weight": 1},
        {"interaction_weight": 1, "interaction_runs": 6},
        {"interaction_weight": 1, "interaction_runs": 1, "n_pruning_runs": 0},
        {"embedding_kd_weight": 1},
    ],
)
def test_a_model_with_a_loss_in_every_run_is_not(settings):
    config_of(**{**NO_KD, **settings})


def test_an_intermediate_without_a_loss_is_refused():
    with pytest.raises(
        InputError, match=r"intermediate_settings\.interaction_weight, intermediate_"
    ):
        config_of(**NO_KD_BEFORE)
    config_of(**NO_KD_BEFORE, **{"intermediate_settings.interaction_weight": 1})


TOO_NARROW = "initial_embedding=teacher needs embeddings at least as wide as the model's own "
OTHER_WIDTH = "embedding_kd_weight compares embeddings of one width "
KD = {"embedding_kd_weight": 0.1, "initial_embedding": "xavier"}
KD_BEFORE = {f"intermediate_settings.{key}": value for key, value in KD.items()}
T_SIZE, M_SIZE = "teacher_settings.embedding_size", "intermediate_settings.embedding_size"


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (STUDENT, {"embedding_size": 65}, f"{TOO_NARROW}(got embedding_size 64 of the interme"),
        (STUDENT, {T_SIZE: 63}, f"intermediate_settings.{TOO_NARROW}(got embedding_size 63 of the"),
        (STUDENT, {M_SIZE: 65}, "initial_embedding=xavier or teacher_settings.embedding_size=65"),
        (STUDENT, {T_SIZE: 63, "use_intermediate": False}, f"{TOO_NARROW}(got embedding_size 63"),
        (STUDENT, {T_SIZE: 63, "ablation": "-IntKD"}, f"{TOO_NARROW}(got embedding_size 63"),
        (
            STUDENT,
            {**KD, "embedding_size": 32},
            f"{OTHER_WIDTH}(got embedding_size 64 of the inter",
        ),
        (STUDENT, {**KD_BEFORE, T_SIZE: 65}, f"{OTHER_WIDTH}(got embedding_size 65 of the teacher"),
        (INTERMEDIATE, {"embedding_size": 65}, f"{TOO_NARROW}(got embedding_size 64 of the teache"),
        (INTERMEDIATE, {**KD, T_SIZE: 65}, f"{OTHER_WIDTH}(got embedding_size 65"),
        (STUDENT, {"teacher": "SGL", T_SIZE: 32}, f"{TOO_NARROW}(got embedding_size 32 of the tea"),
        (INTERMEDIATE, {"teacher": "BPR", "embedding_size": 65}, f"{TOO_NARROW}(got embedding_siz"),
    ],
)
def test_widths_that_do_not_fit_are_refused(model, settings, message):
    with pytest.raises(InputError) as error:
        config_of(model, **settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (STUDENT, {T_SIZE: 128}),
        (STUDENT, {T_SIZE: 128, M_SIZE: 128, "embedding_size": 128, **KD, **KD_BEFORE}),
        (STUDENT, {"embedding_size": 32}),
        (STUDENT, {"embedding_size": 128, "initial_embedding": "xavier"}),
        (STUDENT, {M_SIZE: 128, "teacher_checkpoint": __file__}),
        (STUDENT, {"embedding_size": 128, "intermediate_checkpoint": __file__}),
        (STUDENT, {"teacher": "NGCF", **KD_BEFORE, T_SIZE: 32}),
        (STUDENT, {"teacher": "NeuMF", M_SIZE: 128}),
        (STUDENT, {"teacher": "GCMC", M_SIZE: 128}),
        (STUDENT, {"teacher": "EASE"}),
        (INTERMEDIATE, {"teacher": "ConvNCF", "embedding_size": 128}),
        (INTERMEDIATE, {"teacher": "NNCF", "embedding_size": 128}),
    ],
)
def test_widths_that_fit_or_that_only_the_run_can_tell_are_not(model, settings):
    config_of(model, **settings)


def test_a_teacher_has_the_width_that_the_dataset_gives_it():
    with pytest.raises(InputError, match=r"embedding_size 514 of the teacher, own 64"):
        build_config(
            STUDENT, "yelp", (), {"embedding_kd_weight": 0.1}
        )  # two of 256, and a column of popularity each
    with pytest.raises(InputError, match=r"embedding_size 256 of the teacher, own 300"):
        build_config(STUDENT, "gowalla", (), {"embedding_size": 300})
    build_config(STUDENT, "gowalla", (), {"embedding_size": 256})


def test_a_stage_of_a_run_is_not_measured_by_the_teacher_it_does_not_have():
    sizes = {T_SIZE: 128, M_SIZE: 128}
    config = config_of(**sizes, intermediate_settings={"initial_embedding": "teacher"})
    stage = config.stage(INTERMEDIATE, config["intermediate_settings"])
    assert stage["embedding_size"] == 128


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"intermediate_settings.teacher": "SGL"}, "_settings.teacher is not a stage's own"),
        ({"intermediate_settings.teacher_settings": {}}, "teacher_settings is not a stage's own"),
        (
            {"intermediate_settings.teacher_checkpoint": None},
            "teacher_checkpoint is not a stage's own",
        ),
        ({"teacher_settings.teacher_checkpoint": None}, "teacher_settings.teacher_checkpoint is"),
        (
            {"teacher_settings.seed": 3},
            "teacher_settings.seed is not a stage's",
        ),
        (
            {"intermediate_settings.topk": [5]},
            "intermediate_settings.topk is not a stage",
        ),
    ],
)
def test_a_setting_that_no_stage_has_of_its_own_is_refused(settings, message):
    with pytest.raises(InputError) as error:
        config_of(**settings)
    assert message in str(error.value)


def test_stages_are_checked_in_stock_recbole_too():
    with pytest.raises(InputError, match="no loss to learn from"):
        Config(STUDENT, "ml-100k", config_dict=NO_KD)


# --- settings that RecBole knows ------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("BPR", {"embedding_size": 8, "rm_dup_inter": "first", "encoding": "utf-8"}),
        ("SGL", {"ssl_tau": 0.2}),
        ("MultiVAE", {"train_neg_sample_args": None}),
        ("EASE", {"reg_weight": 1.0}),
        ("NCL", {"num_clusters": 3}),
    ],
)
def test_settings_that_recbole_knows_are_accepted(model, settings):
    config = config_of(model, **settings)
    assert config["valid_metric"] == "Recall@20"
    for key, value in settings.items():
        if value is not None:
            assert config[key] == value
