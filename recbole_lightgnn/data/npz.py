"""Import a dataset from three sparse matrices that ``scipy.sparse.save_npz`` wrote.

The files may be malicious. So the import does not call ``scipy.sparse.load_npz``, but builds the
arrays from the bytes of the files, with checks. An array of Python objects is rejected: it would be
a pickle, which can run code. A forged header cannot make the import allocate more memory than the
file's content needs.
"""

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.data.atomic import SPLITS, Interactions, dataset_folder, write_benchmark
from recbole_lightgnn.data.matrix import (
    MAX_BYTES,
    InvalidMatrix,
    checked_shape,
    compressed_pairs,
    coo_pairs,
    find_file,
    one_line,
)
from recbole_lightgnn.errors import InputError

FILES = {
    "train": ("train.npz", "trnMat.npz", "train_mat.npz"),
    "valid": ("valid.npz", "valMat.npz", "valid_mat.npz"),
    "test": ("test.npz", "tstMat.npz", "test_mat.npz"),
}
_EXPECTED = "expected a SciPy sparse matrix (COO, CSR or CSC), as scipy.sparse.save_npz writes it"
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def import_npz(
    source: Path, name: str, out: Path = Path("dataset"), overwrite: bool = False
) -> Path:
    """Write the splits in ``source`` as RecBole benchmark files (one per split) to ``out/name``.

    User tokens are the row numbers of the matrices, item tokens the column numbers, both from 0.

    Args:
        source: folder with ``train.npz``, ``valid.npz``, ``test.npz`` (or other names in `FILES`).
        name: the dataset's name, as for ``--dataset``.
        out: folder of all datasets, RecBole's ``data_path``.
        overwrite: whether an existing dataset may be replaced.

    Returns:
        The dataset's folder.

    Raises:
        InputError: if a file is missing or contains no matrix, or as `atomic.write_benchmark`.
    """
    source, out = Path(source), Path(out)
    dataset_folder(out, name, overwrite=overwrite)
    splits = {split: read_npz_matrix(find_file(source, split, FILES)) for split in SPLITS}
    origin = {
        "format": "npz",
        "source": str(source),
        "how_split": "as published, one matrix per split",
    }
    return write_benchmark(out, name, splits, origin, overwrite=overwrite)


def read_npz_matrix(path: Path) -> Interactions:
    """Read the nonzero entries of a COO, CSR or CSC matrix in an ``.npz`` file as user-item pairs.

    Entries with the same row and column are summed (`matrix.coo_pairs`).

    Raises:
        InputError: if the file cannot be read or does not contain such a matrix.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _pairs(_arrays(archive))
    except InvalidMatrix as error:
        reason = str(error)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or one_line(error)}); {_EXPECTED}: check the "
            "path and its permissions"
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        # RuntimeError: an encrypted archive; its subclass NotImplementedError: an unknown
        # compression; ValueError: a malformed header
        reason = f"is truncated or damaged ({one_line(error)})"
    raise InputError(f"{path} {reason}; {_EXPECTED}: get the file again")


def _arrays(archive: zipfile.ZipFile) -> dict[str, NDArray[Any]]:
    members = archive.infolist()
    total = sum(member.file_size for member in members)
    if total > MAX_BYTES:
        raise InvalidMatrix(f"unpacks to {total} bytes, more than the limit of {MAX_BYTES}")
    return {m.filename.removesuffix(".npy"): _array(archive, m) for m in members}


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    stream = io.BytesIO(archive.read(member))  # BadZipFile unless it has the size it claims
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise InvalidMatrix(f"contains an array of format version {version}")
    shape, _, dtype = _HEADERS[version](stream)
    name = one_line(member.filename)
    if dtype.hasobject:
        raise InvalidMatrix(f"contains Python objects as {name}, which would have to be unpickled")
    if dtype.kind not in "biufSU" or len(shape) > 1:
        raise InvalidMatrix(f"contains {name}, which is not a number or a one-dimensional array")
    content = stream.read()
    count = shape[0] if shape else 1
    if count * dtype.itemsize != len(content):
        raise InvalidMatrix(f"contains {len(content)} bytes as {name}, not {count} of {dtype}")
    array = np.frombuffer(content, dtype) if content else np.zeros(0, dtype)
    return array if shape else array[0]


def _pairs(arrays: dict[str, NDArray[Any]]) -> Interactions:
    entry = _entry(arrays, "format")
    form = entry.decode(errors="replace") if isinstance(entry, bytes) else str(entry)
    if form not in ("coo", "csr", "csc"):
        raise InvalidMatrix(f"contains a matrix of format {one_line(form)}")
    shape = _vector(arrays, "shape")
    if len(shape) != 2 or shape.dtype.kind not in "iu":
        raise InvalidMatrix("contains a matrix that is not two-dimensional")
    checked = checked_shape(shape.tolist())
    values = _vector(arrays, "data")
    if values.dtype.kind not in "biuf":
        raise InvalidMatrix(f"contains values of type {values.dtype}, not numbers")
    if form == "coo":
        return coo_pairs(_vector(arrays, "row"), _vector(arrays, "col"), values, checked)
    indptr, indices = _vector(arrays, "indptr"), _vector(arrays, "indices")
    return compressed_pairs(indptr, indices, values, checked, is_csr=form == "csr")


def _vector(arrays: dict[str, NDArray[Any]], name: str) -> NDArray[Any]:
    array = _entry(arrays, name)
    if array.ndim != 1:
        raise InvalidMatrix(f"contains {name!r}, which is not one-dimensional")
    return array


def _entry(arrays: dict[str, NDArray[Any]], name: str) -> NDArray[Any]:
    if name not in arrays:
        raise InvalidMatrix(f"contains a matrix without its {name!r}")
    return arrays[name]
