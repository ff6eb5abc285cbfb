"""Check that a run's settings for split, sequences and columns fit the model and each other.

RecBole notices a conflict late, or never. Each ``check_`` function raises an InputError of one
line, with flags that resolve the conflict.
"""

from collections.abc import Mapping
from typing import Any

from recbole_lightgnn.config.notations import as_list, one_line_yaml
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.registry import our_models
from recbole_lightgnn.utils.text import must_be_one_of

# Files of a dataset, besides those of additional_feat_suffix.
_SUFFIXES = ("inter", "user", "item", "kg", "link")


def check_split_exists(settings: Mapping[str, Any]) -> None:
    """Raise InputError if a run splits by time (``TS``) and RecBole lacks this, as 1.2.0 does."""
    from recbole.data.dataset import Dataset

    if "TS" in (settings["eval_args"].get("split") or {}) and not hasattr(
        Dataset, "time_based_split"
    ):
        raise InputError(
            "eval_args.split TS needs RecBole 1.2.1: write --eval_args.order=TO "
            '--eval_args.split="{RS: [0.8, 0.1, 0.1]}"'
        )


def check_sequences(settings: Mapping[str, Any], model_class: type[Any]) -> None:
    """Check the settings that concern sequences of interactions.

    Raises:
        InputError: if ``transform`` does not fit the model. For a sequential model, also if
            ``eval_args.order`` is not ``TO`` (order of time), if ``repeatable`` is False, or with
            noise.
    """
    from recbole.utils import ModelType

    name, transform = model_class.__name__, settings.get("transform")
    sequential = model_class.type == ModelType.SEQUENTIAL
    if sequential and settings["eval_args"].get("order", "TO") != "TO":
        raise InputError(
            f"eval_args.order must be TO for {name}, a sequential model, got "
            f"{settings['eval_args']['order']!r}: write --eval_args.order=TO"
        )
    if sequential and not settings["repeatable"]:
        raise InputError(
            f"repeatable must be True for {name}, a sequential model: write --repeatable=True"
        )
    if sequential and settings.get("train_noise"):
        raise InputError(
            f"train_noise must be 0 for {name}, a sequential model: write --train_noise=0"
        )
    if name in our_models() or transform in (None, "user_defined"):
        return
    if not sequential or (transform == "mask_itemseq" and "mask_ratio" not in settings):
        needed = "mask_ratio" if sequential else "sequences"
        raise InputError(
            f"transform {transform} needs {needed}, and {name} has none: write --transform=None"
        )


def check_columns_agree(settings: Mapping[str, Any]) -> None:
    """Check that no two settings about columns contradict each other.

    Raises:
        InputError: if both ``normalize_all`` and ``normalize_field`` are set, or if one column is
            named as the column of users and as the column of items.
    """
    if settings["normalize_field"] and settings["normalize_all"]:
        raise InputError(
            f"normalize_all and normalize_field ({settings['normalize_field']}) exclude one "
            "another: write --normalize_all=False or --normalize_field=None"
        )
    users, items = (
        {settings[field]: field} | dict.fromkeys(as_list(settings[alias] or []), alias)
        for field, alias in (
            ("USER_ID_FIELD", "alias_of_user_id"),
            ("ITEM_ID_FIELD", "alias_of_item_id"),
        )
    )
    for column in sorted(users.keys() & items.keys()):
        raise InputError(
            f"the column {column} cannot hold both users ({users[column]}) and items "
            f"({items[column]}): leave it out of one of them"
        )


def check_loaded(settings: Mapping[str, Any]) -> None:
    """Check that a run loads all columns that it needs.

    Raises:
        InputError: if the column of users or of items is not loaded; if a file suffix (such as
            ``inter``) is unknown; or if ``load_col`` and ``unload_col`` both have columns of one
            suffix.
    """
    load = settings.get("load_col")
    for key in ("load_col", "unload_col", "unused_col"):
        known = (*_SUFFIXES, *as_list(settings.get("additional_feat_suffix") or []))
        for suffix in settings.get(key) or {}:
            must_be_one_of(f"suffixes in {key}", suffix, known)
    if load is None:
        return
    for suffix in load.keys() & (settings.get("unload_col") or {}).keys():
        raise InputError(
            f"unload_col.{suffix} has no effect beside load_col.{suffix}, which lists the columns "
            "that are loaded: write --load_col=None to load all others"
        )
    for key in ("USER_ID_FIELD", "ITEM_ID_FIELD"):
        if settings[key] in as_list((settings.get("unused_col") or {}).get("inter", [])):
            raise InputError(
                f"unused_col.inter must not drop {settings[key]} ({key}): leave it out"
            )
    loaded = set(as_list(load.get("inter") or []))
    for key in ("USER_ID_FIELD", "ITEM_ID_FIELD"):
        column = settings[key]
        if "*" not in loaded and column not in loaded:
            wanted = {**load, "inter": [*(load.get("inter") or []), column]}
            raise InputError(
                f"the column {column} is not loaded (setting {key}): write "
                f'--load_col="{one_line_yaml(wanted)}"'
            )
