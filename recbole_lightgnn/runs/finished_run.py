"""The models of a run that is over, or under way, from its folder."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from recbole.utils import init_seed

from recbole_lightgnn.config.recbole_config import rebuild_config
from recbole_lightgnn.data.fingerprint import split_fingerprint
from recbole_lightgnn.data.loaders import check_dataset_files, load_data
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.registry import our_models, resolve
from recbole_lightgnn.runs import checkpoint
from recbole_lightgnn.runs.checkpoint_model import StoredModel
from recbole_lightgnn.runs.run_folder import RunFolder
from recbole_lightgnn.utils.text import must_be_one_of


class TrainedRun:
    """A run's folder, the data it was run on, and the model of each of its rows.

    Args:
        path: the folder.

    Attributes:
        rows: one a finished training.

    Raises:
        InputError: if it is no run's folder, or nothing in it is finished.
    """

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)
        self.rows: list[dict[str, Any]] = self.folder.rows
        if not self.rows:
            raise InputError(f"{path}: no training of this run is finished yet")

    def row(self, key: str | None = None) -> dict[str, Any]:
        """The row of this key, by default the last student's; with test metrics, if there are any.

        Raises:
            InputError: if there is none.
        """
        rows = {row["key"]: row for row in self.rows}
        if key is None:
            key = list(rows)[-1]  # the stages are in order, students last
        must_be_one_of("--row", key, rows)
        with suppress(OSError, ValueError, KeyError, TypeError):
            record = json.loads((self.folder.path / "record.json").read_text(encoding="utf-8"))
            return next(row for row in record["rows"] if row["key"] == key)
        return rows[key]

    def model(self, key: str) -> Any:
        """The trained model of a row, in evaluation mode, on the CPU.

        Raises:
            InputError: if the folder has no checkpoint of ours for it, or the dataset's files are
                others than those of the run.
        """
        file = self.folder.best_file(key)
        if not self._has_checkpoint(key):
            raise InputError(
                f"{self.folder.path} has no {file.name}: the model of row {key} was given to the "
                "run, or is RecBole's own, or several models' sum; choose another --row"
            )
        config = self.config(key)
        model = resolve(our_models()[config["model"]])(config, self.loaders[0].dataset)
        StoredModel.read(str(file), config, self._data).load_into(model)
        return model.eval()

    @cached_property
    def loaders(self) -> tuple[Any, Any, Any]:
        """RecBole's loaders of the three splits."""
        keys = [row["key"] for row in self.rows]
        config = self.config(next(filter(self._has_checkpoint, keys), keys[0]))
        check_dataset_files(config)
        init_seed(config["seed"], config["reproducibility"])  # by which RecBole may split
        return load_data(config)

    def _has_checkpoint(self, key: str) -> bool:
        return self.folder.best_file(key).is_file()

    @property
    def dataset(self) -> Any:
        """RecBole's training dataset."""
        return self.loaders[0].dataset

    @cached_property
    def _data(self) -> str:
        return split_fingerprint(self.dataset)

    def config(self, key: str) -> Any:
        """The settings that a row's model was trained with."""
        meta = checkpoint.load(self.folder.best_file(key))[1]
        meta["shared_settings"]["use_gpu"] = False
        return rebuild_config(meta)
