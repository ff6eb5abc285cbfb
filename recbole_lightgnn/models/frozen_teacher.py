"""A trained model as a frozen teacher."""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.base import PositiveItems
from recbole_lightgnn.models.scoring_tables import final_tables, table_named
from recbole_lightgnn.ops import SparsePattern, sddmm

_SAMPLE = 256  # users to measure the standard deviation of scores on
_TABLE = 1 << 26  # maximum number of cached scores: 256 MB
_CHUNK = 256  # users scored at once
_PAIRS = 1 << 16  # pairs scored at once


def sample_users(n_users: int) -> Tensor:
    """Return at most 256 evenly spaced user numbers, without the padding user. Shape: (sample,)"""
    return torch.linspace(1, n_users - 1, min(_SAMPLE, n_users - 1)).long()


def score_std(scores: Tensor) -> float:
    """Compute the standard deviation of a user's scores over items, averaged over users.

    Args:
        scores: scores of users for items. Shape: (users, items)
    """
    return scores.std(dim=-1).mean().clamp_min(1e-12).item()


class FrozenTeacher:
    """Scores and embeddings of a trained model, for a student to learn from.

    Most models score by the inner product of two tables of final embeddings, computed once
    (`final_tables`). For a general recommender without such tables, all scores are computed once if
    they fit into 256 MB, and otherwise at every use.

    Args:
        model: the trained model; set to evaluation mode.
        scale: ``std`` divides all scores by their standard deviation, so that one distillation
            temperature suits every teacher; ``none`` keeps them.

    Attributes:
        model: the trained model.
        user: final embeddings of users, or ``None`` without tables. Shape: (users, width)
        item: final embeddings of items, or ``None`` without tables. Shape: (items, width)
        divisor: the number that all scores are divided by.
        score_std: `score_std` of the divided scores of a sample of users.
    """

    @torch.no_grad()
    def __init__(self, model: Any, *, scale: str = "std") -> None:
        model.eval()
        self.model = model
        self.user: Tensor | None = None
        self.item: Tensor | None = None
        self._table: Tensor | None = None  # all scores: (users, items)
        self._best: tuple[Tensor, Tensor] | None = None
        if (tables := final_tables(model)) is not None:
            self.user, self.item = tables
        else:
            self._whole_rows = self._can_score_all_items()
            if model.n_users * model.n_items <= _TABLE:
                users = torch.arange(model.n_users, device=model.device)
                self._table = torch.cat([self._rows(chunk) for chunk in users.split(_CHUNK)])
        sample = sample_users(model.n_users).to(model.device)
        items = torch.arange(1, model.n_items, device=model.device)
        self.divisor = 1.0
        std = score_std(self.scores(sample, items))
        if scale == "std":
            self.divisor = std
        self.score_std = std / self.divisor

    def initial_embeddings(self) -> tuple[Tensor, Tensor] | None:
        """Return the initial embeddings, or ``None`` if the model has none."""
        user = table_named(self.model, "user_embedding")
        item = table_named(self.model, "item_embedding")
        return None if user is None or item is None else (user, item)

    def score_tables(self) -> tuple[Tensor, Tensor] | None:
        """Return two tables with the scores as inner products, not divided by ``divisor``.

        Members of an `Ensemble` that give only scores are left out of the sum.

        Returns:
            ``None`` if the model does not score by tables. Shapes: (users, width), (items, width)
        """
        if self.user is not None and self.item is not None:
            return self.user, self.item
        tables_of_members = getattr(self.model, "score_tables", None)
        return None if tables_of_members is None else tables_of_members()

    def require_embeddings(self, setting: str, width: int) -> tuple[Tensor, Tensor]:
        """Return the final embeddings for Eq. 6. Shapes: (users, width), (items, width)

        Args:
            setting: name of the setting that needs them, for the error message.
            width: width of the student's embeddings.

        Raises:
            InputError: if the model has no final embeddings, or their width is not ``width``.
        """
        name = type(self.model).__name__
        if self.user is None or self.item is None:
            raise InputError(
                f"{setting} needs final embeddings, and the teacher {name} gives only scores: "
                f"set {setting}=0 or choose a graph model as teacher"
            )
        if self.user.shape[1] != width:
            raise InputError(
                f"{setting} compares embeddings of one width, and the teacher {name} has "
                f"{self.user.shape[1]} where the model taught has {width}: set {setting}=0 or give "
                f"the teacher embedding_size {width}"
            )
        return self.user, self.item

    @torch.no_grad()
    def scores(self, user: Tensor, item: Tensor) -> Tensor:
        """Compute scores, divided by ``divisor``, of users for items. Shape: (users, items)

        Args:
            user: user numbers, possibly repeated. Shape: (users,)
            item: item numbers. Shape: (items,)
        """
        if self.user is not None and self.item is not None:
            return self.user[user] @ self.item[item].T / self.divisor
        distinct, row = user.unique(return_inverse=True)
        if self._table is not None:
            rows = self._table[distinct[:, None], item]
        else:
            rows = torch.cat([self._rows(chunk, item) for chunk in distinct.split(_CHUNK)])
        return (rows / self.divisor)[row]

    @torch.no_grad()
    def best_items(
        self, user: Tensor, k: int, positive_items: PositiveItems
    ) -> tuple[Tensor, Tensor]:
        """Return the k best items of each given user and their scores; see :meth:`rank`.

        The first call caches the lists of all users, with 8 bytes for each item of a list.

        Args:
            user: user numbers. Shape: (users,)
            k: number of items in a list, or all if there are fewer.
            positive_items: look-up of each user's positive items.
        """
        if self._best is None or self._best[0].shape[1] != min(k, self.model.n_items - 1):
            self._best = self.rank(k, positive_items)
        items, scores = self._best
        return items[user].long(), scores[user]

    @torch.no_grad()
    def rank(
        self, k: int, positive_items: PositiveItems, items: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Find the k items with the highest scores for every user, without positive items.

        Args:
            k: number of items in a list, or all if there are fewer.
            positive_items: look-up of each user's positive items.
            items: numbers of the items to rank (default: all), RecBole's padding item ignored.

        Returns:
            Item numbers, best first, and their scores divided by ``divisor``. Positive items with
            score -inf fill up a short list. Shapes: (users, k), (users, k)
        """
        n_items, device = self.model.n_items, self.model.device
        if items is None:
            items = torch.arange(n_items, device=device)
        column = torch.full((n_items,), -1, device=device)
        column[items] = torch.arange(len(items), device=device)
        padding = items == 0
        k, found = min(k, int((~padding).sum())), []
        for user in torch.arange(self.model.n_users, device=device).split(_CHUNK):
            scores, positive = self.scores(user, items), positive_items(user)
            ranked = column[positive.col] >= 0
            scores[positive.row[ranked], column[positive.col[ranked]]] = -torch.inf
            scores[:, padding] = -torch.inf
            best = scores.topk(k, dim=-1)
            found.append((items[best.indices].int(), best.values))
        return torch.cat([item for item, _ in found]), torch.cat([score for _, score in found])

    @torch.no_grad()
    def pair_scores(self, user: Tensor, item: Tensor) -> Tensor:
        """Compute the scores of user-item pairs, divided by ``divisor``. Shape: (pairs,)

        Args:
            user: user number of each pair. Shape: (pairs,)
            item: item number of each pair. Shape: (pairs,)
        """
        return self._pairs(user, item) / self.divisor

    @torch.no_grad()
    def edge_scores(self, pattern: SparsePattern) -> Tensor:
        """Compute the scores of edges for Eq. 8, not divided by ``divisor``. Shape: (edges,)"""
        if self.user is not None and self.item is not None:
            return sddmm(pattern, self.user, self.item)
        return self._pairs(pattern.row, pattern.col)

    def _pairs(self, user: Tensor, item: Tensor) -> Tensor:
        """Compute scores of user-item pairs, not divided by ``divisor``. Shape: (pairs,)"""
        if self.user is not None and self.item is not None:
            return (self.user[user] * self.item[item]).sum(dim=-1)
        if self._table is not None:
            return self._table[user, item]
        if self._whole_rows:
            return self._pairs_from_rows(user, item)
        chunks = zip(user.split(_PAIRS), item.split(_PAIRS), strict=True)
        return torch.cat([self._predict(*chunk) for chunk in chunks])

    def _pairs_from_rows(self, user: Tensor, item: Tensor) -> Tensor:
        """Compute scores of user-item pairs from users' scores for all items. Shape: (pairs,)"""
        distinct, row = user.unique(return_inverse=True)
        found = torch.empty(len(user), device=user.device)
        for start in range(0, len(distinct), _CHUNK):
            rows = self._rows(distinct[start : start + _CHUNK])
            here = ((row >= start) & (row < start + _CHUNK)).nonzero().squeeze(1)
            found[here] = rows[row[here] - start, item[here]]
        return found

    def _rows(self, user: Tensor, item: Tensor | None = None) -> Tensor:
        """Compute users' scores of items (default: all), not divided. Shape: (users, items)"""
        if self._whole_rows:
            rows: Tensor = self.model.full_sort_predict(Interaction({self.model.USER_ID: user}))
            rows = rows.view(len(user), -1).to(user.device)  # EASE's scores stay on the CPU
            return rows if item is None else rows[:, item]
        if item is None:
            item = torch.arange(self.model.n_items, device=user.device)
        pairs = user.repeat_interleave(len(item)), item.repeat(len(user))
        chunks = zip(*(index.split(_PAIRS) for index in pairs), strict=True)
        return torch.cat([self._predict(*chunk) for chunk in chunks]).view(len(user), -1)

    def _predict(self, user: Tensor, item: Tensor) -> Tensor:
        batch = Interaction({self.model.USER_ID: user, self.model.ITEM_ID: item})
        scores: Tensor = self.model.predict(batch)
        return scores.flatten().to(user.device)

    def _can_score_all_items(self) -> bool:
        """Whether the model can score all items of a user in one call, unlike RecBole's NeuMF."""
        user = torch.ones(1, dtype=torch.int64, device=self.model.device)
        try:
            self.model.full_sort_predict(Interaction({self.model.USER_ID: user}))
        except NotImplementedError:
            return False
        return True
