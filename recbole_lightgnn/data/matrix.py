"""From the arrays of a sparse matrix, whatever file they came from, to its pairs: checked code."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.data.atomic import Interactions
from recbole_lightgnn.errors import InputError

MAX_BYTES = 2**31  # about a hundred million interactions; the paper's largest file has a million
MAX_ID = 2**31 - 1  # largest number of users or items; row * columns + column then fits 64 bits


class Refused(Exception):
    """Why a file is not taken; who opened it adds where and what to do."""


def one_line(value: object) -> str:
    """The start of a foreign text, fit to be printed in an error of one line."""
    text = " ".join(str(value).split()) or type(value).__name__
    return text.encode("ascii", "backslashreplace").decode()[:80]


def sizes(shape: Sequence[Any]) -> tuple[int, int]:
    """A matrix's shape, checked."""
    if not all(type(size) is int and 0 <= size <= MAX_ID for size in shape):
        raise Refused(f"holds a matrix of shape {one_line(list(shape))}, not within 0..{MAX_ID}")
    return shape[0], shape[1]


def merge(rows: Any, columns: Any, values: Any, shape: tuple[int, int]) -> Interactions:
    """Triplets (n,), (n,), (n,) -> sorted pairs whose values do not sum to zero.

    Raises:
        Refused: if the lengths differ, an index is no integer inside the shape, or a value is not
            finite.
    """
    if not len(rows) == len(columns) == len(values):
        raise Refused(
            f"holds {len(rows)} rows, {len(columns)} columns and {len(values)} values, not as "
            "many of each"
        )
    for name, index, bound in (("row", rows, shape[0]), ("column", columns, shape[1])):
        if index.dtype.kind not in "iu":
            raise Refused(f"holds {name} numbers of type {index.dtype}, not integers")
        if len(index) and (index.min() < 0 or index.max() >= bound):
            wrong = index.min() if index.min() < 0 else index.max()
            raise Refused(f"holds {name} number {wrong}, outside 0..{bound - 1}")
    if not np.isfinite(values).all():
        raise Refused("holds a value that is not a finite number")
    key = rows.astype(np.int64) * shape[1] + columns.astype(np.int64)
    unique, position = np.unique(key, return_inverse=True)
    # float64, so that 256 ones of type int8 do not add up to 0
    sums = np.bincount(position, weights=values.astype(np.float64), minlength=len(unique))
    users, items = np.divmod(unique[sums != 0], shape[1])
    return Interactions(users, items, shape, len(key) - len(unique))


def expand(indptr: NDArray[Any], n_major: int, n_indices: int) -> NDArray[np.int64]:
    """The row (CSR) or column (CSC) number of each entry, from the starts (n_major + 1,)."""
    if indptr.dtype.kind not in "iu" or len(indptr) != n_major + 1:
        raise Refused(f"holds {len(indptr)} starts of rows, not {n_major + 1} integers")
    if indptr[0] != 0 or indptr[-1] > n_indices or (indptr[1:] < indptr[:-1]).any():
        raise Refused("holds starts of rows that do not rise from 0 to the number of entries")
    starts = indptr.astype(np.int64)
    return np.repeat(np.arange(n_major, dtype=np.int64), starts[1:] - starts[:-1])


def compressed(
    indptr: NDArray[Any],
    indices: NDArray[Any],
    values: NDArray[Any],
    shape: tuple[int, int],
    *,
    by_row: bool,
) -> Interactions:
    """The pairs of a CSR (``by_row``) or CSC matrix."""
    major = expand(indptr, shape[0] if by_row else shape[1], len(indices))
    indices, values = indices[: len(major)], values[: len(major)]
    rows, columns = (major, indices) if by_row else (indices, major)
    return merge(rows, columns, values, shape)


def find_file(source: Path, split: str, names: Mapping[str, Sequence[str]]) -> Path:
    """The file of a split in a folder, under any of its names.

    Raises:
        InputError: if the folder or the file is not there.
    """
    if not source.is_dir():
        raise InputError(
            f"{source} is no folder; expected one with {', '.join(f[0] for f in names.values())}: "
            "check the path"
        )
    for file in names[split]:
        if (source / file).is_file():
            return source / file
    raise InputError(
        f"{source} has no {split} split; expected a file {' or '.join(names[split])}: check that "
        "the folder is complete"
    )
