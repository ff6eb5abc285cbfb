"""What lasts of a comparison: enough to make its tables and page again, and to go on with it."""

import shutil
from pathlib import Path

import numpy as np

from recbole_lightgnn.comparison.results import FILE, Comparison
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.runs.user_metrics import read_users, users_file, write_users
from recbole_lightgnn.utils.files import check_folder, read_json, whole_file, write_json

_LOCK = "lock"  # where `compare` has been


def keep(comparison: Comparison, target: Path) -> None:
    """Copy records, settings asked for and failures of a comparison, without logs and checkpoints.

    Of the users' metrics the copy has those of the table, in single precision. Nothing that is
    only in ``target`` is removed.

    Args:
        comparison: the one to copy.
        target: a new folder, or an earlier copy.

    Raises:
        InputError: if ``target`` is something else.
    """
    _check(comparison, target)
    target.mkdir(parents=True, exist_ok=True)
    # First, as it makes the folder one that an interrupted copy can go on with.
    write_json(target / FILE, comparison.content | {"rows": comparison.rows})
    for model in comparison.content["models"]:
        for seed in comparison.seeds:
            source = comparison.place(model, seed)
            place = target / source.relative_to(comparison.folder)
            if (model, seed) in comparison.records:
                _copy(source / "asked.json", place)
                _keep_users(source, place, comparison.metrics)
                _copy(source / "record.json", place)
                (place / "failed.json").unlink(missing_ok=True)
            elif not _copy(source / "failed.json", place):
                (place / "failed.json").unlink(missing_ok=True)


def _check(comparison: Comparison, target: Path) -> None:
    check_folder("--keep", target, target)
    if not target.exists() or not any(target.iterdir()):
        return
    there = read_json(target / FILE)
    if not isinstance(there, dict):
        raise InputError(
            f"--keep {target} has files, but no {FILE} of a comparison: name a new folder"
        )
    if (target / _LOCK).exists() or target.resolve() == comparison.folder.resolve():
        raise InputError(
            f"--keep {target} is a comparison itself, and no copy of one: name another folder"
        )
    for what in ("dataset", "dataset_fingerprint", "footing"):
        if there.get(what) != comparison.content[what]:
            raise InputError(
                f"--keep {target} is of another comparison than {comparison.folder} (its {what} "
                "differs): name another folder"
            )
    done = {f"{model}-{seed}" for model, seed in comparison.records}
    kept = {file.parent.name for file in target.glob("runs/*/record.json")}
    if more := sorted(kept - done):
        raise InputError(
            f"--keep {target} has runs that {comparison.folder} has not ({', '.join(more)}): name "
            "another folder"
        )


def _keep_users(source: Path, place: Path, metrics: list[str]) -> None:
    file = users_file(place / "record.json")
    if (users := read_users(users_file(source / "record.json"))) is None:
        file.unlink(missing_ok=True)
        return
    rows = {
        key: {metric: row[metric].astype(np.float32) for metric in metrics}
        for key, row in users.rows.items()
    }
    write_users(file, users.user, users.degree, rows)


def _copy(source: Path, place: Path) -> bool:
    """Copy a file into a folder; whether there is one."""
    if not source.is_file():
        return False
    place.mkdir(parents=True, exist_ok=True)
    with whole_file(place / source.name) as partial:
        shutil.copyfile(source, partial)
    return True
