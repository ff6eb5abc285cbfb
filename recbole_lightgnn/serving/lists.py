"""Lists of items of different lengths, stored one after the other (ragged arrays)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recbole_lightgnn.serving.coding import Pairs

NO_ITEMS = np.empty(0, np.int64)  # an empty list of items


class ItemLists(NamedTuple):
    """One list of items per user or query.

    Attributes:
        pointers: start of each list in ``item``, and the end of the last list. Shape: (lists + 1,)
        item: the items of all lists. Shape: (items of all lists,)
    """

    pointers: np.ndarray
    item: np.ndarray

    @classmethod
    def from_arrays(cls, lists: Sequence[np.ndarray]) -> ItemLists:
        """Build the lists from one array of items per list."""
        return cls(_pointers([len(part) for part in lists]), np.concatenate([NO_ITEMS, *lists]))

    @classmethod
    def from_pairs(cls, pairs: Sequence[Pairs], n_users: int) -> ItemLists:
        """Collect one list of items for each user, from one or more sets of user-item pairs."""
        user, item = (np.concatenate(side) for side in zip(*pairs, strict=True))
        order = np.argsort(user, kind="stable")
        return cls(_pointers(np.bincount(user, minlength=n_users)), item[order])

    def select(self, numbers: np.ndarray) -> ItemLists:
        """Return the lists with the given numbers, in the given order; numbers may repeat."""
        sizes = np.diff(self.pointers)[numbers]
        pointers = _pointers(sizes)
        shift = np.repeat(self.pointers[numbers] - pointers[:-1], sizes)
        return ItemLists(pointers, self.item[np.arange(pointers[-1]) + shift])

    def with_items(self, items: np.ndarray) -> ItemLists:
        """Append the same items to every list. Shape of ``items``: (appended items,)"""
        n_lists = len(self.pointers) - 1
        ends = np.repeat(self.pointers[1:], len(items))
        item = np.insert(self.item, ends, np.tile(items, n_lists))
        return ItemLists(_pointers(np.diff(self.pointers) + len(items)), item)

    def rows_and_items(self) -> tuple[np.ndarray, np.ndarray]:
        """Return all items of all lists, each with the number of its list.

        Returns:
            First, the list number of each item. Second, the items. Shape of each: (items of all
            lists,)
        """
        row = np.repeat(np.arange(len(self.pointers) - 1), np.diff(self.pointers))
        return row, self.item


def _pointers(sizes: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
