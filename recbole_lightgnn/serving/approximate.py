"""Approximate search, for large catalogues: only some items are looked at. Needs faiss."""

from __future__ import annotations

import numpy as np

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.serving.lists import NO_ITEMS, Lists
from recbole_lightgnn.serving.ranking import largest

_LISTS = 4  # times the square root of the number of items
_LEARNT_FROM = 64  # items to a list, at most, from which directions are learnt
_NUMBERS = 1 << 22  # of items looked at, gathered at once: 16 MB


class Index:
    r"""Items in lists by direction, so that a question looks into some lists alone.

    An inverted file: :math:`4 \sqrt{n}` directions are learnt by spherical k-means, an item is in
    the list of the direction :math:`c` with the largest :math:`c \cdot \bar e_i`, and a question
    :math:`\bar e_u` looks into the share of the lists with the largest :math:`c \cdot \bar e_u`.
    What is found there is ranked by its exact score: an item may be missed, no score is wrong.

    Args:
        items: final embeddings. Shape: (items, width)
        share: of the lists that a question looks into, above 0 and up to 1.

    Raises:
        InputError: if the share is no such number, or faiss is not installed.
    """

    def __init__(self, items: np.ndarray, share: float) -> None:
        try:
            import faiss
        except ModuleNotFoundError as error:
            raise InputError(
                "approximate search needs faiss, which is not installed: "
                "pip install 'recbole-lightgnn[ann]'"
            ) from error
        n_items, width = items.shape
        n_lists = max(1, min(n_items, round(_LISTS * n_items**0.5)))
        directions = faiss.IndexFlatIP(width)
        self._items = np.ascontiguousarray(items, np.float32)
        self._lists = faiss.IndexIVFFlat(directions, width, n_lists, faiss.METRIC_INNER_PRODUCT)
        self._lists.cp.spherical = True
        self._lists.cp.min_points_per_centroid = 1  # below it, faiss warns on standard error
        self._lists.cp.max_points_per_centroid = _LEARNT_FROM
        self.look_into(share)
        self._lists.train(self._items)
        self._lists.add(self._items)

    def look_into(self, share: float) -> None:
        """Look into this share of the lists from now on, above 0 and up to 1.

        Raises:
            InputError: if it is no such number.
        """
        if not 0 < share <= 1:
            raise InputError(
                f"the share of items to look at must be above 0 and up to 1, got {share}"
            )
        self._lists.nprobe = max(1, round(share * self._lists.nlist))

    def best(
        self, rows: np.ndarray, k: int, excluded: Lists, nowhere: np.ndarray = NO_ITEMS
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best items for each question among those that are looked at.

        So many are fetched that k are left when those excluded are taken away, if so many are in
        the lists at all.

        Args:
            rows: the questions. Shape: (questions, width)
            k: how many items.
            excluded: what to leave out of each answer.
            nowhere: what to leave out of all. Shape: (any,)

        Returns:
            Items, -1 where there are no more, and scores, minus infinity there.
            Shapes: (questions, k), (questions, k)
        """
        shape = len(rows), k
        found, scores = np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32)
        # Questions of about as many go together: the next power of two.
        fetched = 1 << np.ceil(np.log2(k + len(nowhere) + np.diff(excluded.pointers))).astype(
            np.int64
        )
        for n_fetched in np.unique(fetched):
            alike = np.flatnonzero(fetched == n_fetched)
            step = max(1, _NUMBERS // (int(n_fetched) * self._items.shape[1]))
            for start in range(0, len(alike), step):
                part = alike[start : start + step]
                found[part], scores[part] = self._some(
                    rows[part], int(n_fetched), k, excluded.take(part).and_all(nowhere)
                )
        return found, scores

    def _some(
        self, rows: np.ndarray, n_fetched: int, k: int, excluded: Lists
    ) -> tuple[np.ndarray, np.ndarray]:
        n_items = len(self._items)
        near = self._lists.search(np.ascontiguousarray(rows), min(n_fetched, n_items))[1]
        near.sort(axis=1)  # of equal scores the first item is the better one
        table = np.einsum("rw,rnw->rn", rows, self._items[near])
        row, item = excluded.places(0, len(rows))
        gone = np.isin(near + n_items * np.arange(len(rows))[:, None], item + n_items * row)
        table[gone | (near < 0)] = -np.inf
        column, scores = largest(table, k)
        found = np.take_along_axis(near, np.maximum(column, 0), axis=1)
        return np.where(column < 0, -1, found), scores
