"""A trained model as a source of targets: propagated once, then only looked up."""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_lightgnn.encoder import PrunableEmbedding
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.base import GraphRecommender
from recbole_lightgnn.ops import SparsePattern, sddmm

_SAMPLE = 256  # users whose scores tell the spread


def sample_users(n_users: int) -> Tensor:
    """Users that stand for all where a spread is measured, padding left out. Shape: (sample,)"""
    return torch.linspace(1, n_users - 1, min(_SAMPLE, n_users - 1)).long()


def spread(scores: Tensor) -> float:
    """Standard deviation of a user's scores over items, averaged. Shape: (users, items)"""
    return scores.std(dim=-1).mean().clamp_min(1e-12).item()


class Frozen:
    """Scores of a model that trains no more.

    Our own models, and those of RecBole's that keep their final embeddings while they are
    evaluated (``restore_user_e``, ``restore_item_e``: LightGCN, NGCF, SGL, NCL ...), are reduced
    to two tables. Any other general recommender is asked for the scores of all items.

    Scores are divided by one constant, their spread over the items of a user, so that a
    distillation temperature means the same whatever model scores and however it was trained.

    Args:
        model: the trained model, in evaluation mode from here on.

    Attributes:
        user: final embeddings, or ``None``. Shape: (users, width)
        item: final embeddings, or ``None``. Shape: (items, width)
        spread: standard deviation of a user's raw scores over all items, a mean over users.
    """

    @torch.no_grad()
    def __init__(self, model: Any) -> None:
        model.eval()
        self.model = model
        self.user: Tensor | None = None
        self.item: Tensor | None = None
        self.spread = 1.0
        if isinstance(model, GraphRecommender):
            self.user, self.item = model.final_embeddings()
        else:
            self._scores_all_items = self._can_score_all_items()
            user = getattr(model, "restore_user_e", None)
            item = getattr(model, "restore_item_e", None)
            if user is not None and item is not None:
                self.user, self.item = user.detach(), item.detach()
        users = sample_users(model.n_users).to(model.device)
        items = torch.arange(1, model.n_items, device=model.device)
        self.spread = spread(self.scores(users, items))

    def initial_embeddings(self) -> tuple[Tensor, Tensor] | None:
        """The tables that the model propagates from, where it has such, for users and items."""
        tables = []
        for name in ("user_embedding", "item_embedding"):
            table = getattr(self.model, name, None)
            if isinstance(table, PrunableEmbedding):
                table = table()
            elif isinstance(table, nn.Embedding):
                table = table.weight
            if not isinstance(table, Tensor):
                return None
            tables.append(table.detach())
        return tables[0], tables[1]

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
                f"{self.user.shape[1]} where the student has {width}: set {setting}=0 or give "
                f"the teacher embedding_size {width}"
            )

    @torch.no_grad()
    def scores(self, user: Tensor, item: Tensor) -> Tensor:
        """Scores of every given user for every given item. Shape: (users, items)"""
        if self.user is not None and self.item is not None:
            return self.user[user] @ self.item[item].T / self.spread
        if self._scores_all_items:
            return self._all_scores(user)[:, item] / self.spread
        pairs = user.repeat_interleave(len(item)), item.repeat(len(user))
        return self.pair_scores(*pairs).view(len(user), len(item))

    @torch.no_grad()
    def pair_scores(self, user: Tensor, item: Tensor) -> Tensor:
        """Scores of the given pairs. Shape: (pairs,)"""
        if self.user is not None and self.item is not None:
            return (self.user[user] * self.item[item]).sum(dim=-1) / self.spread
        batch = Interaction({self.model.USER_ID: user, self.model.ITEM_ID: item})
        return self.model.predict(batch).flatten() / self.spread

    @torch.no_grad()
    def edge_scores(self, pattern: SparsePattern) -> Tensor:
        """The model's own scores of a pattern's places, undivided, as Eq. 8 has them.

        Shape: (edges,)
        """
        if self.user is not None and self.item is not None:
            return sddmm(pattern, self.user, self.item)
        return self.pair_scores(pattern.row, pattern.col) * self.spread

    def _can_score_all_items(self) -> bool:
        """Whether the model ranks a user's items at once; RecBole's NeuMF, say, does not."""
        try:
            self._all_scores(torch.ones(1, dtype=torch.int64, device=self.model.device))
        except NotImplementedError:
            return False
        return True

    def _all_scores(self, user: Tensor) -> Tensor:
        batch = Interaction({self.model.USER_ID: user})
        return self.model.full_sort_predict(batch).view(len(user), -1)
