"""Reading a pickled SciPy matrix without running what is in the pickle.

``pickle.load`` calls whatever the file names, so a matrix from the web can run any program.
Here nothing of NumPy or SciPy is called either: every name that a pickled matrix needs stands for
an inert record below, which only keeps what it is given; any other name is refused. The arrays
are then built from those records by plain, checked code. So a forged state reaches no C code of
NumPy (``ndarray.__setstate__`` trusts its argument).
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
from recbole_lightgnn.data.matrix import MAX_BYTES, Refused, compressed, merge, one_line, sizes
from recbole_lightgnn.errors import InputError

MAX_STEPS = 10_000  # a pickled matrix takes about 200 opcodes; each costs at most a few bytes

# What pickling a matrix emits, protocols 2 to 5. Left out on purpose: protocols 0 and 1, instances
# (INST, OBJ), the extension registry (EXT*), persistent ids, out-of-band buffers.
_OPCODE_NAMES = """
    PROTO FRAME STOP MARK POP POP_MARK MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET GLOBAL
    STACK_GLOBAL NEWOBJ REDUCE BUILD NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT
    BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS
"""
_OPCODES = frozenset(_OPCODE_NAMES.split())

_EXPECTED = "expected a SciPy sparse matrix (COO, CSR or CSC), as pickle.dump writes it"


class _Record:
    """Stands for a NumPy or SciPy object: keeps arguments and state, does nothing with them."""

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
    """``numpy.dtype(code, align, copy)``, state ``(version, byte order, ...)``."""

    __slots__ = ()


class _Array(_Record):
    """``_reconstruct(...)``, state ``(version, shape, dtype, fortran, bytes)``."""

    __slots__ = ()


class _Buffer(_Record):
    """``_frombuffer(bytes, dtype, shape, order)``: an array in protocol 5."""

    __slots__ = ()


class _Scalar(_Record):
    """``scalar(dtype, bytes)``: older SciPy may keep a shape as NumPy integers."""

    __slots__ = ()


class _Encoded(_Record):
    """``_codecs.encode(text, "latin1")``: bytes in protocol 2."""

    __slots__ = ()


class _Ndarray(_Record):
    """``numpy.ndarray``, named as an argument of ``_reconstruct`` only."""

    __slots__ = ()


class _Coo(_Record):
    __slots__ = ()


class _Csr(_Record):
    __slots__ = ()


class _Csc(_Record):
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
for _form, _stand_in in (("coo", _Coo), ("csr", _Csr), ("csc", _Csc)):
    for _module in (_form, f"_{_form}", "_arrays"):  # SciPy before and since 1.8; its first arrays
        for _kind in ("matrix", "array"):
            _GLOBALS[f"scipy.sparse.{_module}", f"{_form}_{_kind}"] = _stand_in


class _MatrixUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[_Record]:
        try:
            return _GLOBALS[module, name]
        except KeyError:
            asked = one_line(f"{module}.{name}")
            raise Refused(f"asks for {asked}, which no matrix needs") from None


def read_pickled_matrix(path: Path) -> Interactions:
    """The nonzero entries of a pickled SciPy COO, CSR or CSC matrix, as pairs.

    Entries of the same row and column are summed, as SciPy does; entries that are (or sum to)
    zero are no interaction.

    Raises:
        InputError: if the file cannot be read or is anything but such a matrix with integer
            indices inside its shape and finite numbers. Nothing in the file is ever executed.
    """
    try:
        return _pairs(_load(path))
    except Refused as why:
        raise InputError(
            f"{path} {why}; {_EXPECTED}. Nothing in it was executed: get the file again from its "
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
        raise Refused(f"has {size} bytes, more than the {MAX_BYTES} taken")
    content = path.read_bytes()
    if not content:
        raise Refused("is empty")
    if content.startswith(b"version https://git-lfs"):
        raise Refused("is a Git LFS pointer, not the file itself")
    _check_opcodes(content)
    stream = io.BytesIO(content)
    try:
        result = _MatrixUnpickler(stream).load()
    except Refused:
        raise
    except Exception as error:  # a broken pickle may raise anything at all, says pickle's manual
        raise Refused(f"is truncated or damaged ({one_line(error)})") from error
    if stream.tell() != len(content):
        raise Refused(f"goes on for {len(content) - stream.tell()} bytes after the matrix")
    return result


def _check_opcodes(content: bytes) -> None:
    """Refuse what a matrix does not need before any of it runs.

    Guards time and memory (a memo index of four billion makes ``pickle`` allocate that many
    slots); what may be *called* is decided by ``find_class`` alone.
    """
    try:
        for step, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            if opcode.name not in _OPCODES:
                raise Refused(f"is no pickled matrix (it holds a pickle {opcode.name} step)")
            if step >= MAX_STEPS or ("PUT" in opcode.name and (argument or 0) >= MAX_STEPS):
                raise Refused("is no pickled matrix (it holds too many objects)")
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"is truncated or no pickle ({one_line(error)})") from error


def _pairs(matrix: object) -> Interactions:
    if not isinstance(matrix, _Coo | _Csr | _Csc):
        raise Refused(f"holds {_kind_of(matrix)}, no sparse matrix")
    state = matrix.state
    if not isinstance(state, dict):
        raise Refused("holds a matrix without content")
    shape = _shape(_entry(state, "_shape"))
    values = _array(_entry(state, "data"), "data")
    if isinstance(matrix, _Coo):
        if "coords" in state:  # since SciPy 1.13
            coords = state["coords"]
            if not isinstance(coords, tuple) or len(coords) != 2:
                raise Refused("holds a matrix that is not two-dimensional")
            rows, columns = (_array(axis, "coords") for axis in coords)
        else:
            rows, columns = (_array(_entry(state, axis), axis) for axis in ("row", "col"))
    else:
        indices = _array(_entry(state, "indices"), "indices")
        indptr = _array(_entry(state, "indptr"), "indptr")
        return compressed(indptr, indices, values, shape, by_row=isinstance(matrix, _Csr))
    return merge(rows, columns, values, shape)


def _entry(state: dict[Any, Any], name: str) -> Any:
    if name not in state:
        raise Refused(f"holds a matrix without its {name!r}")
    return state[name]


def _shape(value: Any) -> tuple[int, int]:
    if not isinstance(value, tuple) or len(value) != 2:
        raise Refused("holds a matrix that is not two-dimensional")
    return sizes([int(_scalar(size)) if isinstance(size, _Scalar) else size for size in value])


def _scalar(record: _Scalar) -> Any:
    if len(record.args) != 2:
        raise Refused("holds a damaged number")
    return _from_bytes(record.args[1], record.args[0], (1,), "shape")[0]


def _array(record: Any, name: str) -> NDArray[Any]:
    """A one-dimensional array of numbers (n,) from its record."""
    if isinstance(record, _Buffer) and len(record.args) == 4:
        content, dtype, shape, _ = record.args
    elif isinstance(record, _Array) and isinstance(record.state, tuple) and len(record.state) == 5:
        _, shape, dtype, _, content = record.state
    else:
        raise Refused(f"holds {_kind_of(record)} as {name!r}, not an array of numbers")
    return _from_bytes(content, dtype, shape, name)


def _from_bytes(content: Any, dtype: Any, shape: Any, name: str) -> NDArray[Any]:
    if isinstance(content, _Encoded):
        content = _encoded(content)
    if not isinstance(content, bytes | bytearray) or not isinstance(dtype, _Dtype):
        raise Refused(f"holds something else than numbers as {name!r}")
    if not isinstance(shape, tuple) or len(shape) != 1 or type(shape[0]) is not int:
        raise Refused(f"holds {name!r} that is not one-dimensional")
    kind = _dtype(dtype, name)
    if shape[0] * kind.itemsize != len(content):
        raise Refused(f"holds {len(content)} bytes as {name!r}, not {shape[0]} of {kind}")
    return np.frombuffer(content, dtype=kind)


def _dtype(record: _Dtype, name: str) -> np.dtype[Any]:
    code = record.args[0] if record.args else None
    order = record.state[1] if isinstance(record.state, tuple) and len(record.state) > 1 else "|"
    known = isinstance(code, str) and re.fullmatch(r"b1|[iu][1248]|f[248]", code)
    if not known or order not in ("<", ">", "|"):
        raise Refused(f"holds {name!r} of a type that is not integer, real or true/false")
    return np.dtype(f"{order}{code}")


def _encoded(record: _Encoded) -> bytes:
    if len(record.args) != 2 or record.args[1] != "latin1" or not isinstance(record.args[0], str):
        raise Refused("holds damaged bytes")
    try:
        return record.args[0].encode("latin1")
    except UnicodeEncodeError:
        raise Refused("holds damaged bytes") from None


def _kind_of(value: object) -> str:
    if isinstance(value, _Array | _Buffer | _Ndarray):
        return "a NumPy array"
    name = value.__name__ if isinstance(value, type) else type(value).__name__
    return f"a {name.lstrip('_').lower()}"
