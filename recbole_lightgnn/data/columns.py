"""Check that a dataset's files have the columns that the settings name.

RecBole silently ignores a missing column, and notices only during training that labels are missing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from recbole.utils import ModelType, get_model

from recbole_lightgnn.config.compatibility import needs_labels
from recbole_lightgnn.config.intervals import interval_problem
from recbole_lightgnn.config.notations import one_line_yaml
from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.data.atomic_header import open_atomic
from recbole_lightgnn.data.features import why_ordered
from recbole_lightgnn.data.file_kinds import feature_files, interaction_files
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.text import did_you_mean

_ALIASES = ("user", "item", "entity", "relation")
Columns = dict[str, str]  # name of a column -> its type, such as token

# Setting that names columns -> start and end of the allowed types, and these types in words.
_NAMED = {
    "numerical_features": (("float", ""), "columns of numbers"),
    "discretization": (("float", ""), "columns of numbers"),
    "normalize_field": (("float", ""), "columns of numbers"),
    "seq_len": (("", "_seq"), "columns of sequences"),
    "preload_weight": (("", ""), ""),
    **{f"alias_of_{kind}_id": (("token", ""), "columns of tokens") for kind in _ALIASES},
}


def check_columns(config: RunConfig) -> None:
    """Check that the files have the columns that the settings name or the model needs.

    The interaction files must exist and have valid headers.

    Raises:
        InputError: if a file lacks a column, the values in ``val_interval`` do not fit the column's
            type, or the files lack labels or sequences that the run needs.
    """
    files = _files(config)
    separator, encoding = config["field_separator"], config["encoding"]
    columns = {
        suffix: open_atomic(file, separator, encoding).types
        for suffix, file in files.items()
        if file.is_file()
    }
    _check_given(config, files, columns)
    _check_named(config, files, columns)
    for name, wanted in (config["val_interval"] or {}).items():
        having = [suffix for suffix, one in columns.items() if name in one]
        if not having:
            raise _missing("val_interval", name, files["inter"], columns["inter"])
        load = config["load_col"] or {}
        suffix = next((one for one in having if name in load.get(one, ())), having[0])
        is_time = suffix == "inter" and name == config["TIME_FIELD"]
        _check_values(name, columns[suffix][name], wanted, is_time=is_time)
        _check_is_loaded(config, "val_interval", name, suffix)
    for name in config["threshold"] or {}:
        if name not in columns["inter"]:
            raise _missing("threshold", name, files["inter"], columns["inter"])
        _check_is_loaded(config, "threshold", name, "inter")
        if columns["inter"][name] != "float":
            raise InputError(
                f"threshold.{name} needs a column of numbers, and {files['inter']} has "
                f"{name}:{columns['inter'][name]}: write {name}:float into its first line"
            )
    _check_labels(config, files["inter"], columns["inter"])
    _check_sequences(config, files["inter"], columns["inter"])


def _files(config: RunConfig) -> dict[str, Path]:
    """Path of the file of each kind, such as ``inter``; with three interaction files, the first."""
    folder, name = Path(config["data_path"]), config["dataset"]
    inter = interaction_files(folder, name, config)[0]
    return {"inter": inter, **feature_files(folder, name, config)}


def _check_given(config: Any, files: dict[str, Path], columns: dict[str, Columns]) -> None:
    """Check that the files have the columns that the given settings load or leave out."""
    for key in ("load_col", "unload_col", "unused_col"):
        for suffix, names in (config.external_config_dict.get(key) or {}).items():
            if suffix not in columns:
                raise InputError(f"{key}.{suffix}: there is no file {files[suffix]}")
            for name in names if names != "*" else ():
                if name not in columns[suffix]:
                    raise _missing(f"{key}.{suffix}", name, files[suffix], columns[suffix])


def _check_named(config: Any, files: dict[str, Path], columns: dict[str, Columns]) -> None:
    """Check that columns in the settings of `_NAMED` exist, are loaded and have the right type."""
    known = {name: kind for one in columns.values() for name, kind in one.items()}
    for key, (kinds, wanted) in _NAMED.items():
        for name in _names(config[key]) if key in config.external_config_dict else ():
            if name not in known:
                raise _missing(key, name, files["inter"], known)
            suffix = next(suffix for suffix, one in columns.items() if name in one)
            if name in (config["threshold"] or {}) and name != config["LABEL_FIELD"]:
                raise InputError(
                    f"{key} names {name}, of which threshold makes labels, so that no column "
                    f"{name} is left: leave {name} out of one of them"
                )
            if not known[name].startswith(kinds[0]) or not known[name].endswith(kinds[1]):
                raise InputError(
                    f"{key} needs {wanted}, and {files[suffix]} has {name}:{known[name]}: leave "
                    f"{name} out, or name another column"
                )
            _check_is_loaded(config, key, name, suffix)
    for suffix in config["additional_feat_suffix"] or ():
        if not files[suffix].is_file():
            raise InputError(f"additional_feat_suffix: there is no file {files[suffix]}")


def _names(value: Any) -> list[str]:
    """Names of columns in a setting: elements of a list, or keys and text values of a mapping."""
    others = value.values() if isinstance(value, dict) else ()
    return [*(value or ()), *(name for name in others if isinstance(name, str))]


def _check_is_loaded(config: RunConfig, key: str, name: str, suffix: str) -> None:
    """Check that a column is loaded; skip the time column, which a run loads if it needs times."""
    load, ids = config["load_col"], {"user": "USER_ID_FIELD", "item": "ITEM_ID_FIELD"}
    filters = key in ("val_interval", "threshold")
    is_time = name == config["TIME_FIELD"] and suffix == "inter"
    if is_time and (not filters or why_ordered(config) or config["rm_dup_inter"]):
        return
    if load is None:
        if filters and name in (config["unload_col"] or {}).get(suffix, ()):
            raise InputError(
                f"the column {name} is not loaded (setting {key}), as unload_col.{suffix} names "
                "it: leave it out of one of them"
            )
        return
    listed = load.get(suffix, [])
    if listed == "*" or name in listed:
        return
    first = [config[ids[suffix]]] if suffix in ids else []
    wanted = {**load, suffix: list(dict.fromkeys([*first, *listed, name]))}
    raise InputError(
        f"the column {name} is not loaded (setting {key}): write "
        f'--load_col="{one_line_yaml(wanted)}"'
    )


def _missing(key: str, name: str, file: Path, columns: Columns) -> InputError:
    return InputError(
        f"{key}: {file} has no column {name!r}{did_you_mean(name, columns)}; it has "
        f"{', '.join(columns)}"
    )


def _check_values(name: str, kind: str, wanted: Any, *, is_time: bool) -> None:
    """Check a column's value in ``val_interval``: an interval for numbers, a list for tokens.

    The column of times may be dates, in an interval of dates.
    """
    tokens = isinstance(wanted, list) and wanted and all(isinstance(one, str) for one in wanted)
    if kind.startswith("float") and tokens and not is_time:
        raise InputError(
            f"val_interval.{name} must be an interval, as the column has numbers, got {wanted!r}: "
            f"write --val_interval=\"{{{name}: '[{wanted[0]},inf)'}}\""
        )
    if kind.startswith("float") and not is_time and interval_problem(str(wanted)):
        raise InputError(
            f"val_interval.{name} must be an interval of numbers, as the column has numbers, got "
            f"{wanted!r}: write --val_interval=\"{{{name}: '[0,inf)'}}\", with your ends"
        )
    if kind.startswith("token") and not tokens and not is_time:
        found = [f"'{token}'" for token in re.findall(r"[^\s,;()\[\]]+", str(wanted))]
        raise InputError(
            f"val_interval.{name} must be a list of tokens in quotes, as the column is "
            f"{name}:{kind}, got {wanted!r}: write "
            f'--val_interval="{{{name}: [{", ".join(found)}]}}"'
        )


def _check_labels(config: Any, file: Path, columns: Columns) -> None:
    """Check that a run that needs labels has a loaded column of labels or a ``threshold``."""
    settings, label = config.final_config_dict, config["LABEL_FIELD"]
    model_class = get_model(config["model"])
    if config["threshold"] or not needs_labels(settings, model_class):
        return
    load = (config["load_col"] or {"inter": "*"}).get("inter", ())
    loaded = load == "*" or label in load
    if label in columns and loaded:
        if columns[label] != "float":
            raise InputError(
                f"{config['model']} needs labels here, 1 or 0 for each interaction, and {file} has "
                f"{label}:{columns[label]}: write 1 and 0 into the column and {label}:float into "
                "its first line"
            )
        return
    listed = [config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]]
    listed += [name for name in load if load != "*" and name not in listed]
    remedies = []
    if label in columns:
        remedies.append(_load([*listed, label]))
    elif rating := next((name for name, kind in columns.items() if kind == "float"), ""):
        listed += [rating] if rating not in listed else []
        remedies.append(f'{_load(listed)} --threshold="{{{rating}: 4}}"')
    remedies.append(_ranked(settings))
    raise InputError(
        f"{config['model']} needs labels here, 1 or 0 for each interaction, and {file} has no "
        f"column {label!r} that is loaded: write {' or '.join(remedies)}"
    )


def _check_sequences(config: RunConfig, file: Path, columns: Columns) -> None:
    """Check that the three split files of a sequential model have a column of sequences.

    RecBole makes sequences only for a dataset in one file.
    """
    if config["MODEL_TYPE"] != ModelType.SEQUENTIAL or config["benchmark_filename"] is None:
        return
    name = f"{config['ITEM_ID_FIELD']}{config['LIST_SUFFIX']}"
    if name in columns:
        return
    one = Path(config["data_path"]) / f"{config['dataset']}.inter"
    remedy = "write --benchmark_filename=None" if one.is_file() else f"make {one} of all three"
    raise InputError(
        f"{config['model']} needs sequences, and {file} has no column {name!r}: files that are "
        f"split already are not made into sequences; {remedy}"
    )


def _load(columns: list[str]) -> str:
    return f'--load_col="{{inter: [{", ".join(columns)}]}}"'


def _ranked(settings: dict[str, Any]) -> str:
    """Flags for a run without labels, which samples negative items and ranks all items."""
    sampled = "--train_neg_sample_args.distribution=uniform --eval_args.mode=full"
    return f'{sampled} --metrics="[Recall, NDCG]" --valid_metric=Recall@{settings["topk"][0]}'
