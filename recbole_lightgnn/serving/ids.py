"""What users and items are called: tokens, keyed hashes of them, or nothing but numbers.

In a file users and items are numbered 0, 1, ... in an order that anyone can work out again: of
their tokens (by value if all are whole numbers, else by code points), or of their hashes.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.serving.coding import Take, narrow, total
from recbole_lightgnn.serving.container import Arrays, Damaged

KINDS = ("tokens", "hashed", "none")
_LEAST_KEY = 16  # bytes
_HASH = 8  # bytes
_NEARBY = 100  # tokens to each side among which a similar one is looked for
_MISSPELT = 100  # letters at most of a name that a similar one is looked for
_SHOWN = 60  # characters of a name in a message
_DIGITS = 18  # of the numbers that 64 bits hold


class Unknown(InputError):
    """No user or item has this name.

    Args:
        what: ``user`` or ``item``.
        name: what was asked for.
        hint: what is known of the right names.
    """

    def __init__(self, what: str, name: Any, hint: str) -> None:
        super().__init__(f"no {what} {shown(name)}{hint}")
        self.what, self.name = what, name


class Ids:
    """The names of the users, or of the items, of a model.

    Args:
        what: ``user`` or ``item``.
        size: how many.
    """

    kind = "none"

    def __init__(self, what: str, size: int) -> None:
        self.what, self._size = what, size

    def __len__(self) -> int:
        return self._size

    def number(self, name: Any) -> int:
        """The number of one user or item.

        Raises:
            Unknown: if there is none of that name.
        """
        found = self._find(str(name))
        if found is None:
            raise Unknown(self.what, name, self._hint(str(name)))
        return found

    def numbers(self, names: Iterable[Any]) -> np.ndarray:
        """The numbers of several. Shape: (names,)

        Raises:
            InputError: if there is none of one of the names, or ``names`` is a single one.
        """
        if isinstance(names, str | bytes):
            raise InputError(f"{self.what}s must be a list, got {shown(names)} alone")
        try:
            return np.array([self.number(name) for name in names], np.int64)
        except TypeError as error:
            raise InputError(f"{self.what}s must be a list, got {shown(names)}") from error

    def names(self, numbers: np.ndarray) -> np.ndarray:
        """What the given ones are called, ``None`` for -1. Shape: as ``numbers``, object"""
        return self._names[numbers]

    def arrays(self) -> Arrays:
        """What a file holds of them."""
        return {}

    def of(self, name: str) -> str:
        """What a token is called here."""
        return name

    @cached_property
    def _names(self) -> np.ndarray:
        """All names, and ``None`` at the end, where -1 points."""
        return np.array([*self._all(), None], object)

    def _all(self) -> Iterable[str]:
        return map(str, range(len(self)))

    def _find(self, name: str) -> int | None:
        is_number = name.isascii() and name.isdigit() and len(name) <= _DIGITS
        return int(name) if is_number and int(name) < len(self) else None

    def _hint(self, name: str) -> str:
        return f": the file has no names, only the numbers 0 to {len(self) - 1}"


class Tokens(Ids):
    """Names as the dataset has them, in order.

    Args:
        what: ``user`` or ``item``.
        tokens: distinct, in order.
    """

    kind = "tokens"

    def __init__(self, what: str, tokens: Sequence[str]) -> None:
        super().__init__(what, len(tokens))
        self.tokens = list(tokens)

    def _all(self) -> Iterable[str]:
        return self.tokens

    @cached_property
    def _places(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    @cached_property
    def _are_numbers(self) -> bool:
        return are_numbers(self.tokens)

    def _find(self, name: str) -> int | None:
        return self._places.get(name)

    def _hint(self, name: str) -> str:
        if len(self) == 0:
            return ""
        if self._are_numbers:
            span = f": they are numbers from {self.tokens[0]} to {self.tokens[-1]}"
            return span if len(self) > 1 else f": there is only {self.tokens[0]}"
        if len(name) > _MISSPELT:
            return ""
        place = bisect_left(self.tokens, name)
        nearby = self.tokens[max(0, place - _NEARBY) : place + _NEARBY]
        near = get_close_matches(name, nearby, n=1, cutoff=0.5)
        return f" (did you mean {near[0]!r}?)" if near else ""

    def arrays(self) -> Arrays:
        """Numbers as the distances between them, other tokens as lengths and one text."""
        if self._are_numbers:
            numbers = np.array([int(token) for token in self.tokens], np.int64)
            return {f"{self.what}s.distance": narrow(np.diff(numbers, prepend=-1) - 1)}
        lengths = np.array([len(token) for token in self.tokens], np.int64)
        text = np.frombuffer("".join(self.tokens).encode(), np.uint8)
        return {f"{self.what}s.length": narrow(lengths), f"{self.what}s.text": text}


class Hashes(Ids):
    """Names that only who has the key can tell.

    Args:
        what: ``user`` or ``item``.
        hashes: distinct, ascending. Shape: (size,)
        key: of :func:`key_of`; with it, the dataset's names are understood beside the hashes in
            hexadecimal, which are all that can be answered.
    """

    kind = "hashed"

    def __init__(self, what: str, hashes: np.ndarray, key: bytes | None = None) -> None:
        super().__init__(what, len(hashes))
        self._hashes, self._key = hashes, key

    def of(self, name: str) -> str:
        """The hash that stands for a token, in hexadecimal: BLAKE2b with the key, 8 bytes."""
        return f"{_hash(name, self.what, self._key):016x}" if self._key else name

    def _all(self) -> Iterable[str]:
        return (f"{value:016x}" for value in self._hashes.tolist())

    def _find(self, name: str) -> int | None:
        try:
            names = (self.of(name), name)
        except UnicodeEncodeError:  # half a character names nothing
            return None
        for digits in names:
            if re.fullmatch(f"[0-9a-f]{{{2 * _HASH}}}", digits):
                value = np.uint64(int(digits, 16))
                place = int(np.searchsorted(self._hashes, value))
                if place < len(self) and self._hashes[place] == value:
                    return place
        return None

    def _hint(self, name: str) -> str:
        if self._key:
            return ", or hashed with another key"
        return ": the file has hashes for names; give one, or the key"

    def arrays(self) -> Arrays:
        """The hashes."""
        return {f"{self.what}s.hash": self._hashes}


def key_of(secret: bytes) -> bytes:
    """The key that a secret of any length stands for.

    Raises:
        InputError: if it is no bytes, or too short to be one.
    """
    if not isinstance(secret, bytes):
        raise InputError(f"a key is bytes, got a {type(secret).__name__}")
    if len(secret) < _LEAST_KEY:
        raise InputError(
            f"a key of {len(secret)} bytes can be guessed: give at least {_LEAST_KEY} random ones"
        )
    return hashlib.blake2b(secret, person=b"lgnn key").digest()


def key_check(key: bytes) -> str:
    """What tells a wrong key from the right one, and nothing else of it."""
    return f"{_hash('', 'check', key):016x}"


def keyed(text: str, key: bytes) -> str:
    """What tells whether a text is the same to who has the key, and nothing to others."""
    return hashlib.blake2b(text.encode(), key=key, person=b"lgnn data", digest_size=32).hexdigest()


def _hash(token: str, what: str, key: bytes) -> int:
    person = f"lgnn {what}".encode()
    digest = hashlib.blake2b(token.encode(), digest_size=_HASH, key=key, person=person)
    return int.from_bytes(digest.digest(), "big")


def hashed(what: str, tokens: Sequence[str], key: bytes) -> np.ndarray:
    """The hash of each token. Shape: (tokens,), uint64"""
    return np.array([_hash(token, what, key) for token in tokens], np.uint64)


def are_numbers(tokens: Sequence[str]) -> bool:
    """Whether all are decimal numbers as Python writes them, that fit 64 bits."""
    return all(
        token.isascii()
        and token.isdigit()
        and len(token) <= _DIGITS
        and (token[0] != "0" or len(token) == 1)
        for token in tokens
    )


def in_order(tokens: Sequence[str]) -> np.ndarray:
    """The order of tokens: by value if all are numbers, else by code points. Shape: (tokens,)"""
    key = int if are_numbers(tokens) else str
    return np.array(sorted(range(len(tokens)), key=lambda place: key(tokens[place])), np.int64)


def take_ids(what: str, kind: str, size: int, take: Take, key: bytes | None) -> Ids:
    """The names that a file holds.

    Raises:
        Damaged: if its arrays are none.
    """
    if kind == "none":
        return Ids(what, size)
    if kind == "hashed":
        hashes = take(f"{what}s.hash", "u8", size)
        if (hashes[1:] <= hashes[:-1]).any():
            raise Damaged(f"the hashes of {what}s are in no order")
        return Hashes(what, hashes, key)
    if f"{what}s.distance" in take:
        distance = take(f"{what}s.distance", "u", size)
        total(distance, 10**_DIGITS, f"{what}s.distance")
        tokens = (np.cumsum(distance.astype(np.int64) + 1) - 1).astype(str).tolist()
    else:
        tokens = _texts(what, take, size)
        if any(one >= other for one, other in pairwise(tokens)):
            raise Damaged(f"the names of {what}s are in no order")
    return Tokens(what, tokens)


def _texts(what: str, take: Take, size: int) -> list[str]:
    lengths = take(f"{what}s.length", "u", size)
    try:
        text = take(f"{what}s.text", "u1").tobytes().decode()
    except UnicodeDecodeError as error:
        raise Damaged(f"the names of {what}s are no text") from error
    if total(lengths, len(text), f"{what}s.length") != len(text):
        raise Damaged(f"the names of {what}s are too long")
    ends = list(accumulate(lengths.tolist()))
    return [text[start:end] for start, end in pairwise([0, *ends])]


def shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    return short(repr(value))


def short(text: str) -> str:
    """A text, cut where it is long."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
