"""SciPy sparse matrices as ``scipy.sparse.save_npz`` writes them, three files in a folder.

The archive is opened here and its arrays are built from their bytes, checked: an array of Python
objects, which is a pickle, is refused, and no header makes room for more than the file holds.
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
    Refused,
    compressed,
    find_file,
    merge,
    one_line,
    sizes,
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
    """Write the split in ``source`` as RecBole benchmark files under ``out/name``.

    User and item tokens are the 0-based row and column numbers of the matrices.

    Args:
        source: folder with ``train.npz``, ``valid.npz``, ``test.npz`` (or the names of `FILES`).
        name: the dataset's name, as for ``--dataset``.
        out: the folder of datasets, RecBole's ``data_path``.
        overwrite: replace a dataset of that name.

    Returns:
        The dataset's folder.

    Raises:
        InputError: if a file is missing or is no such matrix, or as ``write_benchmark``.
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
    """The nonzero entries of a matrix in an ``.npz`` file; as ``unpickle.read_pickled_matrix``.

    Raises:
        InputError: if the file cannot be read or is anything but such a matrix.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _pairs(_arrays(archive))
    except Refused as why:
        reason = str(why)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or one_line(error)}); {_EXPECTED}: check the "
            "path and its permissions"
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        # the last: encrypted; ValueError: a header that is no header; NotImplementedError is a
        # RuntimeError: an unusual compression
        reason = f"is truncated or damaged ({one_line(error)})"
    raise InputError(f"{path} {reason}; {_EXPECTED}: get the file again")


def _arrays(archive: zipfile.ZipFile) -> dict[str, NDArray[Any]]:
    members = archive.infolist()
    total = sum(member.file_size for member in members)
    if total > MAX_BYTES:
        raise Refused(f"unpacks to {total} bytes, more than the {MAX_BYTES} taken")
    return {m.filename.removesuffix(".npy"): _array(archive, m) for m in members}


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    stream = io.BytesIO(archive.read(member))  # of the size it says, or BadZipFile
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise Refused(f"holds an array of a version {version}")
    shape, _, dtype = _HEADERS[version](stream)
    name = one_line(member.filename)
    if dtype.hasobject:
        raise Refused(f"holds Python objects as {name}, which would have to be unpickled")
    if dtype.kind not in "biufSU" or len(shape) > 1:
        raise Refused(f"holds something else than numbers in a row as {name}")
    content = stream.read()
    count = shape[0] if shape else 1
    if count * dtype.itemsize != len(content):
        raise Refused(f"holds {len(content)} bytes as {name}, not {count} of {dtype}")
    array = np.frombuffer(content, dtype) if content else np.zeros(0, dtype)
    return array if shape else array[0]


def _pairs(arrays: dict[str, NDArray[Any]]) -> Interactions:
    kind = _entry(arrays, "format")
    form = kind.decode(errors="replace") if isinstance(kind, bytes) else str(kind)
    if form not in ("coo", "csr", "csc"):
        raise Refused(f"holds a matrix of format {one_line(form)}")
    shape = _vector(arrays, "shape")
    if len(shape) != 2 or shape.dtype.kind not in "iu":
        raise Refused("holds a matrix that is not two-dimensional")
    size = sizes(shape.tolist())
    values = _vector(arrays, "data")
    if values.dtype.kind not in "biuf":
        raise Refused(f"holds values of type {values.dtype}, not numbers")
    if form == "coo":
        return merge(_vector(arrays, "row"), _vector(arrays, "col"), values, size)
    indptr, indices = _vector(arrays, "indptr"), _vector(arrays, "indices")
    return compressed(indptr, indices, values, size, by_row=form == "csr")


def _vector(arrays: dict[str, NDArray[Any]], name: str) -> NDArray[Any]:
    array = _entry(arrays, name)
    if array.ndim != 1:
        raise Refused(f"holds {name!r} that is not one-dimensional")
    return array


def _entry(arrays: dict[str, NDArray[Any]], name: str) -> NDArray[Any]:
    if name not in arrays:
        raise Refused(f"holds a matrix without its {name!r}")
    return arrays[name]
