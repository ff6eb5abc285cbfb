"""What lasts of a comparison: enough to make its tables and page again, and to go on with it."""

import shutil
from pathlib import Path

import numpy as np

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.files import check_folder, whole_file, write_json
from recbole_lightgnn.report.comparison import FILE, Comparison
from recbole_lightgnn.report.users import read_users, users_file, write_users

_FILES = ("asked.json", "record.json", "failed.json")


def keep(comparison: Comparison, target: Path) -> None:
    """Copy records, settings asked for and failures of a comparison, without logs and checkpoints.

    Of the users' metrics the copy has those of the rows that the table shows, in single precision.

    Args:
        comparison: the one to copy.
        target: a new folder, or of an earlier copy.

    Raises:
        InputError: if ``target`` is no place for it.
    """
    check_folder("--keep", target, target)
    if target.resolve() == comparison.folder.resolve():
        raise InputError(f"--keep {target} is the comparison itself: name another folder")
    if target.exists() and any(target.iterdir()) and not (target / FILE).is_file():
        raise InputError(
            f"--keep {target} has files, but no {FILE} of a comparison: name a new folder"
        )
    target.mkdir(parents=True, exist_ok=True)
    for model in comparison.content["models"]:
        shown = {entry.key for entry in comparison.entries if entry.model == model}
        for seed in comparison.seeds:
            source = comparison.place(model, seed)
            place = target / source.relative_to(comparison.folder)
            for name in _FILES:
                _copy(source / name, place / name)
            _keep_users(source, place, shown, comparison.metrics)
    write_json(target / FILE, comparison.content | {"rows": comparison.rows})


def _keep_users(source: Path, target: Path, shown: set[str | None], metrics: list[str]) -> None:
    file = users_file(target / "record.json")
    if (users := read_users(users_file(source / "record.json"))) is None:
        file.unlink(missing_ok=True)
        return
    rows = {
        key: {metric: row[metric].astype(np.float32) for metric in metrics}
        for key, row in users.rows.items()
        if key in shown
    }
    write_users(file, users.user, users.degree, rows)


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        target.unlink(missing_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as partial:
        shutil.copyfile(source, partial)
