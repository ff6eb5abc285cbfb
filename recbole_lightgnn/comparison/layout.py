"""The files of a comparison's folder: names, paths and what a record in it must have."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_lightgnn.config.settings_diff import (
    other_settings,
)
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.files import read_json, write_json

SCHEMA_VERSION = 1


FILE, LOCK = "comparison.json", "lock"


_OF_A_ROW = {"seconds", "test", "test_seconds"}


@dataclass(frozen=True, eq=False)
class Run:
    """One model with one seed, and where all of it is.

    Attributes:
        name: what the comparison calls it: the model's name, or a rival's.
        model, dataset, seed: what is run.
        given: settings given for this model, as the command line has them.
        settings: every setting in force that says what to compute.
        folder: of its record, log and checkpoints.
        fingerprint: of the data.
    """

    name: str
    model: str
    dataset: str
    seed: int
    given: dict[str, Any]
    settings: dict[str, Any]
    folder: Path
    fingerprint: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.name} seed {self.seed}"

    @property
    def record_file(self) -> Path:
        """Where its record goes; there only once the run is done."""
        return self.folder / "record.json"

    @property
    def failure_file(self) -> Path:
        """Where its failure is, until it is tried again."""
        return self.folder / "failed.json"

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints and, of a model that can be resumed, its run folder are."""
        return self.folder / "saved"

    def record(self) -> dict[str, Any] | None:
        """Its record if it is done, with the data as they are."""
        record = read_json(self.record_file)
        if not isinstance(record, dict) or not isinstance(rows := record.get("rows"), list):
            return None
        data = record.get("dataset_fingerprint") or {}
        data = {key: value for key, value in data.items() if key != "card_sha256"}
        of = (record.get("model"), record.get("seed"), data)
        if of != (self.model, self.seed, self.fingerprint):
            return None
        whole = all(isinstance(row, dict) and row.keys() >= _OF_A_ROW for row in rows)
        return record if rows and whole else None

    def arguments(self) -> list[str]:
        """Of the command ``recbole-lightgnn run``."""
        settings = {"show_progress": False, **self.given, "seed": self.seed}
        settings["checkpoint_dir"] = str(self.checkpoints)
        return [
            f"--model={self.model}",
            f"--dataset={self.dataset}",
            f"--result_file={self.record_file}",
            *(f"--{key}={json.dumps(value)}" for key, value in settings.items()),
        ]

    def begin(self) -> None:
        """Say in the folder what is run there."""
        write_json(self.folder / "asked.json", {"settings": self.settings})

    def check_begun(self) -> None:
        """Raise InputError if the folder is of a run with other settings."""
        begun = read_json(self.folder / "asked.json")
        if not isinstance(begun, dict) or not isinstance(begun.get("settings"), dict):
            return
        if other := other_settings(self.settings, begun["settings"]):
            raise InputError(
                f"{self.folder} was begun with other settings ({', '.join(other)}): go on with "
                "those, remove that folder to run it anew, or name another --out"
            )
