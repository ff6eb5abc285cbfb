"""Tables, edges and numbers as few small arrays, and back.

What is decoded comes from a file: what does not fit is `Damaged`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from recbole_lightgnn.serving.container import Arrays, Damaged, stored_size

_KINDS = {"float32": "f4", "float16": "f2", "int8": "i1"}
VALUES = tuple(_KINDS)
_LEVELS = 127  # of a value, to each side of zero
_STEPS = 255  # of an edge weight, from the smallest to the largest
_LONG = 255  # in gaps: so many places are left out, and the gap goes on


class Pairs(NamedTuple):
    """User-item pairs, each once, by user and then item.

    Attributes:
        user: Shape: (pairs,)
        item: Shape: (pairs,)
    """

    user: np.ndarray
    item: np.ndarray


class Take:
    """The arrays of a file, each to be taken once, by its name and with the type that is due."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = dict(arrays)

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def __call__(self, name: str, kind: str, size: int | None = None) -> np.ndarray:
        """An array.

        Args:
            name: of the array.
            kind: ``u`` unsigned, ``i`` signed, ``f`` with a fraction; or a type, such as ``u1``.
            size: its length, if that is known.

        Raises:
            Damaged: if it is missing, of another type or length, or not finite.
        """
        array = self._arrays.pop(name, None)
        if array is None or not array.dtype.str[1:].startswith(kind):
            raise Damaged(f"{name} is missing, or of another type")
        if size is not None and len(array) != size:
            raise Damaged(f"{name} has {len(array)} numbers, expected {size}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise Damaged(f"{name} is not finite everywhere")
        return array

    def done(self) -> None:
        """Raise Damaged if an array is left that nobody took."""
        if self._arrays:
            raise Damaged(f"it is not said what {next(iter(self._arrays))!r} is for")


# --- whole numbers --------------------------------------------------------------------------


def narrow(numbers: np.ndarray) -> np.ndarray:
    """Numbers from 0 on in the smallest type that holds them."""
    largest = int(numbers.max(initial=0))
    kinds = (np.uint8, np.uint16, np.uint32, np.uint64)
    return numbers.astype(next(kind for kind in kinds if largest <= np.iinfo(kind).max))


def total(counts: np.ndarray, most: int, what: str) -> int:
    """The sum of counts, exactly.

    Raises:
        Damaged: if it is above ``most``.
    """
    if counts.sum(dtype=np.float64) > most:
        raise Damaged(f"{what}: more of them than there can be, {most}")
    return int(counts.sum(dtype=np.int64))


def encode_gaps(places: np.ndarray) -> np.ndarray:
    """Ascending places as how many are left out before each: a byte, or 255 and what is above it.

    Args:
        places: distinct, from 0 on. Shape: (places,)
    """
    gap = np.diff(places, prepend=-1) - 1
    ends = np.cumsum(gap // _LONG + 1)
    encoded = np.full(ends[-1] if len(ends) else 0, _LONG, np.uint8)
    encoded[ends - 1] = gap % _LONG
    return encoded


def decode_gaps(encoded: np.ndarray, size: int, what: str) -> np.ndarray:
    """The places that `encode_gaps` was given, all below ``size``. Shape: (places,)

    Raises:
        Damaged: if they are not.
    """
    ends = encoded != _LONG
    places = np.cumsum(encoded + ends.astype(np.int64))[ends] - 1
    if len(encoded) and (not ends[-1] or places[-1] >= size):
        raise Damaged(f"{what}: a place that the table does not have")
    return places


# --- tables ---------------------------------------------------------------------------------


def encode_table(name: str, table: np.ndarray, values: str) -> Arrays:
    """A table with many zeros, as its other entries and their places, column by column.

    Places are a bit for each of the table (``.mask``) or the gaps between them (``.gaps``),
    whichever is stored in fewer bytes.

    Args:
        name: of the table.
        table: Shape: (rows, width)
        values: one of `VALUES`.
    """
    turned = np.ascontiguousarray(table.T)
    there = turned != 0
    mask, gaps = np.packbits(there), encode_gaps(np.flatnonzero(there))
    smaller = "mask" if stored_size(mask) < stored_size(gaps) else "gaps"
    scale = column_scale(table)
    entries = turned[there], np.repeat(scale, there.sum(axis=1))
    return {
        f"{name}.{smaller}": mask if smaller == "mask" else gaps,
        **_encode_values(name, *entries, scale, values),
    }


def decode_table(name: str, take: Take, shape: tuple[int, int], values: str) -> np.ndarray:
    """The table that `encode_table` was given, as exactly as ``values`` are.

    Returns:
        float32. Shape: ``shape``

    Raises:
        Damaged: if the arrays do not make such a table.
    """
    rows, width = shape
    size = rows * width
    if f"{name}.mask" in take:
        mask = take(f"{name}.mask", "u1", -(-size // 8))
        places = np.flatnonzero(np.unpackbits(mask, count=size))
    else:
        places = decode_gaps(take(f"{name}.gaps", "u1"), size, name)
    found, scale = _take_values(name, take, len(places), width, values)
    column, row = np.divmod(places, max(1, rows))
    table = np.zeros(shape, np.float32)
    table[row, column] = found if values != "int8" else found * scale[column]
    return table


def encode_dense(name: str, table: np.ndarray, values: str) -> Arrays:
    """A table without zeros to speak of, row by row. Shape of the table: (rows, width)"""
    scale = column_scale(table)
    per_entry = np.broadcast_to(scale, table.shape).reshape(-1)
    return _encode_values(name, table.reshape(-1), per_entry, scale, values)


def decode_dense(name: str, take: Take, shape: tuple[int, int], values: str) -> np.ndarray:
    """The table that `encode_dense` was given; of float32 a view of the array.

    Raises:
        Damaged: if the arrays do not make such a table.
    """
    rows, width = shape
    found, scale = _take_values(name, take, rows * width, width, values)
    table = found.reshape(shape)
    return table * scale if values == "int8" else table.astype(np.float32, copy=False)


def column_scale(table: np.ndarray) -> np.ndarray:
    """What a step of an int8 value is worth in each column. Shape: (width,)"""
    largest = np.abs(table).max(axis=0, initial=0) / _LEVELS
    return np.where(largest > 0, largest, 1).astype(np.float32)


def _encode_values(
    name: str, found: np.ndarray, per_entry: np.ndarray, scale: np.ndarray, values: str
) -> Arrays:
    if values == "int8":
        steps = np.rint(found / per_entry).clip(-_LEVELS, _LEVELS).astype(np.int8)
        return {f"{name}.values": steps, f"{name}.scale": scale}
    return {f"{name}.values": found.astype(values)}


def _take_values(
    name: str, take: Take, size: int, width: int, values: str
) -> tuple[np.ndarray, np.ndarray]:
    """Entries as they are stored, and, of ``int8``, what to multiply columns by."""
    found = take(f"{name}.values", _KINDS[values], size)
    return found, take(f"{name}.scale", "f4", width) if values == "int8" else found[:0]


# --- pairs and their weights ----------------------------------------------------------------


def encode_pairs(name: str, pairs: Pairs, n_users: int) -> Arrays:
    """Pairs as how many a user has, and each item's distance from the one before it.

    Args:
        name: of the pairs.
        pairs: the pairs.
        n_users: number of users.
    """
    first = np.diff(pairs.user, prepend=-1) != 0
    distance = np.diff(pairs.item, prepend=-1) - 1
    distance[first] = pairs.item[first]
    return {
        f"{name}.count": narrow(np.bincount(pairs.user, minlength=n_users)),
        f"{name}.distance": narrow(distance),
    }


def decode_pairs(name: str, take: Take, n_users: int, n_items: int) -> Pairs:
    """The pairs that `encode_pairs` was given.

    Raises:
        Damaged: if the arrays do not make such pairs.
    """
    count = _below(take(f"{name}.count", "u", n_users), n_items + 1, name)
    n_pairs = total(count, 2**31 - 1, name)
    distance = _below(take(f"{name}.distance", "u", n_pairs), n_items, name)
    sums = np.cumsum(distance + 1)
    ends = np.cumsum(count)
    before = np.concatenate([[0], sums])[ends - count]  # what the users before have summed to
    item = sums - np.repeat(before, count) - 1
    user = np.repeat(np.arange(n_users, dtype=np.int32), count)
    return Pairs(user, _below(item, n_items, name).astype(np.int32))


def _below(numbers: np.ndarray, bound: int, name: str) -> np.ndarray:
    if int(numbers.max(initial=0)) >= max(1, bound):
        raise Damaged(f"{name}: {int(numbers.max())} where all is below {bound}")
    return numbers.astype(np.int64)


def encode_weights(name: str, weight: np.ndarray, values: str) -> Arrays:
    """A weight an edge; of ``int8`` in 255 steps from the smallest to the largest.

    Args:
        name: of the weights.
        weight: Shape: (edges,)
        values: one of `VALUES`.
    """
    if values != "int8":
        return {f"{name}.weight": weight.astype(values)}
    low, high = (float(weight.min()), float(weight.max())) if len(weight) else (0.0, 0.0)
    step = np.float32((high - low) / _STEPS) or np.float32(1)
    steps = np.rint((weight - low) / step).clip(0, _STEPS).astype(np.uint8)
    return {f"{name}.weight": steps, f"{name}.steps": np.array([low, step], np.float32)}


def decode_weights(name: str, take: Take, size: int, values: str) -> np.ndarray:
    """The weights that `encode_weights` was given, float32. Shape: (size,)

    Raises:
        Damaged: if the arrays do not make such weights.
    """
    if values != "int8":
        return take(f"{name}.weight", _KINDS[values], size).astype(np.float32)
    low, step = take(f"{name}.steps", "f4", 2)
    return low + step * take(f"{name}.weight", "u1", size).astype(np.float32)
