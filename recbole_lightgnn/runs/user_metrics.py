"""Test metrics of each single user, in a file beside the record, for significance tests."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.files import whole_file

_USER, _DEGREE, _ROWS = "user", "train_interactions", "rows"
# Exceptions that numpy and zipfile raise for a damaged file, depending on the damage.
_DAMAGES = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)


class Users(NamedTuple):
    """Test metrics of each user, for each trained model of a run.

    Attributes:
        user: tokens of the users, in the order of the test loader. Shape: (users,)
        degree: number of training interactions of each user. Shape: (users,)
        rows: ``rows[key][metric]`` holds one metric (``recall@20``) of the model that has this
            ``key`` in the record. Shape of each: (users,)
    """

    user: np.ndarray
    degree: np.ndarray
    rows: dict[str, dict[str, np.ndarray]]


def users_file(record: Path) -> Path:
    """Return the path of the file with the user metrics of the record at ``record``."""
    return record.with_suffix(".users.npz")


def write_users(
    file: Path,
    user: Sequence[str],
    degree: np.ndarray,
    rows: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Write the test metrics of each user as a file for ``numpy.load``: an array for each metric.

    Args:
        file: path to write (`users_file`); its folder is created if it is missing.
        user: tokens of the users. Shape: (users,)
        degree: number of training interactions of each user. Shape: (users,)
        rows: ``rows[key][metric]`` holds one metric of the model that has this ``key`` in the
            record. The metrics are the same for all models. Shape of each: (users,)
    """
    names = list(next(iter(rows.values())))
    # The values of a user in all rows lie side by side in memory. They are similar, so the
    # compressed file is a third smaller.
    arrays: dict[str, Any] = {
        name: np.stack([row[name] for row in rows.values()], axis=1).T for name in names
    }
    arrays |= {_USER: np.asarray(user), _DEGREE: degree, _ROWS: np.array(list(rows))}
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as partial, partial.open("wb") as out:
        np.savez_compressed(out, **arrays)


def read_users(file: Path) -> Users | None:
    """Read the file that `write_users` wrote, without unpickling; ``None`` if there is no file.

    Raises:
        InputError: if the file is damaged, or was not written by `write_users`.
    """
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in arrays.files}
        user, degree, keys = (content.pop(name) for name in (_USER, _DEGREE, _ROWS))
        for name, table in content.items():
            if table.shape != (len(keys), len(user)):
                raise ValueError(f"{name} has shape {table.shape}")
    except _DAMAGES as error:
        raise InputError(
            f"{file} is no file of users' metrics ({error}): remove it and its record, and run anew"
        ) from error
    rows = {
        str(key): {name: table[row] for name, table in content.items()}
        for row, key in enumerate(keys)
    }
    return Users(user, degree, rows)
