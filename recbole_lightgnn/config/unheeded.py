"""Refuse settings that the user gives although they would have no effect on the run.

A setting is refused only if its value differs from the default.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from recbole_lightgnn.config.compatibility import needs_labels, recbole_source
from recbole_lightgnn.config.notations import as_list, one_line_yaml
from recbole_lightgnn.config.teachers import searches_teachers
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.registry import our_models

# Settings that RecBole applies only to a dataset in one file.
_FILTERS = (
    *("rm_dup_inter", "val_interval", "user_inter_num_interval", "item_inter_num_interval"),
    *("filter_inter_by_user_or_item", "entity_kg_num_interval", "relation_kg_num_interval"),
)
_SPLITS = ("eval_args.split", "eval_args.order", "eval_args.group_by", "split_seed")
# Settings that no model of ours reads, and why.
_UNREAD = {
    "metric_decimal_place": "which does not round metrics",
    "loss_decimal_place": "which logs losses with four decimals",
    "require_pow": "which regularizes by the squared norm",
    "transform": "which learns from users and items alone",
    "additional_feat_suffix": "which learns from users and items alone",
}
# Settings that only some kinds of models heed -> what these models read.
_FEATURES = ("normalize_field", "normalize_all", "numerical_features", "discretization", "seq_len")
_GRAPHS = (
    *("kg_reverse_r", "entity_kg_num_interval", "relation_kg_num_interval"),
    *("alias_of_entity_id", "alias_of_relation_id"),
)
_OF_KIND = {
    "MAX_ITEM_LIST_LENGTH": "sequences",
    **dict.fromkeys(_GRAPHS, "knowledge graph"),
    **dict.fromkeys(_FEATURES, "features"),
}
# Settings of a training by gradients, and those of a training with several epochs.
_GRADIENTS = (
    *("learner", "learning_rate", "weight_decay", "clip_grad_norm", "enable_amp", "enable_scaler"),
    *("train_batch_size", "train_neg_sample_args"),
)
_EPOCHS = ("epochs", "stopping_step")
_EXPONENTS = ("user_degree_exponent", "item_degree_exponent")
_SAME_TEACHERS = ("teacher", "teacher_settings", "n_teachers")
_TEACHER = (*_SAME_TEACHERS, "teachers", "teacher_checkpoint")
_STAGES_ARE_SHARED: ContextVar[bool] = ContextVar("stages_are_shared", default=False)
_FULL_PRECISION = 16  # rounding a number below 1 to 16 decimals changes nothing


def check_heeded(config: Any) -> None:
    """Raise InputError, with reason and remedy, if a setting that the user gave has no effect."""
    settings = {**config.final_config_dict, "dataset": config.dataset}
    _check(_changed_by_user(config), settings, config.model_class)


def unheeded_warning(config: Any) -> str:
    """Warn of settings of a training that the user gave to a model that is computed at once.

    They are not refused, because one file of settings or one comparison may be for several models.

    Args:
        config: the complete ``Config`` of the run.

    Returns:
        The warning in one line, with a remedy; an empty text if there is nothing to warn of.
    """
    model, without = config["model"], _of_training(config.model_class)
    found = [key for key in _changed_by_user(config) if key in without]
    if not found:
        return ""
    verb, them = ("has", "it") if len(found) == 1 else ("have", "them")
    return (
        f"{', '.join(found)} {verb} no effect on {model}, which is computed without gradients: "
        f"leave {them} out"
    )


def check_stage_heeded(
    given: Mapping[str, Any], settings: Mapping[str, Any], model_class: type[Any], prefix: str
) -> None:
    """Check that all settings that the user has given to an earlier stage have an effect.

    ``given`` has the user's settings that differ from the stage's defaults; ``settings`` has all
    settings of the stage. Raises InputError as `check_heeded`, and also for settings of a training
    if the stage's model is computed at once.
    """
    _check(given, settings, model_class, prefix)


@contextmanager
def shared_stages() -> Iterator[None]:
    """Context manager in which settings of stages that are not trained are not refused.

    For variants of a study that load stages which the study has trained with these settings.
    """
    token = _STAGES_ARE_SHARED.set(True)
    try:
        yield
    finally:
        _STAGES_ARE_SHARED.reset(token)


def _check(
    given: Mapping[str, Any],
    settings: Mapping[str, Any],
    model_class: type[Any],
    prefix: str = "",
) -> None:
    for key, value in given.items():
        if reason := _reason(key, value, settings, model_class, prefix):
            raise InputError(f"{prefix}{key} ({value!r}) would have no effect {reason}")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _changed_by_user(config: Any) -> dict[str, Any]:
    """The settings that the user gave and that differ from their defaults."""
    given, default = config.external_config_dict, config.internal_config_dict
    inner = (_mapping(one.get("eval_args")) for one in (given, default))
    return _changed("", given, default) | _changed("eval_args.", *inner)


def _changed(prefix: str, given: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    """The given settings that differ from their defaults, under their names with ``prefix``."""
    return {prefix + str(key): value for key, value in given.items() if value != default.get(key)}


def _reason(
    key: str, value: Any, settings: Mapping[str, Any], model_class: type[Any], prefix: str
) -> str:
    """Why a setting would have no effect, with a remedy; empty if the setting has an effect."""
    model = model_class.__name__
    files = settings.get("benchmark_filename")
    of_noise = key == "split_seed" and settings.get("train_noise")
    if files is not None and key in (*_FILTERS, *_SPLITS) and not of_noise:
        what = "split" if key in _SPLITS else "filtered"
        return (
            f"on {settings['dataset']}: its files ({', '.join(map(str, files))}) are not {what} "
            "again; leave it out, or import the table with `recbole-lightgnn import pairs`"
        )
    by_user = value == "user" or "RS" in settings["eval_args"]["split"]
    if key == "eval_args.group_by" and not by_user:
        return "on this split, which is always by user: leave it out"
    if key == "preload_weight" and "get_preload_weight" not in recbole_source(model_class):
        return f"on {model}, which reads no weights: leave it out"
    if key == "valid_metric_bigger":
        return "as the metric itself says whether more is better: leave it out"
    if not prefix and (reason := _not_trained(settings).get(key)):
        return reason
    if lack := _lack(key, model_class, of_stage=bool(prefix)):
        return f"on {model}, {lack}: leave it out"
    if key == "threshold" and value and not needs_labels(settings, model_class):
        ((column, least),) = value.items()
        return (
            f"on {model}, which takes every interaction of the file for one of label 1 here: to "
            f"keep those from {least} on, write --threshold=None "
            f"--val_interval=\"{{{column}: '[{least},inf)'}}\""
        )
    if model in our_models():
        return _reason_of_ours(key, value, settings, model, prefix)
    numbers = settings.get("numerical_features") or []
    if key == "discretization" and (others := [one for one in value or () if one not in numbers]):
        return (
            f"on {', '.join(others)}, as only numerical_features have buckets, got {numbers}: add "
            f'--numerical_features="{one_line_yaml([*numbers, *others])}"'
        )
    return ""


def _lack(key: str, model_class: type[Any], *, of_stage: bool) -> str:
    """What a model lacks to heed a setting for other models; empty if it lacks nothing."""
    if (kind := _OF_KIND.get(key)) and kind not in _read_by(model_class):
        return f"which reads no {kind}"
    if key == "draw_by" and _of_training(model_class):
        return "which is not trained on batches"
    if of_stage and key in _of_training(model_class):
        return "which is computed without gradients"
    is_ours = model_class.__name__ in our_models()
    if key == "require_pow" and not is_ours and key not in recbole_source(model_class):
        return "which does not read it in its loss"
    return ""


def _reason_of_ours(
    key: str, value: Any, settings: Mapping[str, Any], model: str, prefix: str
) -> str:
    by_user = settings.get("batch_by") == "user"
    if by_user and key in ("train_neg_sample_args", "shuffle", "draw_by"):
        return (
            "with batch_by=user, where users are shuffled and compared with all items: leave it "
            f"out, or write --{prefix}batch_by=interaction"
        )
    if key == "max_epoch_steps" and not by_user:
        return f"without batch_by=user: leave it out, or write --{prefix}batch_by=user"
    given = settings.get("prediction_kd_temperature")
    if key == "prediction_kd_entropy" and given is not None:
        user = "" if by_user else f" --{prefix}batch_by=user"
        return (
            f"as prediction_kd_temperature is {given}: leave it out, or write "
            f"--{prefix}prediction_kd_temperature=None{user}"
        )
    if key in _EXPONENTS and settings.get("n_layers") == 0:
        return "with n_layers 0, as nothing is propagated: leave it out"
    if key == "metric_decimal_place" and value >= _FULL_PRECISION:
        return ""
    return f"on {model}, {_UNREAD[key]}: leave it out" if key in _UNREAD else ""


def _not_trained(settings: Mapping[str, Any]) -> dict[str, str]:
    """Names of the settings of stages that a run does not train, each with the reason."""
    if _STAGES_ARE_SHARED.get():
        return {}
    found: dict[str, str] = {}
    if settings.get("recipe", "auto") != "auto":  # recipe.yaml may stand beside search_trials
        reason = "without a search for the teachers: leave it out, or write --recipe=auto"
        found = dict.fromkeys(("search_trials", "search_minutes"), reason)
    leave = "leave one of them out"
    if settings.get("teachers"):
        found |= dict.fromkeys(_SAME_TEACHERS, f"as teachers lists the teachers: {leave}")
    elif searches_teachers(settings):
        reason = "as recipe=auto searches for the teachers: leave it out, or write --recipe=default"
        found |= dict.fromkeys(_SAME_TEACHERS, reason)
    elif files := settings.get("teacher_checkpoint"):
        reason = f"as teacher_checkpoint is given, and no teacher is trained: {leave}"
        found["teacher_settings"] = reason
        if settings["n_teachers"] != len(as_list(files)):
            found["n_teachers"] = reason
    if settings.get("use_intermediate") is False:
        by_ablation = settings["ablation"] == "-IntKD"
        unset = "ablation is -IntKD" if by_ablation else "use_intermediate is False"
        keys = ("intermediate_settings", "intermediate_checkpoint")
        return found | dict.fromkeys(keys, f"as {unset}: {leave}")
    if settings.get("intermediate_checkpoint"):
        reason = f"as the student learns from intermediate_checkpoint alone: {leave}"
        return found | dict.fromkeys((*_TEACHER, "intermediate_settings"), reason)
    return found


def _read_by(model_class: type[Any]) -> set[str]:
    """What a model reads besides users and items: sequences, features or a knowledge graph."""
    from recbole.utils import ModelType

    kind, source = model_class.type, recbole_source(model_class)
    found = set()
    if kind == ModelType.SEQUENTIAL:
        found = {"sequences", "features"}
    if kind in (ModelType.CONTEXT, ModelType.DECISIONTREE) or re.search(
        r"RATING|time_field", source
    ):
        found.add("features")
    if kind == ModelType.KNOWLEDGE or "get_preload_weight" in source:
        found.add("knowledge graph")
    return found


def _of_training(model_class: type[Any]) -> tuple[str, ...]:
    """Settings of a training that a model has no use for, because it is computed at once."""
    from recbole.utils import ModelType

    at_once = model_class.type == ModelType.TRADITIONAL
    by_gradients = not at_once and not hasattr(model_class, "solve")
    return () if by_gradients else (*_GRADIENTS, *(_EPOCHS if at_once else ()))
