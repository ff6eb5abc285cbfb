"""Read a pickled SciPy matrix without executing anything in the pickle.

``pickle.load`` calls every function that the file names, so a matrix from the web could run any
program. Here, each name that a pickled matrix needs stands for an inert record class, which only
keeps the arguments of the call. Every other name is rejected. Plain code then checks the records
and builds the arrays. So forged content never reaches NumPy's C code (``ndarray.__setstate__``
trusts its argument).
"""

import io
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.data.atomic import Interactions
from recbole_lightgnn.data.matrix import (
    MAX_BYTES,
    InvalidMatrix,
    checked_shape,
    compressed_pairs,
    coo_pairs,
    one_line,
)
from recbole_lightgnn.errors import InputError

MAX_STEPS = 10_000  # limit of opcodes; a pickled matrix has about 200

# The opcodes in pickled matrices, protocols 2 to 5. Excluded on purpose: protocols 0 and 1,
# instances (INST, OBJ), the extension registry (EXT*), persistent ids and out-of-band buffers.
_OPCODE_NAMES = """
    PROTO FRAME STOP MARK POP POP_MARK MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET GLOBAL
    STACK_GLOBAL NEWOBJ REDUCE BUILD NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT
    BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS
"""
_OPCODES = frozenset(_OPCODE_NAMES.split())

_EXPECTED = "expected a SciPy sparse matrix (COO, CSR or CSC), as pickle.dump writes it"


class _Record:
    """Inert replacement of a NumPy or SciPy object, with its arguments and state in the pickle."""

    __slots__ = ("args", "state")
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> "_Record":
        record = super().__new__(cls)
        record.args, record.state = args, None
        return record

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dtype(_Record):
    """Record of ``numpy.dtype(code, align, copy)``; its state is ``(version, byte order, ...)``."""

    __slots__ = ()


class _Array(_Record):
    """Record of an array; its state is ``(version, shape, dtype, fortran, bytes)``."""

    __slots__ = ()


class _Buffer(_Record):
    """Record of an array in pickle protocol 5, ``_frombuffer(bytes, dtype, shape, order)``."""

    __slots__ = ()


class _Scalar(_Record):
    """Record of a NumPy integer, ``scalar(dtype, bytes)``, as in a shape from an older SciPy."""

    __slots__ = ()


class _Encoded(_Record):
    """Record of bytes in pickle protocol 2, ``_codecs.encode(text, "latin1")``."""

    __slots__ = ()


class _Ndarray(_Record):
    """Record of ``numpy.ndarray``, which occurs only as an argument of ``_reconstruct``."""

    __slots__ = ()


class _Coo(_Record):
    """Record of a SciPy COO matrix or array; its state is the dict of the matrix's attributes."""

    __slots__ = ()


class _Csr(_Record):
    """Record of a SciPy CSR matrix or array; its state is the dict of the matrix's attributes."""

    __slots__ = ()


class _Csc(_Record):
    """Record of a SciPy CSC matrix or array; its state is the dict of the matrix's attributes."""

    __slots__ = ()


_GLOBALS: dict[tuple[str, str], type[_Record]] = {
    ("numpy", "ndarray"): _Ndarray,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Encoded,
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1, numpy 2
    _GLOBALS[f"{_core}.multiarray", "_reconstruct"] = _Array
    _GLOBALS[f"{_core}.multiarray", "scalar"] = _Scalar
    _GLOBALS[f"{_core}.numeric", "_frombuffer"] = _Buffer
for _form, _record_class in (("coo", _Coo), ("csr", _Csr), ("csc", _Csc)):
    # modules of SciPy before 1.8, since 1.8, and of its first sparse arrays
    for _module in (_form, f"_{_form}", "_arrays"):
        for _kind in ("matrix", "array"):
            _GLOBALS[f"scipy.sparse.{_module}", f"{_form}_{_kind}"] = _record_class


class _MatrixUnpickler(pickle.Unpickler):
    """Unpickler that accepts only the names of functions and classes in ``_GLOBALS``."""

    def find_class(self, module: str, name: str) -> type[_Record]:
        """Return the record class for a name; raises InvalidMatrix if no matrix needs the name."""
        try:
            return _GLOBALS[module, name]
        except KeyError:
            requested = one_line(f"{module}.{name}")
            raise InvalidMatrix(f"asks for {requested}, which no matrix needs") from None


def read_pickled_matrix(path: Path) -> Interactions:
    """Read a pickled SciPy COO, CSR or CSC matrix as user-item pairs, one for each nonzero value.

    Nothing in the file is executed. Values at the same row and column are summed
    (`matrix.coo_pairs`).

    Raises:
        InputError: if the file cannot be read, or has no such matrix, an index that is not an
            integer within the shape, or a value that is not finite.
    """
    try:
        return _pairs(_load(path))
    except InvalidMatrix as error:
        raise InputError(
            f"{path} {error}; {_EXPECTED}. Nothing in it was executed: get the file again from its "
            "publisher"
        ) from None
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); expected a pickled SciPy sparse matrix: "
            "check the path and its permissions"
        ) from error


def _load(path: Path) -> object:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InvalidMatrix(f"has {size} bytes, more than the limit of {MAX_BYTES}")
    content = path.read_bytes()
    if not content:
        raise InvalidMatrix("is empty")
    if content.startswith(b"version https://git-lfs"):
        raise InvalidMatrix("is a Git LFS pointer, not the file itself")
    _check_opcodes(content)
    stream = io.BytesIO(content)
    try:
        result = _MatrixUnpickler(stream).load()
    except InvalidMatrix:
        raise
    except Exception as error:  # per pickle's manual, a broken pickle may raise any exception
        raise InvalidMatrix(f"is truncated or damaged ({one_line(error)})") from error
    if stream.tell() != len(content):
        raise InvalidMatrix(f"has {len(content) - stream.tell()} more bytes after the matrix")
    return result


def _check_opcodes(content: bytes) -> None:
    """Reject a pickle with opcodes (instructions) that no matrix needs, before the unpickler runs.

    The check limits time and memory: for a memo index of 4 billion, ``pickle`` would allocate 4
    billion slots.
    """
    try:
        for step, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            if opcode.name not in _OPCODES:
                raise InvalidMatrix(f"is not a pickled matrix (it has the opcode {opcode.name})")
            if step >= MAX_STEPS or ("PUT" in opcode.name and (argument or 0) >= MAX_STEPS):
                raise InvalidMatrix("is not a pickled matrix (it has too many objects)")
    except InvalidMatrix:
        raise
    except Exception as error:
        raise InvalidMatrix(f"is truncated or not a pickle ({one_line(error)})") from error


def _pairs(matrix: object) -> Interactions:
    if not isinstance(matrix, _Coo | _Csr | _Csc):
        raise InvalidMatrix(f"contains {_kind_of(matrix)}, not a sparse matrix")
    state = matrix.state
    if not isinstance(state, dict):
        raise InvalidMatrix("contains a matrix without content")
    shape = _shape(_entry(state, "_shape"))
    values = _array(_entry(state, "data"), "data")
    if isinstance(matrix, _Coo):
        if "coords" in state:  # since SciPy 1.13
            coords = state["coords"]
            if not isinstance(coords, tuple) or len(coords) != 2:
                raise InvalidMatrix("contains a matrix that is not two-dimensional")
            rows, columns = (_array(axis, "coords") for axis in coords)
        else:
            rows, columns = (_array(_entry(state, axis), axis) for axis in ("row", "col"))
    else:
        indices = _array(_entry(state, "indices"), "indices")
        indptr = _array(_entry(state, "indptr"), "indptr")
        return compressed_pairs(indptr, indices, values, shape, is_csr=isinstance(matrix, _Csr))
    return coo_pairs(rows, columns, values, shape)


def _entry(state: dict[Any, Any], name: str) -> Any:
    if name not in state:
        raise InvalidMatrix(f"contains a matrix without its {name!r}")
    return state[name]


def _shape(value: Any) -> tuple[int, int]:
    if not isinstance(value, tuple) or len(value) != 2:
        raise InvalidMatrix("contains a matrix that is not two-dimensional")
    sizes = [int(_scalar(size)) if isinstance(size, _Scalar) else size for size in value]
    return checked_shape(sizes)


def _scalar(record: _Scalar) -> Any:
    if len(record.args) != 2:
        raise InvalidMatrix("contains a damaged number")
    return _from_bytes(record.args[1], record.args[0], (1,), "shape")[0]


def _array(record: Any, name: str) -> NDArray[Any]:
    """Build a one-dimensional array of numbers from a record of the array. Shape: (n,)"""
    if isinstance(record, _Buffer) and len(record.args) == 4:
        content, dtype, shape, _ = record.args
    elif isinstance(record, _Array) and isinstance(record.state, tuple) and len(record.state) == 5:
        _, shape, dtype, _, content = record.state
    else:
        raise InvalidMatrix(f"contains {_kind_of(record)} as {name!r}, not an array of numbers")
    return _from_bytes(content, dtype, shape, name)


def _from_bytes(content: Any, dtype: Any, shape: Any, name: str) -> NDArray[Any]:
    if isinstance(content, _Encoded):
        content = _encoded(content)
    if not isinstance(content, bytes | bytearray) or not isinstance(dtype, _Dtype):
        raise InvalidMatrix(f"contains {name!r}, which is not an array of numbers")
    if not isinstance(shape, tuple) or len(shape) != 1 or type(shape[0]) is not int:
        raise InvalidMatrix(f"contains {name!r}, which is not one-dimensional")
    kind = _dtype(dtype, name)
    if shape[0] * kind.itemsize != len(content):
        raise InvalidMatrix(f"contains {len(content)} bytes as {name!r}, not {shape[0]} of {kind}")
    return np.frombuffer(content, dtype=kind)


def _dtype(record: _Dtype, name: str) -> np.dtype[Any]:
    code = record.args[0] if record.args else None
    order = record.state[1] if isinstance(record.state, tuple) and len(record.state) > 1 else "|"
    known = isinstance(code, str) and re.fullmatch(r"b1|[iu][1248]|f[248]", code)
    if not known or order not in ("<", ">", "|"):
        raise InvalidMatrix(f"contains {name!r} of a type that is not integer, float or boolean")
    return np.dtype(f"{order}{code}")


def _encoded(record: _Encoded) -> bytes:
    if len(record.args) != 2 or record.args[1] != "latin1" or not isinstance(record.args[0], str):
        raise InvalidMatrix("contains damaged bytes")
    try:
        return record.args[0].encode("latin1")
    except UnicodeEncodeError:
        raise InvalidMatrix("contains damaged bytes") from None


def _kind_of(value: object) -> str:
    if isinstance(value, _Array | _Buffer | _Ndarray):
        return "a NumPy array"
    name = value.__name__ if isinstance(value, type) else type(value).__name__
    return f"a {name.lstrip('_').lower()}"
