"""The files in a comparison's folder: their names, their paths and their required content.

===================================  =============================================================
``comparison.json``                  what is compared; written before the first run
``lock``                             held while ``recbole-lightgnn compare`` and its runs work
``table.md``, ``.csv``, ``.tex``     the tables
``index.html``                       the page
``runs/NAME-SEED/asked.json``        the settings with which the run was started
``runs/NAME-SEED/log.txt``           what the run printed
``runs/NAME-SEED/saved/``            checkpoints of the run
``runs/NAME-SEED/record.json``       record of the run; missing until the run is finished
``runs/NAME-SEED/record.users.npz``  test metrics of every user
``runs/NAME-SEED/failed.json``       reason why the last attempt failed
``studies/NAME/``                    the search of a model's settings, if there is one
``studies/NAME/saved/NAME.log``      log of the search, as ``recbole-lightgnn tune`` writes it
``studies/NAME/saved/NAME.json``     all trials of the search
``studies/NAME/chosen.json``         the best settings; missing until the search is finished
===================================  =============================================================

The folder of a search also has ``asked.json``, ``log.txt`` and ``failed.json``. An archive has no
lock, logs or checkpoints. Files of earlier versions have old names of keys and settings. Only this
module sees old names: its functions translate them when they read a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from recbole_lightgnn.config.aliases import renamed, renamed_keys
from recbole_lightgnn.config.settings_diff import other_settings
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.runs.user_metrics import users_file
from recbole_lightgnn.utils.files import read_json, write_json

SCHEMA_VERSION = 1

COMPARISON, LOCK = "comparison.json", "lock"
MARKDOWN, CSV, LATEX, PAGE = "table.md", "table.csv", "table.tex", "index.html"
_RUNS, _STUDIES = "runs", "studies"

# Keys of comparison.json: the keys that must not change when a comparison continues, and all keys.
IDENTITY = ("dataset", "dataset_fingerprint", "protocol")
COMPARISON_KEYS = {*IDENTITY, "models", "variants", "seeds", "rows", "given", "settings"}
# Keys of each row of a finished run; further keys that the table needs of a row, and of a record.
_FINISHED_ROW_KEYS = {"seconds", "test", "test_seconds"}
_ROW_KEYS = {"key", "stage", "entries_kept", "interactions_kept", "parameters", "bytes", "valid"}
_RECORD_KEYS = {"model", "seed", "dataset_fingerprint", "rows", "settings", "environment"}


# --- the comparison ---------------------------------------------------------------------------


def read_comparison(folder: Path) -> Any | None:
    """Read ``comparison.json``, with old names translated; the content is not checked.

    The settings of variants keep their old names, because the table only shows them.

    Returns:
        The content, or ``None`` if the file is missing or is not JSON.
    """
    content = read_json(folder / COMPARISON)
    if not isinstance(content, dict):
        return content
    content = renamed_keys(content)
    for key in ("protocol", "given"):
        if isinstance(content.get(key), dict):
            content[key] = renamed(content[key])
    return content


def write_comparison(folder: Path, content: Mapping[str, Any]) -> None:
    """Write ``comparison.json``; create the folder if it is missing."""
    write_json(folder / COMPARISON, content)


def is_other_folder(folder: Path) -> bool:
    """Whether a folder has files, but not the files of a comparison."""
    names = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    # The lock is made before comparison.json, which is first written as .partial.
    return COMPARISON not in names and bool(names - {LOCK, f"{COMPARISON}.partial"})


# --- one run ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run: paths of its files, and their content with old names translated.

    Attributes:
        path: path of the folder.
    """

    path: Path

    @property
    def settings_file(self) -> Path:
        """File of the settings with which the run was started."""
        return self.path / "asked.json"

    @property
    def log_file(self) -> Path:
        """File with everything that the run printed."""
        return self.path / "log.txt"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints, and of the state to resume from if the model can be resumed."""
        return self.path / "saved"

    @property
    def record_file(self) -> Path:
        """File of the record; it exists only once the run is finished."""
        return self.path / "record.json"

    @property
    def users_file(self) -> Path:
        """File of every user's test metrics."""
        return users_file(self.record_file)

    @property
    def failure_file(self) -> Path:
        """File that says why the last attempt failed; removed when the run is tried again."""
        return self.path / "failed.json"

    def settings(self) -> dict[str, Any] | None:
        """The settings with which the run was started, or ``None`` if the file lacks them."""
        content = read_json(self.settings_file)
        settings = content.get("settings") if isinstance(content, dict) else None
        return renamed(settings) if isinstance(settings, dict) else None

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Write the settings with which the run is started."""
        write_json(self.settings_file, {"settings": settings})

    def check_begun(self, settings: Mapping[str, Any]) -> None:
        """Raise InputError if the folder holds work that was begun with other settings."""
        begun = self.settings()
        if begun is not None and (other := other_settings(settings, begun)):
            raise InputError(
                f"{self.path} was begun with other settings ({', '.join(other)}): go on with "
                "those, remove that folder to run it anew, or name another --out"
            )

    def record(self) -> Any | None:
        """The content of the record, unchecked; ``None`` if the file is missing or is not JSON."""
        content = read_json(self.record_file)
        return renamed_record(content) if isinstance(content, dict) else content

    def failure(self) -> dict[str, Any] | None:
        """Reason, exit status and progress of the last attempt, or ``None`` if it did not fail."""
        content = read_json(self.failure_file)
        return content if isinstance(content, dict) else None

    def failure_reason(self) -> str | None:
        """Reason of the last failure, or ``None`` if there is none."""
        failure = self.failure()
        return None if failure is None else failure.get("reason")


def run_folder(comparison: Path, name: str, seed: int) -> RunFolder:
    """The folder of one run; ``name`` is the name of the model or variant."""
    return RunFolder(comparison / _RUNS / f"{name}-{seed}")


@dataclass(frozen=True)
class StudyFolder(RunFolder):
    """The folder of one search of settings: paths of its files, and their content."""

    @property
    def record_file(self) -> Path:
        """File of the best settings; it exists only once the search is finished."""
        return self.path / "chosen.json"

    @property
    def journal(self) -> Path:
        """File of the search's log, to which ``recbole-lightgnn tune`` appends."""
        return self.checkpoints / f"{self.path.name}.log"

    @property
    def trials_file(self) -> Path:
        """File of all trials of the search."""
        return self.journal.with_suffix(".json")

    def trials(self) -> dict[str, Any]:
        """Content of the file of all trials; empty before the first trial has ended."""
        content = read_json(self.trials_file)
        return content if isinstance(content, dict) else {}


def study_folder(comparison: Path, name: str) -> StudyFolder:
    """The folder of the search of one model or variant, named ``name``."""
    return StudyFolder(comparison / _STUDIES / name)


def runs_with_record(comparison: Path) -> set[str]:
    """Names ``NAME-SEED`` of the runs that have a record."""
    any_run = RunFolder(comparison / _RUNS / "*")
    pattern = str(any_run.record_file.relative_to(comparison))
    return {file.parent.name for file in comparison.glob(pattern)}


def renamed_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with old names translated, in its settings and in the settings of its rows."""
    result = dict(record)
    if isinstance(record.get("settings"), dict):
        result["settings"] = renamed(record["settings"])
    if isinstance(record.get("rows"), list):
        result["rows"] = [_renamed_row(row) for row in record["rows"]]
    return result


def _renamed_row(row: Any) -> Any:
    if isinstance(row, dict) and isinstance(row.get("settings"), dict):
        return row | {"settings": renamed(row["settings"])}
    return row


def is_finished(record: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a record belongs to a finished run."""
    return isinstance(record, dict) and _all_rows_have(record.get("rows"), _FINISHED_ROW_KEYS)


def is_complete(record: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a record has everything that the table needs."""
    return (
        isinstance(record, dict)
        and record.keys() >= _RECORD_KEYS
        and _all_rows_have(record["rows"], _ROW_KEYS | _FINISHED_ROW_KEYS)
    )


def _all_rows_have(rows: Any, keys: set[str]) -> bool:
    if not isinstance(rows, list) or not rows:
        return False
    return all(isinstance(row, dict) and row.keys() >= keys for row in rows)


def is_record_of(
    record: Mapping[str, Any], model: str, seed: int, fingerprint: Mapping[str, Any]
) -> bool:
    """Whether a record belongs to a given model and seed, on the given data.

    Args:
        record: content of a record.
        model: name of the model, not of a variant.
        seed: seed of the run.
        fingerprint: counts and hashes of the data.
    """
    data = record.get("dataset_fingerprint") or {}
    # The dataset's card, a text about the data, may be reworded: ignore its hash.
    data = {key: value for key, value in data.items() if key != "card_sha256"}
    return (record.get("model"), record.get("seed"), data) == (model, seed, fingerprint)


@dataclass(frozen=True, eq=False)
class Run:
    """One run of a comparison: a model or variant with one seed.

    Attributes:
        name: name of the model or the variant in the comparison.
        model: name of the model.
        dataset: name of the dataset.
        seed: seed of the run.
        given: settings given by the user for this run.
        settings: all settings in force that affect the result.
        folder: folder of the run's files.
        fingerprint: counts and hashes of the data.
        teachers: descriptions of the teachers that the run trains first (`trained_teachers`).
    """

    name: str
    model: str
    dataset: str
    seed: int
    given: dict[str, Any]
    settings: dict[str, Any]
    folder: RunFolder
    fingerprint: dict[str, Any]
    teachers: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.name} seed {self.seed}"

    def record(self) -> dict[str, Any] | None:
        """The run's record if the run is finished and its data are unchanged, else ``None``."""
        record = self.folder.record()
        if not is_finished(record):
            return None
        return record if is_record_of(record, self.model, self.seed, self.fingerprint) else None

    def arguments(self) -> list[str]:
        """Arguments of ``recbole-lightgnn run`` for this run."""
        settings = {"show_progress": False, **self.given, "seed": self.seed}
        settings["checkpoint_dir"] = str(self.folder.checkpoints)
        return [
            f"--model={self.model}",
            f"--dataset={self.dataset}",
            f"--result_file={self.folder.record_file}",
            *(f"--{key}={json.dumps(value)}" for key, value in settings.items()),
        ]

    def command(self, resumed: bool) -> list[str]:
        """Arguments of ``recbole-lightgnn`` that start the run, or continue it if ``resumed``."""
        return ["run", *self.arguments(), *["--resume"] * resumed]

    def begin(self) -> None:
        """Write the run's settings into its folder."""
        self.folder.write_settings(self.settings)

    def check_begun(self) -> None:
        """Raise InputError if the folder holds a run with other settings."""
        self.folder.check_begun(self.settings)

    def conclude(self) -> None:
        """Do nothing: the run itself has written its record."""
