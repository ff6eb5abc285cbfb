"""The folder of a run: settings, results so far, checkpoints, and the state to resume from."""

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
REFIT = "refit"  # folder of the training on train and validation, in the folder of the first one


class RunFolder:
    """The folder in which a run saves its settings, results and checkpoints.

    A run has one or more trainings. Each training has a key, its name (for example ``teacher``).
    ``run.json`` holds the settings, and for each finished training a row with sizes and metrics.
    ``progress.safetensors`` holds the state of the current training after its last finished epoch.
    ``KEY.safetensors`` holds the best checkpoint so far of the training with the name KEY. Every
    file is written atomically, so a killed run can be resumed.

    Args:
        path: an existing folder with a ``run.json`` that this or an earlier version wrote.

    Attributes:
        path: the folder.
        content: content of ``run.json``: ``settings``, ``data`` and ``rows``.
        rows: one row for each finished training, in order.

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
        """Create a run's folder in ``base``, named after model, dataset and time."""
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        path = base / f"{config['model']}-{config['dataset']}-{stamp}"
        path.mkdir(parents=True)
        return cls._begin(path, config, data)

    @classmethod
    def for_refit(cls, run_dir: Path, config: RunConfig, data: dict[str, str]) -> RunFolder:
        """Open the folder of a run's second training, to resume it; create it if it is missing.

        Args:
            run_dir: folder of the first training.
            config: settings of the run.
            data: hashes of train and validation interactions together, and of the validation split.

        Raises:
            InputError: as from :meth:`reopen`.
        """
        path = run_dir / REFIT
        if (path / RUN_FILE).exists():
            return cls.reopen(config, data, path)
        path.mkdir(exist_ok=True)  # a killed process may have left it empty
        return cls._begin(path, config, data, refit=True)

    @classmethod
    def _begin(
        cls, path: Path, config: RunConfig, data: dict[str, str], **facts: bool
    ) -> RunFolder:
        content = {"settings": settings_of(config), "data": data, "rows": [], **facts}
        write_json(path / RUN_FILE, content)
        return cls(path)

    @classmethod
    def reopen(cls, config: RunConfig, data: dict[str, str], path: Path | None) -> RunFolder:
        """Open the folder of an earlier run, to resume it.

        Args:
            config: settings of the run.
            data: hashes of the run's training and validation split (`fingerprints`).
            path: the folder; by default the newest folder in ``checkpoint_dir`` with these
                settings.

        Raises:
            InputError: if there is no such folder, or if the settings or data in the folder differ
                from ``config`` or ``data``.
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
        """Return the row of the training with the name ``key``; ``None`` if it is not finished."""
        return next((row for row in self.rows if row["key"] == key), None)

    def finish(self, row: dict[str, Any]) -> None:
        """Add the ``row`` of a finished training to ``run.json``, and remove the progress file."""
        self.rows.append(row)
        write_json(self.path / RUN_FILE, self.content)
        self.progress_file.unlink(missing_ok=True)

    def best_file(self, key: str) -> Path:
        """Return the path of the best checkpoint of the training with the name ``key``."""
        return self.path / f"{key}{checkpoint.SUFFIX}"

    @property
    def is_refit(self) -> bool:
        """Whether the folder holds models trained on train and validation interactions."""
        return bool(self.content.get("refit"))

    @property
    def progress_file(self) -> Path:
        """Path of the saved state of the training that is not finished yet."""
        return self.path / f"progress{checkpoint.SUFFIX}"
