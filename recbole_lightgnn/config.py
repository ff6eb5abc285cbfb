"""Where settings come from: our layers inside RecBole's ``Config``, and the check of the result.

Low to high: RecBole's ``overall.yaml`` < ours < the model's yaml < the recipe's < the dataset's <
config files < config_dict < command line. Ours are added to RecBole's class method by method, so
that stock ``run_recbole`` sees them too. Names of models with a yaml of ours are "ours".
"""

import copy
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.settings import (
    INTERMEDIATE,
    STUDENT,
    TABLE,
    apply_ablation,
    check_value,
    defaults_of,
    did_you_mean,
    must_be_one_of,
    our_models,
    properties_dir,
    read_yaml,
    recipes,
    table_of,
)

# Settings of an earlier stage, given as a mapping: merged key by key, never replaced as a whole.
STAGE_SETTINGS = ("teacher_settings", "intermediate_settings")

# Real keys that RecBole reads, though no yaml or list of its own names them.
_RECBOLE_UNLISTED = {
    "model",
    "dataset",
    "config_files",
    "encoding",
    "tail_ratio",
    "token_num_threshold",
    "xgb_early_stopping_rounds",
    *("nproc", "world_size", "ip", "port", "offset", "group_offset", "local_rank"),
}

# In force while one of our own front doors (command line, quick_start, a stage) builds a Config:
# then sys.argv is not read and our overall.yaml holds for RecBole's models too.
_OUR_FRONT_DOOR: ContextVar[bool] = ContextVar("our_front_door", default=False)


def extend_recbole() -> None:
    """Put our layers into RecBole's ``Config``, and ``config.stage(model, overrides)`` onto it.

    Does nothing the second time.
    """
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
    """RecBole's ``Config`` without a look at ``sys.argv``, checked.

    Args:
        model: a model's name, RecBole's or ours.
        dataset: a dataset's name.
        config_files: yaml files, the later ones stronger.
        settings: stronger than the files; values are taken as they are, never evaluated.

    Raises:
        InputError: if a setting is unknown, of a wrong type or out of range.
    """
    from recbole.config import Config

    try:
        with _front_door():
            return Config(model, dataset, [str(file) for file in config_files], dict(settings))
    except (ValueError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"settings of {model} on {dataset}: {error}") from error


def stage_config(config: Any, model: str, overrides: Mapping[str, Any]) -> Any:
    """The ``Config`` of an earlier stage of the same run.

    The stage's own defaults, under the general, dataset and evaluation settings of this run (so
    that both see the same data, split and metrics) and ``overrides``. Training settings of this
    run, such as its epochs, are not handed on. ``sys.argv`` is not read.

    Args:
        config: the run's ``Config``.
        model: the stage's model, RecBole's or ours.
        overrides: changes to that model's defaults, flat.

    Raises:
        InputError: as `build_config`.
    """
    from recbole.utils import get_model

    keys = _shared(config) & set(config.final_config_dict)
    if not _scores_whole_lists(get_model(model)):
        keys.discard("eval_batch_size")
    shared = {key: copy.deepcopy(config[key]) for key in sorted(keys)}
    shared["data_path"] = str(Path(config["data_path"]).parent)  # RecBole adds the dataset's name
    stage = build_config(model, config["dataset"], (), {**shared, **copy.deepcopy(dict(overrides))})
    stage["data_path"] = config["data_path"]
    return stage


def rebuild_config(meta: Mapping[str, Any]) -> Any:
    """The ``Config`` of the training that wrote a checkpoint of ours, from what it says of itself.

    Args:
        meta: the second value of `recbole_lightgnn.trainer.checkpoint.load`.
    """
    config = build_config(meta["model"], meta["dataset"], (), {})
    for key, value in {**meta["shared_settings"], **meta["settings"]}.items():
        config[key] = value
    config["data_path"] = meta["data_path"]
    return config


def _shared(config: Any) -> set[str]:
    groups = ("General", "Evaluation", "Dataset")
    listed = {key for group in groups for key in config.parameters[group]}
    unlisted = {"eval_mask", "worker", "shuffle", "wandb_project", "encoding", "tail_ratio"}
    return listed | unlisted | set(_recbole_yaml("dataset/sample"))


def check_settings(config: Any) -> None:
    """Check what a run was given, before anything else is done with it.

    Settings that the user gave must be known to RecBole or to us; those in our table must be of
    their type and in their range, the ones of earlier stages too. (Of the process's own command
    line, which stock RecBole reads whatever the program, only the values are checked.)

    Args:
        config: a ``Config``, merged.

    Raises:
        InputError: naming the setting, what it must be and the nearest known name.
    """
    settings = config.final_config_dict
    given = set(_nested(config.file_config_dict)) | set(_nested(config.variable_config_dict))
    _check_known(given, config.model, config.model_class, set(config.internal_config_dict))
    _check_values(settings, config.model)
    _check_metrics(settings)
    if config.model == STUDENT:
        must_be_one_of("recipe", settings["recipe"], recipes())
    if settings.get("teacher") is not None and config.model in (STUDENT, INTERMEDIATE):
        _check_stage(settings, "teacher", settings["teacher"])
    if config.model == STUDENT:
        _check_stage(settings, "intermediate", INTERMEDIATE)


def _check_stage(settings: Mapping[str, Any], stage: str, model: str) -> None:
    key = f"{stage}_settings"
    own = settings.get(key) or {}
    model_class = _recommender(stage, model)
    if model in our_models():
        internal = set(defaults_of(model))
    else:
        internal = set(_recbole_yaml(f"model/{model}"))
    _check_known(own, model, model_class, internal, prefix=f"{key}.")
    _check_values(own, model, prefix=f"{key}.")
    if "teacher" in own:
        _check_stage({**defaults_of(model), **own}, "teacher", own["teacher"])


def _recommender(key: str, model: str) -> type:
    from recbole.model.abstract_recommender import GeneralRecommender
    from recbole.utils import get_model

    from recbole_lightgnn.registry import model_names

    if model not in (names := model_names()):
        raise InputError(f"{key}: no model is named {model!r}{did_you_mean(model, names)}")
    model_class = get_model(model)
    later_stage = model == STUDENT or (key == "teacher" and model == INTERMEDIATE)
    if later_stage or not issubclass(model_class, GeneralRecommender):
        raise InputError(
            f"{key} must be a general recommender that needs no teacher itself, got {model!r}"
        )
    return model_class


def _check_known(
    given: Iterable[str],
    model: str,
    model_class: type,
    internal: set[str],
    prefix: str = "",
) -> None:
    from recbole.utils import argument_list

    known = internal | set(_recbole_yaml("overall")) | set(_recbole_yaml("dataset/sample"))
    known |= set(table_of(model)) | set(_keys_read_by(model_class)) | _RECBOLE_UNLISTED
    for group in ("general", "training", "evaluation", "dataset"):
        known |= set(getattr(argument_list, f"{group}_arguments"))
    for key in given:
        if key in known:
            continue
        owners = [row.models for row in TABLE if row.key == key]
        if owners:
            raise InputError(
                f"{prefix}{key} is a setting of {' and '.join(owners[0])}, not of {model}"
            )
        raise InputError(
            f"unknown setting {prefix}{key}{did_you_mean(key, known)}; "
            f"`recbole-lightgnn settings {model}` lists them"
        )


def _check_values(settings: Mapping[str, Any], model: str, prefix: str = "") -> None:
    for key, row in table_of(model).items():
        if key in settings:
            check_value(row, settings[key], prefix)


def _check_metrics(settings: Mapping[str, Any]) -> None:
    from recbole.evaluator import metrics_dict

    metrics, topk = settings["metrics"], settings["topk"]
    metrics = [metrics] if isinstance(metrics, str) else metrics
    topk = [topk] if isinstance(topk, int) else topk
    names = sorted(cls.__name__ for cls in metrics_dict.values())
    for metric in metrics:
        if metric.lower() not in metrics_dict:
            must_be_one_of("metrics", metric, names)
    name, _, k = settings["valid_metric"].partition("@")
    measured = {metric.lower() for metric in metrics}
    if name.lower() not in measured or (k and k not in {str(k) for k in topk}):
        raise InputError(
            f"valid_metric must be one of the metrics ({', '.join(metrics)}) at one of topk "
            f"({', '.join(map(str, topk))}), got {settings['valid_metric']!r}"
        )


@cache
def _recbole_yaml(name: str) -> dict[str, Any]:
    import recbole

    file = Path(recbole.__file__).parent / "properties" / f"{name}.yaml"
    return read_yaml(file) if file.is_file() else {}


@cache
def _keys_read_by(model_class: type) -> frozenset[str]:
    """The keys a model's own source asks a config for; some are in no yaml."""
    keys: set[str] = set()
    for cls in model_class.__mro__:
        if cls.__module__.startswith(("recbole.model", "recbole_lightgnn.")):
            keys.update(re.findall(r"config\[[\"'](\w+)[\"']\]", inspect.getsource(cls)))
    return frozenset(keys)


# --- RecBole's Config, method by method -----------------------------------------------------


@contextmanager
def _front_door() -> Iterator[None]:
    token = _OUR_FRONT_DOOR.set(True)
    try:
        yield
    finally:
        _OUR_FRONT_DOOR.reset(token)


def _load_config_files(original: Any) -> Any:
    def load(self: Any, files: Any) -> dict[str, Any]:
        if not _OUR_FRONT_DOOR.get():
            return original(self, files)
        values: dict[str, Any] = {}
        for file in files or ():
            _merge(values, _nested(read_yaml(Path(file))))
        return values

    return load


def _load_variable_config_dict(original: Any) -> Any:
    def load(self: Any, settings: Any) -> dict[str, Any]:
        # RecBole evaluates strings as Python here; ours have their types already.
        return copy.deepcopy(settings) if _OUR_FRONT_DOOR.get() else original(self, settings)

    return load


def _load_cmd_line(original: Any) -> Any:
    def load(self: Any) -> dict[str, Any]:
        return {} if _OUR_FRONT_DOOR.get() else original(self)

    return load


def _merge_external_config_dict(self: Any) -> None:
    self.external_config_dict = {}
    for layer in (self.file_config_dict, self.variable_config_dict, self.cmd_config_dict):
        _merge(self.external_config_dict, _nested(layer))


def _update_internal_config_dict(original: Any) -> Any:
    def update(self: Any, file: str) -> Any:
        path, ours = Path(file), self.model in our_models()
        if path.name == "sample.yaml":  # the first of the datasets' files: models' come before
            if ours:
                self.internal_config_dict.update(defaults_of(self.model))
            if self.model == STUDENT:
                self.internal_config_dict.update(_recipe(self.external_config_dict))
        loaded = original(self, file)
        if path.name == "overall.yaml" and (ours or _OUR_FRONT_DOOR.get()):
            self.internal_config_dict.update(_our_overall(self.model_class))
        return loaded

    return update


def _load_internal_config_dict(original: Any) -> Any:
    def load(self: Any, model: str, model_class: type, dataset: str) -> None:
        original(self, model, model_class, dataset)
        ours = properties_dir() / "dataset" / f"{dataset}.yaml"
        if ours.is_file():
            self.internal_config_dict.update(read_yaml(ours))
        settings = {**self.internal_config_dict, **self.external_config_dict}
        if settings.get("benchmark_filename") is None and _is_presplit(settings, dataset):
            self.internal_config_dict["benchmark_filename"] = ["train", "valid", "test"]

    return load


def _get_final_config_dict(self: Any) -> dict[str, Any]:
    final = copy.deepcopy(self.internal_config_dict)
    _merge(final, self.external_config_dict)
    self.final_config_dict = final
    ours = self.model in our_models()
    if self.model == STUDENT:
        apply_ablation(final, defaults_of(INTERMEDIATE))
    if ours or _OUR_FRONT_DOOR.get():
        check_settings(self)
    return final


def _our_overall(model_class: type) -> dict[str, Any]:
    overall = read_yaml(properties_dir() / "overall.yaml")
    if not _scores_whole_lists(model_class):
        del overall["eval_batch_size"]
    return overall


def _scores_whole_lists(model_class: type) -> bool:
    """Whether a batch of users costs a matrix product, and so a large one costs little memory.

    A sequential model takes the batch size for its number of *lists*, and a model without
    ``full_sort_predict`` scores pair by pair: both keep RecBole's small batch.
    """
    from recbole.model.abstract_recommender import AbstractRecommender
    from recbole.utils import ModelType

    own = model_class.full_sort_predict is not AbstractRecommender.full_sort_predict
    return own and model_class.type in (ModelType.GENERAL, ModelType.TRADITIONAL)


def _recipe(given: Mapping[str, Any]) -> dict[str, Any]:
    name = given.get("recipe", "default")
    must_be_one_of("recipe", name, recipes())
    return {} if name == "default" else read_yaml(properties_dir() / "recipe" / f"{name}.yaml")


def _is_presplit(settings: Mapping[str, Any], dataset: str) -> bool:
    """Whether the dataset is in three files and not in one: nothing to ask the user about."""
    folder = Path(settings["data_path"]) / dataset
    parts = [folder / f"{dataset}.{part}.inter" for part in ("train", "valid", "test")]
    return all(p.is_file() for p in parts) and not (folder / f"{dataset}.inter").exists()


def _nested(layer: Mapping[str, Any]) -> dict[str, Any]:
    """``{"teacher_settings.epochs": 3}`` as ``{"teacher_settings": {"epochs": 3}}``."""
    nested: dict[str, Any] = {}
    for key, value in layer.items():
        stage, _, rest = str(key).partition(".")
        if rest and stage in STAGE_SETTINGS:
            _merge(nested, {stage: _nested({rest: value})})
        else:
            _merge(nested, {key: value})
    return nested


def _merge(under: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Put ``over`` on top of ``under`` in place; settings of stages are merged key by key."""
    for key, value in over.items():
        if key in STAGE_SETTINGS and isinstance(value, Mapping):
            own = dict(under[key]) if isinstance(under.get(key), Mapping) else {}
            _merge(own, value)
            under[key] = own
        else:
            under[key] = value
