"""Refuse settings that the user gives although they would have no effect on the run.

A setting is refused only if its value differs from the default.
"""

from collections.abc import Mapping
from typing import Any

from recbole_lightgnn.config.compatibility import needs_labels, recbole_source
from recbole_lightgnn.config.notations import one_line_yaml
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.registry import our_models

# Settings that RecBole applies only to a dataset in one file.
_FILTERS = (
    *("rm_dup_inter", "val_interval", "user_inter_num_interval", "item_inter_num_interval"),
    *("filter_inter_by_user_or_item", "entity_kg_num_interval", "relation_kg_num_interval"),
)
_SPLITS = ("eval_args.split", "eval_args.order", "eval_args.group_by", "split_seed")
# Settings that no model of ours reads, and why.
_FEATURES = "which learns from users and items alone"
_UNREAD = {
    "metric_decimal_place": "which does not round metrics",
    "loss_decimal_place": "which logs losses with four decimals",
    "require_pow": "which regularizes by the squared norm",
    "transform": _FEATURES,
    "normalize_field": _FEATURES,
    "normalize_all": _FEATURES,
    "numerical_features": _FEATURES,
    "discretization": _FEATURES,
    "seq_len": _FEATURES,
    "additional_feat_suffix": _FEATURES,
}
_FULL_PRECISION = 16  # rounding a number below 1 to 16 decimals changes nothing


def check_heeded(config: Any) -> None:
    """Raise InputError, with reason and remedy, if a setting that the user gave has no effect."""
    given, default = config.external_config_dict, config.internal_config_dict
    changed = dict(_changed("", given, default))
    changed |= _changed("eval_args.", *(_mapping(one.get("eval_args")) for one in (given, default)))
    settings = {**config.final_config_dict, "dataset": config.dataset}
    _check(changed, settings, config.model_class)


def check_stage_heeded(
    given: Mapping[str, Any], settings: Mapping[str, Any], model_class: type[Any], prefix: str
) -> None:
    """Check that all settings that the user has given to an earlier stage have an effect.

    ``given`` has the user's settings that differ from the stage's defaults; ``settings`` has all
    settings of the stage. Raises InputError as `check_heeded`.
    """
    _check(given, settings, model_class, prefix)


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


def _changed(prefix: str, given: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    """The given settings that differ from their defaults, under their names with ``prefix``."""
    return {prefix + str(key): value for key, value in given.items() if value != default.get(key)}


def _reason(
    key: str, value: Any, settings: Mapping[str, Any], model_class: type[Any], prefix: str
) -> str:
    """Why a setting would have no effect, with a remedy; empty if the setting has an effect."""
    model = model_class.__name__
    files = settings.get("benchmark_filename")
    if files is not None and key in (*_FILTERS, *_SPLITS):
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
    if key == "threshold" and value and not needs_labels(settings, model_class):
        ((column, least),) = value.items()
        return (
            f"on {model}, which takes every interaction of the file for one of label 1 here: to "
            f"keep those from {least} on, write --threshold=None "
            f"--val_interval=\"{{{column}: '[{least},inf)'}}\""
        )
    if key == "draw_by" and _has_no_batches(settings, model_class):
        return f"on {model}, which is not trained on batches: leave it out"
    if model in our_models():
        return _reason_of_ours(key, value, settings, model, prefix)
    numbers = settings.get("numerical_features") or []
    if key == "discretization" and (others := [one for one in value or () if one not in numbers]):
        return (
            f"on {', '.join(others)}, as only numerical_features have buckets, got {numbers}: add "
            f'--numerical_features="{one_line_yaml([*numbers, *others])}"'
        )
    return ""


def _has_no_batches(settings: Mapping[str, Any], model_class: type[Any]) -> bool:
    from recbole.utils import ModelType

    kind = settings.get("MODEL_TYPE")
    return kind is ModelType.TRADITIONAL or hasattr(model_class, "solve")


def _reason_of_ours(
    key: str, value: Any, settings: Mapping[str, Any], model: str, prefix: str
) -> str:
    by_user = settings.get("batch_by") == "user"
    if by_user and key in ("train_neg_sample_args", "shuffle", "draw_by"):
        return (
            "with batch_by=user, where users are shuffled and compared with all items: leave it "
            f"out, or write --{prefix}batch_by=interaction"
        )
    if key == "metric_decimal_place" and value >= _FULL_PRECISION:
        return ""
    return f"on {model}, {_UNREAD[key]}: leave it out" if key in _UNREAD else ""
