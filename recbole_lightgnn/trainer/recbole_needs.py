"""Check before the training that a RecBole model has the packages, files and columns it needs.

RecBole itself would fail in the middle of a run, without saying what to do.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recbole.utils import ModelType, get_model

from recbole_lightgnn.config.compatibility import needs_labels
from recbole_lightgnn.config.notations import as_list, one_line_yaml
from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.data.atomic_header import open_atomic
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.registry import our_models

# Models that read item features, each with the setting that names the features.
_FEATURES = dict.fromkeys(("GRU4RecF", "SASRecF", "FDSA"), "selected_features")
_FEATURES |= {"S3Rec": "item_attribute"}
# Sequential models that read a knowledge graph: vectors of entities (ent), of relations (rel).
_VECTORS = {"GRU4RecKG": ("ent",), "KSR": ("ent", "rel")}
_NUMBERED_AS = {"ent": "entity", "rel": "relation"}
# Models that import a package only with certain settings.
_IMPORTS_IF: dict[str, Callable[[RunConfig], bool]] = {
    "NNCF": lambda config: config["neigh_info_method"] == "louvain",
    "LDiffRec": lambda config: config["n_cate"] > 1,
}
# A setting of each model that must not exceed the number of items.
_AT_MOST_ITEMS = {
    "RaCT": "metrics_k",
    "GRU4RecCPR": "reranker_CAN_NUM",
    "SASRecCPR": "reranker_CAN_NUM",
}
# Models that stop with enable_amp on the CPU, and models that stop with enable_amp and accelerate.
_NOT_IN_16_BITS_ON_CPU = {
    *("DGCF", "GCMC", "LightGCN", "NGCF", "SGL", "SpectralCF"),
    *("RepeatNet", "GRU4RecCPR", "SASRecCPR"),
}
_NOT_ACCELERATED_IN_16_BITS = {"GCMC", "NGCF", "SGL"}


def check_needs(config: RunConfig) -> None:
    """Check that the packages, files and columns that a RecBole model needs exist.

    Args:
        config: settings of the run.

    Raises:
        InputError: if a package, file or column is missing.
    """
    name = config["model"]
    if name in our_models():
        return
    package = _missing_package(get_model(name))
    if package and _IMPORTS_IF.get(name, lambda config: True)(config):
        raise InputError(f"{name} needs the package {package!r}, which is not installed")
    if config["MODEL_TYPE"] == ModelType.KNOWLEDGE or name in _VECTORS:
        _check_knowledge(config)
    if name in _FEATURES:
        _check_features(config, _FEATURES[name])
    check_precision(config)


def check_size(config: RunConfig, n_items: int) -> None:
    """Check that no setting of a RecBole model exceeds the number of items.

    Args:
        config: settings of the run.
        n_items: number of items in the dataset.

    Raises:
        InputError: if a setting is too large.
    """
    key = _AT_MOST_ITEMS.get(config["model"])
    if key is None:
        return
    numbers = [int(number) for number in str(config[key]).split(",")]
    if max(numbers) > n_items:
        raise InputError(
            f"{key} ({config[key]}) must be at most the number of items, {n_items}: write "
            f"--{key}={','.join(str(min(number, n_items)) for number in numbers)}"
        )


def check_fields(config: RunConfig, dataset: Any) -> None:
    """Check that ``fields`` of FFM, which groups features, has each feature in one group.

    Args:
        config: settings of the run.
        dataset: RecBole's training dataset.

    Raises:
        InputError: if ``fields`` does not fit the features. The message gives a value that does.
    """
    fields = config["fields"]
    if config["model"] != "FFM" or fields is None:
        return
    groups = list(fields.values()) if isinstance(fields, dict) else []
    lists = [as_list(group) for group in groups if group]
    features = _features_of(config, dataset)
    each_once = sorted(str(name) for names in lists for name in names) == sorted(features)
    if each_once and lists == groups and set(fields) == set(range(len(groups))):
        return
    wanted = dict(enumerate(lists if each_once else [[name] for name in features]))
    raise InputError(
        f"fields of FFM must have each of {', '.join(features)} in one list, with 0, 1, ... as the "
        f'names of the lists, got {fields!r}: write --fields="{one_line_yaml(wanted)}"'
    )


def _features_of(config: RunConfig, dataset: Any) -> list[str]:
    """Names of the columns that RecBole's context-aware models read."""
    from recbole.utils import FeatureSource

    sources = ("INTERACTION", "USER", "USER_ID", "ITEM", "ITEM_ID")
    names = dataset.fields(source=[FeatureSource[source] for source in sources])
    numerical = config["numerical_features"]
    return [
        name
        for name in names
        if name != config["LABEL_FIELD"]
        and (dataset.field2type[name].value.startswith("token") or name in numerical)
    ]


def check_labels(config: RunConfig, dataset: Any) -> None:
    """Check that the training data has two different labels, if the model needs labels.

    Args:
        config: settings of the run.
        dataset: RecBole's training dataset.

    Raises:
        InputError: if all labels are equal.
    """
    if not needs_labels(config.final_config_dict, get_model(config["model"])):
        return
    labels = dataset.inter_feat[config["LABEL_FIELD"]]
    if labels.min() == labels.max():
        column = next(iter(config["threshold"] or {}), config["LABEL_FIELD"])
        raise InputError(
            f"every label of the training data is {labels.min():g}, so {config['model']} has "
            f"nothing to learn: set threshold (now {config['threshold']}) to a number between the "
            f"smallest and the largest value of the column {column}"
        )


def _missing_package(model_class: type) -> str | None:
    """Return a missing package that the model's module imports (also in functions), or ``None``."""
    tree = ast.parse(Path(inspect.getfile(model_class)).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported = [node.module]
        for name in imported:
            if find_spec(package := name.partition(".")[0]) is None:
                return package
    return None


def check_precision(config: RunConfig, prefix: str = "") -> None:
    """Check that a RecBole model can compute with 16-bit numbers, if ``enable_amp`` is True.

    Args:
        config: settings of the run or of a stage.
        prefix: text before the names of settings in messages, such as ``teacher_settings.``.

    Raises:
        InputError: if the model's operations do not exist for 16-bit numbers.
    """
    name, reason = config["model"], ""
    if config["accelerate"] and name in _NOT_ACCELERATED_IN_16_BITS:
        reason = "with accelerate, as its sparse products have 32 bits"
    elif config["device"].type == "cpu" and name in _NOT_IN_16_BITS_ON_CPU:
        reason = "on the CPU, where some of its operations have no 16-bit version"
    if config["enable_amp"] and reason:
        raise InputError(
            f"{prefix}enable_amp must be False for {name} {reason}: write "
            f"--{prefix}enable_amp=False"
        )


def _check_knowledge(config: RunConfig) -> None:
    """Check that the files of a knowledge graph exist and are loaded."""
    name, vectors = config["model"], _VECTORS.get(config["model"], ())
    columns = {
        "kg": [config[f"{key}_ID_FIELD"] for key in ("HEAD_ENTITY", "RELATION", "TAIL_ENTITY")],
        "link": [config["ITEM_ID_FIELD"], config["ENTITY_ID_FIELD"]],
        **{suffix: [f"{suffix}_id", f"{suffix}_emb"] for suffix in vectors},
    }
    for suffix, wanted in columns.items():
        if not (file := _file(config, suffix)).is_file():
            raise InputError(
                f"{name} needs the file {file}, which does not exist: make it, with the columns "
                f"{', '.join(wanted)}"
            )
        loaded = config["load_col"]
        if loaded is not None and suffix not in loaded:
            raise InputError(
                f"{name} needs the file {file}, and load_col leaves it out: write "
                f'--load_col="{one_line_yaml({**loaded, **columns})}"'
            )
    weights = config["preload_weight"] or {}
    for suffix in vectors:
        if f"{suffix}_id" not in weights:
            raise InputError(
                f"{name} needs the vectors of {_file(config, suffix)}: write "
                f'--preload_weight="{one_line_yaml({**weights, f"{suffix}_id": f"{suffix}_emb"})}"'
            )
        key = f"alias_of_{_NUMBERED_AS[suffix]}_id"
        names = as_list(config[key] or [])
        if f"{suffix}_id" not in names:
            raise InputError(
                f"{name} needs {suffix}_id in {key}, so that vectors and knowledge graph have the "
                f'same numbers: write --{key}="{one_line_yaml([*names, f"{suffix}_id"])}"'
            )


def _check_features(config: RunConfig, key: str) -> None:
    """Check that the item features in the setting ``key`` exist as columns and are loaded."""
    for feature in as_list(config[key]):
        columns = _columns(config, "item")
        if feature not in columns:
            has = f"has {', '.join(columns)}" if columns else "does not exist"
            raise InputError(
                f"{config['model']} needs the column {feature!r} of items ({key}), and "
                f"{_file(config, 'item')} {has}: set {key} to a column of that file"
            )
        loaded = config["load_col"]
        wanted = "*" if loaded is None else loaded.get("item", ())
        if wanted != "*" and feature not in wanted:
            names = list(dict.fromkeys([config["ITEM_ID_FIELD"], *wanted, feature]))
            raise InputError(
                f"{config['model']} needs the column {feature!r} of items ({key}), which is not "
                f'loaded: write --load_col="{one_line_yaml({**loaded, "item": names})}"'
            )


def _file(config: RunConfig, suffix: str) -> Path:
    return Path(config["data_path"]) / f"{config['dataset']}.{suffix}"


def _columns(config: RunConfig, suffix: str) -> list[str]:
    """Return the column names of an atomic file; none if it does not exist."""
    file = _file(config, suffix)
    if not file.is_file():
        return []
    return list(open_atomic(file, config["field_separator"], config["encoding"]).types)


def exlib_missing(name: Any) -> list[str]:
    """Return the missing packages of the model ``name``, if it is a tree model; otherwise none.

    For either tree model, RecBole imports both ``lightgbm`` and ``xgboost``.
    """
    packages = ("lightgbm", "xgboost")
    if str(name).lower() not in packages:
        return []
    return [package for package in packages if find_spec(package) is None]
