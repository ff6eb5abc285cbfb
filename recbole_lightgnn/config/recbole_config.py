"""Add our layers of settings to RecBole's ``Config``.

From low to high precedence, the layers are: RecBole's ``overall.yaml`` < our ``overall.yaml`` < the
model's yaml file < the recipe's yaml file < the dataset's yaml file < config files < config_dict <
command line. If a dataset's yaml file has sections for LightGNN's stages, they belong to the
default recipe; other recipes ignore these sections. On a dataset without such sections, the recipe
is ``auto`` if none is given (`_recipe_name`).

RecBole's class is extended method by method, so that unmodified ``run_recbole`` uses our layers,
too.

The line ``tuned`` in a dataset's yaml file lists models. The file's settings for these models were
chosen on validation, by a search or by at least as many manual trials as a search has.
``config.tuned`` says whether the run's model is in the list.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from recbole_lightgnn.config.ablations import apply_ablation
from recbole_lightgnn.config.aliases import renamed
from recbole_lightgnn.config.files import (
    BY_KEY,
    STAGE_SETTINGS,
    defaults_of,
    merge,
    nested,
    read_yaml,
    recbole_yaml,
    recipes,
)
from recbole_lightgnn.config.recbole_defaults import own_defaults
from recbole_lightgnn.config.recbole_faults import explained
from recbole_lightgnn.config.validation import check_run, check_settings
from recbole_lightgnn.registry import (
    INTERMEDIATE,
    STAGES,
    STUDENT,
    TEACHER,
    our_models,
    properties_dir,
)
from recbole_lightgnn.utils.text import must_be_one_of

# Set while our own code (command line, quick_start, a stage) builds a Config. Then sys.argv is not
# read, and our overall.yaml applies to RecBole's models too.
_OUR_FRONT_DOOR: ContextVar[bool] = ContextVar("our_front_door", default=False)
# Set while that Config is for a part of a run (a stage, a checkpoint). The settings of all stages
# have been checked with the run's own Config.
_PART_OF_A_RUN: ContextVar[bool] = ContextVar("part_of_a_run", default=False)
# RecBole's layers that a user gives, from low to high, and their names in messages.
_EXTERNAL = {
    "file_config_dict": "config files",
    "variable_config_dict": "settings",
    "cmd_config_dict": "the command line",
}
# Settings of RecBole's that are lists of names.
_LISTS = {"normalize_field", "numerical_features", "additional_feat_suffix"}
_LISTS |= {f"alias_of_{kind}_id" for kind in ("user", "item", "entity", "relation")}
# Settings of the stages before the student: if one is given, no search for teachers is needed.
OWN_STAGES = {"teacher", "teacher_settings", "n_teachers", "teacher_checkpoint", "ablation"}
OWN_STAGES |= {"use_intermediate", "intermediate_settings", "intermediate_checkpoint"}
# The recipe of the run that a stage is built for.
_RECIPE: ContextVar[str] = ContextVar("recipe", default="default")


def extend_recbole() -> None:
    """Extend RecBole's ``Config`` by our layers of settings and by the method ``stage``, once."""
    from recbole.config.configurator import Config

    if "stage" not in vars(Config):
        for name in (
            "_load_config_files",
            "_load_variable_config_dict",
            "_load_cmd_line",
            "_update_internal_config_dict",
            "_load_internal_config_dict",
        ):
            setattr(Config, name, globals()[name](getattr(Config, name)))
        Config._merge_external_config_dict = _merge_external_config_dict
        Config._get_final_config_dict = _get_final_config_dict
        Config.stage = stage_config


def build_config(
    model: str, dataset: str, config_files: Iterable[Path | str], settings: Mapping[str, Any]
) -> Any:
    """Build and check RecBole's ``Config``, without reading ``sys.argv``.

    Args:
        model: name of a model, ours or RecBole's.
        dataset: name of a dataset.
        config_files: yaml files of settings; a later file takes precedence over an earlier file.
        settings: settings that take precedence over the files. Texts are never evaluated as Python.

    Raises:
        InputError: if a setting is unknown, of a wrong type or out of range, or if settings
            contradict each other.
    """
    from recbole.config import Config

    files = [str(file) for file in config_files]
    with explained(f"settings of {model} on {dataset}", settings), _set(_OUR_FRONT_DOOR):
        return Config(model, dataset, files, dict(settings))


def stage_config(config: Any, model: str, overrides: Mapping[str, Any]) -> Any:
    """Build the ``Config`` of an earlier stage of a run, such as its teacher, without ``sys.argv``.

    From low to high precedence: the defaults of the stage's model; the run's general settings and
    settings of data and evaluation; ``overrides``. So run and stage have the same data, split and
    metrics. The run's settings of training, such as ``epochs``, do not affect the stage.

    Args:
        config: the run's ``Config``.
        model: name of the stage's model, ours or RecBole's.
        overrides: settings that differ from the defaults, without the stage's prefix
            (``teacher_settings.``).

    Raises:
        InputError: as `build_config`.
    """
    from recbole.utils import get_model

    from recbole_lightgnn.config.settings_diff import shared_keys

    keys = shared_keys(config) & set(config.final_config_dict)
    if not _scores_whole_lists(get_model(model)):
        keys.discard("eval_batch_size")
    shared = {key: copy.deepcopy(config[key]) for key in sorted(keys)}
    shared["accelerate"] = config["accelerate"]  # it only saves time
    shared["data_path"] = str(Path(config["data_path"]).parent)  # RecBole adds the dataset's name
    settings = {**shared, **copy.deepcopy(dict(overrides))}
    recipe = config.final_config_dict.get("recipe", "default")
    with _set(_PART_OF_A_RUN), _set(_RECIPE, recipe):
        stage = build_config(model, config["dataset"], (), settings)
    stage["data_path"] = config["data_path"]
    return stage


def rebuild_config(meta: Mapping[str, Any]) -> Any:
    """Build again the ``Config`` of a training from the metadata of the training's checkpoint."""
    with _set(_PART_OF_A_RUN):
        config = build_config(meta["model"], meta["dataset"], (), meta["shared_settings"])
    config.external_config_dict = {}  # a user gave none of these
    for key, value in meta["settings"].items():
        config[key] = value
    config["data_path"] = meta["data_path"]
    return config


# --- RecBole's Config, method by method -----------------------------------------------------


@contextmanager
def _set(flag: ContextVar[Any], value: Any = True) -> Iterator[None]:
    token = flag.set(value)
    try:
        yield
    finally:
        flag.reset(token)


def _load_config_files(original: Any) -> Any:
    def load(self: Any, files: Any) -> dict[str, Any]:
        if not _OUR_FRONT_DOOR.get():
            loaded: dict[str, Any] = original(self, files)
            return loaded
        values: dict[str, Any] = {}
        for file in files or ():
            merge(values, nested(read_yaml(Path(file))), BY_KEY)
        return values

    return load


def _load_variable_config_dict(original: Any) -> Any:
    def load(self: Any, settings: Any) -> dict[str, Any]:
        # RecBole evaluates strings as Python here; ours have their types already.
        ours = _OUR_FRONT_DOOR.get()
        loaded: dict[str, Any] = copy.deepcopy(settings) if ours else original(self, settings)
        return loaded

    return load


def _load_cmd_line(original: Any) -> Any:
    def load(self: Any) -> dict[str, Any]:
        return {} if _OUR_FRONT_DOOR.get() else original(self)

    return load


def _merge_external_config_dict(self: Any) -> None:
    self.external_config_dict = {}
    # In runs by RecBole's own functions, a mapping such as eval_args is replaced as a whole.
    by_key = BY_KEY if _OUR_FRONT_DOOR.get() else STAGE_SETTINGS
    for name, where in _EXTERNAL.items():
        layer = renamed(getattr(self, name), where)
        setattr(self, name, layer)
        merge(self.external_config_dict, nested(layer), by_key)


def _update_internal_config_dict(original: Any) -> Any:
    def update(self: Any, file: str) -> Any:
        path, ours = Path(file), self.model in our_models()
        # sample.yaml is the first of the dataset files, which follow model files.
        if path.name == "sample.yaml" and ours:
            self.internal_config_dict.update(defaults_of(self.model))
        loaded = original(self, file)
        if path.name == "overall.yaml" and (ours or _OUR_FRONT_DOOR.get()):
            self.internal_config_dict.update(_our_overall(self.model_class))
        return loaded

    return update


def _load_internal_config_dict(original: Any) -> Any:
    def load(self: Any, model: str, model_class: type, dataset: str) -> None:
        original(self, model, model_class, dataset)
        if _OUR_FRONT_DOOR.get():
            self.internal_config_dict.update(copy.deepcopy(own_defaults(model)))
            if _compares_with_all(self, model_class):
                self.internal_config_dict["train_neg_sample_args"] = None
        given = {**self.internal_config_dict, **self.external_config_dict}
        whole, parts = _dataset_files(Path(given["data_path"]), dataset)
        file = properties_dir() / "dataset" / f"{dataset}.yaml"
        ours = read_yaml(file) if file.is_file() else {}
        tuned = ours.pop("tuned", ())
        self.tuned, self.of_dataset = False, {}
        # Our yaml file may be for a dataset in three files. A dataset in one file with this name is
        # another one, such as RecBole's gowalla.
        applies = parts or not whole or "benchmark_filename" not in ours
        recipe = self.external_config_dict.get("recipe", _RECIPE.get())
        if model == STUDENT:
            recipe = _recipe_name(self.external_config_dict, ours if applies else {})
            self.internal_config_dict.update(_recipe(recipe))
        if applies:
            self.of_dataset = ours
            self.internal_config_dict.update(_of_model(ours, model, recipe))
            self.tuned = model in tuned and recipe == "default"
        _forget_other_teacher(self.internal_config_dict, self.external_config_dict)
        settings = {**self.internal_config_dict, **self.external_config_dict}
        if settings.get("benchmark_filename") is None and parts and not whole:
            self.internal_config_dict["benchmark_filename"] = ["train", "valid", "test"]

    return load


def _forget_other_teacher(default: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Drop the default teacher's settings if the user gives another teacher."""
    teacher = default.get("teacher")
    if default.get("teacher_settings") and given.get("teacher", teacher) != teacher:
        default["teacher_settings"] = {}


def _compares_with_all(config: Any, model_class: type[Any]) -> bool:
    """Whether a model's loss is a softmax over all items, so that no negative items are sampled."""
    settings = {**config.internal_config_dict, **config.external_config_dict}
    return not hasattr(model_class, "input_type") and settings.get("loss_type") == "CE"


def _of_model(settings: Mapping[str, Any], model: str, recipe: str) -> dict[str, Any]:
    """A dataset's settings for one model: common settings, overridden by the model's section."""
    from recbole_lightgnn.registry import model_names

    common = {key: value for key, value in settings.items() if key not in model_names()}
    if recipe != "default" and model in STAGES:
        return common
    return {**common, **(settings.get(model) or {})}


def _stage_defaults(config: Any, model: str) -> dict[str, Any]:
    """Settings of a stage, without the settings that the run gives for this stage."""
    recipe = config.final_config_dict.get("recipe", "default")
    own = defaults_of(model) if model in our_models() else recbole_yaml(f"model/{model}")
    return {**recbole_yaml("overall"), **own, **_of_model(config.of_dataset, model, recipe)}


def _get_final_config_dict(self: Any) -> dict[str, Any]:
    ours = self.model in our_models()
    final: dict[str, Any] = copy.deepcopy(self.internal_config_dict)
    by_key = BY_KEY if ours or _OUR_FRONT_DOOR.get() else STAGE_SETTINGS
    merge(final, copy.deepcopy(self.external_config_dict), by_key)
    self.final_config_dict = final
    if self.model == STUDENT:
        apply_ablation(final, defaults_of(INTERMEDIATE))
    if ours or _OUR_FRONT_DOOR.get():
        check_settings(self)
        if not _PART_OF_A_RUN.get():
            check_run(self, lambda model: _stage_defaults(self, model))
        _make_plain(final)
    return final


def _make_plain(settings: dict[str, Any]) -> None:
    """Rewrite separators, lists of names and negative sampling as RecBole needs them, in place."""
    for key in ("field_separator", "seq_separator"):
        settings[key] = settings[key].replace("\\t", "\t")
    for key in _LISTS & settings.keys():  # RecBole would read a single name as a list of letters
        settings[key] = [settings[key]] if isinstance(settings[key], str) else settings[key]
    sampling = settings.get("train_neg_sample_args")
    kind = sampling.get("distribution", "uniform") if isinstance(sampling, dict) else sampling
    if str(kind).lower() == "none":
        settings["train_neg_sample_args"] = None
    elif isinstance(sampling, dict):
        sampling["distribution"] = str(kind).lower()


def _our_overall(model_class: type) -> dict[str, Any]:
    overall = read_yaml(properties_dir() / "overall.yaml")
    if not _scores_whole_lists(model_class):
        # Keep RecBole's small batch: a sequential model takes it for a number of lists, and a model
        # without full_sort_predict scores pair by pair.
        del overall["eval_batch_size"]
    return overall


def _scores_whole_lists(model_class: type[Any]) -> bool:
    """Whether one call of the model's ``full_sort_predict`` scores all items for several users."""
    from recbole.model.abstract_recommender import AbstractRecommender
    from recbole.utils import ModelType

    if model_class.type not in (ModelType.GENERAL, ModelType.TRADITIONAL):
        return False
    return bool(model_class.full_sort_predict is not AbstractRecommender.full_sort_predict)


def _recipe_name(given: Mapping[str, Any], of_dataset: Mapping[str, Any]) -> str:
    """The recipe of a run of LightGNN: as given, or ``auto`` for a dataset without own settings.

    A user who describes the stages before the student gets the default recipe.
    """
    described = given.keys() & OWN_STAGES or of_dataset.keys() & {STUDENT, TEACHER}
    name: str = given.get("recipe", "default" if described else "auto")
    return name


def _recipe(name: str) -> dict[str, Any]:
    must_be_one_of("recipe", name, recipes())
    if name == "default":
        return {}
    return read_yaml(properties_dir() / "recipe" / f"{name}.yaml")


def _dataset_files(data_path: Path, dataset: str) -> tuple[bool, bool]:
    """Whether a dataset has one file of all interactions, and whether it has one for each split."""
    folder = data_path / dataset
    parts = [folder / f"{dataset}.{part}.inter" for part in ("train", "valid", "test")]
    return (folder / f"{dataset}.inter").is_file(), all(part.is_file() for part in parts)
