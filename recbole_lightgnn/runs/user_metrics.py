"""Beside a run's record: the test metrics of every user, by which two models are compared."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.files import whole_file

_USER, _DEGREE, _ROWS = "user", "train_interactions", "rows"
# What numpy and the zip that it reads raise of a file that is damaged, wherever it is.
_DAMAGES = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)


class Users(NamedTuple):
    """What the rows of a record come to for each test user.

    Attributes:
        user: tokens of the users, in the order of the split's loader. Shape: (users,)
        degree: their interactions in the train split. Shape: (users,)
        rows: by key of a row, by name of a metric (``recall@20``), of each user. Shape: (users,)
    """

    user: np.ndarray
    degree: np.ndarray
    rows: dict[str, dict[str, np.ndarray]]


def users_file(record: Path) -> Path:
    """Where the users of a record are."""
    return record.with_suffix(".users.npz")


def write_users(
    file: Path,
    user: Sequence[str],
    degree: np.ndarray,
    rows: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Write them as plain arrays, which ``numpy.load`` reads: a metric's has shape (rows, users).

    Args:
        file: see `users_file`; its folder is made where it is missing.
        user, degree, rows: as in `Users`; each row has the same metrics.
    """
    names = list(next(iter(rows.values())))
    # A user's values in all rows side by side: they resemble each other, so that the file is two
    # thirds as large.
    arrays = {name: np.stack([row[name] for row in rows.values()], axis=1).T for name in names}
    arrays |= {_USER: np.asarray(user), _DEGREE: degree, _ROWS: np.array(list(rows))}
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as partial, partial.open("wb") as out:
        np.savez_compressed(out, **arrays)


def read_users(file: Path) -> Users | None:
    """What `write_users` wrote; ``None`` where there is no file. Nothing is unpickled.

    Raises:
        InputError: if the file is something else, or damaged.
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
        str(key): {name: table[place] for name, table in content.items()}
        for place, key in enumerate(keys)
    }
    return Users(user, degree, rows)
