"""Base classes of models computed without gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from recbole.utils import InputType, ModelType
from torch import Tensor

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.models.base import GraphRecommender
from recbole_lightgnn.nn.graph import largest_in_rows

_ROWS = 1024  # rows of a sparse product in memory at once


class SolvedRecommender(GraphRecommender):
    """Recommender that the method :meth:`solve` computes, without batches and gradients.

    :meth:`solve` keeps its results in buffers, which checkpoints store. One call is one epoch. A
    model of RecBole's type TRADITIONAL, the default of the class attribute ``type``, has a single
    epoch.

    Attributes:
        settings: settings of the run.
        interactions: 1 where a user has interacted with an item, with RecBole's padding row and
            column. CSR, float64. Shape: (users, items)
    """

    input_type = InputType.POINTWISE
    samples_items = False
    type = ModelType.TRADITIONAL

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.settings = Settings(config)
        pattern = self.observed.interactions.pattern
        ones = np.ones(pattern.nnz)
        place = pattern.row.cpu().numpy(), pattern.col.cpu().numpy()
        self.interactions = sp.csr_matrix((ones, place), shape=pattern.shape)

    def solve(self) -> None:
        """Compute the model, or one epoch of a model with several epochs."""
        raise NotImplementedError

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """Return no terms: there is no loss on batches."""
        return {}

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Return 0: there is no loss on batches. Shape: ()"""
        return torch.zeros((), device=self.device)

    def scores(self, user: Tensor) -> Tensor:
        """Compute users' scores of all items, if the model has no tables. Shape: (users, items)

        Args:
            user: user numbers. Shape: (users,)
        """
        raise NotImplementedError

    def predict(self, interaction: Any) -> Tensor:
        """Compute the scores of a batch of user-item pairs. Shape: (batch,)"""
        if self.ranks_by_tables:
            return super().predict(interaction)
        rows = self.scores(interaction[self.USER_ID])
        return rows.gather(1, interaction[self.ITEM_ID][:, None])[:, 0]

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Compute the scores of a batch of users for all items. Shape: (batch * items,)"""
        if self.ranks_by_tables:
            return super().full_sort_predict(interaction)
        user = interaction[self.USER_ID]
        return torch.cat([self.scores(part) for part in user.split(_ROWS)]).flatten()

    @staticmethod
    def widths(settings: Mapping[str, Any]) -> tuple[int | None, int]:
        """Return ``None`` (no initial embeddings), and the tables' width."""
        return None, settings["embedding_size"]

    def sizes(self) -> dict[str, float]:
        """Count as `GraphRecommender.sizes` does; entries are the buffers' floating-point numbers.

        The tables' padding rows are not counted.
        """
        entries = sum(self._entries(buffer) for buffer in self.buffers())
        return super().sizes() | {"entries": entries, "parameters": entries}

    def _entries(self, buffer: Tensor) -> int:
        if not buffer.is_floating_point():
            return 0
        padded = buffer.ndim == 2 and len(buffer) in (self.n_users, self.n_items)
        return buffer.numel() - (buffer.shape[1] if padded else 0)


class SolvedTables(SolvedRecommender):
    """Recommender that ranks by the inner product of two tables, filled by :meth:`solve`.

    Attributes:
        user_table: buffer, zero before :meth:`solve`. Shape: (users, ``embedding_size``)
        item_table: buffer, zero before :meth:`solve`. Shape: (items, ``embedding_size``)
    """

    user_table: Tensor
    item_table: Tensor

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        width = config["embedding_size"]
        self.register_buffer("user_table", torch.zeros(self.n_users, width))
        self.register_buffer("item_table", torch.zeros(self.n_items, width))

    def encode(self) -> tuple[Tensor, Tensor]:
        """Return the two tables, filled by :meth:`solve`."""
        return self.user_table, self.item_table

    def fill(self, user: np.ndarray, item: np.ndarray) -> None:
        """Set the two tables, as float32. Shapes: (users, width), (items, width)"""
        self.user_table.copy_(torch.from_numpy(np.ascontiguousarray(user)))
        self.item_table.copy_(torch.from_numpy(np.ascontiguousarray(item)))


class ItemItemRecommender(SolvedRecommender):
    r"""Recommender that scores an item by its similarities to the user's items.

    .. math:: \hat y_{ui} = \sum_{j \in N_u} W_{ji}

    :math:`N_u` is the set of user u's training items. :meth:`solve` computes the sparse matrix W
    and passes it to :meth:`keep`. There are no final embeddings.

    Attributes:
        weight_start: start of each row of W in ``weight``, and end of the last row. int64.
            Shape: (items + 1,)
        weight_item: column in W of each weight. int32. Shape: (weights,)
        weight: the nonzero weights of W, row by row. Shape: (weights,)
    """

    ranks_by_tables = False
    weight_start: Tensor
    weight_item: Tensor
    weight: Tensor

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.keep(sp.csr_matrix((self.n_items, self.n_items)))

    @staticmethod
    def widths(settings: Mapping[str, Any]) -> tuple[int | None, int]:
        """Return ``None`` and 0: there are no initial and no final embeddings."""
        return None, 0

    def keep(self, weights: sp.csr_matrix) -> None:
        """Set the matrix W, given without stored zeros. Shape: (items, items)"""
        self._set(
            weight_start=torch.from_numpy(weights.indptr.astype(np.int64)),
            weight_item=torch.from_numpy(weights.indices.astype(np.int32)),
            weight=torch.from_numpy(weights.data.astype(np.float32)),
        )

    def _set(self, **buffers: Tensor) -> None:
        for name, value in buffers.items():
            self.register_buffer(name, value)
        arrays = (self.weight, self.weight_item, self.weight_start)
        self._weights = sp.csr_matrix(
            tuple(array.cpu().numpy() for array in arrays), shape=(self.n_items, self.n_items)
        )
        self._history = self.interactions.astype(np.float32)

    def load_state_dict(self, state: Mapping[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """Load a state dict; W may have any number of weights."""
        self._set(**{name: state[name] for name in ("weight_start", "weight_item", "weight")})
        return super().load_state_dict(state, *args, **kwargs)

    def scores(self, user: Tensor) -> Tensor:
        """Multiply the interactions of users by W; see `SolvedRecommender.scores`."""
        rows = self._history[user.cpu().numpy()] @ self._weights
        return torch.from_numpy(rows.toarray()).to(self.device)


def largest_products(left: sp.csr_matrix, right: sp.csr_matrix, count: int) -> sp.csr_matrix:
    """Multiply sparse matrices; keep each row's largest off-diagonal values. Shape: (n, n)

    Only 1024 rows of the product are in memory at once.

    Args:
        left: first factor, with values above 0. Shape: (n, m)
        right: second factor, with values above 0. Shape: (m, n)
        count: number of values to keep in a row.
    """
    blocks = []
    for start in range(0, left.shape[0], _ROWS):
        block = (left[start : start + _ROWS] @ right).tocoo()
        off = block.col != block.row + start
        place = (block.row[off], block.col[off])
        blocks.append(
            largest_in_rows(sp.csr_matrix((block.data[off], place), shape=block.shape), count)
        )
    return sp.csr_matrix(sp.vstack(blocks))


def power(degree: np.ndarray, exponent: float) -> np.ndarray:
    """Raise degrees (0 or larger) to a power of either sign; 0 stays 0. Shape: (nodes,)"""
    result = np.zeros(len(degree))
    np.power(degree, exponent, out=result, where=degree > 0)
    return result


def scaled(matrix: sp.csr_matrix, rows: np.ndarray, columns: np.ndarray) -> sp.csr_matrix:
    """Multiply row i of a sparse matrix by ``rows[i]`` and column j by ``columns[j]``."""
    data = np.repeat(rows, np.diff(matrix.indptr)) * matrix.data * columns[matrix.indices]
    return sp.csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape)
