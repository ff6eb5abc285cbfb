"""The file format of an exported model: magic, version, checksum, JSON header, named arrays.

``docs/reference/file-format.md`` describes the format byte by byte. Reading executes nothing from
the file. Wrong content raises `Damaged`, which `reading` turns into InputError.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from recbole_lightgnn.errors import InputError

MAGIC = b"\x8aLGNN\r\n\x1a"  # not text; any conversion of line endings changes it
FIRST_VERSION, VERSION = 1, 2  # of the format; a file has the lowest one that can hold it
_START = struct.Struct("<8sII")  # magic, version, bytes of the header
_HEADER_START = _START.size + hashlib.sha256().digest_size  # position of the header in the file
_ALIGNMENT = 64  # bytes; arrays that are not deflated begin at multiples of this number
_DTYPES = {name: np.dtype("<" + name) for name in ("u1", "i1", "u2", "u4", "u8", "f2", "f4")}
_MAX_EXPANSION = 1032  # DEFLATE's largest ratio: a small file cannot claim much memory

Arrays = dict[str, np.ndarray]  # arrays of one dimension, by name
_Entry = tuple[str, str, int, bool, int]  # name, type, length, whether deflated, bytes in the file


class Damaged(ValueError):
    """Exception for a file with wrong content; the message gives the reason."""


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Context manager that turns `Damaged` into an InputError with the file's ``name``.

    Raises:
        InputError: if the code in the context raises `Damaged` or runs out of memory.
    """
    try:
        yield
    except Damaged as error:
        raise InputError(
            f"{name} is damaged ({error}): copy it again, or export the model again"
        ) from error
    except MemoryError as error:
        raise InputError(
            f"{name} needs more memory than is available: end other programs, or use a larger "
            "machine"
        ) from error


# --- writing --------------------------------------------------------------------------------


def pack(
    meta: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    mapped: Collection[str] = (),
    version: int = FIRST_VERSION,
) -> tuple[bytes, dict[str, int]]:
    """Encode a description and arrays as the bytes of a file; equal content gives equal bytes.

    Args:
        meta: description of the content, values of strict JSON.
        arrays: arrays of one dimension by name, of the types in ``docs/reference/file-format.md``.
        mapped: names of arrays that must not be deflated, so that a reader can memory-map them.
            Other arrays are deflated if this makes them smaller.
        version: version of the format.

    Returns:
        First, the content of the file. Second, the number of bytes of each array in the file, by
        name.
    """
    entries: list[_Entry] = []
    contents = []
    for name, array in arrays.items():
        kind = array.dtype.str[1:]
        raw = np.ascontiguousarray(array, _DTYPES[kind]).tobytes()
        small = raw if name in mapped else _deflate(raw, array.itemsize)
        deflated = len(small) < len(raw)
        contents.append(small if deflated else raw)
        entries.append((name, kind, len(array), deflated, len(contents[-1])))
    header = json.dumps(
        {"arrays": entries, "meta": meta}, sort_keys=True, allow_nan=False, separators=(",", ":")
    ).encode()
    body = bytearray(header)
    for (*_, deflated, _), content in zip(entries, contents, strict=True):
        body += b"\0" * _padding(_HEADER_START + len(body), deflated) + content
    start = _START.pack(MAGIC, version, len(header))
    digest = hashlib.sha256(start + body).digest()
    return start + digest + bytes(body), {entry[0]: entry[-1] for entry in entries}


def stored_size(array: np.ndarray) -> int:
    """Number of bytes that an array will take in a file."""
    return pack({}, {"": array})[1][""]


def _padding(position: int, deflated: bool) -> int:
    """Number of zero bytes before the next array, so that the array is aligned in memory."""
    return 0 if deflated else -position % _ALIGNMENT


def _deflate(raw: bytes, itemsize: int) -> bytes:
    """Compress an array with raw DEFLATE: first bytes of all numbers, then second bytes, ...

    The smaller of two results is used: Huffman coding alone can be smaller than full DEFLATE for
    quantized values and distances, which rarely repeat but are unevenly distributed.
    """
    planes = np.frombuffer(raw, np.uint8).reshape(-1, itemsize).T.tobytes()
    results = []
    for strategy in (zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY):
        deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, strategy)
        results.append(deflate.compress(planes) + deflate.flush())
    return min(results, key=len)


# --- reading --------------------------------------------------------------------------------


def read(path: Path, mapped: bool = True) -> tuple[dict[str, Any], Arrays]:
    """Read and check a file; return its description and its arrays (`unpack`).

    Args:
        path: the file.
        mapped: whether to memory-map the file; if not, the whole file is read into memory. Never
            overwrite a mapped file in use: write a new file and rename it.

    Raises:
        InputError: if the file is missing or cannot be read, or if `unpack` raises it.
    """
    try:
        data = np.asarray(np.memmap(path, np.uint8, "r"))
        if not mapped:
            # Checked first, so that a large file of another kind is not copied to memory.
            _check_start(bytes(data[:_HEADER_START]), len(data), str(path))
            with reading(str(path)):
                data = np.fromfile(path, np.uint8)
    except FileNotFoundError as error:
        raise InputError(f"no file at {path}: check the path") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError:  # NumPy cannot map an empty file
        data = np.empty(0, np.uint8)
    return unpack(data, str(path))


def unpack(data: np.ndarray, name: str) -> tuple[dict[str, Any], Arrays]:
    """Check the bytes of a file, and return the description and arrays that `pack` encoded.

    Arrays that are not deflated stay views of ``data``.

    Args:
        data: the bytes of a file, uint8. Shape: (bytes,)
        name: name of the file, for error messages.

    Returns:
        The description (``meta``), and the arrays by name.

    Raises:
        InputError: if the bytes are another kind of file, have a newer format version, are cut off
            or are damaged.
    """
    header_end = _check_start(bytes(data[:_HEADER_START]), len(data), name)
    with reading(name):
        digest = hashlib.sha256(data[: _START.size].data)
        digest.update(data[_HEADER_START:].data)
        intact = digest.digest() == bytes(data[_START.size : _HEADER_START])
        try:
            meta, entries = _header(bytes(data[_HEADER_START:header_end]))
        except Damaged:
            if intact:
                raise
            entries = []
        # Checked first, so that a file that is cut off is reported as such.
        _check_size(name, len(data), _file_size(entries, header_end))
        if not intact:
            raise Damaged("its checksum does not match its content")
        return meta, _arrays(data, entries, header_end)


def _arrays(data: np.ndarray, entries: list[_Entry], position: int) -> Arrays:
    """Read the arrays that the header lists in ``entries``. The header ends at ``position``."""
    arrays = {}
    for name, kind, count, deflated, size in entries:
        position += _padding(position, deflated)
        content = data[position : position + size]
        arrays[name] = _array(content, _DTYPES[kind], count, deflated, name)
        position += size
    if position != len(data):
        raise Damaged(f"{len(data) - position} bytes follow the last array")
    return arrays


def _check_start(start: bytes, size: int, name: str) -> int:
    """Check magic, version and size of a file; return the position where the header ends."""
    if not start or start[: len(MAGIC)] != MAGIC[: len(start)]:
        raise InputError(
            f"{name} is not a model of `recbole-lightgnn export` (its first bytes differ): give a "
            "file that this command wrote"
        )
    _check_size(name, size, _HEADER_START)
    _, version, header_size = _START.unpack(start[: _START.size])
    if not FIRST_VERSION <= version <= VERSION:
        raise InputError(
            f"{name} is a model of format {version}, but this version of recbole-lightgnn reads "
            f"formats {FIRST_VERSION} to {VERSION}: install a newer version; if the file is "
            "damaged, copy it again"
        )
    _check_size(name, size, _HEADER_START + header_size)
    return _HEADER_START + int(header_size)


def _check_size(name: str, size: int, least: int) -> None:
    if size < least:
        raise InputError(
            f"{name} is cut off: it has {size} bytes, expected at least {least}; copy it again, or "
            "export the model again"
        )


def _file_size(entries: list[_Entry], position: int) -> int:
    """Compute a file's size in bytes. The header lists ``entries`` and ends at ``position``."""
    for *_, deflated, size in entries:
        position += _padding(position, deflated) + size
    return position


def _header(text: bytes) -> tuple[dict[str, Any], list[_Entry]]:
    try:
        content = json.loads(text.decode(), parse_constant=_refuse, parse_float=_finite)
        meta, entries = content["meta"], [_entry(*entry) for entry in content["arrays"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged("its header is not valid") from error
    if not isinstance(meta, dict) or len({entry[0] for entry in entries}) < len(entries):
        raise Damaged("its header has no description, or lists an array twice")
    return meta, entries


def _entry(name: Any, kind: Any, count: Any, deflated: Any, size: Any) -> _Entry:
    types_fit = type(count) is int and type(size) is int and type(deflated) is bool
    if not types_fit or not isinstance(name, str) or kind not in _DTYPES or min(count, size) < 0:
        raise ValueError("not the description of an array")
    return name, kind, count, deflated, size


def _finite(number: str) -> float:
    return float(number) if isfinite(float(number)) else _refuse(number)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _array(
    content: np.ndarray, dtype: np.dtype, count: int, deflated: bool, name: str
) -> np.ndarray:
    size = count * dtype.itemsize
    if not deflated:
        if size != len(content):
            raise Damaged(f"{name}: {len(content)} bytes, expected {size}")
        return content.view(dtype)
    if size > _MAX_EXPANSION * len(content):
        raise Damaged(f"{name}: {len(content)} bytes cannot hold {size}")
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        raw = inflate.decompress(content.data, size + 1)  # one more, to detect surplus bytes
    except zlib.error as error:
        raise Damaged(f"{name}: {error}") from error
    if len(raw) != size or not inflate.eof or inflate.unused_data:
        raise Damaged(f"{name}: not the {size} bytes that the header says")
    planes = np.frombuffer(raw, np.uint8).reshape(dtype.itemsize, count)
    return np.ascontiguousarray(planes.T).view(dtype).reshape(count)
