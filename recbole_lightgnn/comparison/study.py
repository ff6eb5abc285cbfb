"""Search the settings of a model before its runs, with the command ``recbole-lightgnn tune``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recbole_lightgnn.comparison.layout import COMPARISON, Run, StudyFolder
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.files import write_json

SEED = 2020  # seed of the search and of every trial; the runs have the seeds of the comparison
_ENDED = ("finished", "stopped", "failed")  # states of trials that have ended
_CHOSEN_KEYS = {"settings", "trials", "valid_metric", "best_valid", "seconds"}


@dataclass(frozen=True)
class Budget:
    """Limits of the search for each model's settings; at least one limit is given.

    Attributes:
        trials: largest number of trials, or ``None``.
        minutes: time in minutes after which no further trial begins, or ``None``.
    """

    trials: int | None
    minutes: float | None

    def __str__(self) -> str:
        flags = {"--tune-trials": self.trials, "--tune-minutes": self.minutes}
        return " ".join(f"{name}={value}" for name, value in flags.items() if value is not None)


def budget_of(comparison: Mapping[str, Any]) -> Budget | None:
    """Read the limits of the searches from the content of ``comparison.json``.

    Returns:
        The limits; ``None`` if the comparison has no search.

    Raises:
        InputError: if the file is damaged.
    """
    search = comparison.get("search")
    if search is None:
        return None
    if not isinstance(search, dict) or search.keys() != {"trials", "minutes"}:
        raise InputError(
            f"{COMPARISON} is damaged (search must have trials and minutes, got {search!r}): "
            "restore it, or name another --out"
        )
    return Budget(**search)


@dataclass(frozen=True, eq=False)
class Study:
    """The search for the settings of one model or variant; it is started and resumed like a `Run`.

    Attributes:
        name: name of the model or of the variant.
        model: name of the model.
        dataset: name of the dataset.
        given: settings given for the model; the search does not change them.
        settings: all settings that the model would have without a search.
        folder: folder of the search's files.
        budget: limits of the search.
    """

    name: str
    model: str
    dataset: str
    given: dict[str, Any]
    settings: dict[str, Any]
    folder: StudyFolder
    budget: Budget

    def __str__(self) -> str:
        return f"{self.name} search"

    def record(self) -> dict[str, Any] | None:
        """The best settings with their validation score; ``None`` if the search is not finished."""
        record = self.folder.record()
        finished = isinstance(record, dict) and record.keys() >= _CHOSEN_KEYS
        return record if finished else None

    def settings_source(self) -> str:
        """Text for the table's column ``settings``: ``not tuned`` or ``tuned, N trials``."""
        record = self.record()
        if record is None:
            return "not tuned"
        return f"tuned, {record['trials']} trial{'s' * (record['trials'] != 1)}"

    def position(self) -> list[int] | None:
        """Number of ended trials, in a list; ``None`` if the search has not begun."""
        return [len(self._ended())] if self.folder.journal.is_file() else None

    def command(self, resumed: bool) -> list[str]:
        """Arguments of ``recbole-lightgnn`` that start or continue the search.

        ``resumed`` has no effect: the command finds the ended trials by itself.
        """
        command = ["tune", f"--model={self.model}", f"--dataset={self.dataset}", f"--seed={SEED}"]
        command += [f"--study={self.name}", f"--storage={self.folder.journal}"]
        if self.budget.trials is not None:
            command.append(f"--trials={self.budget.trials}")
        if self.budget.minutes is not None:
            left = self.budget.minutes - self._seconds() / 60
            command.append(f"--minutes={max(left, 1e-9)}")  # no trial begins after 1e-9 minutes
        settings = {**self.given, "checkpoint_dir": str(self.folder.checkpoints)}
        return command + [f"--{key}={json.dumps(value)}" for key, value in settings.items()]

    def begin(self) -> None:
        """Write into a file the settings that the model would have without a search."""
        self.folder.write_settings(self.settings)

    def check_begun(self) -> None:
        """Raise InputError if the folder holds a search that began with other settings."""
        self.folder.check_begun(self.settings)

    def conclude(self) -> None:
        """After the search, write the best settings into a file, if a trial succeeded."""
        study = self.folder.trials()
        if study.get("best") is None:
            return
        best = study["trials"][study["best"]]
        content = {
            "settings": best["settings"],
            "trials": len(self._ended()),
            "seed": SEED,
            "valid_metric": study["valid_metric"],
            "best_valid": best["valid"],
            "seconds": self._seconds(),
        }
        write_json(self.folder.record_file, content)

    def _ended(self) -> list[dict[str, Any]]:
        trials = self.folder.trials().get("trials", [])
        return [trial for trial in trials if trial["state"] in _ENDED]

    def _seconds(self) -> float:
        """Total time in seconds of the trials that have ended."""
        return sum(trial["seconds"] or 0.0 for trial in self._ended())


Task = Run | Study  # what a comparison runs as a process
