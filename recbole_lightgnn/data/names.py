"""Users and items that are called anything at all, as numbers while they are read and split."""

import re
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_lightgnn.data.text import decimals, integer
from recbole_lightgnn.utils.jit import compiled

MAX_BYTES = 255  # of a name; more is a sign of a wrong delimiter
# What pandas, and so RecBole, reads as a missing value: such a user would silently be dropped.
_MISSING = (
    *b"-1.#IND 1.#QNAN 1.#IND -1.#QNAN #N/A N/A n/a NA <NA> #NA NULL null NaN -NaN nan -nan None"
    .split(), b"#N/A N/A", b"[PAD]",
)  # fmt: skip
_CONTROL = re.compile(rb"[\x00-\x1f]")
_FIRST_PRINTED, _QUOTE = 0x20, ord('"')
_PRIME, _HALF = np.uint64(0x9E3779B97F4A7C15), np.uint64(32)  # odd, its bits well mixed


class BadName(ValueError):
    """Why a token cannot be what a user or item is called.

    Attributes:
        name: the token.
        nth: its place among those looked up together.
    """

    def __init__(self, name: bytes, nth: int) -> None:
        super().__init__(_why(name))
        self.name, self.nth = name, nth


class Names:
    """Numbers of names: a hash table, and one text of all names.

    Decimal digits, as Python would write them, stand for their own number; any other name gets
    the next of -1, -2, ... as it is met.
    """

    def __init__(self) -> None:
        self._slots = np.full(2**10, -1)  # a power of two -> which name
        self._hashes = np.empty(2**9, np.uint64)  # of each name
        self._bounds = np.zeros(2**9 + 1, np.int64)  # where each begins in the text
        self._text = np.empty(2**12, np.uint8)
        self._n = 0
        self._secret = np.uint64(secrets.randbits(64))  # nobody can prepare names that collide
        self.numbers(*joined(_MISSING))  # the first names are the forbidden ones

    def numbers(
        self, data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """The numbers of the names at some places of ``data``.

        Args:
            data: bytes.
            starts: where each name begins. Shape: (n,)
            ends: just behind its last byte. Shape: (n,)

        Raises:
            BadName: if RecBole could not read a name back from an atomic file.
        """
        numbers = np.empty(len(starts), np.int64)
        nth = 0
        while True:
            nth, self._n, is_bad = _look_up(
                data, starts, ends, nth, numbers, self._secret,
                self._slots, self._hashes, self._bounds, self._text, self._n, len(_MISSING),
            )  # fmt: skip
            if is_bad:
                raise BadName(data[starts[nth] : ends[nth]].tobytes(), nth)
            if nth == len(starts):
                return numbers
            self._grow()

    def met(self) -> NDArray[np.bytes_]:
        """The name of -1, that of -2, ..."""
        bounds = self._bounds[len(_MISSING) : self._n + 1]
        lengths = np.diff(bounds)
        table = np.zeros((len(lengths), lengths.max(initial=1)), np.uint8)
        table[np.arange(table.shape[1]) < lengths[:, None]] = self._text[bounds[0] : bounds[-1]]
        return table.view(f"S{table.shape[1]}")[:, 0]

    def _grow(self) -> None:
        """Room for twice as many names, and twice as long ones."""
        self._slots = np.full(2 * len(self._slots), -1)
        _place(self._slots, self._hashes, self._n)
        self._hashes, self._bounds, self._text = (
            np.concatenate([array, np.empty_like(array)])
            for array in (self._hashes, self._bounds, self._text)
        )


def _why(name: bytes) -> str:
    if not name:
        return "is empty"
    if len(name) > MAX_BYTES:
        return f"has {len(name)} bytes, more than {MAX_BYTES}"
    if _CONTROL.search(name):
        return "has a tab, line end or other control character"
    if name in _MISSING:
        return "is what RecBole reads as a missing value"
    return 'begins with a ", which RecBole takes for a quoted field'


def joined(names: Sequence[bytes]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Bytes of some names, where each begins, and just behind its end."""
    ends = np.cumsum([len(name) for name in names])
    return np.frombuffer(b"".join(names), np.uint8), np.append(0, ends[:-1]), ends


@compiled
def _look_up(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    first: int,
    numbers: NDArray[np.int64],
    secret: np.uint64,
    slots: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    bounds: NDArray[np.int64],
    text: NDArray[np.uint8],
    n: int,
    n_forbidden: int,
) -> tuple[int, int, bool]:
    """Fill ``numbers`` from ``first`` on, adding new names to the table.

    Returns:
        Where it ended: behind the last, or at a name that needs more room, or at a bad one; how
        many names there are then; and whether it ended at a bad one.
    """
    for nth in range(first, len(starts)):
        start, end = starts[nth], ends[nth]
        numbers[nth] = integer(data, start, end)
        if numbers[nth] >= 0:
            continue
        if not 0 < end - start <= MAX_BYTES or data[start] == _QUOTE:
            return nth, n, True
        hashed = secret
        for place in range(start, end):
            if data[place] < _FIRST_PRINTED:
                return nth, n, True
            hashed = (hashed ^ np.uint64(data[place])) * _PRIME
        hashed ^= hashed >> _HALF
        slot = np.int64(hashed & np.uint64(len(slots) - 1))
        while slots[slot] >= 0:
            name = slots[slot]
            length = bounds[name + 1] - bounds[name]
            if hashes[name] == hashed and length == end - start:
                same = 0
                while same < length and text[bounds[name] + same] == data[start + same]:
                    same += 1
                if same == length:
                    break
            slot = (slot + 1) & (len(slots) - 1)
        if slots[slot] < 0:
            if n == len(hashes) or bounds[n] + end - start > len(text):
                return nth, n, False
            text[bounds[n] : bounds[n] + end - start] = data[start:end]
            bounds[n + 1] = bounds[n] + end - start
            hashes[n], slots[slot] = hashed, n
            n += 1
        elif slots[slot] < n_forbidden:
            return nth, n, True
        numbers[nth] = n_forbidden - 1 - slots[slot]
    return len(starts), n, False


@compiled
def _place(slots: NDArray[np.int64], hashes: NDArray[np.uint64], n: int) -> None:
    """Put ``n`` names into empty slots."""
    for name in range(n):
        slot = np.int64(hashes[name] & np.uint64(len(slots) - 1))
        while slots[slot] >= 0:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot] = name


def numbered(ids: NDArray[np.int64], names: Names) -> tuple[NDArray[Any], NDArray[np.bytes_]]:
    """Numbers as `Names` gives them -> numbers from 0, in the order of the tokens.

    Returns:
        The new numbers, int32, shape of ``ids``; and the tokens, sorted.
    """
    least = ids.min(initial=0)
    if ids.max(initial=0) - least <= 4 * len(ids):  # they lie close together: without hashing
        codes = ids if least == 0 else ids - least
        met = np.zeros(codes.max(initial=-1) + 1, bool)
        met[codes] = True
        distinct = np.flatnonzero(met)
        tokens, place = _in_order(distinct + least, names)
        new = np.empty(len(met), np.int32)
        new[distinct] = place
    else:
        codes, distinct = pd.factorize(ids)
        tokens, new = _in_order(distinct, names)
    return new[codes], tokens


def _in_order(
    distinct: NDArray[np.int64], names: Names
) -> tuple[NDArray[np.bytes_], NDArray[np.int32]]:
    """The tokens of some ids, sorted, and each id's place among them."""
    tokens = decimals(np.maximum(distinct, 0))
    named = distinct < 0
    if named.any():
        met = names.met()[-1 - distinct[named]]
        tokens = tokens.astype(np.promote_types(tokens.dtype, met.dtype))
        tokens[named] = met
    order = np.argsort(tokens)
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order))
    return tokens[order], place
