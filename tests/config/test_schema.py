"""What a setting may be, and the layers that it comes from."""

import copy
import pickle

import pytest
from recbole.config import Config

from recbole_lightgnn.config.ablations import ablations, apply_ablation
from recbole_lightgnn.config.files import defaults_of, read_value, read_yaml, recbole_yaml, recipes
from recbole_lightgnn.config.recbole_config import _of_model, build_config
from recbole_lightgnn.config.schema import Setting, check_value, describe, owners, read_settings
from recbole_lightgnn.config.validation import check_settings
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.registry import INTERMEDIATE, STUDENT, TEACHER, our_models, properties_dir

ML_100K = properties_dir() / "dataset" / "ml-100k.yaml"
STAGES = {"teacher_settings": TEACHER, "intermediate_settings": INTERMEDIATE}


def config_of(model=STUDENT, dataset="ml-100k", files=(), **settings):
    return build_config(model, dataset, files, settings)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


# --- the descriptions -----------------------------------------------------------------------


@pytest.mark.parametrize("model", our_models())
def test_every_default_of_a_model_is_described_and_allowed(model):
    settings = describe(model)
    for key, value in defaults_of(model).items():
        assert settings[key].meaning
        check_value(settings[key], value)


@pytest.mark.parametrize("model", our_models())
def test_every_setting_that_is_described_for_a_model_has_a_default(model):
    recbole = {*recbole_yaml("overall"), *recbole_yaml("dataset/sample")}
    recbole |= {*read_yaml(properties_dir() / "overall.yaml")}
    assert describe(model).keys() <= defaults_of(model).keys() | recbole


def test_overall_yaml_is_described():
    assert set(read_yaml(properties_dir() / "overall.yaml")) <= describe("BPR").keys()


def test_what_a_line_of_yaml_says_of_a_setting(tmp_path):
    file = write(
        tmp_path / "x.yaml",
        "# A comment. (int) Not a setting.\n"
        "one: 0.2   # (float, > 0) Its meaning, (float) once.\n"
        "two: ~     # (int, 0 <= x <= 9, or empty) A number.\n"
        "three: a   # (str, one of a | b) A name.\n"
        "four: 3    # no specification\n"
        "five: [1]  # (list of int, >= 1) Numbers.\n",
    )
    assert read_settings(file) == {
        "one": Setting("one", "float", "> 0", meaning="Its meaning, (float) once."),
        "two": Setting("two", "int", "0 <= x <= 9", optional=True, meaning="A number."),
        "three": Setting("three", "str", choices=("a", "b"), meaning="A name."),
        "five": Setting("five", "list of int", ">= 1", meaning="Numbers."),
    }


@pytest.mark.parametrize("comment", ["(integer) N.", "(int, 1 or more) N.", "(int, > 0, a) N."])
def test_a_line_of_yaml_that_is_not_understood_is_refused(tmp_path, comment):
    file = write(tmp_path / "x.yaml", f"key: 1  # {comment}\n")
    with pytest.raises(ValueError, match=r"^x\.yaml: key: no (type is named|range is written) "):
        read_settings(file)


def test_an_included_file_comes_before_the_one_that_includes_it():
    teacher, baseline = defaults_of(TEACHER), defaults_of("SoftmaxMF")
    assert baseline == {**teacher, "n_layers": 0}
    assert describe("SoftmaxMF")["n_layers"].range == "0 <= x <= 0"
    assert describe(TEACHER)["n_layers"].range == ">= 0"


def test_who_has_a_setting():
    assert owners("contrast_layer") == ["XSimGCL"]
    assert owners("noise") == ["SimGCL", "XSimGCL"]
    assert owners("epochs") == []


@pytest.mark.parametrize("recipe", [r for r in recipes() if r != "default"])
def test_a_recipe_changes_only_what_exists(recipe):
    values = read_yaml(properties_dir() / "recipe" / f"{recipe}.yaml")
    assert values["recipe"] == recipe
    assert set(values) <= set(defaults_of(STUDENT))
    for key, model in STAGES.items():
        assert set(values.get(key, {})) <= set(defaults_of(model))


@pytest.mark.parametrize("recipe", recipes())
@pytest.mark.parametrize("ablation", ablations())
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
    ("specification", "good", "bad"),
    [
        ("float, 0 < x <= 1", [0.1, 1, 1.0], [0, 0.0, 1.01, -1, True, "1", None, float("nan")]),
        ("float, > 0", [1e-9, 1e9], [0, float("inf")]),
        ("int, >= 1", [1, 300], [0, 1.0, True, "3", None]),
        ("int, 0 <= x <= 9, or empty", [0, 9, None], [-1, 10, 1.0, "", "None"]),
        ("bool", [True, False], [0, 1, "yes", None]),
        ("str, one of a | b", ["a", "b"], ["c", 1, None]),
        ("list of int, >= 1", [10, [10, 20]], [0, [10, 0], [], "10"]),
        ("list of str", ["x", ["x", "y"]], [[], 3, [3]]),
        ("dict", [{}, {"a": 1}, None], [3, "a", []]),
        ("path", [None, __file__], [3, True]),
        ("path or list of paths", [None, __file__, [__file__] * 2], [3, [], [__file__, 3]]),
    ],
)
def test_a_value_must_be_of_its_type_and_in_its_range(tmp_path, specification, good, bad):
    file = write(tmp_path / "x.yaml", f"key: 1  # ({specification}) A value.\n")
    setting = read_settings(file)["key"]
    for value in good:
        check_value(setting, value)
    for value in bad:
        with pytest.raises(InputError, match="key must "):
            check_value(setting, value)


def test_the_message_has_range_and_value():
    expected = r"^t\.edge_ratio must be a number x with 0 < x <= 1, got 1\.5$"
    with pytest.raises(InputError, match=expected):
        check_value(describe(STUDENT)["edge_ratio"], 1.5, "t.")


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
    assert config_of("BPR")["eval_batch_size"] == 20480000
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


def test_a_datasets_section_of_a_model_is_for_that_model_alone():
    """Also where the model is a stage; the user's own word is stronger."""
    assert config_of(TEACHER)["reg_weight"] == 1.0
    assert config_of(TEACHER, reg_weight=0.5)["reg_weight"] == 0.5
    assert config_of(TEACHER, "elsewhere")["reg_weight"] == defaults_of(TEACHER)["reg_weight"]
    student = config_of()
    assert student["reg_weight"] == defaults_of(STUDENT)["reg_weight"]
    assert student.stage(TEACHER, {})["reg_weight"] == 1.0
    assert student.stage("SGL", {})["reg_weight"] != 1.0
    assert config_of("NCL")["num_clusters"] == 100
    assert config_of("SGL")["NCL"] is None


def test_a_datasets_sections_for_our_models_are_part_of_the_default_recipe():
    assert config_of(TEACHER)["reg_weight"] == 1.0
    paper = config_of(recipe="paper")
    assert paper.stage(TEACHER, {})["reg_weight"] == defaults_of(TEACHER)["reg_weight"]
    assert paper.stage("NCL", {})["num_clusters"] == 100  # RecBole's models have no recipe
    section = {TEACHER: {"epochs": 7}, "SimGCL": {"epochs": 8}}
    assert _of_model(section, "SimGCL", "paper") == {"epochs": 8}  # nor have the baselines
    assert _of_model(section, TEACHER, "paper") == {}


# --- ablations ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in ablations() if n != "-BiAln"])
def test_an_ablation_changes_what_the_table_says_and_nothing_else(name):
    plain, ablated = config_of().final_config_dict, config_of(ablation=name).final_config_dict
    assert ablated == {**plain, **ablations()[name], "ablation": name}


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
    own = {**defaults_of(TEACHER), **read_yaml(ML_100K)[TEACHER]}
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


def test_a_mapping_with_described_keys_cannot_be_none():
    with pytest.raises(InputError, match="eval_args must be a mapping, got None"):
        build_config("BPR", "ml-100k", (), {"eval_args": None})
    build_config("LightGNN", "ml-100k", (), {"teacher_settings": None})
