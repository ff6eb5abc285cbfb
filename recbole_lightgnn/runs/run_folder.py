"""The folder of a run: what is finished, what is under way, and whose settings they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.runs import checkpoint
from recbole_lightgnn.utils.files import plain, write_json

# Settings that say where and how loudly to run, not what to compute.
_ENVIRONMENT = {
    *("gpu_id", "use_gpu", "device", "local_rank", "single_spec", "state", "verbose"),
    *("show_progress", "checkpoint_dir", "data_path", "result_file", "resume", "debug"),
    *("log_wandb", "wandb_project", "config_files", "nproc", "world_size", "offset", "ip", "port"),
}
# Settings of data and evaluation that RecBole reads, though its lists of such do not have them.
_UNLISTED = {
    *("split_seed", "eval_mask", "worker", "shuffle", "wandb_project", "encoding", "tail_ratio"),
    *("discretization", "numerical_features", "kg_reverse_r"),
    *("relation_kg_num_interval", "entity_kg_num_interval"),
}
# Scores made at once: memory and time alone, so that a run out of memory can go on with fewer.
WITHOUT_EFFECT = {"eval_batch_size"}
RUN_FILE = "run.json"


class RunFolder:
    """Progress of one run on disk.

    ``run.json`` lists the finished trainings, ``progress.safetensors`` holds the one under way as
    of its last epoch, and each finished or improving training has its best state in a file of its
    own. Every file is replaced whole, so that a run killed at any moment can go on.

    Args:
        path: an existing folder with a ``run.json``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.content = json.loads((path / RUN_FILE).read_text(encoding="utf-8"))
            self.rows: list[dict[str, Any]] = self.content["rows"]
            self.content["settings"], self.content["data"]
        except FileNotFoundError as error:
            raise InputError(
                f"{path} is no run folder (it has no {RUN_FILE}): give a folder that a run wrote"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path / RUN_FILE} is damaged or of an older version ({error}): start the run anew"
            ) from error

    @classmethod
    def create(cls, base: Path, config: Any, data: dict[str, str]) -> RunFolder:
        """A new folder under ``base``, named after model, dataset and time.

        Args:
            base: where run folders are.
            config: the run's settings.
            data: `fingerprints` of its splits.
        """
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        path = base / f"{config['model']}-{config['dataset']}-{stamp}"
        path.mkdir(parents=True)
        write_json(path / RUN_FILE, {"settings": settings_of(config), "data": data, "rows": []})
        return cls(path)

    @classmethod
    def reopen(cls, config: Any, data: dict[str, str], path: Path | None) -> RunFolder:
        """The given folder, or the newest under ``checkpoint_dir`` with these settings.

        Raises:
            InputError: if there is none, or its settings or its data differ.
        """
        folder = cls(path) if path is not None else cls._newest(config)
        if differing := other_settings(settings_of(config), folder.content["settings"]):
            raise InputError(
                f"{folder.path} was run with other settings ({', '.join(differing)}): "
                "resume with the settings it was started with"
            )
        if folder.content["data"] != data:
            raise InputError(
                f"{folder.path} was run on other interactions than {config['dataset']} has now: "
                "put the files back, or start the run anew"
            )
        return folder

    @classmethod
    def _newest(cls, config: Any) -> RunFolder:
        wanted, base = settings_of(config), Path(config["checkpoint_dir"])
        pattern = f"{config['model']}-{config['dataset']}-*/{RUN_FILE}"
        for file in sorted(base.glob(pattern), reverse=True):
            with suppress(InputError):  # a damaged one, or an older version's, is not the one
                folder = cls(file.parent)
                if not other_settings(wanted, folder.content["settings"]):
                    return folder
        raise InputError(
            f"nothing to resume: no run of {config['model']} on {config['dataset']} with these "
            f"settings under {base}/; run without --resume to start one"
        )

    def row(self, key: str) -> dict[str, Any] | None:
        """The row of a finished training, or ``None``."""
        return next((row for row in self.rows if row["key"] == key), None)

    def finish(self, row: dict[str, Any]) -> None:
        """Record a finished training."""
        self.rows.append(row)
        write_json(self.path / RUN_FILE, self.content)
        self.progress_file.unlink(missing_ok=True)

    def best_file(self, key: str) -> Path:
        """Where the best state of a training is."""
        return self.path / f"{key}{checkpoint.SUFFIX}"

    @property
    def progress_file(self) -> Path:
        """Where the state of the training under way is."""
        return self.path / f"progress{checkpoint.SUFFIX}"


def settings_of(config: Any) -> dict[str, Any]:
    """Every setting in force that says what to compute, as JSON has it."""
    return {
        key: plain(value)
        for key, value in sorted(config.final_config_dict.items())
        if key not in _ENVIRONMENT
    }


def other_settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of the settings that differ and matter; one that an older version lacks is as unset."""
    keys = (one.keys() | other.keys()) - WITHOUT_EFFECT
    return sorted(key for key in keys if one.get(key) != other.get(key))


def model_settings(config: Any) -> dict[str, Any]:
    """The settings of model and training alone, without those of data and evaluation."""
    shared = shared_keys(config)
    return {key: value for key, value in _set_settings(config).items() if key not in shared}


def shared_settings(config: Any) -> dict[str, Any]:
    """The settings of data and evaluation, which all stages of a run have in common."""
    shared = shared_keys(config)
    return {key: value for key, value in _set_settings(config).items() if key in shared}


def shared_keys(config: Any) -> set[str]:
    """Names of the settings of data and evaluation."""
    groups = ("General", "Evaluation", "Dataset")
    return _UNLISTED | {key for group in groups for key in config.parameters[group]}


def _set_settings(config: Any) -> dict[str, Any]:
    """Those of `settings_of` that are set, not derived: RecBole works the others out again."""
    derived = {"model", "dataset", "eval_type", "valid_neg_sample_args", "test_neg_sample_args"}
    derived |= {"MODEL_TYPE", "MODEL_INPUT_TYPE"}
    return {key: value for key, value in settings_of(config).items() if key not in derived}


def fingerprints(train_data: Any, valid_data: Any) -> dict[str, str]:
    """`split_fingerprint` of what a run learns and chooses from, given their loaders."""
    splits = {"train": train_data, "valid": valid_data}
    return {split: split_fingerprint(loader._dataset) for split, loader in splits.items()}


def split_fingerprint(dataset: Any) -> str:
    """`pairs_fingerprint` of one of RecBole's splits."""
    users, items = (dataset.inter_feat[f].numpy() for f in (dataset.uid_field, dataset.iid_field))
    return pairs_fingerprint(dataset.user_num, dataset.item_num, users, items)


def pairs_fingerprint(n_users: int, n_items: int, users: np.ndarray, items: np.ndarray) -> str:
    """A hash of users, items and pairs in RecBole's numbering, by which a model's rows go.

    Args:
        n_users, n_items: padding counted.
        users: user of each pair. Shape: (pairs,)
        items: item of each pair. Shape: (pairs,)
    """
    order = np.lexsort((items, users))
    digest = hashlib.sha256(f"{n_users} {n_items}".encode())
    for index in (users, items):
        digest.update(index[order].astype("<i8").tobytes())
    return digest.hexdigest()
