"""Lists of items of different lengths, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recbole_lightgnn.serving.coding import Pairs

NO_ITEMS = np.empty(0, np.int64)


class Lists(NamedTuple):
    """Items of each of several users or questions.

    Attributes:
        pointers: where each list begins, and where the last ends. Shape: (lists + 1,)
        item: all of them. Shape: (items,)
    """

    pointers: np.ndarray
    item: np.ndarray

    @classmethod
    def of(cls, lists: Sequence[np.ndarray]) -> Lists:
        """From one array a list."""
        return cls(_pointers([len(part) for part in lists]), np.concatenate([NO_ITEMS, *lists]))

    @classmethod
    def by_user(cls, pairs: Sequence[Pairs], n_users: int) -> Lists:
        """The items of each user in any of several sets of pairs."""
        user, item = (np.concatenate(side) for side in zip(*pairs, strict=True))
        order = np.argsort(user, kind="stable")
        return cls(_pointers(np.bincount(user, minlength=n_users)), item[order])

    def take(self, numbers: np.ndarray) -> Lists:
        """The lists of these numbers, in their order."""
        sizes = np.diff(self.pointers)[numbers]
        pointers = _pointers(sizes)
        shift = np.repeat(self.pointers[numbers] - pointers[:-1], sizes)
        return Lists(pointers, self.item[np.arange(pointers[-1]) + shift])

    def and_all(self, items: np.ndarray) -> Lists:
        """Each list, and these items at its end."""
        n_lists = len(self.pointers) - 1
        ends = np.repeat(self.pointers[1:], len(items))
        item = np.insert(self.item, ends, np.tile(items, n_lists))
        return Lists(_pointers(np.diff(self.pointers) + len(items)), item)

    def places(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows, counted from ``start``, and items of the lists from ``start`` to ``stop``."""
        pointers = self.pointers[start : stop + 1]
        row = np.repeat(np.arange(stop - start), np.diff(pointers))
        return row, self.item[pointers[0] : pointers[-1]]


def _pointers(sizes: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
