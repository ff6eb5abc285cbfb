"""Read a study's journal: the file in which Optuna records the trials.

A study is a search with its trials (trainings). Several processes may append to the file. Journals
of earlier versions have old names of settings. These names are replaced when a line is read; the
file itself is not changed.
"""

import json
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from recbole_lightgnn.config.aliases import renamed
from recbole_lightgnn.errors import InputError


def open_journal(file: Path) -> JournalStorage:
    """Open the journal of a study, or create an empty journal.

    An incomplete last line, left by a process that was killed, is removed.

    Raises:
        InputError: if the file is not a journal, or if a line cannot be read.
    """
    # With a relative path, Optuna would wait forever for a lock that a killed process has left.
    path = str(file.absolute())
    if file.exists():
        _drop_incomplete_line(file, JournalFileSymlinkLock(path))
    try:
        return JournalStorage(_Backend(path))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"storage {file} cannot be read as a journal of Optuna's ({error}): name another file"
        ) from error


class _Backend(JournalFileBackend):
    """Optuna's backend for a journal file; replaces old names of settings in every line read."""

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        yield from map(_translated, super().read_logs(log_number_from))


def _translated(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a line of the journal with present names in place of old names of settings."""
    result = dict(entry)
    if "param_name" in entry:  # a trial's value of one searched setting
        key, distribution = entry["param_name"], entry["distribution"]
        ((result["param_name"], result["distribution"]),) = _distributions({key: distribution})
    if "params" in entry:  # a trial that is added with all its values
        result["params"] = renamed(entry["params"])
        result["distributions"] = dict(_distributions(entry["distributions"]))
    for attributes in ("user_attr", "user_attrs", "system_attr", "system_attrs"):
        if attributes in entry:
            result[attributes] = {
                name: _translated_attribute(name, value)
                for name, value in entry[attributes].items()
            }
    return result


def _distributions(found: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield for each searched setting its present name and its distribution, as Optuna's JSON."""
    for key, text in found.items():
        content = json.loads(text)
        ((name, attributes),) = renamed({key: content["attributes"]}).items()
        yield name, json.dumps({**content, "attributes": attributes})


def _translated_attribute(name: str, value: Any) -> Any:
    if name in ("settings", "fixed_params") and isinstance(value, dict):
        return renamed(value)
    if name == "begun_with":
        return {**value, **{part: renamed(value[part]) for part in ("space", "settings")}}
    return value


def _drop_incomplete_line(file: Path, lock: JournalFileSymlinkLock) -> None:
    """Remove the last line if it has no line end, so that a new line is not appended to it.

    Raises:
        InputError: if the file is not a journal.
    """
    lock.acquire()
    try:
        content = file.read_bytes()
        if content and not content.startswith(b'{"op_code"'):
            raise InputError(f"storage {file} is not a journal of Optuna's: name another file")
        complete = content.rfind(b"\n") + 1
        if complete < len(content):
            os.truncate(file, complete)
    finally:
        lock.release()
