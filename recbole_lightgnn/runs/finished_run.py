"""Load the models, data and settings of a run from its folder."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from recbole.utils import init_seed

from recbole_lightgnn.config.aliases import renamed
from recbole_lightgnn.config.recbole_config import rebuild_config
from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.data.fingerprint import split_fingerprint
from recbole_lightgnn.data.loaders import check_dataset_files, load_data
from recbole_lightgnn.data.refit import refit_loaders
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.registry import our_models, resolve
from recbole_lightgnn.runs import checkpoint
from recbole_lightgnn.runs.checkpoint_model import CheckpointModel
from recbole_lightgnn.runs.run_folder import RunFolder
from recbole_lightgnn.utils.text import must_be_one_of


class TrainedRun:
    """A run with at least one finished training: results, trained models and data.

    Attributes:
        folder: the run folder.
        rows: one row (name, sizes and metrics) for each finished training, in order.

    Raises:
        InputError: if ``path`` is not a run folder, or no training in it is finished.
    """

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)
        self.rows: list[dict[str, Any]] = self.folder.rows
        if not self.rows:
            raise InputError(f"{path}: no training of this run is finished yet")

    def row(self, key: str | None = None) -> dict[str, Any]:
        """Return the row of a training, with test metrics if the run has been tested.

        Args:
            key: name of the training, ``row["key"]``; by default the last training.

        Raises:
            InputError: if no finished training has this name.
        """
        rows = {row["key"]: row for row in self.rows}
        if key is None:
            key = list(rows)[-1]
        must_be_one_of("--row", key, rows)
        # If the record is missing, damaged or of another run, the row has no test metrics.
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
            text = (self.folder.path / "record.json").read_text(encoding="utf-8")
            record = renamed(json.loads(text))
            tested: dict[str, Any] = next(row for row in record["rows"] if row["key"] == key)
            return tested
        return rows[key]

    def model(self, key: str) -> Any:
        """Load the model of the training with the name ``key``, in evaluation mode, on the CPU.

        Raises:
            InputError: if the folder has no checkpoint of the training in our format, or the
                dataset's files have changed since the run.
        """
        file = self.folder.best_file(key)
        if not self._has_checkpoint(key):
            raise InputError(
                f"{self.folder.path} has no {file.name}: the model of row {key} was given to the "
                "run, or is RecBole's own, or several models' sum; choose another --row"
            )
        config = self.config(key)
        model = resolve(our_models()[config["model"]])(config, self.loaders[0].dataset)
        CheckpointModel.read(str(file), config, self._data).load_into(model)
        return model.eval()

    @cached_property
    def loaders(self) -> tuple[Any, Any, Any]:
        """RecBole's data loaders: training, validation, test."""
        keys = [row["key"] for row in self.rows]
        config = self.config(next(filter(self._has_checkpoint, keys), keys[0]))
        check_dataset_files(config)
        init_seed(config["seed"], config["reproducibility"])  # RecBole may split at random
        loaders = load_data(config)
        return refit_loaders(config, loaders) if self.folder.is_refit else loaders

    def _has_checkpoint(self, key: str) -> bool:
        return self.folder.best_file(key).is_file()

    @property
    def dataset(self) -> Any:
        """RecBole's ``Dataset`` with the training interactions."""
        return self.loaders[0].dataset

    @cached_property
    def _data(self) -> str:
        return split_fingerprint(self.dataset)

    def config(self, key: str) -> RunConfig:
        """Return the settings of the training with the name ``key``, but with ``use_gpu`` False."""
        meta = checkpoint.load(self.folder.best_file(key))[1]
        meta["shared_settings"]["use_gpu"] = False
        config: RunConfig = rebuild_config(meta)
        return config
