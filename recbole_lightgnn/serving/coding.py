"""Encode tables, edges and integers as a few small arrays, and decode the arrays.

A file may be damaged: decoding raises `Damaged` for every array that does not fit the rest of the
file. ``docs/reference/file-format.md`` describes the arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from recbole_lightgnn.serving.container import Arrays, Damaged, stored_size

_DTYPES = {"float32": "f4", "float16": "f2", "int8": "i1"}
VALUES = tuple(_DTYPES)  # number types of entries and edge weights
_INT8_MAX = 127  # int8 entries go from -127 to 127
_WEIGHT_STEPS = 255  # int8 steps from the smallest to the largest edge weight
_GAP_CONTINUES = 255  # gap byte: 255 positions are skipped, and the next byte adds to the gap


class Pairs(NamedTuple):
    """Distinct user-item pairs, sorted by user and then by item.

    Attributes:
        user: user of each pair. Shape: (pairs,)
        item: item of each pair. Shape: (pairs,)
    """

    user: np.ndarray
    item: np.ndarray


class ArrayReader:
    """Give out each array of a file once, after a check.

    Args:
        arrays: the arrays by name.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = dict(arrays)

    def __contains__(self, name: str) -> bool:
        """Whether the file has an array of this name that was not yet given out."""
        return name in self._arrays

    def take(self, name: str, kind: str, size: int | None = None) -> np.ndarray:
        """Return an array, after a check of its type, length and values.

        Args:
            name: name of the array.
            kind: expected type: ``u`` unsigned, ``i`` signed, ``f`` floating-point, or a type with
                its number of bytes, such as ``u1``.
            size: expected length; ``None`` accepts any length.

        Raises:
            Damaged: if the array is missing, has an unexpected type or length, or has values that
                are not finite.
        """
        array = self._arrays.pop(name, None)
        if array is None or not array.dtype.str[1:].startswith(kind):
            raise Damaged(f"{name} is missing or has the wrong type")
        if size is not None and len(array) != size:
            raise Damaged(f"{name} has {len(array)} numbers, expected {size}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise Damaged(f"{name} has values that are not finite")
        return array

    def check_all_taken(self) -> None:
        """Raise Damaged if an array of the file was not given out."""
        if self._arrays:
            raise Damaged(f"it has an unknown array {next(iter(self._arrays))!r}")


# --- integers -------------------------------------------------------------------------------


def to_smallest_unsigned(numbers: np.ndarray) -> np.ndarray:
    """Convert nonnegative integers to the smallest unsigned type that can hold all of them."""
    largest = int(numbers.max(initial=0))
    dtypes = (np.uint8, np.uint16, np.uint32, np.uint64)
    return numbers.astype(next(dtype for dtype in dtypes if largest <= np.iinfo(dtype).max))


def bounded_sum(counts: np.ndarray, most: int, name: str) -> int:
    """Sum counts exactly, with a limit on the sum.

    Args:
        counts: integers from 0. Shape: (counts,)
        most: largest sum allowed.
        name: name of the array of counts, for the error message.

    Raises:
        Damaged: if the sum is above ``most``.
    """
    if counts.sum(dtype=np.float64) > most:
        raise Damaged(f"{name}: the numbers add up to more than {most}")
    return int(counts.sum(dtype=np.int64))


def encode_gaps(positions: np.ndarray) -> np.ndarray:
    """Encode ascending positions as gaps: numbers of positions skipped before each position.

    A gap is the sum of one or more bytes. The last byte is below 255, all others are 255.

    Args:
        positions: distinct positions, ascending, from 0. Shape: (positions,)

    Returns:
        The gaps, uint8. Shape: (bytes,)
    """
    gap = np.diff(positions, prepend=-1) - 1
    ends = np.cumsum(gap // _GAP_CONTINUES + 1)
    encoded = np.full(ends[-1] if len(ends) else 0, _GAP_CONTINUES, np.uint8)
    encoded[ends - 1] = gap % _GAP_CONTINUES
    return encoded


def decode_gaps(encoded: np.ndarray, size: int, name: str) -> np.ndarray:
    """Decode the gaps that `encode_gaps` returned.

    Args:
        encoded: the gaps, uint8. Shape: (bytes,)
        size: number of positions in the table.
        name: name of the table, for the error message.

    Returns:
        Positions from 0 to ``size`` - 1, ascending. Shape: (positions,)

    Raises:
        Damaged: if a position is ``size`` or above, or the last gap is incomplete.
    """
    ends = encoded != _GAP_CONTINUES
    positions: np.ndarray = np.cumsum(encoded + ends.astype(np.int64))[ends] - 1
    if len(encoded) and (not ends[-1] or positions[-1] >= size):
        raise Damaged(f"{name}: a position is outside the table")
    return positions


# --- tables ---------------------------------------------------------------------------------


def encode_table(name: str, table: np.ndarray, values: str) -> Arrays:
    """Encode a pruned embedding table, column by column: the nonzero entries and their positions.

    Positions are stored as one bit per entry of the table (``.mask``) or as the gaps between
    nonzero entries (``.gaps``), whichever takes fewer bytes in the file.

    Args:
        name: name of the table.
        table: the table, float32. Shape: (rows, width)
        values: number type of the entries, one of `VALUES`.
    """
    transposed = np.ascontiguousarray(table.T)
    is_nonzero = transposed != 0
    mask, gaps = np.packbits(is_nonzero), encode_gaps(np.flatnonzero(is_nonzero))
    smaller = "mask" if stored_size(mask) < stored_size(gaps) else "gaps"
    scale = column_scale(table)
    entries = transposed[is_nonzero], np.repeat(scale, is_nonzero.sum(axis=1))
    return {
        f"{name}.{smaller}": mask if smaller == "mask" else gaps,
        **_encode_values(name, *entries, scale, values),
    }


def decode_table(name: str, reader: ArrayReader, shape: tuple[int, int], values: str) -> np.ndarray:
    """Decode a table that `encode_table` encoded, up to the precision of ``values``.

    Args:
        name: name of the table.
        reader: gives the arrays of the file.
        shape: number of rows and number of columns of the table.
        values: number type of the entries, one of `VALUES`.

    Returns:
        The table, float32. Shape: ``shape``

    Raises:
        Damaged: if the arrays do not form a table of this shape.
    """
    rows, width = shape
    size = rows * width
    if f"{name}.mask" in reader:
        mask = reader.take(f"{name}.mask", "u1", -(-size // 8))
        positions = np.flatnonzero(np.unpackbits(mask, count=size))
    else:
        positions = decode_gaps(reader.take(f"{name}.gaps", "u1"), size, name)
    entries, scale = _take_values(name, reader, len(positions), width, values)
    column, row = np.divmod(positions, max(1, rows))
    table = np.zeros(shape, np.float32)
    table[row, column] = entries if values != "int8" else entries * scale[column]
    return table


def encode_dense(name: str, table: np.ndarray, values: str) -> Arrays:
    """Encode a table with few zeros: all entries, row by row.

    Args:
        name: name of the table.
        table: the table, float32. Shape: (rows, width)
        values: number type of the entries, one of `VALUES`.
    """
    scale = column_scale(table)
    per_entry = np.broadcast_to(scale, table.shape).reshape(-1)
    return _encode_values(name, table.reshape(-1), per_entry, scale, values)


def decode_dense(name: str, reader: ArrayReader, shape: tuple[int, int], values: str) -> np.ndarray:
    """Decode a table that `encode_dense` encoded; with float32, return a view of the file's array.

    Args:
        name: name of the table.
        reader: gives the arrays of the file.
        shape: number of rows and number of columns of the table.
        values: number type of the entries, one of `VALUES`.

    Returns:
        The table, float32. Shape: ``shape``

    Raises:
        Damaged: if the arrays do not form a table of this shape.
    """
    rows, width = shape
    entries, scale = _take_values(name, reader, rows * width, width, values)
    table = entries.reshape(shape)
    return table * scale if values == "int8" else table.astype(np.float32, copy=False)


def column_scale(table: np.ndarray) -> np.ndarray:
    """Value of one int8 step in each column: the largest magnitude / 127, or 1 if all are zero.

    Shapes: (rows, width) to (width,), float32
    """
    largest = np.abs(table).max(axis=0, initial=0) / _INT8_MAX
    return np.where(largest > 0, largest, 1).astype(np.float32)


def _encode_values(
    name: str, entries: np.ndarray, per_entry: np.ndarray, scale: np.ndarray, values: str
) -> Arrays:
    if values == "int8":
        steps = np.rint(entries / per_entry).clip(-_INT8_MAX, _INT8_MAX).astype(np.int8)
        return {f"{name}.values": steps, f"{name}.scale": scale}
    return {f"{name}.values": entries.astype(values)}


def _take_values(
    name: str, reader: ArrayReader, size: int, width: int, values: str
) -> tuple[np.ndarray, np.ndarray]:
    """Take a table's encoded entries and, for ``int8``, the scale of each column (else empty)."""
    entries = reader.take(f"{name}.values", _DTYPES[values], size)
    scale = reader.take(f"{name}.scale", "f4", width) if values == "int8" else entries[:0]
    return entries, scale


# --- pairs and their weights ----------------------------------------------------------------


def encode_pairs(name: str, pairs: Pairs, n_users: int) -> Arrays:
    """Encode pairs: each user's number of items, and the number of items skipped before each item.

    Args:
        name: name of the pairs.
        pairs: the pairs.
        n_users: number of users.
    """
    first = np.diff(pairs.user, prepend=-1) != 0
    distance = np.diff(pairs.item, prepend=-1) - 1
    distance[first] = pairs.item[first]
    return {
        f"{name}.count": to_smallest_unsigned(np.bincount(pairs.user, minlength=n_users)),
        f"{name}.distance": to_smallest_unsigned(distance),
    }


def decode_pairs(name: str, reader: ArrayReader, n_users: int, n_items: int) -> Pairs:
    """Decode pairs that `encode_pairs` encoded.

    Args:
        name: name of the pairs.
        reader: gives the arrays of the file.
        n_users: number of users.
        n_items: number of items.

    Raises:
        Damaged: if the arrays do not form pairs of these users and items.
    """
    count = _check_below(reader.take(f"{name}.count", "u", n_users), n_items + 1, name)
    n_pairs = bounded_sum(count, 2**31 - 1, name)
    distance = _check_below(reader.take(f"{name}.distance", "u", n_pairs), n_items, name)
    sums = np.cumsum(distance + 1)
    ends = np.cumsum(count)
    before = np.concatenate([[0], sums])[ends - count]  # sum over all earlier users
    item = sums - np.repeat(before, count) - 1
    user = np.repeat(np.arange(n_users, dtype=np.int32), count)
    return Pairs(user, _check_below(item, n_items, name).astype(np.int32))


def _check_below(numbers: np.ndarray, bound: int, name: str) -> np.ndarray:
    if int(numbers.max(initial=0)) >= max(1, bound):
        raise Damaged(f"{name}: got {int(numbers.max())}, expected numbers below {bound}")
    return numbers.astype(np.int64)


def encode_weights(name: str, weight: np.ndarray, values: str) -> Arrays:
    """Encode edge weights; ``int8`` has 255 equal steps from the smallest to the largest weight.

    Args:
        name: name of the weights.
        weight: weight of each edge, float32. Shape: (edges,)
        values: number type of the weights, one of `VALUES`.
    """
    if values != "int8":
        return {f"{name}.weight": weight.astype(values)}
    low, high = (float(weight.min()), float(weight.max())) if len(weight) else (0.0, 0.0)
    step = np.float32((high - low) / _WEIGHT_STEPS) or np.float32(1)
    steps = np.rint((weight - low) / step).clip(0, _WEIGHT_STEPS).astype(np.uint8)
    return {f"{name}.weight": steps, f"{name}.steps": np.array([low, step], np.float32)}


def decode_weights(name: str, reader: ArrayReader, size: int, values: str) -> np.ndarray:
    """Decode edge weights that `encode_weights` encoded.

    Args:
        name: name of the weights.
        reader: gives the arrays of the file.
        size: number of edges.
        values: number type of the weights, one of `VALUES`.

    Returns:
        The weights, float32. Shape: (size,)

    Raises:
        Damaged: if the arrays do not form ``size`` weights.
    """
    if values != "int8":
        return reader.take(f"{name}.weight", _DTYPES[values], size).astype(np.float32)
    low, step = reader.take(f"{name}.steps", "f4", 2)
    steps = reader.take(f"{name}.weight", "u1", size).astype(np.float32)
    weight: np.ndarray = low + step * steps
    return weight
