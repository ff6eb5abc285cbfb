"""Archive a comparison: copy the files needed to write its tables and page and to continue it."""

import shutil
from pathlib import Path

import numpy as np

from recbole_lightgnn.comparison.layout import (
    COMPARISON,
    IDENTITY,
    LOCK,
    RunFolder,
    read_comparison,
    run_folder,
    runs_with_record,
    study_folder,
    write_comparison,
)
from recbole_lightgnn.comparison.results import Comparison
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.runs.user_metrics import read_users, write_users
from recbole_lightgnn.utils.files import check_folder, whole_file


def save_archive(comparison: Comparison, target: Path) -> None:
    """Copy a comparison's records, settings and failures, without logs and checkpoints.

    Of each user's test metrics, only those in the table are copied, in float32.

    Args:
        comparison: comparison to copy.
        target: a new folder, or an earlier archive of the same comparison.

    Raises:
        InputError: if ``target`` is neither a new folder nor an archive of ``comparison``, or has a
            record that ``comparison`` lacks.
    """
    _check(comparison, target)
    target.mkdir(parents=True, exist_ok=True)
    # Written first, so that the same command can complete an interrupted archive.
    write_comparison(target, comparison.content | {"rows": comparison.rows})
    for model in comparison.content["models"]:
        _copy_study(comparison.folder, target, model)
        for seed in comparison.seeds:
            source, copy = comparison.run_folder(model, seed), run_folder(target, model, seed)
            if (model, seed) in comparison.records:
                _copy(source.settings_file, copy.settings_file)
                _copy_users(source, copy, comparison.metrics)
                _copy(source.record_file, copy.record_file)
                copy.failure_file.unlink(missing_ok=True)
            elif not _copy(source.failure_file, copy.failure_file):
                copy.failure_file.unlink(missing_ok=True)


def _check(comparison: Comparison, target: Path) -> None:
    check_folder("--archive", target, target)
    if not target.exists() or not any(target.iterdir()):
        return
    archived = read_comparison(target)
    if not isinstance(archived, dict):
        raise InputError(
            f"--archive {target} has files, but no {COMPARISON} of a comparison: name a new folder"
        )
    if (target / LOCK).exists() or target.resolve() == comparison.folder.resolve():
        raise InputError(
            f"--archive {target} is a comparison itself, and no archive of one: name another folder"
        )
    for key in IDENTITY:
        if archived.get(key) != comparison.content[key]:
            raise InputError(
                f"--archive {target} is of another comparison than {comparison.folder} (its {key} "
                "differs): name another folder"
            )
    finished = {f"{model}-{seed}" for model, seed in comparison.records}
    if surplus := sorted(runs_with_record(target) - finished):
        raise InputError(
            f"--archive {target} has runs that {comparison.folder} has not "
            f"({', '.join(surplus)}): name another folder"
        )


def _copy_study(folder: Path, target: Path, model: str) -> None:
    """Copy settings, trials and failure of the search for a model's settings, if there is one."""
    source, copy = study_folder(folder, model), study_folder(target, model)
    for name in ("settings_file", "trials_file", "record_file", "failure_file"):
        if not _copy(getattr(source, name), getattr(copy, name)):
            getattr(copy, name).unlink(missing_ok=True)


def _copy_users(source: RunFolder, copy: RunFolder, metrics: list[str]) -> None:
    if (users := read_users(source.users_file)) is None:
        copy.users_file.unlink(missing_ok=True)
        return
    rows = {
        key: {metric: row[metric].astype(np.float32) for metric in metrics}
        for key, row in users.rows.items()
    }
    write_users(copy.users_file, users.user.tolist(), users.degree, rows)


def _copy(source: Path, target: Path) -> bool:
    """If a file exists, copy it and create the target's folder; return whether the file exists."""
    if not source.is_file():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as partial:
        shutil.copyfile(source, partial)
    return True
