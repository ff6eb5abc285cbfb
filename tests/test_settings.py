"""The table of settings, the layers they come from and the checks they pass."""

import copy
import pickle

import pytest
from recbole.config import Config

from recbole_lightgnn.checks import check_settings
from recbole_lightgnn.config import build_config
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.settings import (
    ABLATIONS,
    INTERMEDIATE,
    STUDENT,
    TABLE,
    TEACHER,
    Setting,
    apply_ablation,
    check_value,
    defaults_of,
    properties_dir,
    read_value,
    read_yaml,
    recipes,
    table_of,
)

STAGES = {"teacher_settings": TEACHER, "intermediate_settings": INTERMEDIATE}


def config_of(model=STUDENT, dataset="ml-100k", files=(), **settings):
    return build_config(model, dataset, files, settings)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


# --- the table ------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [TEACHER, INTERMEDIATE, STUDENT])
def test_table_and_yaml_have_the_same_keys(model):
    own = {row.key for row in TABLE if model in row.models}
    shared = {row.key for row in TABLE if not row.models}
    assert own == set(defaults_of(model)) - shared
    assert set(defaults_of(model)) <= own | shared


def test_overall_yaml_is_in_the_table():
    assert set(read_yaml(properties_dir() / "overall.yaml")) <= {
        r.key for r in TABLE if not r.models
    }


def test_no_key_has_two_rows_for_one_model():
    for model in (TEACHER, INTERMEDIATE, STUDENT):
        rows = [row.key for row in TABLE if not row.models or model in row.models]
        assert len(rows) == len(set(rows))


@pytest.mark.parametrize("recipe", [r for r in recipes() if r != "default"])
def test_a_recipe_changes_only_what_exists(recipe):
    values = read_yaml(properties_dir() / "recipe" / f"{recipe}.yaml")
    assert values["recipe"] == recipe
    assert set(values) <= set(defaults_of(STUDENT))
    for key, model in STAGES.items():
        assert set(values.get(key, {})) <= set(defaults_of(model))


@pytest.mark.parametrize("recipe", recipes())
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_every_recipe_and_ablation_passes_the_checks(recipe, ablation):
    config = config_of(recipe=recipe, ablation=ablation)
    assert (config["recipe"], config["ablation"]) == (recipe, ablation)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("3", 3),
        ("None", None),
        ("~", None),
        ("true", True),
        ("~EmbP", "~EmbP"),
        ("-BiAln", "-BiAln"),
        ("[10, 20]", [10, 20]),
        ("{'split': {'RS':[0.8,0.1,0.1]}}", {"split": {"RS": [0.8, 0.1, 0.1]}}),
        ("a=b", "a=b"),
        ("2018-1", "2018-1"),
    ],
)
def test_values_of_the_command_line_are_yaml(text, value):
    assert read_value(text) == value


# --- one value ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type", "allowed", "good", "bad"),
    [
        ("float", "(0, 1]", [0.1, 1, 1.0], [0, 0.0, 1.01, -1, True, "1", None, float("nan")]),
        ("float", "(0, inf)", [1e-9, 1e9], [0, float("inf")]),
        ("int", "[1, inf)", [1, 300], [0, 1.0, True, "3"]),
        ("bool", "", [True, False], [0, 1, "yes", None]),
        ("str", "a | b", ["a", "b"], ["c", 1, None]),
        ("ints", "[1, inf)", [10, [10, 20]], [0, [10, 0], [], "10"]),
        ("strs", "", ["x", ["x", "y"]], [[], 3, [3]]),
        ("dict", "", [{}, {"a": 1}, None], [3, "a", []]),
        ("path", "", [None, __file__], [3, True]),
    ],
)
def test_a_value_must_be_of_its_type_and_in_its_range(type, allowed, good, bad):
    row = Setting("key", type, allowed, "", ())
    for value in good:
        check_value(row, value)
    for value in bad:
        with pytest.raises(InputError, match="key must "):
            check_value(row, value)


def test_the_message_has_range_and_value():
    with pytest.raises(InputError, match=r"^t\.edge_ratio must be a number in \(0, 1\], got 1\.5$"):
        check_value(table_of(STUDENT)["edge_ratio"], 1.5, "t.")


# --- bad settings ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperatur": 0.3}, "unknown setting temperatur (did you mean 'temperature'?)"),
        ({"temperature": 0}, "temperature must be a number in (0, inf), got 0"),
        ({"edge_ratio": 0}, "edge_ratio must be a number in (0, 1], got 0"),
        ({"entry_ratio": 1.1}, "entry_ratio must be a number in (0, 1], got 1.1"),
        ({"epochs": 0}, "epochs must be an integer in [1, inf), got 0"),
        ({"epochs": "many"}, "epochs must be an integer in [1, inf), got 'many'"),
        ({"recipe": "papr"}, "recipe must be one of default, paper, got 'papr' (did you mean 'pap"),
        ({"ablation": "EmbP"}, "got 'EmbP' (did you mean '~EmbP'?)"),
        ({"interaction_loss": "sofmax"}, "must be one of bpr, softmax, got 'sofmax'"),
        ({"teacher": "LightGCNN"}, "teacher: no model is named 'LightGCNN' (did you mean 'Light"),
        ({"teacher": "LightGNN"}, "teacher must be a general recommender that needs no teacher"),
        ({"teacher_checkpoint": "no/such"}, "teacher_checkpoint: there is no file no/such"),
        ({"teacher_settings": 3}, "teacher_settings must be a mapping, got 3"),
        ({"teacher_settings.n_layer": 3}, "teacher_settings.n_layer (did you mean 'n_layers'?)"),
        ({"teacher_settings.epochs": 0}, "teacher_settings.epochs must be an integer in [1, inf)"),
        (
            {"intermediate_settings": {"augmentation": "hop"}},
            "intermediate_settings.augmentation must be one of hops, same_side, none, got 'hop'",
        ),
        (
            {"intermediate_settings.edge_ratio": 0.5},
            "edge_ratio is a setting of LightGNN, not of LightGNNIntermediate",
        ),
        ({"teacher": "SGL", "teacher_settings.ssl_tua": 1}, "ssl_tua (did you mean 'ssl_tau'?)"),
        ({"eval_mask": "trian"}, "eval_mask must be one of train+valid, train, got 'trian'"),
        ({"metrics": ["Recal"]}, "got 'Recal' (did you mean 'Recall'?)"),
        ({"valid_metric": "Recall@5"}, "one of Recall@10, Recall@20, Recall@40, NDCG@10, "),
        ({"valid_metric": "Recall"}, "valid_metric must be METRIC@K with K one of topk, that is "),
        ({"valid_metric": "MAP@20"}, "got 'MAP@20'"),
        ({"eval_step": 0}, "eval_step must be an integer in [1, inf), got 0"),
        ({"checkpoint_dir": 3}, "checkpoint_dir must be a name, got 3"),
        ({"uniformity_slack": 0.5}, "uniformity_slack must be an integer in [0, inf), got 0.5"),
        ({"teacher_scale": "spred"}, "must be one of spread, none, got 'spred' (did you mean "),
        ({"topk": [0]}, "topk must be an integer in [1, inf), got 0"),
    ],
)
def test_a_bad_setting_is_named_with_what_it_must_be(settings, message):
    with pytest.raises(InputError) as error:
        config_of(**settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_setting_of_another_model_says_whose_it_is():
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


def test_an_intermediate_without_a_loss_is_refused_where_it_is_trained():
    with pytest.raises(
        InputError, match=r"intermediate_settings\.interaction_weight, intermediate_"
    ):
        config_of(**NO_KD_BEFORE)
    config_of(**NO_KD_BEFORE, **{"intermediate_settings.interaction_weight": 1})
    config_of(**NO_KD_BEFORE, use_intermediate=False)
    config_of(**NO_KD_BEFORE, intermediate_checkpoint=__file__)


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
        (
            {"intermediate_checkpoint": __file__, "use_intermediate": False},
            "intermediate_checkpoint would not be used",
        ),
        ({"intermediate_checkpoint": __file__, "ablation": "-IntKD"}, "would not be used"),
        (
            {"intermediate_checkpoint": __file__, "teacher_checkpoint": __file__},
            "teacher_checkpoint would not be used",
        ),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(settings, message):
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
        ("SGL", {"ssl_tau": 0.2, "train_neg_sample_args": None}),
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


# --- layers ---------------------------------------------------------------------------------


def test_layers_from_low_to_high(tmp_path):
    low = write(tmp_path / "low.yaml", "epochs: 4\nn_layers: 1\nseed: 1\ntopk: [20]\n")
    high = write(tmp_path / "high.yaml", "epochs: 5\nseed: 2\n")
    config = config_of(files=[low, high], seed=3, recipe="paper")
    paper = read_yaml(properties_dir() / "recipe" / "paper.yaml")
    overall = read_yaml(properties_dir() / "overall.yaml")
    assert config["seed"] == 3, "a setting beats a file"
    assert config["epochs"] == 5, "a later file beats an earlier one, and the recipe"
    assert config["n_layers"] == 1
    assert config["topk"] == [20], "a file beats our overall.yaml"
    assert config["metrics"] == overall["metrics"], "our overall.yaml beats RecBole's"
    assert config["interaction_loss"] == paper["interaction_loss"], "the recipe beats the model's"
    assert config["rotation"] == paper["rotation"]
    assert config["negatives"] == defaults_of(STUDENT)["negatives"]
    assert config["weight_decay"] == 0.0, "RecBole's overall.yaml is under all"


def test_stage_settings_are_merged_into_the_recipes(tmp_path):
    file = write(tmp_path / "a.yaml", "teacher_settings: {epochs: 9, n_layers: 5}\n")
    config = config_of(files=[file], recipe="paper", **{"teacher_settings.epochs": 3})
    paper = read_yaml(properties_dir() / "recipe" / "paper.yaml")["teacher_settings"]
    assert config["teacher_settings"] == {**paper, "epochs": 3, "n_layers": 5}


def test_a_recipes_teacher_settings_are_its_own_teachers():
    paper = read_yaml(properties_dir() / "recipe" / "paper.yaml")
    config = config_of(recipe="paper", teacher="SGL", **{"teacher_settings.ssl_tau": 0.3})
    assert config["teacher_settings"] == {"ssl_tau": 0.3}
    assert config["intermediate_settings"] == paper["intermediate_settings"]
    assert (
        config_of(recipe="paper", teacher=TEACHER)["teacher_settings"]
        == (paper["teacher_settings"])
    )


def test_every_stage_of_the_papers_recipe_trains_as_long():
    config = config_of(recipe="paper")
    for stage in (config, config["teacher_settings"], config["intermediate_settings"]):
        assert (stage["epochs"], stage["stopping_step"]) == (50, 5)
    for stage in (config, config["intermediate_settings"]):
        assert (stage["reg_weight"], stage["teacher_scale"]) == (1e-7, "none")
    assert config["interaction_runs"] > config["n_pruning_runs"]


def test_the_interaction_loss_is_in_every_run_once_it_has_a_weight():
    config = config_of(interaction_weight=0.5)
    assert config["interaction_runs"] > config["n_pruning_runs"]
    assert config_of()["interaction_weight"] == 0


def test_argv_reaches_stock_recbole_and_not_our_front_door(monkeypatch):
    monkeypatch.setattr("sys.argv", ["x", "--epochs=7", "--teacher_settings.epochs=3"])
    stock = Config(STUDENT, "ml-100k", config_dict={"epochs": 8})
    assert stock["epochs"] == 7
    assert stock["teacher_settings"] == {"epochs": 3}
    assert config_of(epochs=8)["epochs"] == 8


def test_our_metrics_hold_for_recboles_models_at_our_front_door_only(monkeypatch):
    monkeypatch.setattr("sys.argv", ["x"])
    assert config_of("BPR")["topk"] == [10, 20, 40]
    assert Config("BPR", "ml-100k")["topk"] == [10]
    assert Config(STUDENT, "ml-100k")["topk"] == [10, 20, 40]


def test_models_that_score_pair_by_pair_keep_recboles_evaluation_batch():
    assert config_of("BPR")["eval_batch_size"] == 40960000
    assert config_of("NeuMF")["eval_batch_size"] == 4096


def test_strings_are_not_evaluated_at_our_front_door():
    assert config_of("BPR", wandb_project="__import__('os').getcwd()")["wandb_project"].endswith(
        "()"
    )


def test_a_dataset_in_three_files_needs_no_setting(tmp_path):
    (tmp_path / "toy").mkdir()
    for part in ("train", "valid", "test"):
        (tmp_path / "toy" / f"toy.{part}.inter").touch()
    config = config_of("BPR", "toy", data_path=str(tmp_path))
    assert config["benchmark_filename"] == ["train", "valid", "test"]


@pytest.mark.parametrize(
    ("files", "ours"),
    [
        ([".inter"], False),
        ([".train.inter", ".valid.inter", ".test.inter"], True),
        ([".inter", ".train.inter", ".valid.inter", ".test.inter"], True),
        ([".inter", ".train.inter"], False),
        ([], True),
    ],
)
def test_our_yaml_of_a_split_dataset_is_not_for_another_of_its_name(tmp_path, files, ours):
    """RecBole has a gowalla of its own, in one file."""
    (tmp_path / "gowalla").mkdir()
    for suffix in files:
        (tmp_path / "gowalla" / f"gowalla{suffix}").touch()
    config = config_of(dataset="gowalla", data_path=str(tmp_path))
    assert config["benchmark_filename"] == (["train", "valid", "test"] if ours else None)
    assert config["eval_mask"] == ("train" if ours else "train+valid")
    assert config["n_pruning_runs"] == (11 if ours else defaults_of(STUDENT)["n_pruning_runs"])


# --- ablations ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in ABLATIONS if n != "-BiAln"])
def test_an_ablation_changes_what_the_table_says_and_nothing_else(name):
    plain, ablated = config_of().final_config_dict, config_of(ablation=name).final_config_dict
    assert ablated == {**plain, **ABLATIONS[name], "ablation": name}


def test_without_alignment_the_interaction_loss_is_on_in_both_stages():
    off = {"interaction_runs": 0, "intermediate_settings.interaction_weight": 0}
    config = config_of(ablation="-BiAln", **off)
    stage = config["intermediate_settings"]
    for settings in (config, stage):
        assert settings["prediction_kd_weight"] == settings["embedding_kd_weight"] == 0
        assert settings["interaction_weight"] == 1
    assert config["interaction_runs"] > config["n_pruning_runs"]


def test_without_alignment_a_weight_that_was_there_stays():
    settings = {"ablation": "-BiAln", "interaction_weight": 0.3}
    apply_ablation(settings, {"interaction_weight": 0.1})
    assert settings["interaction_weight"] == 0.3
    assert settings["intermediate_settings"]["interaction_weight"] == 0.1


# --- earlier stages -------------------------------------------------------------------------


def test_a_stage_shares_data_and_evaluation_but_not_training(monkeypatch):
    config = config_of(epochs=3, learning_rate=0.5, seed=7, topk=[5], valid_metric="NDCG@5")
    monkeypatch.setattr("sys.argv", ["x", "--epochs=1", "--seed=1"])
    stage = config.stage(TEACHER, {"n_layers": 5})
    own = defaults_of(TEACHER)
    assert (stage["model"], stage["dataset"]) == (TEACHER, "ml-100k")
    assert stage["epochs"] == own["epochs"]
    assert stage["learning_rate"] == own["learning_rate"]
    assert stage["n_layers"] == 5
    for key in ("seed", "topk", "valid_metric", "metrics", "eval_args", "data_path", "load_col"):
        assert stage[key] == config[key]
    assert stage["topk"] is not config["topk"]


def test_a_stage_may_be_any_recommender_and_is_checked():
    config = config_of()
    assert config.stage("SGL", {"ssl_tau": 0.3})["ssl_tau"] == 0.3
    with pytest.raises(InputError, match="ssl_tua"):
        config.stage("SGL", {"ssl_tua": 0.3})


def test_a_stage_finds_the_data_where_the_run_does(tmp_path):
    for part in ("train", "valid", "test"):
        (tmp_path / "toy").mkdir(exist_ok=True)
        (tmp_path / "toy" / f"toy.{part}.inter").touch()
    config = config_of(dataset="toy", data_path=str(tmp_path))
    stage = config.stage(TEACHER, {})
    assert stage["data_path"] == config["data_path"] == str(tmp_path / "toy")
    assert stage["benchmark_filename"] == ["train", "valid", "test"]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_a_config_can_be_copied_and_pickled(copied):
    config = copied(config_of(epochs=3))
    check_settings(config)
    assert config["epochs"] == 3
    assert config.stage(TEACHER, {"epochs": 2})["epochs"] == 2
