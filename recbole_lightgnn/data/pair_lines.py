"""Format user-item pairs as lines ``user<TAB>item``, and hash these lines."""

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from recbole_lightgnn.data.prefetch import map_ahead
from recbole_lightgnn.data.split import inverse_permutation
from recbole_lightgnn.utils.jit import compiled

_CHUNK = 2**18  # bytes of lines formatted at once; they fit into the processor's cache
_TAB, _LINE_END = b"\t\n"


class Tokens(NamedTuple):
    """Tokens (texts in the files) of users and items, indexed by the number of the user or item.

    Attributes:
        users: UTF-8 token of each user. Shape: (n_users,)
        items: UTF-8 token of each item. Shape: (n_items,)
    """

    users: NDArray[np.bytes_]
    items: NDArray[np.bytes_]


def pairs_hash(users: ArrayLike, items: ArrayLike) -> str:
    """Hash user-item pairs, in any order: the SHA-256 of the sorted lines ``user<TAB>item``.

    A run's record contains the same hash (`fingerprint.dataset_fingerprint`).

    Args:
        users: token of each pair's user; a number stands for its decimal digits. Shape: (n_pairs,)
        items: token of each pair's item; a number stands for its decimal digits. Shape: (n_pairs,)

    Returns:
        64 hexadecimal digits. Two lists of pairs have equal hashes if and only if every pair occurs
        equally often in both lists.
    """
    return hash_numbered(*numbered(np.asarray(users), np.asarray(items)))


def numbered(
    users: NDArray[Any], items: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Tokens]:
    """Number users and items from 0 in order of appearance.

    Args:
        users: token (text or number) of each pair's user. Shape: (n_pairs,)
        items: token (text or number) of each pair's item. Shape: (n_pairs,)

    Returns:
        The user number of each pair, the item number of each pair, and the tokens of the numbers.
    """
    numbers, names = [], []
    for column in (users, items):
        if column.dtype.kind in "iu":
            column = column.astype(np.int64)  # pandas requires the machine's byte order
        number, distinct = pd.factorize(column)
        numbers.append(number)
        if column.dtype.kind in "iu":
            names.append(distinct.astype("S"))
        else:
            names.append(np.array([str(token).encode() for token in distinct], dtype="S"))
    return numbers[0], numbers[1], Tokens(*names)


def format_lines(
    users: NDArray[Any], items: NDArray[Any], tokens: Tokens
) -> Iterator[tuple[bytes, int]]:
    """Yield the lines ``user<TAB>item<LF>`` of pairs in chunks, each with its number of lines.

    Args:
        users: user number of each pair, from 0. Shape: (n_pairs,)
        items: item number of each pair, from 0. Shape: (n_pairs,)
        tokens: tokens of the numbered users and items.
    """
    letters = [names.view(np.uint8).reshape(len(names), names.itemsize) for names in tokens]
    width = sum(table.shape[1] for table in letters) + 2  # bytes of the longest possible line
    step = max(1, _CHUNK // width)

    def chunk(start: int) -> tuple[bytes, int]:
        user, item = users[start : start + step], items[start : start + step]
        lines = np.empty(len(user) * width, np.uint8)
        return lines[: _join(user, item, letters[0], letters[1], lines)].tobytes(), len(user)

    yield from map_ahead(chunk, range(0, len(users), step))


@compiled
def _join(
    users: NDArray[Any],
    items: NDArray[Any],
    user_letters: NDArray[np.uint8],
    item_letters: NDArray[np.uint8],
    lines: NDArray[np.uint8],
) -> int:
    """Write ``user<TAB>item<LF>`` for each pair into ``lines``; return the number of bytes.

    Args:
        users: user number of each pair. Shape: (n_pairs,)
        items: item number of each pair. Shape: (n_pairs,)
        user_letters: bytes of each user's token, padded with zeros. Shape: (n_users, width)
        item_letters: bytes of each item's token, padded with zeros. Shape: (n_items, width)
        lines: buffer that receives the lines, at least as long as the lines. Shape: (n_bytes,)
    """
    size = 0  # the inner loop is written twice: a function made imports a sixth slower
    for user, item in zip(users, items):  # noqa: B905  numba does not support strict
        for letter in range(user_letters.shape[1]):
            if user_letters[user, letter] == 0:
                break
            lines[size] = user_letters[user, letter]
            size += 1
        lines[size] = _TAB
        size += 1
        for letter in range(item_letters.shape[1]):
            if item_letters[item, letter] == 0:
                break
            lines[size] = item_letters[item, letter]
            size += 1
        lines[size] = _LINE_END
        size += 1
    return size


def hash_numbered(users: NDArray[Any], items: NDArray[Any], tokens: Tokens) -> str:
    """Sort pairs by their tokens, then hash the sorted pairs as `pairs_hash` does.

    Args:
        users: user number of each pair, from 0. Shape: (n_pairs,)
        items: item number of each pair, from 0. Shape: (n_pairs,)
        tokens: tokens of the numbered users and items.
    """
    by_name = [np.argsort(names) for names in tokens]  # number of the n-th token in sorted order
    users, items = (
        inverse_permutation(order)[column]
        for order, column in zip(by_name, (users, items), strict=True)
    )
    n_items = max(1, len(tokens.items))
    key = users.astype(np.int64) * n_items + items
    del users, items
    if (key[1:] < key[:-1]).any():
        key.sort()
    digest = Digest()
    names = Tokens(*(column[order] for column, order in zip(tokens, by_name, strict=True)))
    for chunk, _ in format_lines(key // n_items, key % n_items, names):
        digest.update(chunk)
    return digest.hexdigest()


class Digest:
    """Compute the SHA-256 of lines, leaving out the line feed at the end of the last line."""

    def __init__(self) -> None:
        self._digest, self._end = hashlib.sha256(), b""

    def update(self, lines: bytes) -> None:
        """Add lines to the hashed text; each line must end with a line feed."""
        self._digest.update(self._end)
        self._digest.update(memoryview(lines)[:-1])
        self._end = b"\n"

    def hexdigest(self) -> str:
        """Return the hash of all lines added so far, as 64 hexadecimal digits."""
        return self._digest.hexdigest()
