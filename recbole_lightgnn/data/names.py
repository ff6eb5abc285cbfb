"""Users and items that are called anything at all, as numbers while they are read and split."""

import re
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_lightgnn.data.text import MAX_DIGITS

MAX_BYTES = 255  # of a name; more is a sign of a wrong delimiter
# What pandas, and so RecBole, reads as a missing value: such a user would silently be dropped.
_MISSING = frozenset(
    b"-1.#IND 1.#QNAN 1.#IND -1.#QNAN #N/A N/A n/a NA <NA> #NA NULL null NaN -NaN nan -nan None"
    .split()
) | {b"#N/A N/A"}  # fmt: skip
_CONTROL = re.compile(rb"[\x00-\x1f]")


class BadName(ValueError):
    """Why a token, ``name``, cannot be what a user or item is called."""

    def __init__(self, name: bytes, why: str) -> None:
        super().__init__(why)
        self.name = name


class Names(dict[bytes, int]):
    """Numbers of names: ``names[b"ann"]``.

    Decimal digits, as Python would write them, stand for their own number; any other name gets
    the next of -1, -2, ...

    Raises:
        BadName: if RecBole could not read the name back from an atomic file.
    """

    def __init__(self) -> None:
        super().__init__()
        self.met: list[bytes] = []  # that of -1, that of -2, ...

    def __missing__(self, name: bytes) -> int:
        if name.isdigit() and len(name) <= MAX_DIGITS and (name[0] != ord("0") or len(name) == 1):
            number = int(name)
        else:
            _check(name)
            self.met.append(name)
            number = -len(self.met)
        self[name] = number
        return number


def _check(name: bytes) -> None:
    if not name:
        raise BadName(name, "is empty")
    if len(name) > MAX_BYTES:
        raise BadName(name, f"has {len(name)} bytes, more than {MAX_BYTES}")
    if _CONTROL.search(name):
        raise BadName(name, "has a tab, line end or other control character")
    if name in _MISSING or name == b"[PAD]":
        raise BadName(name, "is what RecBole reads as a missing value")
    if name.startswith(b'"'):
        raise BadName(name, 'begins with a ", which RecBole takes for a quoted field')


def numbered(ids: NDArray[np.int64], names: Names) -> tuple[NDArray[Any], NDArray[np.bytes_]]:
    """Numbers as `Names` gives them -> numbers from 0, in the order of the tokens.

    Returns:
        The new numbers, int32, shape of ``ids``; and the tokens, sorted.
    """
    codes, distinct = _factorized(ids)
    tokens = distinct.astype("S")
    named = distinct < 0
    if named.any():
        met = np.array(names.met)[-1 - distinct[named]]
        tokens = tokens.astype(np.promote_types(tokens.dtype, met.dtype))
        tokens[named] = met
    order = np.argsort(tokens)
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order))
    return place[codes], tokens[order]


def _factorized(ids: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Numbers from 0 for the distinct ids (n,), and what each stands for."""
    if len(ids) == 0 or ids.min() < 0 or ids.max() > 4 * len(ids):
        return pd.factorize(ids)
    met = np.zeros(ids.max() + 1, bool)  # without hashing, where they lie close together
    met[ids] = True
    return (np.cumsum(met, dtype=np.int32) - 1)[ids], np.flatnonzero(met)
