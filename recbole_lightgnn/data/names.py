"""Give numbers to the tokens of users and items while a table is read, and find the tokens again.

A token is the text of a user or item in the table. `Names` describes the numbers.
"""

import re
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_lightgnn.data.text import format_integers, parse_integer
from recbole_lightgnn.utils.jit import compiled

MAX_BYTES = 255  # longest name; a longer one is a sign of a wrong delimiter
# Tokens that pandas reads as missing values. RecBole alone silently drops such users and items.
MISSING = (
    *b"-1.#IND 1.#QNAN 1.#IND -1.#QNAN #N/A N/A n/a NA <NA> #NA NULL null NaN -NaN nan -nan None"
    .split(), b"#N/A N/A",
)  # fmt: skip
_PADDING = b"[PAD]"  # RecBole's token for no user and no item
_CONTROL = re.compile(rb"[\x00-\x1f]")
_FIRST_PRINTABLE = 0x20
_MULTIPLIER, _HALF = np.uint64(0x9E3779B97F4A7C15), np.uint64(32)  # odd, with well mixed bits


class BadName(ValueError):
    """Error for a token that cannot be an id; the message says why.

    Attributes:
        name: the token.
        nth: index of the token in the array of tokens that were looked up together.
    """

    def __init__(self, name: bytes, nth: int) -> None:
        super().__init__(_reason(name))
        self.name, self.nth = name, nth


class Names:
    """Table that gives a number to every user token, or to every item token.

    A token of up to 18 decimal digits without leading zero has its value as its number. Any other
    token is called a name. The names get the numbers -1, -2, ... in order of first occurrence.

    The names are in a hash table with open addressing. Their bytes are joined in one array.
    Words for a missing value, such as ``NA``, are names like any other, as in a run.
    """

    def __init__(self) -> None:
        self._slots = np.full(2**10, -1)  # index of the name in each slot; length: a power of two
        self._hashes = np.empty(2**9, np.uint64)  # hash of each name
        self._bounds = np.zeros(2**9 + 1, np.int64)  # start of each name in the text
        self._text = np.empty(2**12, np.uint8)  # bytes of all names
        self._n = 0
        self._secret = np.uint64(secrets.randbits(64))  # nobody can prepare names that collide
        self.numbers(*joined([_PADDING]))  # name 0, which is forbidden

    def numbers(
        self, data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the number of each token; new names are added to the table. Shape: (n,)

        Args:
            data: bytes of the text. Shape: (n_bytes,)
            starts: position of the first byte of each token. Shape: (n,)
            ends: position after the last byte of each token. Shape: (n,)

        Raises:
            BadName: if a token cannot be an id in an atomic file.
        """
        numbers = np.empty(len(starts), np.int64)
        nth = 0
        while True:
            nth, self._n, is_bad = _look_up(
                data, starts, ends, nth, numbers, self._secret, self._slots, self._hashes,
                self._bounds, self._text, self._n,
            )  # fmt: skip
            if is_bad:
                raise BadName(data[starts[nth] : ends[nth]].tobytes(), nth)
            if nth == len(starts):
                return numbers
            self._grow()

    def texts(self) -> NDArray[np.bytes_]:
        """Return all names in the order of their numbers -1, -2, ..."""
        bounds = self._bounds[1 : self._n + 1]
        lengths = np.diff(bounds)
        table = np.zeros((len(lengths), lengths.max(initial=1)), np.uint8)
        table[np.arange(table.shape[1]) < lengths[:, None]] = self._text[bounds[0] : bounds[-1]]
        return table.view(f"S{table.shape[1]}")[:, 0]

    def _grow(self) -> None:
        """Double the number of names, and the number of their bytes, that fit into the table."""
        self._slots = np.full(2 * len(self._slots), -1)
        _fill_slots(self._slots, self._hashes, self._n)
        self._hashes, self._bounds, self._text = (
            np.concatenate([array, np.empty_like(array)])
            for array in (self._hashes, self._bounds, self._text)
        )


def _reason(name: bytes) -> str:
    if not name:
        return "is empty"
    if len(name) > MAX_BYTES:
        return f"has {len(name)} bytes, more than {MAX_BYTES}"
    if _CONTROL.search(name):
        return "has a tab, line end or other control character"
    return "is what RecBole uses for no user and no item"


def joined(names: Sequence[bytes]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Join names without separator; return the bytes, and each name's start and end in them."""
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
) -> tuple[int, int, bool]:
    """Find the number of each token (`Names`), from token ``first`` on, and add new names.

    The search stops early at a bad name, or at a new name if the table is full. Name 0,
    RecBole's padding token, is bad, too.

    Args:
        data: bytes of the text. Shape: (n_bytes,)
        starts: position of the first byte of each token. Shape: (n_tokens,)
        ends: position after the last byte of each token. Shape: (n_tokens,)
        first: index of the first token to look up.
        numbers: filled with the number of each token. Shape: (n_tokens,)
        secret: random initial value of the hash, so that nobody can prepare names with equal
            hashes.
        slots: index of the name in each slot, -1 if empty; updated. Shape: (n_slots,)
        hashes: hash of each name; updated. Shape: (capacity,)
        bounds: start of each name in ``text``; updated. Shape: (capacity + 1,)
        text: bytes of all names; updated. Shape: (bytes_capacity,)
        n: number of names in the table before the call.

    Returns:
        The index of the token at which the search stopped early, else ``n_tokens``; the number of
        names in the table after the call; and whether the search stopped at a bad name.
    """
    for nth in range(first, len(starts)):
        start, end = starts[nth], ends[nth]
        numbers[nth] = parse_integer(data, start, end)
        if numbers[nth] >= 0:
            continue
        if not 0 < end - start <= MAX_BYTES:
            return nth, n, True
        hashed = secret
        for position in range(start, end):
            if data[position] < _FIRST_PRINTABLE:
                return nth, n, True
            hashed = (hashed ^ np.uint64(data[position])) * _MULTIPLIER
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
        elif slots[slot] == 0:
            return nth, n, True
        numbers[nth] = -slots[slot]
    return len(starts), n, False


@compiled
def _fill_slots(slots: NDArray[np.int64], hashes: NDArray[np.uint64], n: int) -> None:
    """Put the first ``n`` names into the empty slots of a hash table."""
    for name in range(n):
        slot = np.int64(hashes[name] & np.uint64(len(slots) - 1))
        while slots[slot] >= 0:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot] = name


def renumber(numbers: NDArray[np.int64], names: Names) -> tuple[NDArray[Any], NDArray[np.bytes_]]:
    """Replace the numbers from a table of `Names` by numbers from 0, in the order of sorted tokens.

    Args:
        numbers: numbers as `Names.numbers` returns them. Shape: (n,)
        names: the table from which the numbers come.

    Returns:
        The new numbers, int32, of shape (n,), and the sorted distinct tokens, of shape
        (n_distinct,).
    """
    least = numbers.min(initial=0)
    if numbers.max(initial=0) - least <= 4 * len(numbers):  # close together: no hash table needed
        codes = numbers if least == 0 else numbers - least
        present = np.zeros(codes.max(initial=-1) + 1, bool)
        present[codes] = True
        distinct = np.flatnonzero(present)
        tokens, position = _sorted_tokens(distinct + least, names)
        new = np.empty(len(present), np.int32)
        new[distinct] = position
    else:
        codes, distinct = pd.factorize(numbers)
        tokens, new = _sorted_tokens(distinct, names)
    return new[codes], tokens


def _sorted_tokens(
    distinct: NDArray[np.int64], names: Names
) -> tuple[NDArray[np.bytes_], NDArray[np.int32]]:
    """Sort the tokens of distinct numbers; return them, and each number's position among them."""
    tokens = format_integers(np.maximum(distinct, 0))
    is_name = distinct < 0
    if is_name.any():
        texts = names.texts()[-1 - distinct[is_name]]
        tokens = tokens.astype(np.promote_types(tokens.dtype, texts.dtype))
        tokens[is_name] = texts
    order = np.argsort(tokens)
    position = np.empty(len(order), np.int32)
    position[order] = np.arange(len(order))
    return tokens[order], position
