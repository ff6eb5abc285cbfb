"""What an exported model answers: recommendations, scores, similar items, and why."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.serving.approximate import Index
from recbole_lightgnn.serving.container import reading
from recbole_lightgnn.serving.ids import Ids, shown
from recbole_lightgnn.serving.lists import NO_ITEMS, Lists
from recbole_lightgnn.serving.model import Model, read
from recbole_lightgnn.serving.propagation import Propagated, propagate
from recbole_lightgnn.serving.ranking import largest

_SCORES = 1 << 22  # held at once: 16 MB


@dataclass(frozen=True)
class Ranked:
    """Items from the best on, a row a question.

    Attributes:
        items: what they are called, ``None`` where there are no more. Shape: (questions, k)
        scores: minus infinity there. Shape: (questions, k)
    """

    items: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Explanation:
    """A score as the sum of what carries it.

    Attributes:
        score: of the user for the item: ``own`` and all contributions.
        own: what the user's own embedding gives.
        items: of the user's kept interactions, the one that gives most first. Shape: (kept,)
        weights: the learned weight of each. Shape: (kept,)
        contributions: what each gives. Shape: (kept,)
    """

    score: float
    own: float
    items: np.ndarray
    weights: np.ndarray
    contributions: np.ndarray


class Recommender:
    """Answers from a model in memory; nothing of it changes, so that threads may share it.

    Users and items go by what the dataset calls them; by numbers, where the file has no names; by
    hashes in hexadecimal, where it has those and the key is not given.

    Args:
        model: from a file, or made by an export.
        share: of the items that `recommend` and `fold_in` look at, approximately
            (`approximate.Index`; needs faiss). By default, with ``filter_items``, and where too
            few are found otherwise, all are looked at, exactly.

    Attributes:
        users, items: what they are called.
        card: where the model comes from and what it reached.
        user: final embeddings, whose inner products are the scores. Shape: (users, width)
        item: likewise. Shape: (items, width)
        index: of approximate search, if that is asked for.
        form: ``graph``, or ``final``, which neither folds in nor explains.

    Raises:
        InputError: if the embeddings are so large that a score may not be finite; and as
            `approximate.Index`.
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
        self._seen = Lists.by_user(pairs, len(model.users))
        self._check_finite()
        self.index: Index | None = None
        if share is not None and len(self.items):
            self.index = Index(self.item, share)

    @classmethod
    def load(
        cls,
        path: Path | str,
        key: bytes | None = None,
        mapped: bool = True,
        share: float | None = None,
    ) -> Recommender:
        """A recommender from a file that ``recbole-lightgnn export`` wrote, its checksum verified.

        Final embeddings of float32 are mapped, not read; all else is decoded.

        Args:
            path: the file.
            key: what names were hashed with; then the dataset's own are understood too.
            mapped: whether to map at all: who cannot rule out that the file is written over while
                it is in use reads it.
            share: as of the class.

        Raises:
            InputError: if the file is missing, foreign, of a newer format or damaged, or was
                hashed with another key.
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
        """The k items of largest score for each user; of equal ones the first in the file.

        Scores of float32 are equal but for rounding, which may depend on who else is asked about.

        Args:
            users: as many as you like; some hundred are ranked at a time.
            k: how many items.
            exclude_seen: whether to leave out the interactions that the file holds. Pruned ones
                it does not hold (unless exported with ``--seen all``), and they may be
                recommended again. Who knows better gives the items of each user instead.
            filter_items: the only items that may be recommended; by default all.
            exclude_items: what is recommended to none of these users.

        Raises:
            InputError: if a user or an item is not known, or k is not from 1 to the number of
                items.
        """
        numbers = self.users.numbers(users)
        if isinstance(exclude_seen, bool | np.bool_):
            seen = self._seen.take(numbers) if exclude_seen else Lists.of([NO_ITEMS] * len(numbers))
        elif not isinstance(exclude_seen, Iterable) or isinstance(exclude_seen, str | bytes):
            raise InputError(
                "exclude_seen must be True, False or a list of items for each user, got "
                f"{shown(exclude_seen)}"
            )
        else:
            seen = Lists.of([self.items.numbers(items) for items in exclude_seen])
            if len(seen.pointers) != len(numbers) + 1:
                raise InputError(
                    f"exclude_seen has items of {len(seen.pointers) - 1} users, and {len(numbers)} "
                    "are asked about: give a list for each"
                )
        nowhere = np.unique(self.items.numbers(exclude_items))
        allowed = None if filter_items is None else np.unique(self.items.numbers(filter_items))
        return self._rank(
            self.user, numbers, self.item, self._how_many(k), seen, allowed=allowed, nowhere=nowhere
        )

    def score(self, users: Iterable[Any], items: Iterable[Any]) -> np.ndarray:
        """The score of each user for the item at the same place. Shape: (pairs,)

        Raises:
            InputError: if one is not known, or there are not as many users as items.
        """
        user, item = self.users.numbers(users), self.items.numbers(items)
        if len(user) != len(item):
            raise InputError(
                f"a score is of a user and an item, and there are {len(user)} users and "
                f"{len(item)} items: give as many"
            )
        scores: np.ndarray = np.einsum("ij,ij->i", self.user[user], self.item[item])
        return scores

    def similar_items(self, items: Iterable[Any], k: int) -> Ranked:
        """The k items whose final embeddings have the largest cosines with that of each item.

        Raises:
            InputError: if an item is not known, or k is not from 1 to the number of items.
        """
        numbers = self.items.numbers(items)
        itself = Lists.of([numbers[place : place + 1] for place in range(len(numbers))])
        return self._rank(self._direction, numbers, self._direction, self._how_many(k), itself)

    def fold_in(self, items: Iterable[Any], k: int) -> Ranked:
        r"""The k best items for a user that the model does not know, by the items it had.

        Eq. 4 and 2 for a user who has edges to these, of weight 1, and no embedding of its own:

        .. math:: \bar e = \sum_j \frac{h_j}{\sqrt{n d_j}}

        with n items, their degrees :math:`d_j` and :math:`h_j` of `Propagated`. The other
        embeddings stay as they are. The items given are not recommended.

        Args:
            items: what the user had; repeated ones count once.
            k: how many items.

        Raises:
            InputError: if there are no items, one is not known, k is not from 1 to the number of
                items, or the file holds only final embeddings.
        """
        propagated = self._need_graph("fold_in")
        numbers = np.unique(self.items.numbers(items))
        if len(numbers) == 0:
            raise InputError("fold_in needs items that the user had, got none")
        degree = np.maximum(propagated.graph.item_degree[numbers], 1)
        norm = (1 / np.sqrt(len(numbers) * degree)).astype(np.float32)
        row = (norm @ propagated.carried[numbers])[None, :]
        first = np.zeros(1, np.int64)
        return self._rank(row, first, self.item, self._how_many(k), Lists.of([numbers]))

    def explain(self, user: Any, item: Any) -> Explanation:
        r"""Which kept interactions of a user carry the score of an item, and how much each.

        .. math:: \bar e_u \cdot \bar e_i = c_0 e_u \cdot \bar e_i
                  + \sum_j \hat a_{uj}\, h_j \cdot \bar e_i

        exactly, in the terms of `Propagated`.

        Raises:
            InputError: if one is not known, or the file holds only final embeddings.
        """
        propagated = self._need_graph("explain")
        user_number, item_number = self.users.number(user), self.items.number(item)
        edges, target = propagated.edges, self.item[item_number]
        place = slice(*edges.pointers[user_number : user_number + 2])
        numbers = edges.column[place]
        contributions = edges.value[place] * (propagated.carried[numbers] @ target)
        order = np.argsort(-contributions, kind="stable")
        return Explanation(
            score=float(self.user[user_number] @ target),
            own=float(
                propagated.graph.coefficients[0] * (propagated.initial[user_number] @ target)
            ),
            items=self.items.names(numbers[order]),
            weights=propagated.graph.weight[place][order],
            contributions=contributions[order],
        )

    @cached_property
    def _direction(self) -> np.ndarray:
        """The items' final embeddings, of length 1, or 0. Shape: (items, width)"""
        largest_entry = np.abs(self.item).max(axis=1, keepdims=True)
        scaled = self.item / np.where(largest_entry > 0, largest_entry, 1)  # squares stay finite
        length = np.linalg.norm(scaled, axis=1, keepdims=True)
        return scaled / np.where(length > 0, length, 1)

    def _check_finite(self) -> None:
        """Raise InputError if a score, or a part of one, may not be finite."""
        rows = [self.user, *([self._propagated.carried] if self._propagated else [])]
        left, right = (
            max(float(np.abs(t).max(initial=0)) for t in ts) for ts in (rows, [self.item])
        )
        most = left * right * self.user.shape[1] * max(1, len(self.items)) ** 0.5  # of `fold_in`
        if not most < float(np.finfo(np.float32).max):  # so that NaN is refused too
            raise InputError(
                f"embeddings as large as {left:.3g} and {right:.3g} may give scores that are not "
                "finite: the training has diverged"
            )

    def _need_graph(self, question: str) -> Propagated:
        if self._propagated is None:
            raise InputError(
                f"{question} needs the model's edges, and the file holds only final embeddings: "
                "export a student with --form graph"
            )
        return self._propagated

    def _how_many(self, k: Any) -> int:
        try:
            number = operator.index(k)
        except TypeError:
            number = 0
        if not 1 <= number <= len(self.items):
            raise InputError(
                f"k must be a whole number from 1 to the number of items, {len(self.items)}, "
                f"got {shown(k)}"
            )
        return number

    def _rank(
        self,
        rows: np.ndarray,
        numbers: np.ndarray,
        columns: np.ndarray,
        k: int,
        excluded: Lists,
        *,
        allowed: np.ndarray | None = None,
        nowhere: np.ndarray = NO_ITEMS,
    ) -> Ranked:
        """The best items for some rows.

        Args:
            rows: embeddings to recommend for. Shape: (any, width)
            numbers: which of the rows. Shape: (questions,)
            columns: embeddings of all items. Shape: (items, width)
            k: how many items.
            excluded: what to leave out of each answer.
            allowed: the only items there are, ascending; by default all.
            nowhere: what to leave out of all answers, ascending.
        """
        if allowed is not None:
            allowed, nowhere = np.setdiff1d(allowed, nowhere, assume_unique=True), NO_ITEMS
        place = None
        if allowed is not None:
            columns = columns[allowed]
            place = np.full(len(self.items), -1)
            place[allowed] = np.arange(len(allowed))
        found = np.full((len(numbers), k), -1, np.int32)
        scores = np.full((len(numbers), k), -np.inf, np.float32)
        left = np.arange(len(numbers))
        if self.index is not None and columns is self.item:
            found, scores = self.index.best(rows[numbers], k, excluded, nowhere)
            left = np.flatnonzero(found[:, -1] < 0)  # where too few were looked at
        step = max(1, _SCORES // max(1, len(columns)))
        for start in range(0, len(left), step):
            part = left[start : start + step]
            table = rows[numbers[part]] @ columns.T
            row, column = excluded.take(part).places(0, len(part))
            if place is not None:
                column = place[column]
                row, column = row[column >= 0], column[column >= 0]
            table[row, column] = -np.inf
            table[:, nowhere] = -np.inf
            best, scores[part] = largest(table, k)
            found[part] = best if allowed is None else np.append(allowed, -1)[best]
        return Ranked(self.items.names(found), scores)
