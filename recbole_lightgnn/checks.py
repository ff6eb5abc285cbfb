"""What a run was given, checked before anything else is done with it."""

import inspect
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.settings import (
    INTERMEDIATE,
    STUDENT,
    TABLE,
    check_value,
    defaults_of,
    did_you_mean,
    must_be_one_of,
    nested,
    our_models,
    read_yaml,
    recipes,
    table_of,
)

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
    given = set(nested(config.file_config_dict)) | set(nested(config.variable_config_dict))
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
        internal = set(recbole_yaml(f"model/{model}"))
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

    known = internal | set(recbole_yaml("overall")) | set(recbole_yaml("dataset/sample"))
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
def recbole_yaml(name: str) -> dict[str, Any]:
    """One of RecBole's own yaml files, such as ``model/BPR``; empty where it has none."""
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
