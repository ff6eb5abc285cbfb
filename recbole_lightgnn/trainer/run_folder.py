"""The folder of a run: what is finished, what is under way, and whose settings they are."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.graph import InteractionGraph
from recbole_lightgnn.trainer import checkpoint

# Settings that say where and how loudly to run, not what to compute.
_ENVIRONMENT = {
    *("gpu_id", "use_gpu", "device", "local_rank", "single_spec", "worker", "state", "verbose"),
    *("show_progress", "checkpoint_dir", "data_path", "result_file", "resume", "debug"),
    *("log_wandb", "wandb_project", "config_files", "nproc", "world_size", "offset", "ip", "port"),
}
_FILE = "run.json"


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
            self.content = json.loads((path / _FILE).read_text(encoding="utf-8"))
            self.rows: list[dict[str, Any]] = self.content["rows"]
        except FileNotFoundError as error:
            raise InputError(
                f"{path} is no run folder (it has no {_FILE}): give a folder that a run wrote"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path / _FILE} is damaged ({error}): start the run anew") from error

    @classmethod
    def create(cls, config: Any) -> RunFolder:
        """A new folder under ``checkpoint_dir``, named after model, dataset and time."""
        base = Path(config["checkpoint_dir"])
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        path = base / f"{config['model']}-{config['dataset']}-{stamp}"
        path.mkdir(parents=True)
        content = {"settings": settings_of(config), "rows": []}
        checkpoint.write_json(path / _FILE, content)
        return cls(path)

    @classmethod
    def reopen(cls, config: Any, path: Path | None) -> RunFolder:
        """The given folder, or the newest under ``checkpoint_dir`` with these settings.

        Raises:
            InputError: if there is none, or its settings differ.
        """
        wanted = settings_of(config)
        if path is not None:
            folder = cls(path)
            theirs = folder.content["settings"]
            differing = sorted(
                key for key in wanted.keys() | theirs.keys() if wanted.get(key) != theirs.get(key)
            )
            if differing:
                raise InputError(
                    f"{path} was run with other settings ({', '.join(differing)}): "
                    "resume with the settings it was started with"
                )
            return folder
        base = Path(config["checkpoint_dir"])
        pattern = f"{config['model']}-{config['dataset']}-*/{_FILE}"
        for file in sorted(base.glob(pattern), reverse=True):
            folder = cls(file.parent)
            if folder.content["settings"] == wanted:
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
        checkpoint.write_json(self.path / _FILE, self.content)
        self.progress_file.unlink(missing_ok=True)

    def best_file(self, key: str) -> Path:
        """Where the best state of a training is."""
        return self.path / f"{key}{checkpoint.SUFFIX}"

    @property
    def progress_file(self) -> Path:
        """Where the state of the training under way is."""
        return self.path / f"progress{checkpoint.SUFFIX}"


def settings_of(config: Any) -> dict[str, Any]:
    """Every setting in force that can change a result, as JSON has it."""
    return {
        key: as_json(value)
        for key, value in sorted(config.final_config_dict.items())
        if key not in _ENVIRONMENT
    }


def model_settings(config: Any) -> dict[str, Any]:
    """The settings of model and training alone, without those of data and evaluation."""
    shared = _shared_keys(config)
    return {key: value for key, value in _plain_settings(config).items() if key not in shared}


def shared_settings(config: Any) -> dict[str, Any]:
    """The settings of data and evaluation, which all stages of a run have in common."""
    shared = _shared_keys(config)
    return {key: value for key, value in _plain_settings(config).items() if key in shared}


def _shared_keys(config: Any) -> set[str]:
    groups = ("General", "Evaluation", "Dataset")
    return {"eval_mask"} | {key for group in groups for key in config.parameters[group]}


def _plain_settings(config: Any) -> dict[str, Any]:
    """Those of `settings_of` that are set, not derived: RecBole works the others out again."""
    derived = {"model", "dataset", "eval_type", "valid_neg_sample_args", "test_neg_sample_args"}
    derived |= {"MODEL_TYPE", "MODEL_INPUT_TYPE"}
    return {key: value for key, value in settings_of(config).items() if key not in derived}


def as_json(value: Any) -> Any:
    """A setting as JSON has it: mappings and lists as they are, anything else by its name."""
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def data_fingerprint(graph: InteractionGraph) -> str:
    """A hash of users, items and training interactions in RecBole's numbering."""
    pattern = graph.interactions.pattern
    digest = hashlib.sha256(f"{graph.n_users} {graph.n_items}".encode())
    for index in (pattern.row, pattern.col):
        digest.update(index.cpu().numpy().astype("<i8").tobytes())
    return digest.hexdigest()
