"""The file around a model: magic, version, checksum, a header of JSON, named arrays.

``docs/FORMAT.md`` describes it byte by byte. Nothing in a file is executed, and nothing is
believed: what does not fit is `Damaged`.
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

MAGIC = b"\x8aLGNN\r\n\x1a"  # no text, and damaged by whatever changes ends of lines
VERSION = 1
_START = struct.Struct("<8sII")  # magic, version, bytes of the header
_BODY = _START.size + hashlib.sha256().digest_size  # where the header begins
_ALIGNED = 64  # where an array begins that is stored as it is
_DTYPES = {name: np.dtype("<" + name) for name in ("u1", "i1", "u2", "u4", "u8", "f2", "f4")}
# DEFLATE makes no more than 1032 bytes of one: a small file cannot ask for much memory.
_EXPANSION = 1032

Arrays = dict[str, np.ndarray]
_Entry = tuple[str, str, int, bool, int]  # name, type, length, whether deflated, bytes stored


class Damaged(ValueError):
    """The content of a file is not as it was written; says why."""


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn what goes wrong in a file into an InputError that names it."""
    try:
        yield
    except Damaged as error:
        raise InputError(
            f"{name} is damaged ({error}): copy it anew, or export the model again"
        ) from error
    except MemoryError as error:
        raise InputError(
            f"{name} needs more memory than there is: end other programs, or use a larger machine"
        ) from error


# --- writing --------------------------------------------------------------------------------


def pack(
    meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], mapped: Collection[str] = ()
) -> tuple[bytes, dict[str, int]]:
    """The bytes of a file; the same for the same content.

    Args:
        meta: strict JSON.
        arrays: by name; of one dimension, of the types above.
        mapped: names of those that are stored as they are, so that a reader can map them; others
            are stored as they are or deflated, whichever is smaller.

    Returns:
        The bytes, and how many each array takes.
    """
    entries: list[_Entry] = []
    stored = []
    for name, array in arrays.items():
        kind = array.dtype.str[1:]
        raw = np.ascontiguousarray(array, _DTYPES[kind]).tobytes()
        small = raw if name in mapped else _deflate(raw, array.itemsize)
        deflated = len(small) < len(raw)
        stored.append(small if deflated else raw)
        entries.append((name, kind, len(array), deflated, len(stored[-1])))
    header = json.dumps(
        {"arrays": entries, "meta": meta}, sort_keys=True, allow_nan=False, separators=(",", ":")
    ).encode()
    body = bytearray(header)
    for (*_, deflated, _), content in zip(entries, stored, strict=True):
        body += b"\0" * _padding(_BODY + len(body), deflated) + content
    start = _START.pack(MAGIC, VERSION, len(header))
    digest = hashlib.sha256(start + body).digest()
    return start + digest + bytes(body), {entry[0]: entry[-1] for entry in entries}


def stored_size(array: np.ndarray) -> int:
    """Bytes that an array takes in a file."""
    return pack({}, {"": array})[1][""]


def _padding(at: int, deflated: bool) -> int:
    """Bytes to leave out so that an array stored as it is begins where it can be mapped."""
    return 0 if deflated else -at % _ALIGNED


def _deflate(raw: bytes, itemsize: int) -> bytes:
    """Raw DEFLATE of the first bytes of all numbers, then the second ones, and so on.

    Quantized values and differences repeat nothing, only some of them are likelier than others;
    then to look for repetitions costs bytes.
    """
    planes = np.frombuffer(raw, np.uint8).reshape(-1, itemsize).T.tobytes()
    found = []
    for strategy in (zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY):
        deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, strategy)
        found.append(deflate.compress(planes) + deflate.flush())
    return min(found, key=len)


# --- reading --------------------------------------------------------------------------------


def read(path: Path, mapped: bool = True) -> tuple[dict[str, Any], Arrays]:
    """Map a file and read it (`unpack`).

    Args:
        path: of the file.
        mapped: one that is in use is to be replaced then, not written over. Else it is copied to
            memory first, and may be.

    Raises:
        InputError: if there is none, or as `unpack`.
    """
    try:
        data = np.asarray(np.memmap(path, np.uint8, "r"))
        if not mapped:
            _check_start(bytes(data[:_BODY]), len(data), str(path))  # foreign: not copied whole
            with reading(str(path)):
                data = np.fromfile(path, np.uint8)
    except FileNotFoundError as error:
        raise InputError(f"no file at {path}: check the path") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError:  # nothing to map
        data = np.empty(0, np.uint8)
    return unpack(data, str(path))


def unpack(data: np.ndarray, name: str) -> tuple[dict[str, Any], Arrays]:
    """What `pack` was given. Arrays stored as they are stay views of ``data``.

    Args:
        data: the bytes of a file. Shape: (bytes,)
        name: of the file, for messages.

    Raises:
        InputError: if it is no such file, of a newer version, cut off or damaged.
    """
    at = _check_start(bytes(data[:_BODY]), len(data), name)
    with reading(name):
        digest = hashlib.sha256(data[: _START.size])
        digest.update(data[_BODY:])
        intact = digest.digest() == bytes(data[_START.size : _BODY])
        try:
            meta, entries = _header(bytes(data[_BODY:at]))
        except Damaged:
            if intact:
                raise
            entries = []
        if not intact:
            _check_size(name, len(data), _size(entries, at))
            raise Damaged("its checksum is of other bytes")
        _check_size(name, len(data), _size(entries, at))
        arrays = {}
        for key, kind, count, deflated, size in entries:
            at += _padding(at, deflated)
            arrays[key] = _array(data[at : at + size], _DTYPES[kind], count, deflated, key)
            at += size
        if at != len(data):
            raise Damaged(f"{len(data) - at} bytes belong to nothing")
    return meta, arrays


def _check_start(start: bytes, size: int, name: str) -> int:
    """Where the header ends of a file that begins so; raises as `unpack`."""
    if not start or start[: len(MAGIC)] != MAGIC[: len(start)]:
        raise InputError(
            f"{name} is no model of `recbole-lightgnn export` (it does not begin as one): give a "
            "file that this command wrote"
        )
    _check_size(name, size, _BODY)
    _, version, header_size = _START.unpack(start[: _START.size])
    if version != VERSION:
        raise InputError(
            f"{name} is a model of format {version}, and this version of recbole-lightgnn reads "
            f"{VERSION}: install a newer one; or the file is damaged: copy it anew"
        )
    _check_size(name, size, _BODY + header_size)
    return _BODY + int(header_size)


def _check_size(name: str, size: int, least: int) -> None:
    if size < least:
        raise InputError(
            f"{name} is cut off: it has {size} bytes, expected at least {least}; copy it anew, or "
            "export the model again"
        )


def _size(entries: list[_Entry], at: int) -> int:
    """Bytes of a file whose header ends at ``at``."""
    for *_, deflated, size in entries:
        at += _padding(at, deflated) + size
    return at


def _header(text: bytes) -> tuple[dict[str, Any], list[_Entry]]:
    try:
        content = json.loads(text.decode(), parse_constant=_refuse, parse_float=_finite)
        meta, entries = content["meta"], [_entry(*entry) for entry in content["arrays"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged("its header is not as written by `recbole-lightgnn export`") from error
    if not isinstance(meta, dict) or len({entry[0] for entry in entries}) < len(entries):
        raise Damaged("its header does not say what is in the file")
    return meta, entries


def _entry(name: Any, kind: Any, count: Any, deflated: Any, size: Any) -> _Entry:
    whole = type(count) is int and type(size) is int and type(deflated) is bool
    if not whole or not isinstance(name, str) or kind not in _DTYPES or min(count, size) < 0:
        raise ValueError("no array")
    return name, kind, count, deflated, size


def _finite(number: str) -> float:
    return float(number) if isfinite(float(number)) else _refuse(number)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _array(stored: np.ndarray, dtype: np.dtype, count: int, deflated: bool, key: str) -> np.ndarray:
    size = count * dtype.itemsize
    if not deflated:
        if size != len(stored):
            raise Damaged(f"{key}: {len(stored)} bytes, expected {size}")
        return stored.view(dtype)
    if size > _EXPANSION * len(stored):
        raise Damaged(f"{key}: {len(stored)} bytes cannot hold {size}")
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        raw = inflate.decompress(stored, size + 1)
    except zlib.error as error:
        raise Damaged(f"{key}: {error}") from error
    if len(raw) != size or not inflate.eof or inflate.unused_data:
        raise Damaged(f"{key}: not the {size} bytes that the header says")
    planes = np.frombuffer(raw, np.uint8).reshape(dtype.itemsize, count)
    return np.ascontiguousarray(planes.T).view(dtype).reshape(count)
