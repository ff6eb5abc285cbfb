"""Names of users and items in an exported file: tokens, keyed hashes of tokens, or only numbers.

A file numbers its users from 0, and also its items. The order is reproducible: by token (by value
if all tokens are integers, else by code points), or by hash.
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
from recbole_lightgnn.serving.coding import ArrayReader, bounded_sum, to_smallest_unsigned
from recbole_lightgnn.serving.container import Arrays, Damaged

KINDS = ("tokens", "hashed", "none")
_MIN_SECRET = 16  # bytes
_HASH_SIZE = 8  # bytes
_NEARBY = 100  # tokens on each side that are compared to suggest a similar name
_MAX_SUGGESTED = 100  # characters; for a longer name, no similar name is looked up
_MAX_SHOWN = 60  # characters of a value in a message
_MAX_DIGITS = 18  # every number of 18 digits fits 64 bits


class UnknownName(InputError):
    """Exception: no user or item has the requested name.

    Args:
        what: ``user`` or ``item``.
        name: the requested name.
        hint: text after the name in the message, such as a similar name.

    Attributes:
        what, name: as given.
    """

    def __init__(self, what: str, name: Any, hint: str) -> None:
        super().__init__(f"no {what} {shortened_repr(name)}{hint}")
        self.what, self.name = what, name


class Ids:
    """Users or items of an exported model without names: the name is the number.

    The subclasses `Tokens` and `Hashes` store names.

    Args:
        what: ``user`` or ``item``.
        size: number of users or items.

    Attributes:
        kind: kind of the names, one of `KINDS`.
        what: ``user`` or ``item``.
    """

    kind = "none"

    def __init__(self, what: str, size: int) -> None:
        self.what, self._size = what, size

    def __len__(self) -> int:
        """Number of users or items."""
        return self._size

    def number(self, name: Any) -> int:
        """Return the number of a user or item by name; raise UnknownName if there is none."""
        found = self._find(str(name))
        if found is None:
            raise UnknownName(self.what, name, self._hint(str(name)))
        return found

    def numbers(self, names: Iterable[Any]) -> np.ndarray:
        """Look up the numbers of several users or items by name. Shape: (names,), int64

        Raises:
            UnknownName: if a name is unknown.
            InputError: if ``names`` is a single name or not a list.
        """
        if isinstance(names, str | bytes):
            raise InputError(
                f"{self.what}s must be a list, got the single name {shortened_repr(names)}"
            )
        try:
            return np.array([self.number(name) for name in names], np.int64)
        except TypeError as error:
            raise InputError(f"{self.what}s must be a list, got {shortened_repr(names)}") from error

    def names(self, numbers: np.ndarray | list[int] | slice) -> np.ndarray:
        """Return names by number; -1, for a missing user or item, gives ``None``.

        Args:
            numbers: integers (of any shape, which the result has too), or a slice.
        """
        names: np.ndarray = self._names[numbers]
        return names

    def arrays(self) -> Arrays:
        """Encode the names as arrays for the file."""
        return {}

    def name_of(self, token: str) -> str:
        """Convert a token of the dataset to the name in this object."""
        return token

    @cached_property
    def _names(self) -> np.ndarray:
        """All names, followed by ``None``, so that index -1 gives ``None``."""
        return np.array([*self._all(), None], object)

    def _all(self) -> Iterable[str]:
        return map(str, range(len(self)))

    def _find(self, name: str) -> int | None:
        is_number = name.isascii() and name.isdigit() and len(name) <= _MAX_DIGITS
        return int(name) if is_number and int(name) < len(self) else None

    def _hint(self, name: str) -> str:
        return f": the file has no names, only the numbers 0 to {len(self) - 1}"


class Tokens(Ids):
    """Users or items of an exported model that are named by the dataset's tokens.

    Args:
        what: ``user`` or ``item``.
        tokens: distinct tokens in the order of `token_order`.

    Attributes:
        tokens: as given, a list.
    """

    kind = "tokens"

    def __init__(self, what: str, tokens: Sequence[str]) -> None:
        super().__init__(what, len(tokens))
        self.tokens = list(tokens)

    def _all(self) -> Iterable[str]:
        return self.tokens

    @cached_property
    def _number_of(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    @cached_property
    def _are_numbers(self) -> bool:
        return are_numbers(self.tokens)

    def _find(self, name: str) -> int | None:
        return self._number_of.get(name)

    def _hint(self, name: str) -> str:
        if len(self) == 0:
            return ""
        if self._are_numbers:
            if len(self) == 1:
                return f": the only {self.what} is {self.tokens[0]}"
            return f": {self.what}s are numbers from {self.tokens[0]} to {self.tokens[-1]}"
        if len(name) > _MAX_SUGGESTED:
            return ""
        place = bisect_left(self.tokens, name)
        nearby = self.tokens[max(0, place - _NEARBY) : place + _NEARBY]
        similar = get_close_matches(name, nearby, n=1, cutoff=0.5)
        return f" (did you mean {similar[0]!r}?)" if similar else ""

    def arrays(self) -> Arrays:
        """Encode the tokens: integers as differences, others as lengths and one joined text."""
        if self._are_numbers:
            numbers = np.array([int(token) for token in self.tokens], np.int64)
            distance = to_smallest_unsigned(np.diff(numbers, prepend=-1) - 1)
            return {f"{self.what}s.distance": distance}
        lengths = np.array([len(token) for token in self.tokens], np.int64)
        text = np.frombuffer("".join(self.tokens).encode(), np.uint8)
        return {f"{self.what}s.length": to_smallest_unsigned(lengths), f"{self.what}s.text": text}


class Hashes(Ids):
    """Users or items of an exported model that are named by keyed hashes of the dataset's tokens.

    A name is a hash, written as 16 hexadecimal digits. With the key, users and items can also be
    looked up by token; results still contain only hashes.

    Args:
        what: ``user`` or ``item``.
        hashes: distinct hashes in ascending order, uint64. Shape: (size,)
        key: key that `derive_key` returned, or ``None``.
    """

    kind = "hashed"

    def __init__(self, what: str, hashes: np.ndarray, key: bytes | None = None) -> None:
        super().__init__(what, len(hashes))
        self._hashes, self._key = hashes, key

    def name_of(self, token: str) -> str:
        """Convert a token to a hash: a keyed BLAKE2b digest of 8 bytes, in hexadecimal.

        Without a key, the token is returned as it is.
        """
        return f"{_hash(token, self.what, self._key):016x}" if self._key else token

    def _all(self) -> Iterable[str]:
        return (f"{value:016x}" for value in self._hashes.tolist())

    def _find(self, name: str) -> int | None:
        try:
            candidates = (self.name_of(name), name)
        except UnicodeEncodeError:  # a lone surrogate cannot be hashed, so it is no name
            return None
        for digits in candidates:
            if re.fullmatch(f"[0-9a-f]{{{2 * _HASH_SIZE}}}", digits):
                value = np.uint64(int(digits, 16))
                place = int(np.searchsorted(self._hashes, value))
                if place < len(self) and self._hashes[place] == value:
                    return place
        return None

    def _hint(self, name: str) -> str:
        if self._key:
            return ", or the names were hashed with another key"
        return ": the file has hashes instead of names; give a hash, or give the key"

    def arrays(self) -> Arrays:
        """Encode the hashes as arrays for the file."""
        return {f"{self.what}s.hash": self._hashes}


def derive_key(secret: bytes) -> bytes:
    """Derive the key for hashing tokens from a secret: a BLAKE2b digest of 64 bytes.

    Raises:
        InputError: if the secret is not bytes, or shorter than 16 bytes.
    """
    if not isinstance(secret, bytes):
        raise InputError(f"a key must be bytes, got {type(secret).__name__}")
    if len(secret) < _MIN_SECRET:
        raise InputError(
            f"a key of {len(secret)} bytes can be guessed: give at least {_MIN_SECRET} random bytes"
        )
    return hashlib.blake2b(secret, person=b"lgnn key").digest()


def key_check(key: bytes) -> str:
    """Checksum of a key (16 hexadecimal digits) to detect a wrong key; does not reveal the key."""
    return f"{_hash('', 'check', key):016x}"


def keyed_digest(text: str, key: bytes) -> str:
    """Keyed digest of a text (64 hexadecimal digits); testing a guess of the text needs the key."""
    return hashlib.blake2b(text.encode(), key=key, person=b"lgnn data", digest_size=32).hexdigest()


def _hash(token: str, what: str, key: bytes) -> int:
    person = f"lgnn {what}".encode()
    digest = hashlib.blake2b(token.encode(), digest_size=_HASH_SIZE, key=key, person=person)
    return int.from_bytes(digest.digest(), "big")


def hash_tokens(what: str, tokens: Sequence[str], key: bytes) -> np.ndarray:
    """Hash tokens with a key, to name users or items. Shape: (tokens,), uint64

    Args:
        what: ``user`` or ``item``; equal tokens of users and items get different hashes.
        tokens: the tokens.
        key: key that `derive_key` returned.
    """
    return np.array([_hash(token, what, key) for token in tokens], np.uint64)


def are_numbers(tokens: Sequence[str]) -> bool:
    """Whether all tokens are decimal integers without leading zeros, of at most 18 digits."""
    return all(
        token.isascii()
        and token.isdigit()
        and len(token) <= _MAX_DIGITS
        and (token[0] != "0" or len(token) == 1)
        for token in tokens
    )


def token_order(tokens: Sequence[str]) -> np.ndarray:
    """Sort tokens: by value if all tokens are integers (`are_numbers`), else by code points.

    Returns:
        Indices into ``tokens``, in sorted order. Shape: (tokens,)
    """
    key = int if are_numbers(tokens) else str
    return np.array(sorted(range(len(tokens)), key=lambda place: key(tokens[place])), np.int64)


def read_ids(what: str, kind: str, size: int, reader: ArrayReader, key: bytes | None) -> Ids:
    """Decode the names of the users or items of a file.

    Args:
        what: ``user`` or ``item``.
        kind: kind of the names, one of `KINDS`.
        size: number of users or items.
        reader: the arrays of the file.
        key: key that `derive_key` returned, or ``None``; used only if ``kind`` is ``hashed``.

    Raises:
        Damaged: if an array is missing, does not fit the others or is not sorted.
    """
    if kind == "none":
        return Ids(what, size)
    if kind == "hashed":
        hashes = reader.take(f"{what}s.hash", "u8", size)
        if (hashes[1:] <= hashes[:-1]).any():
            raise Damaged(f"the hashes of {what}s are not sorted")
        return Hashes(what, hashes, key)
    if f"{what}s.distance" in reader:
        distance = reader.take(f"{what}s.distance", "u", size)
        bounded_sum(distance, 10**_MAX_DIGITS, f"{what}s.distance")
        tokens = (np.cumsum(distance.astype(np.int64) + 1) - 1).astype(str).tolist()
    else:
        tokens = _texts(what, reader, size)
        if any(token >= following for token, following in pairwise(tokens)):
            raise Damaged(f"the names of {what}s are not sorted")
    return Tokens(what, tokens)


def _texts(what: str, reader: ArrayReader, size: int) -> list[str]:
    lengths = reader.take(f"{what}s.length", "u", size)
    try:
        text = reader.take(f"{what}s.text", "u1").tobytes().decode()
    except UnicodeDecodeError as error:
        raise Damaged(f"the names of {what}s are not UTF-8 text") from error
    if bounded_sum(lengths, len(text), f"{what}s.length") != len(text):
        raise Damaged(f"the names of {what}s are longer than their lengths say")
    ends = list(accumulate(lengths.tolist()))
    return [text[start:end] for start, end in pairwise([0, *ends])]


def shortened_repr(value: Any) -> str:
    """Format a value for an error message: its ``repr``, cut to 60 characters."""
    return shortened(repr(value))


def shortened(text: str) -> str:
    """Cut a text for an error message to at most 60 characters."""
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."
