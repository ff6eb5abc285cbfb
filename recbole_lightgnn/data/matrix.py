"""Turn the arrays of a sparse user-item matrix, which may be malicious, into checked pairs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.data.atomic import Interactions
from recbole_lightgnn.errors import InputError

MAX_BYTES = 2**31  # about 10^8 interactions; the paper's largest file has about 10^6
MAX_ID = 2**31 - 1  # largest number of users or items; row * n_columns + column then fits 64 bits


class InvalidMatrix(Exception):
    """Error for arrays that do not form a usable matrix; the caller adds the file and a remedy."""


def one_line(value: object) -> str:
    """Shorten the text of a value to 80 ASCII characters, so that it fits into a one-line error."""
    text = " ".join(str(value).split()) or type(value).__name__
    return text.encode("ascii", "backslashreplace").decode()[:80]


def checked_shape(shape: Sequence[Any]) -> tuple[int, int]:
    """Return the shape of a matrix; raise InvalidMatrix unless both sizes are in 0..MAX_ID."""
    if not all(type(size) is int and 0 <= size <= MAX_ID for size in shape):
        raise InvalidMatrix(
            f"contains a matrix of shape {one_line(list(shape))}, not within 0..{MAX_ID}"
        )
    return shape[0], shape[1]


def coo_pairs(rows: Any, columns: Any, values: Any, shape: tuple[int, int]) -> Interactions:
    """Return the nonzero entries of a COO matrix as sorted pairs (user, item).

    Entries with the same row and column are summed, as in SciPy. If the sum is zero, there is no
    pair.

    Args:
        rows: row of each entry. Shape: (n,)
        columns: column of each entry. Shape: (n,)
        values: value of each entry. Shape: (n,)
        shape: number of rows (users) and of columns (items).

    Raises:
        InvalidMatrix: if the lengths differ, an index is not an integer inside the shape, or a
            value is not finite.
    """
    if not len(rows) == len(columns) == len(values):
        raise InvalidMatrix(
            f"contains {len(rows)} rows, {len(columns)} columns and {len(values)} values, not the "
            "same number of each"
        )
    for name, index, bound in (("row", rows, shape[0]), ("column", columns, shape[1])):
        if index.dtype.kind not in "iu":
            raise InvalidMatrix(f"contains {name} numbers of type {index.dtype}, not integers")
        if len(index) and (index.min() < 0 or index.max() >= bound):
            wrong = index.min() if index.min() < 0 else index.max()
            raise InvalidMatrix(f"contains {name} number {wrong}, outside 0..{bound - 1}")
    if not np.isfinite(values).all():
        raise InvalidMatrix("contains a value that is not a finite number")
    key = rows.astype(np.int64) * shape[1] + columns.astype(np.int64)
    unique, position = np.unique(key, return_inverse=True)
    # float64, so that 256 ones of type int8 do not sum to 0
    sums = np.bincount(position, weights=values.astype(np.float64), minlength=len(unique))
    users, items = np.divmod(unique[sums != 0], shape[1])
    return Interactions(users, items, shape, len(key) - len(unique))


def expand_indptr(indptr: NDArray[Any], n_major: int, n_indices: int) -> NDArray[np.int64]:
    """Return the row of each entry of a CSR matrix, or the column of each entry of a CSC matrix.

    Args:
        indptr: index of the first entry of each row or column, then the number of entries.
            Shape: (n_major + 1,)
        n_major: number of rows (CSR) or columns (CSC).
        n_indices: length of the array of indices, at least the number of entries.

    Returns:
        Row or column of each entry. Shape: (indptr[-1],)

    Raises:
        InvalidMatrix: if ``indptr`` does not rise from 0 to at most ``n_indices``.
    """
    if indptr.dtype.kind not in "iu" or len(indptr) != n_major + 1:
        raise InvalidMatrix(f"contains {len(indptr)} starts of rows, not {n_major + 1} integers")
    if indptr[0] != 0 or indptr[-1] > n_indices or (indptr[1:] < indptr[:-1]).any():
        raise InvalidMatrix(
            "contains starts of rows that do not rise from 0 to the number of entries"
        )
    starts = indptr.astype(np.int64)
    return np.repeat(np.arange(n_major, dtype=np.int64), starts[1:] - starts[:-1])


def compressed_pairs(
    indptr: NDArray[Any],
    indices: NDArray[Any],
    values: NDArray[Any],
    shape: tuple[int, int],
    *,
    is_csr: bool,
) -> Interactions:
    """Return the nonzero entries of a CSR or CSC matrix as sorted pairs, like `coo_pairs`.

    Args:
        indptr: index of the first entry of each row (CSR) or column (CSC), then the number of
            entries. Shape: (n_rows + 1,) or (n_columns + 1,)
        indices: column (CSR) or row (CSC) of each entry. Shape: (n,)
        values: value of each entry. Shape: (n,)
        shape: number of rows (users) and of columns (items).
        is_csr: True for a CSR matrix, False for a CSC matrix.

    Raises:
        InvalidMatrix: as `expand_indptr` and `coo_pairs`.
    """
    major = expand_indptr(indptr, shape[0] if is_csr else shape[1], len(indices))
    indices, values = indices[: len(major)], values[: len(major)]
    rows, columns = (major, indices) if is_csr else (indices, major)
    return coo_pairs(rows, columns, values, shape)


def find_file(source: Path, split: str, names: Mapping[str, Sequence[str]]) -> Path:
    """Find the file of a split in a folder.

    Args:
        source: the folder.
        split: ``train``, ``valid`` or ``test``.
        names: possible names of the file, by split.

    Raises:
        InputError: if the folder does not exist, or has no file with one of the names.
    """
    if not source.is_dir():
        raise InputError(
            f"{source} is not a folder; expected one with "
            f"{', '.join(files[0] for files in names.values())}: check the path"
        )
    for file in names[split]:
        if (source / file).is_file():
            return source / file
    raise InputError(
        f"{source} has no {split} split; expected a file {' or '.join(names[split])}: check that "
        "the folder is complete"
    )
