"""Run folder: settings, finished trainings, and the state of the training under way."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from recbole_lightgnn.config.aliases import renamed
from recbole_lightgnn.config.settings_diff import other_settings, settings_of
from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.runs import checkpoint
from recbole_lightgnn.utils.files import write_json

RUN_FILE = "run.json"


class RunFolder:
    """Progress of one run on disk.

    A run has one or more trainings, each with a key (for example ``teacher``). ``run.json`` holds
    the settings and the rows of the finished trainings. ``progress.safetensors`` holds the state of
    the current training after its last epoch. ``KEY.safetensors`` holds the best state so far of
    the training KEY. Every file is written atomically, so a run can be resumed after it was killed.

    Args:
        path: an existing folder with a ``run.json``, of this version or an earlier one.

    Attributes:
        path: the folder.
        content: content of ``run.json``: ``settings``, ``data`` and ``rows``.
        rows: rows of the finished trainings, in order.

    Raises:
        InputError: if the folder has no ``run.json``, or the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.content = renamed(json.loads((path / RUN_FILE).read_text(encoding="utf-8")))
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
    def create(cls, base: Path, config: RunConfig, data: dict[str, str]) -> RunFolder:
        """Create a folder, named after model, dataset and time.

        Args:
            base: parent folder.
            config: settings of the run.
            data: `fingerprints` of the run's splits.
        """
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        path = base / f"{config['model']}-{config['dataset']}-{stamp}"
        path.mkdir(parents=True)
        write_json(path / RUN_FILE, {"settings": settings_of(config), "data": data, "rows": []})
        return cls(path)

    @classmethod
    def reopen(cls, config: RunConfig, data: dict[str, str], path: Path | None) -> RunFolder:
        """Open the folder of an earlier run, to resume it.

        Args:
            config: settings of the run.
            data: `fingerprints` of the run's splits.
            path: the folder; by default the newest under ``checkpoint_dir`` with these settings.

        Raises:
            InputError: if there is no such folder, or its settings or data differ from ``config``
                or ``data``.
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
    def _newest(cls, config: RunConfig) -> RunFolder:
        wanted, base = settings_of(config), Path(config["checkpoint_dir"])
        pattern = f"{config['model']}-{config['dataset']}-*/{RUN_FILE}"
        for file in sorted(base.glob(pattern), reverse=True):
            with suppress(InputError):  # skip damaged folders
                folder = cls(file.parent)
                if not other_settings(wanted, folder.content["settings"]):
                    return folder
        raise InputError(
            f"nothing to resume: no run of {config['model']} on {config['dataset']} with these "
            f"settings under {base}/; run without --resume to start one"
        )

    def row(self, key: str) -> dict[str, Any] | None:
        """Return the row of a finished training, or ``None`` if it is not finished.

        Args:
            key: key of the training.
        """
        return next((row for row in self.rows if row["key"] == key), None)

    def finish(self, row: dict[str, Any]) -> None:
        """Add the row of a finished training to ``run.json``, and remove the progress file.

        Args:
            row: the row.
        """
        self.rows.append(row)
        write_json(self.path / RUN_FILE, self.content)
        self.progress_file.unlink(missing_ok=True)

    def best_file(self, key: str) -> Path:
        """Return the path of the best state of a training.

        Args:
            key: key of the training.
        """
        return self.path / f"{key}{checkpoint.SUFFIX}"

    @property
    def progress_file(self) -> Path:
        """Path of the state of the training under way."""
        return self.path / f"progress{checkpoint.SUFFIX}"
