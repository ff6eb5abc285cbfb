"""From a dataset's files to RecBole's loaders of its three splits, checked, and their hashes."""

import hashlib
from collections.abc import Mapping
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
from pandas.errors import ParserError
from recbole.data import create_dataset, data_preparation
from recbole.utils import init_seed
from recbole.utils.enum_type import FeatureType

from recbole_lightgnn.config.files import our_models
from recbole_lightgnn.data.fingerprint import dataset_fingerprint
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.text import did_you_mean

_OF_THE_PAPER = ("yelp", "gowalla", "amazon")


def check_dataset_files(config: Any) -> None:
    """Raise InputError unless the dataset's interaction files are there and readable.

    Comes before RecBole, which would try to download what is missing.
    """
    name, folder = config["dataset"], Path(config["data_path"])
    parts = config["benchmark_filename"]
    if parts is not None and (not isinstance(parts, list | tuple) or len(parts) != 3):
        raise InputError(
            f"benchmark_filename must name three files (train, valid, test), got {parts!r}"
        )
    files = [folder / f"{name}.{part}.inter" for part in parts or ()] or [folder / f"{name}.inter"]
    missing = [file for file in files if not file.is_file()]
    if missing:
        if name in _OF_THE_PAPER:
            advice = (
                f"get it with `recbole-lightgnn data download {name}`, or "
                f"`recbole-lightgnn import paper FOLDER --name {name}`"
            )
        else:
            advice = "put RecBole's atomic files there, or set data_path"
        known = [f.name for f in folder.parent.iterdir()] if folder.parent.is_dir() else []
        near = did_you_mean(name, {*known, "ml-100k"} - {name})
        raise InputError(
            f"dataset {name!r} not found{near}: looked for {', '.join(map(str, missing))}; {advice}"
        )
    for file in files:
        _check_header(config, file)


def _check_header(config: Any, file: Path) -> None:
    """The first line of an atomic file must read ``user_id:token<TAB>item_id:token ...``."""
    separator = config["field_separator"]
    try:
        with open(file, encoding=config["encoding"]) as lines:
            columns = lines.readline().rstrip("\r\n").split(separator)
    except (OSError, UnicodeDecodeError, LookupError) as error:
        raise InputError(f"{file} cannot be read: {error}") from error
    types = {t.value for t in FeatureType}
    for column in columns:
        field, _, kind = column.partition(":")
        if not field or kind not in types:
            raise InputError(
                f"{file}, line 1: expected columns NAME:TYPE with TYPE one of "
                f"{', '.join(sorted(types))}, parted by {separator!r}, got {column!r}"
            )
    fields = {column.partition(":")[0] for column in columns}
    for key in ("USER_ID_FIELD", "ITEM_ID_FIELD"):
        if config[key] not in fields:
            raise InputError(
                f"{file}, line 1: no column {config[key]!r} (setting {key}); it has "
                f"{', '.join(sorted(fields))}"
            )


def load_data(config: Any) -> tuple[Any, Any, Any]:
    """RecBole's train, validation and test loaders, checked.

    Where RecBole cuts the splits, it draws on from the random numbers as they are, or, with a
    ``split_seed``, from that; then the run's own seed is set anew.

    Raises:
        InputError: if the files cannot be parsed, a split is empty, or (for our models, whose
            graph has one weight per interaction) a user-item pair comes more than once.
    """
    name = config["dataset"]
    if config["split_seed"] is not None:
        init_seed(config["split_seed"], config["reproducibility"])
    try:
        dataset = create_dataset(config)
        getLogger().info(dataset)
        loaders = data_preparation(config, dataset)
    except (ValueError, NotImplementedError, AssertionError, ParserError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"dataset {name!r} cannot be used: {reason}") from error
    if config["split_seed"] is not None:
        init_seed(config["seed"], config["reproducibility"])
    parts = dict(zip(("train", "valid", "test"), loaders, strict=True))
    for split, loader in parts.items():
        if loader._dataset.inter_num == 0:
            raise InputError(
                f"the {split} split of {name!r} has no users: nothing is left after filtering and "
                f"splitting; change eval_args (now {config['eval_args']['split']}) or the files"
            )
    n_items, longest = dataset.item_num - 1, max(config["topk"])
    if longest > n_items and config["model"] not in our_models():
        raise InputError(
            f"topk asks for lists of {longest} of {name!r}, which has {n_items} items; RecBole's "
            "models cannot rank more than there are"
        )
    _report_pairs(config, parts)
    return loaders


def _report_pairs(config: Any, parts: Mapping[str, Any]) -> None:
    """Say how many pairs come twice and how many nodes the training graph leaves isolated."""
    pairs = {split: _pairs(loader) for split, loader in parts.items()}
    whole = parts["train"]._dataset
    n_users, n_items = whole.user_num, whole.item_num
    keys = np.concatenate([users.astype(np.int64) * n_items + i for users, i in pairs.values()])
    repeated = len(keys) - len(np.unique(keys))
    if repeated and config["model"] in our_models():
        remedy = (
            "remove them from the files"
            if config["benchmark_filename"] is not None
            else "set rm_dup_inter to `first` or `last`"
        )
        raise InputError(
            f"dataset {config['dataset']!r} has {repeated} interactions of a user and an item that "
            f"it has already, in one split or in two; {remedy}"
        )
    if repeated:
        getLogger().warning(f"{repeated} interactions repeat a user-item pair")
    users, items = pairs["train"]
    without = n_users - 1 - len(np.unique(users)), n_items - 1 - len(np.unique(items))
    if any(without):
        getLogger().warning(
            f"{without[0]} users and {without[1]} items have no training interaction: isolated in "
            "the graph, they keep the embeddings they start with"
        )


def _pairs(loader: Any) -> tuple[np.ndarray, np.ndarray]:
    dataset = loader._dataset
    inter = dataset.inter_feat
    return inter[dataset.uid_field].numpy(), inter[dataset.iid_field].numpy()


def fingerprint(train_data: Any, valid_data: Any, test_data: Any) -> dict[str, Any]:
    """Counts and hashes of the loaders' splits (`dataset_fingerprint`)."""
    dataset = train_data._dataset
    loaders = {"train": train_data, "valid": valid_data, "test": test_data}
    return dataset_fingerprint(
        dataset.field2id_token[dataset.uid_field],
        dataset.field2id_token[dataset.iid_field],
        {split: _pairs(loader) for split, loader in loaders.items()},
    )


def card_hash(config: Any) -> str | None:
    """SHA-256 of the card that the dataset's importer left; none where there is no card."""
    card = Path(config["data_path"], f"{config['dataset']}.card.json")
    return hashlib.sha256(card.read_bytes()).hexdigest() if card.is_file() else None
