"""Recommend with an exported model; score, find similar items, fold in new users, explain."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.serving.approximate import ApproximateIndex
from recbole_lightgnn.serving.container import reading
from recbole_lightgnn.serving.ids import Ids, shortened_repr
from recbole_lightgnn.serving.lists import NO_ITEMS, ItemLists
from recbole_lightgnn.serving.model import Model, read
from recbole_lightgnn.serving.propagation import Propagated, propagate
from recbole_lightgnn.serving.ranking import top_k
from recbole_lightgnn.utils.edge_norm import edge_norm

_MAX_SCORES = 1 << 22  # scores computed at once: 16 MB of float32


@dataclass(frozen=True)
class Ranked:
    """Top-k items, best first, one row per query.

    Attributes:
        items: names of the items; ``None`` after the last item if fewer than k items can be
            recommended. Shape: (queries, k)
        scores: score of each item; minus infinity for ``None``. Shape: (queries, k)
    """

    items: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Explanation:
    """A score as a sum of contributions: of the user's own embedding and of each kept interaction.

    Attributes:
        score: score of the user for the item; the sum of ``own`` and ``contributions``.
        own: contribution of the user's own embedding.
        items: items of the user's kept interactions, largest contribution first. Shape: (kept,)
        weights: learned weight of each kept interaction. Shape: (kept,)
        contributions: contribution of each kept interaction. Shape: (kept,)
    """

    score: float
    own: float
    items: np.ndarray
    weights: np.ndarray
    contributions: np.ndarray


class Recommender:
    """Recommend with a model in memory. A recommender never changes, so threads can share it.

    Users and items are named by the dataset's tokens. If the file has no names, they are named by
    number. If the file has hashes and the key is not given, they are named by hash, in hexadecimal.

    Args:
        model: the model, from a file or from `export.served_model`.
        share: fraction of the items, above 0 and up to 1, that `recommend` and `fold_in` rank in an
            approximate search (`approximate.ApproximateIndex`, needs faiss). By default the search
            is exact. It is also exact with ``filter_items``, and for a user for whom the
            approximate search finds fewer than k items.

    Attributes:
        users: names of the users.
        items: names of the items.
        card: origin, settings and metrics of the model.
        form: ``graph`` or ``final``, see `Model.form`; only ``graph`` supports `fold_in` and
            `explain`.
        user: final embeddings of the users; scores are inner products. Shape: (users, width)
        item: final embeddings of the items. Shape: (items, width)
        index: lists of items for the approximate search, or ``None``.

    Raises:
        InputError: if the embeddings are so large that a score may not be finite, ``share`` is
            out of range, or faiss is not installed.
    """

    def __init__(self, model: Model, share: float | None = None) -> None:
        self.users: Ids = model.users
        self.items: Ids = model.items
        self.card, self.form = model.card, model.form
        self.user, self.item = model.user, model.item
        self._propagated: Propagated | None = None
        pairs = [model.seen]
        if model.graph is not None:
            self._propagated = propagate(model.graph, model.user, model.item)
            self.user, self.item = self._propagated.user, self._propagated.item
            pairs.append(model.graph.pairs)
        self._seen = ItemLists.from_pairs(pairs, len(model.users))
        self._check_finite()
        self.index: ApproximateIndex | None = None
        if share is not None and len(self.items):
            self.index = ApproximateIndex(self.item, share)

    @classmethod
    def load(
        cls,
        path: Path | str,
        key: bytes | None = None,
        mapped: bool = True,
        share: float | None = None,
    ) -> Recommender:
        """Load a file that ``recbole-lightgnn export`` wrote, and verify its checksum.

        Final embeddings in float32 are memory-mapped; everything else is decoded into memory.

        Args:
            path: the file.
            key: secret that the names were hashed with. With the secret, users and items can be
                named by the dataset's tokens or by the hashes.
            mapped: whether to memory-map the file. Use ``False`` if the file may be overwritten
                while it is in use.
            share: fraction of the items that an approximate search ranks (see `Recommender`); by
                default, all items are ranked.

        Raises:
            InputError: if the file is missing, is another kind of file, has a newer format version
                or is damaged, if the key is wrong, or if `Recommender` raises it.
        """
        model = read(Path(path), key, mapped)
        with reading(str(path)):
            try:
                return cls(model, share)
            except InputError as error:
                raise InputError(f"{path}: {error}") from error

    def recommend(
        self,
        users: Iterable[Any],
        k: int,
        exclude_seen: bool | Iterable[Iterable[Any]] = True,
        filter_items: Iterable[Any] | None = None,
        exclude_items: Iterable[Any] = (),
    ) -> Ranked:
        """Recommend the k items with the largest scores to each user.

        Items with equal scores are ordered as in the file. The last digits of a score (float32) may
        depend on the other users in the same call.

        Args:
            users: names of the users; many users are ranked in chunks, to limit memory.
            k: number of items per user.
            exclude_seen: whether to leave out the items of each user's interactions in the file.
                Pruned interactions are not in the file (unless exported with ``--seen all``), so
                their items may be recommended again. Instead of a bool, lists of the items to leave
                out can be given, one list per user.
            filter_items: the only items that may be recommended; by default all items.
            exclude_items: items that are recommended to none of the users.

        Raises:
            InputError: if a user or an item is unknown, or k is not from 1 to the number of items.
        """
        numbers = self.users.numbers(users)
        seen = self._seen_items(numbers, exclude_seen)
        excluded = np.unique(self.items.numbers(exclude_items))
        allowed = None if filter_items is None else np.unique(self.items.numbers(filter_items))
        return self._rank(
            self.user,
            numbers,
            self.item,
            self._check_k(k),
            seen,
            allowed=allowed,
            excluded_from_all=excluded,
        )

    def score(self, users: Iterable[Any], items: Iterable[Any]) -> np.ndarray:
        """Score user-item pairs: the first user with the first item, and so on.

        Returns:
            The scores, float32. Shape: (pairs,)

        Raises:
            InputError: if a name is unknown, or the numbers of users and items differ.
        """
        user, item = self.users.numbers(users), self.items.numbers(items)
        if len(user) != len(item):
            raise InputError(
                f"score needs as many users as items, but there are {len(user)} users and "
                f"{len(item)} items"
            )
        scores: np.ndarray = np.einsum("ij,ij->i", self.user[user], self.item[item])
        return scores

    def similar_items(self, items: Iterable[Any], k: int) -> Ranked:
        """Find the k most similar other items for each item, by cosine of final embeddings.

        Raises:
            InputError: if an item is unknown, or k is not from 1 to the number of items.
        """
        numbers = self.items.numbers(items)
        itself = ItemLists.from_arrays(
            [numbers[place : place + 1] for place in range(len(numbers))]
        )
        return self._rank(self._directions, numbers, self._directions, self._check_k(k), itself)

    def fold_in(self, items: Iterable[Any], k: int) -> Ranked:
        r"""Recommend k items to a new user, computed from the items that the user likes.

        The new user's final embedding is Eq. 4 and 2 of LightGNN for a user without an initial
        embedding, with edges of weight 1 to the given items:

        .. math:: \bar e = \sum_j n^{-a} d_j^{-b} h_j

        with n given items j, the degree :math:`d_j` of each, the exponents a and b of `edge_norm`,
        and the message :math:`h_j` of `Propagated`. The embeddings of all items stay unchanged. The
        given items are not recommended.

        Args:
            items: names of the user's items; a repeated name counts once.
            k: number of items to recommend.

        Returns:
            The items and their scores, in one row.

        Raises:
            InputError: if no item is given, an item is unknown, k is not from 1 to the number of
                items, or the file holds only final embeddings.
        """
        propagated = self._require_graph("fold_in")
        numbers = np.unique(self.items.numbers(items))
        if len(numbers) == 0:
            raise InputError("fold_in needs at least one item of the user, got none")
        degree = np.maximum(propagated.graph.item_degree[numbers], 1)
        own = np.full_like(degree, len(numbers))
        norm = edge_norm(own, degree, propagated.graph.exponents).astype(np.float32)
        embedding = (norm @ propagated.item_message[numbers])[None, :]  # (1, width)
        first = np.zeros(1, np.int64)
        given = ItemLists.from_arrays([numbers])
        return self._rank(embedding, first, self.item, self._check_k(k), given)

    def explain(self, user: Any, item: Any) -> Explanation:
        r"""Split the score of an item exactly into contributions of the user's kept interactions.

        .. math:: \bar e_u \cdot \bar e_i = c_0 e_u \cdot \bar e_i
                  + \sum_j \hat a_{uj}\, h_j \cdot \bar e_i

        `Propagated` defines the terms.

        Raises:
            InputError: if a name is unknown, or the file holds only final embeddings.
        """
        propagated = self._require_graph("explain")
        user_number, item_number = self.users.number(user), self.items.number(item)
        edges, target = propagated.edges, self.item[item_number]
        row = slice(*edges.pointers[user_number : user_number + 2])
        numbers = edges.column[row]
        contributions = edges.value[row] * (propagated.item_message[numbers] @ target)
        order = np.argsort(-contributions, kind="stable")
        initial = propagated.initial_user[user_number]
        return Explanation(
            score=float(self.user[user_number] @ target),
            own=float(propagated.graph.coefficients[0] * (initial @ target)),
            items=self.items.names(numbers[order]),
            weights=propagated.graph.weight[row][order],
            contributions=contributions[order],
        )

    @cached_property
    def _directions(self) -> np.ndarray:
        """Item embeddings, scaled to length 1 unless they are zero. Shape: (items, width)"""
        largest_entry = np.abs(self.item).max(axis=1, keepdims=True)
        scaled = self.item / np.where(largest_entry > 0, largest_entry, 1)  # squares stay finite
        length = np.linalg.norm(scaled, axis=1, keepdims=True)
        return scaled / np.where(length > 0, length, 1)

    def _check_finite(self) -> None:
        """Raise InputError if a score, or a contribution to a score, may not be finite."""
        rows = [self.user, *([self._propagated.item_message] if self._propagated else [])]
        left, right = (
            max(float(np.abs(t).max(initial=0)) for t in ts) for ts in (rows, [self.item])
        )
        # The square root bounds the sum over items in `fold_in`.
        bound = left * right * self.user.shape[1] * max(1, len(self.items)) ** 0.5
        if not bound < float(np.finfo(np.float32).max):  # also true for NaN
            raise InputError(
                f"embeddings as large as {left:.3g} and {right:.3g} may give scores that are not "
                "finite: the training has diverged"
            )

    def _require_graph(self, method: str) -> Propagated:
        if self._propagated is None:
            raise InputError(
                f"{method} needs the model's edges, but the file holds only final embeddings: "
                "export a student with --form graph"
            )
        return self._propagated

    def _check_k(self, k: Any) -> int:
        try:
            number = operator.index(k)
        except TypeError:
            number = 0
        if not 1 <= number <= len(self.items):
            raise InputError(
                f"k must be a whole number from 1 to the number of items, {len(self.items)}, "
                f"got {shortened_repr(k)}"
            )
        return number

    def _seen_items(self, users: np.ndarray, exclude_seen: Any) -> ItemLists:
        """Items to leave out for each user, given the argument ``exclude_seen`` of `recommend`."""
        if isinstance(exclude_seen, bool | np.bool_):
            if exclude_seen:
                return self._seen.select(users)
            return ItemLists.from_arrays([NO_ITEMS] * len(users))
        if not isinstance(exclude_seen, Iterable) or isinstance(exclude_seen, str | bytes):
            raise InputError(
                "exclude_seen must be True, False or a list of items for each user, got "
                f"{shortened_repr(exclude_seen)}"
            )
        seen = ItemLists.from_arrays([self.items.numbers(items) for items in exclude_seen])
        n_lists = len(seen.pointers) - 1
        if n_lists != len(users):
            raise InputError(
                f"exclude_seen has lists for {n_lists} users, but {len(users)} users are given: "
                "give one list per user"
            )
        return seen

    def _rank(
        self,
        rows: np.ndarray,
        numbers: np.ndarray,
        columns: np.ndarray,
        k: int,
        excluded: ItemLists,
        *,
        allowed: np.ndarray | None = None,
        excluded_from_all: np.ndarray = NO_ITEMS,
    ) -> Ranked:
        """Find the top-k items for some embeddings, exactly or with the approximate search.

        Args:
            rows: table of user or item embeddings. Shape: (rows, width)
            numbers: index of a row of ``rows`` for each query. Shape: (queries,)
            columns: embeddings of all items, to multiply ``rows`` with. Shape: (items, width)
            k: number of items per query.
            excluded: items to leave out, one list per query.
            allowed: the only items to rank, ascending; by default all items. Shape: (allowed,)
            excluded_from_all: items to leave out for every query, ascending. Shape: (excluded
                items,)
        """
        column_of = None  # column of each item; -1 for items that are not allowed
        if allowed is not None:
            allowed = np.setdiff1d(allowed, excluded_from_all, assume_unique=True)
            excluded_from_all = NO_ITEMS
            columns = columns[allowed]
            column_of = np.full(len(self.items), -1)
            column_of[allowed] = np.arange(len(allowed))
        found = np.full((len(numbers), k), -1, np.int32)
        scores = np.full((len(numbers), k), -np.inf, np.float32)
        queries = np.arange(len(numbers))
        if self.index is not None and columns is self.item:
            found, scores = self.index.search(rows[numbers], k, excluded, excluded_from_all)
            queries = np.flatnonzero(found[:, -1] < 0)  # fewer than k items were found
        step = max(1, _MAX_SCORES // max(1, len(columns)))
        for start in range(0, len(queries), step):
            chunk = queries[start : start + step]
            table = rows[numbers[chunk]] @ columns.T  # (chunk, columns)
            row, column = excluded.select(chunk).rows_and_items()
            if column_of is not None:
                column = column_of[column]
                row, column = row[column >= 0], column[column >= 0]
            table[row, column] = -np.inf
            table[:, excluded_from_all] = -np.inf
            best, scores[chunk] = top_k(table, k)
            found[chunk] = best if allowed is None else np.append(allowed, -1)[best]
        return Ranked(self.items.names(found), scores)
