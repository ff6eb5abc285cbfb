"""Approximate search for large catalogues: only a fraction of the items is scored. Needs faiss."""

from __future__ import annotations

import numpy as np

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.serving.lists import NO_ITEMS, ItemLists
from recbole_lightgnn.serving.ranking import top_k

_LISTS_PER_ROOT = 4  # number of inverted lists = this times the square root of the number of items
_TRAINING_ITEMS = 64  # largest number of items per list that k-means trains on
_MAX_GATHERED = 1 << 22  # entries of item embeddings gathered at once: 16 MB of float32


class ApproximateIndex:
    r"""Approximate search: items are grouped in lists, and a query searches only some lists.

    Spherical k-means learns :math:`4 \sqrt{n}` directions from the embeddings of the n items. An
    item belongs to the list of the direction :math:`c` with the largest :math:`c \cdot \bar e_i`. A
    query :math:`\bar e_u` searches the lists with the largest :math:`c \cdot \bar e_u`. The
    items in these lists are ranked by exact scores: items may be missed, but no score is wrong.

    Args:
        items: final embeddings of the items. Shape: (items, width)
        share: fraction of the lists that a query searches, above 0 and up to 1.

    Raises:
        InputError: if ``share`` is out of range, or faiss is not installed.
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
        n_lists = max(1, min(n_items, round(_LISTS_PER_ROOT * n_items**0.5)))
        directions = faiss.IndexFlatIP(width)
        self._items = np.ascontiguousarray(items, np.float32)
        self._lists = faiss.IndexIVFFlat(directions, width, n_lists, faiss.METRIC_INNER_PRODUCT)
        self._lists.cp.spherical = True
        self._lists.cp.min_points_per_centroid = 1  # with fewer, faiss warns on standard error
        self._lists.cp.max_points_per_centroid = _TRAINING_ITEMS
        self.set_share(share)
        self._lists.train(self._items)
        self._lists.add(self._items)

    def set_share(self, share: float) -> None:
        """Set the fraction of lists to search; raise InputError unless above 0 and up to 1."""
        if not 0 < share <= 1:
            raise InputError(
                f"the share of items to search must be above 0 and up to 1, got {share}"
            )
        self._lists.nprobe = max(1, round(share * self._lists.nlist))

    def search(
        self,
        queries: np.ndarray,
        k: int,
        excluded: ItemLists,
        excluded_from_all: np.ndarray = NO_ITEMS,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the top-k items of each query among the items of the lists that the query searches.

        Fewer than k items are found if the searched lists have too few items.

        Args:
            queries: final embeddings of users to recommend for. Shape: (queries, width)
            k: number of items per query.
            excluded: items to leave out, one list per query.
            excluded_from_all: items to leave out for every query. Shape: (excluded items,)

        Returns:
            First, the items, best first. Second, their scores. A missing item is -1, with score
            minus infinity. Shape of each: (queries, k)
        """
        shape = len(queries), k
        found, scores = np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32)
        # Enough items that k remain without the excluded ones; rounded up to a power of two, so
        # that queries with similar counts are searched together.
        n_wanted = k + len(excluded_from_all) + np.diff(excluded.pointers)
        fetched = 1 << np.ceil(np.log2(n_wanted)).astype(np.int64)
        for n_fetched in np.unique(fetched):
            same_size = np.flatnonzero(fetched == n_fetched)
            step = max(1, _MAX_GATHERED // (int(n_fetched) * self._items.shape[1]))
            for start in range(0, len(same_size), step):
                chunk = same_size[start : start + step]
                left_out = excluded.select(chunk).with_items(excluded_from_all)
                found[chunk], scores[chunk] = self._search_chunk(
                    queries[chunk], int(n_fetched), k, left_out
                )
        return found, scores

    def _search_chunk(
        self, queries: np.ndarray, n_fetched: int, k: int, excluded: ItemLists
    ) -> tuple[np.ndarray, np.ndarray]:
        n_items = len(self._items)
        near = self._lists.search(np.ascontiguousarray(queries), min(n_fetched, n_items))[1]
        near.sort(axis=1)  # of equal scores, the lower item number is ranked first
        table = np.einsum("rw,rnw->rn", queries, self._items[near])  # (queries, fetched)
        row, item = excluded.rows_and_items()
        # One number per (query, item) pair, so that one call tests membership for all queries.
        is_excluded = np.isin(
            near + n_items * np.arange(len(queries))[:, None], item + n_items * row
        )
        table[is_excluded | (near < 0)] = -np.inf  # faiss pads with -1
        column, scores = top_k(table, k)
        found = np.take_along_axis(near, np.maximum(column, 0), axis=1)
        return np.where(column < 0, -1, found), scores
