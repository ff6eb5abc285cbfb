"""Load a dataset's files into RecBole's three data loaders; check and hash the splits."""

import hashlib
from collections.abc import Mapping
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
from pandas.errors import ParserError
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, init_seed

from recbole_lightgnn.config.compatibility import needs_labels
from recbole_lightgnn.config.recbole_faults import explained, given_to
from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.data.atomic_header import check_ids, open_atomic
from recbole_lightgnn.data.columns import check_columns
from recbole_lightgnn.data.dataset_files import dataset_not_found
from recbole_lightgnn.data.file_kinds import interaction_files
from recbole_lightgnn.data.fingerprint import dataset_fingerprint
from recbole_lightgnn.data.noise import noisy_loaders
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.registry import our_models

_SAMPLED = 1000  # items that a ranking may sample from a smaller catalogue


def check_dataset_files(config: RunConfig) -> None:
    """Check that the dataset's interaction files exist, with valid headers and the needed columns.

    Call this function before RecBole loads the dataset: RecBole would try to download missing
    files.

    Raises:
        InputError: if a file is missing or cannot be read, its header is invalid, or it lacks a
            column that the run needs.
    """
    name, folder = config["dataset"], Path(config["data_path"])
    files = interaction_files(folder, name, config)
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise dataset_not_found(name, folder.parent, missing)
    for file in files:
        _check_header(config, file)
    check_columns(config)


def _check_header(config: RunConfig, file: Path) -> None:
    """Check that the first line of an atomic file is ``user_id:token<TAB>item_id:token ...``."""
    opened = open_atomic(file, config["field_separator"], config["encoding"])
    for key in ("USER_ID_FIELD", "ITEM_ID_FIELD"):
        check_ids(opened, [config[key]])
        if config[key] not in opened.types:
            raise InputError(
                f"{file}, line 1: no column {config[key]!r} (setting {key}); it has "
                f"{', '.join(sorted(opened.types))}"
            )


def load_data(config: RunConfig) -> tuple[Any, Any, Any]:
    """Create RecBole's data loaders for train, validation and test, in this order.

    A random split uses the current state of the random generators. If ``split_seed`` is set, the
    generators get this seed before the split, and the run's own seed after the split.

    Raises:
        InputError: if the files cannot be parsed or a split is empty. For RecBole's models, also if
            ``topk`` exceeds the number of items. For our models, which have one weight per
            interaction, also if a user-item pair occurs more than once.
    """
    name = config["dataset"]
    if config["split_seed"] is not None:
        init_seed(config["split_seed"], config["reproducibility"])
    with explained(f"dataset {name!r} cannot be used", given_to(config), ParserError):
        dataset = create_dataset(config)
        getLogger().info(dataset)
        try:
            loaders: tuple[Any, Any, Any] = data_preparation(config, dataset)
        except ValueError as error:
            if "interacted with all items" not in str(error):
                raise
            raise _no_negatives(dataset) from error
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
            f"topk is {longest}, but {name!r} has only {n_items} items; RecBole's models cannot "
            "rank more items than there are: lower topk"
        )
    _check_labels(config, dataset)
    _check_sampled(config, n_items)
    _report_pairs(config, parts)
    return noisy_loaders(config, loaders) if config["train_noise"] else loaders


def _check_labels(config: RunConfig, dataset: Any) -> None:
    """Raise InputError if a run needs labels, and one that filters have left is not 1 or 0."""
    label, settings = config["LABEL_FIELD"], config.final_config_dict
    if label not in dataset.inter_feat or not needs_labels(settings, get_model(config["model"])):
        return
    labels = np.unique(np.asarray(dataset.inter_feat[label]))
    if wrong := [one for one in labels.tolist() if one not in (0, 1)]:
        raise InputError(
            f"{label} must be 1 or 0 in {config['dataset']!r}, as {config['model']} needs labels, "
            f"got {wrong[0]:g}: correct the column, or make labels of numbers by --threshold"
        )


def _check_sampled(config: RunConfig, n_items: int) -> None:
    """Raise InputError if a mode such as ``uni1000000`` would sample for hours.

    RecBole samples with replacement, so a mode may name more items than there are.
    """
    mode = config["eval_args"]["mode"]
    for one in mode.values() if isinstance(mode, dict) else [mode]:
        if one[:3] in ("uni", "pop") and int(one[3:]) > max(n_items, _SAMPLED):
            raise InputError(
                f"eval_args.mode {one} samples more items than {config['dataset']!r} has, "
                f"{n_items}: write --eval_args.mode=full"
            )


def _no_negatives(dataset: Any) -> InputError:
    """Build the error for users who have interacted with every item, which RecBole refuses."""
    n_items = dataset.item_num - 1
    users, items = (
        np.asarray(dataset.inter_feat[field]) for field in (dataset.uid_field, dataset.iid_field)
    )
    pairs = np.unique(users.astype(np.int64) * (n_items + 1) + items)
    counts = np.bincount(pairs // (n_items + 1))
    if not len(counts):
        return InputError(
            f"{dataset.dataset_name!r} has no interactions: nothing is left after filtering; "
            "loosen the filters (val_interval, user_inter_num_interval, ...) or change the files"
        )
    full = (counts >= n_items).sum()
    token = str(dataset.field2id_token[dataset.uid_field][counts.argmax()])
    others = f" and {full - 1} other users" if full > 1 else ""
    return InputError(
        f"user {token!r}{others} of {dataset.dataset_name!r} interacted with all {n_items} items, "
        "so that no other item can be sampled for a training or ranked for the user: remove these "
        "users from the table, or add items"
    )


def _report_pairs(config: RunConfig, parts: Mapping[str, Any]) -> None:
    """Log the number of repeated pairs, and of users and items without a training interaction.

    Raises:
        InputError: if there are repeated pairs and the model is one of ours.
    """
    pairs = {split: _pairs(loader) for split, loader in parts.items()}
    dataset = parts["train"]._dataset
    n_users, n_items = dataset.user_num, dataset.item_num
    keys = np.concatenate([users.astype(np.int64) * n_items + i for users, i in pairs.values()])
    repeated = len(keys) - len(np.unique(keys))
    if repeated and config["model"] in our_models():
        remedy = (
            "remove them from the files"
            if config["benchmark_filename"] is not None
            else "set rm_dup_inter to `first` or `last`"
        )
        raise InputError(
            f"dataset {config['dataset']!r} has {repeated} interactions that repeat a user-item "
            f"pair of the same or another split; {remedy}"
        )
    if repeated:
        getLogger().warning(f"{repeated} interactions repeat a user-item pair")
    users, items = pairs["train"]
    isolated = n_users - 1 - len(np.unique(users)), n_items - 1 - len(np.unique(items))
    if any(isolated):
        getLogger().warning(
            f"{isolated[0]} users and {isolated[1]} items have no training interaction: isolated "
            "in the graph, they keep their initial embeddings"
        )


def _pairs(loader: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the user index and the item index of each pair of a loader's split."""
    dataset = loader._dataset
    inter = dataset.inter_feat
    return inter[dataset.uid_field].numpy(), inter[dataset.iid_field].numpy()


def fingerprint(train_data: Any, valid_data: Any, test_data: Any) -> dict[str, Any]:
    """Return counts and hashes of the three loaders' splits (`dataset_fingerprint`)."""
    dataset = train_data._dataset
    loaders = {"train": train_data, "valid": valid_data, "test": test_data}
    return dataset_fingerprint(
        dataset.field2id_token[dataset.uid_field],
        dataset.field2id_token[dataset.iid_field],
        {split: _pairs(loader) for split, loader in loaders.items()},
    )


def card_hash(config: RunConfig) -> str | None:
    """Return the SHA-256 of the dataset's card (description of the source); None without a card."""
    card = Path(config["data_path"], f"{config['dataset']}.card.json")
    return hashlib.sha256(card.read_bytes()).hexdigest() if card.is_file() else None
