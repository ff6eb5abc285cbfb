"""A trained model as a source of targets: propagated once, then only looked up."""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.base import OwnItems
from recbole_lightgnn.models.scoring_tables import final_tables, table_named
from recbole_lightgnn.ops import SparsePattern, sddmm

_SAMPLE = 256  # users whose scores tell the spread
_TABLE = 1 << 26  # scores kept at most: 256 MB
_CHUNK = 256  # users scored at once
_PAIRS = 1 << 16  # pairs scored at once


def sample_users(n_users: int) -> Tensor:
    """Users that stand for all where a spread is measured, padding left out. Shape: (sample,)"""
    return torch.linspace(1, n_users - 1, min(_SAMPLE, n_users - 1)).long()


def spread(scores: Tensor) -> float:
    """Standard deviation of a user's scores over items, averaged. Shape: (users, items)"""
    return scores.std(dim=-1).mean().clamp_min(1e-12).item()


class Frozen:
    """Scores of a model that trains no more.

    A model that scores by the inner product of two tables (`final_tables`: ours, RecBole's BPR,
    LightGCN, NGCF, SGL, NCL ...) is reduced to them. Any other general recommender is asked once
    for every score, where all of them fit into 256 MB, and whenever a score is needed where not.

    Args:
        model: the trained model, in evaluation mode from here on.
        scale: what scores are divided by: ``none``, or ``std``, one constant, so that a
            distillation temperature means the same whatever model scores and however it was
            trained.

    Attributes:
        user: final embeddings, or ``None``. Shape: (users, width)
        item: final embeddings, or ``None``. Shape: (items, width)
        divisor: what scores are divided by.
        spread: standard deviation of a user's scores, as divided, over all items; a mean over
            users.
    """

    @torch.no_grad()
    def __init__(self, model: Any, *, scale: str = "std") -> None:
        model.eval()
        self.model = model
        self.user: Tensor | None = None
        self.item: Tensor | None = None
        self._table: Tensor | None = None  # every score: (users, items)
        self._best: tuple[Tensor, Tensor] | None = None
        if (tables := final_tables(model)) is not None:
            self.user, self.item = tables
        else:
            self._whole_rows = self._can_score_all_items()
            if model.n_users * model.n_items <= _TABLE:
                every = torch.arange(model.n_users, device=model.device)
                self._table = torch.cat([self._rows(chunk) for chunk in every.split(_CHUNK)])
        users = sample_users(model.n_users).to(model.device)
        items = torch.arange(1, model.n_items, device=model.device)
        self.divisor = 1.0
        raw = spread(self.scores(users, items))
        if scale == "std":
            self.divisor = raw
        self.spread = raw / self.divisor

    def initial_embeddings(self) -> tuple[Tensor, Tensor] | None:
        """The tables that the model propagates from, where it has such, for users and items."""
        user = table_named(self.model, "user_embedding")
        item = table_named(self.model, "item_embedding")
        return None if user is None or item is None else (user, item)

    def require_embeddings(self, setting: str, width: int) -> None:
        """Refuse an embedding-level term where there is nothing to compare with.

        Raises:
            InputError: if the model gives only scores, or embeddings of another width.
        """
        name = type(self.model).__name__
        if self.user is None:
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

    @torch.no_grad()
    def scores(self, user: Tensor, item: Tensor) -> Tensor:
        """Scores of every given user for every given item. Shape: (users, items)"""
        if self.user is not None and self.item is not None:
            return self.user[user] @ self.item[item].T / self.divisor
        distinct, row = user.unique(return_inverse=True)
        if self._table is not None:
            rows = self._table[distinct[:, None], item]
        else:
            rows = torch.cat([self._rows(chunk, item) for chunk in distinct.split(_CHUNK)])
        return (rows / self.divisor)[row]

    @torch.no_grad()
    def best_items(self, user: Tensor, k: int, own_items: OwnItems) -> tuple[Tensor, Tensor]:
        """The best items of the given users, but for their own interactions, and their scores.

        Found once for all users, and kept: eight bytes a user and item of the list.

        Args:
            user: Shape: (users,)
            k: how many items; all, where there are no more.
            own_items: the interactions.

        Returns:
            Items, from the best on, and scores. Shapes: (users, k), (users, k)
        """
        if self._best is None or self._best[0].shape[1] != min(k, self.model.n_items - 1):
            self._best = self._rank(k, own_items)
        items, scores = self._best
        return items[user].long(), scores[user]

    def _rank(self, k: int, own_items: OwnItems) -> tuple[Tensor, Tensor]:
        items = torch.arange(self.model.n_items, device=self.model.device)
        k = min(k, len(items) - 1)
        found = []
        for user in torch.arange(self.model.n_users, device=items.device).split(_CHUNK):
            scores = self.scores(user, items)
            own = own_items(user)
            scores[own.row, own.col] = -torch.inf
            scores[:, 0] = -torch.inf  # RecBole's padding row
            best = scores.topk(k, dim=-1)
            found.append((best.indices.int(), best.values))
        return torch.cat([item for item, _ in found]), torch.cat([score for _, score in found])

    @torch.no_grad()
    def pair_scores(self, user: Tensor, item: Tensor) -> Tensor:
        """Scores of the given pairs. Shape: (pairs,)"""
        return self._pairs(user, item) / self.divisor

    @torch.no_grad()
    def edge_scores(self, pattern: SparsePattern) -> Tensor:
        """The model's own scores of a pattern's places, undivided, as Eq. 8 has them.

        Shape: (edges,)
        """
        if self.user is not None and self.item is not None:
            return sddmm(pattern, self.user, self.item)
        return self._pairs(pattern.row, pattern.col)

    def _pairs(self, user: Tensor, item: Tensor) -> Tensor:
        """The model's own scores of the given pairs. Shape: (pairs,)"""
        if self.user is not None and self.item is not None:
            return (self.user[user] * self.item[item]).sum(dim=-1)
        if self._table is not None:
            return self._table[user, item]
        if self._whole_rows:  # to predict a pair, too, such a model makes a row of all items
            distinct, row = user.unique(return_inverse=True)
            found = torch.empty(len(user), device=user.device)
            for start in range(0, len(distinct), _CHUNK):
                rows = self._rows(distinct[start : start + _CHUNK])
                here = ((row >= start) & (row < start + _CHUNK)).nonzero().squeeze(1)
                found[here] = rows[row[here] - start, item[here]]
            return found
        chunks = zip(user.split(_PAIRS), item.split(_PAIRS), strict=True)
        return torch.cat([self._predict(*chunk) for chunk in chunks])

    def _rows(self, user: Tensor, item: Tensor | None = None) -> Tensor:
        """The model's own scores of some users for some items, or all. Shape: (users, items)"""
        if self._whole_rows:
            rows = self.model.full_sort_predict(Interaction({self.model.USER_ID: user}))
            rows = rows.view(len(user), -1).to(user.device)  # EASE's stay on the CPU
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
        """Whether the model ranks a user's items at once; RecBole's NeuMF, say, does not."""
        user = torch.ones(1, dtype=torch.int64, device=self.model.device)
        try:
            self.model.full_sort_predict(Interaction({self.model.USER_ID: user}))
        except NotImplementedError:
            return False
        return True
