"""Spectral filters: a family of training-free models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.models.solved import SolvedTables, power, scaled
from recbole_lightgnn.nn.truncated_svd import truncated_svd
from recbole_lightgnn.ops import SparsePattern, spmm

_SINGLE_TABLES = ("ideal", "svdae")  # filters that rank by inner products of two tables


class Spectral(SolvedTables):
    r"""Rank items by a fixed filter on the graph of items, applied to a user's interactions.

    A is the interaction matrix, and :math:`r_u` is the row of user u in A. D are diagonal matrices
    of degrees, c is ``degree_offset``, and

    .. math:: R = (D_U + c)^{-\alpha}\,A\,(D_I + c)^{\alpha - 1}

    with :math:`\alpha = 1/2` for all filters but ``turbo``. S has the k largest singular values of
    R, and U and V have their left and right singular vectors, with k = ``embedding_size``. p is
    ``singular_exponent``, :math:`\gamma` is ``item_exponent``, a is ``ideal_weight`` and s is
    ``power``. A user's scores by each ``filter`` are:

    .. math::
        \text{ideal}:\quad & r_u\,(D_I + c)^{-1/2}\,V S^{p-1} V^\top (D_I + c)^{\gamma} \\
        \text{svdae}:\quad & U_u\,U^\top A \\
        \text{linear}:\quad & r_u\,R^\top R \\
        \text{gfcf}:\quad & r_u\,R^\top R + a\,r_u\,(D_I + c)^{-1/2} V V^\top (D_I + c)^{1/2} \\
        \text{turbo}:\quad & r_u\,h(P),\qquad P = (R^\top R)^{\circ s} \\
        \text{cheby}:\quad & r_u\,(D_I + c)^{-\gamma}
            \Bigl[\sum_j c_j T_j(I - 2R^\top R) + a V V^\top\Bigr](D_I + c)^{\gamma}

    ``ideal`` with p = 1, gamma = 1/2 and c = 0 is the ideal low-pass filter of GF-CF. On very
    sparse graphs the largest singular values belong to tiny components, and c > 0 is needed. h of
    ``turbo`` is P, :math:`2P - P^2` or :math:`P + .01(-P^3 + 10P^2 - 29P)` for ``order`` 1, 2 or 3.
    The :math:`c_j` of ``cheby`` interpolate the function
    :math:`\tfrac12 - \tfrac12\,\mathrm{sign}(x)\,|x|^\varphi` at Chebyshev nodes (the authors'
    plateau filter). :math:`\varphi` is ``flatness``.

    ``ideal`` and ``svdae`` rank by inner products of a user table and an item table. In ``ideal``,
    a user's row is a sum over the user's items, so a new user needs no training. The authors'
    filters have no offset c, and their ``ideal`` has no p and gamma. No dense matrix of items by
    items is stored. Users and items without interactions have scores of 0.

    Source: Shen et al., "How Powerful is Graph Convolution for Recommendation?", CIKM'21
    (ideal, linear, gfcf); Hong et al., "SVD-AE", IJCAI'24; Park et al., "Turbo-CF", SIGIR'24; Kim
    et al., "Graph Spectral Filtering with Chebyshev Interpolation for Recommendation", SIGIR'25.

    Attributes:
        filter: name of the filter.
        user_table: ``ideal``: :math:`r_u (D_I + c)^{-1/2} V S^{p-1}`; ``svdae``: U.
        item_table: ``ideal``: :math:`(D_I + c)^\gamma V`; ``svdae``: :math:`A^\top U`; ``gfcf`` and
            ``cheby``: V.
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.filter = self.settings.text("filter")
        self.ranks_by_tables = self.filter in _SINGLE_TABLES
        self.offset = self.settings.number("degree_offset")
        a = self.interactions
        self.user_degree = np.asarray(a.sum(axis=1))[:, 0]
        self.item_degree = np.asarray(a.sum(axis=0))[0]
        self._operator: Callable[[Tensor], Tensor] | None = None

    @staticmethod
    def widths(settings: Mapping[str, Any]) -> tuple[int | None, int]:
        """Return ``None`` (no initial embeddings), and the tables' width (0 without tables)."""
        return None, settings["embedding_size"] if settings["filter"] in _SINGLE_TABLES else 0

    def solve(self) -> None:
        """Compute the tables that the filter needs."""
        width = self.settings.integer("embedding_size")
        if self.filter in ("linear", "turbo"):
            return
        # Without RecBole's padding row and column, which must have no part in the vectors.
        left, values, right = truncated_svd(self._normalized()[1:, 1:], width)
        left, right = (np.pad(vectors, ((1, 0), (0, 0))) for vectors in (left, right))
        if self.filter == "svdae":
            self.fill(left, self.interactions.T @ left)
        elif self.filter == "ideal":
            into = self._scale(-0.5)[:, None] * right
            into *= power(values, self.settings.number("singular_exponent") - 1)
            out = self._scale(self.settings.number("item_exponent"))[:, None] * right
            self.fill(self.interactions @ into, out)
        else:
            self.fill(np.zeros((self.n_users, width)), right)

    def _normalized(self, alpha: float = 0.5) -> sp.csr_matrix:
        """Compute R, the normalized interaction matrix. Shape: (users, items)"""
        left = power(self.user_degree + self.offset, -alpha)
        right = power(self.item_degree + self.offset, alpha - 1)
        return scaled(self.interactions, left, right)

    def _scale(self, exponent: float) -> np.ndarray:
        """Raise each item's degree plus c to a power; 0 for items without interactions."""
        return np.where(self.item_degree > 0, power(self.item_degree + self.offset, exponent), 0)

    def scores(self, user: Tensor) -> Tensor:
        """Compute users' scores of all items by the filter; see `SolvedRecommender.scores`."""
        if self._operator is None:
            self._operator = self._build_operator()
        rows = self.interactions[user.cpu().numpy()].toarray().T.astype(np.float32)
        return self._operator(torch.from_numpy(np.ascontiguousarray(rows)).to(self.device)).T

    def _build_operator(self) -> Callable[[Tensor], Tensor]:
        """Return the function from interactions to scores. Shape of both: (items, users)"""
        if self.filter == "turbo":
            return self._turbo()
        co_occurrence = self._co_occurrence()
        if self.filter == "linear":
            return co_occurrence
        weight = self.settings.number("ideal_weight")
        vectors = self.item_table
        if self.filter == "gfcf":
            into, out = self._column(-0.5), self._column(0.5)
            return lambda x: co_occurrence(x) + weight * out * (vectors @ (vectors.T @ (into * x)))
        exponent = self.settings.number("item_exponent")
        into, out = self._column(-exponent), self._column(exponent)
        terms = self._plateau()

        def filtered(x: Tensor) -> Tensor:
            x = into * x
            total = chebyshev_sum(lambda y: y - 2 * co_occurrence(y), terms, x)
            return out * (total + weight * (vectors @ (vectors.T @ x)))

        return filtered

    def _co_occurrence(self) -> Callable[[Tensor], Tensor]:
        r"""Return the function that multiplies by :math:`R^\top R`."""
        pattern = self.observed.interactions.pattern
        values = torch.from_numpy(self._normalized().data.astype(np.float32)).to(self.device)
        return lambda x: spmm(pattern, values, spmm(pattern, values, x), transpose=True)

    def _turbo(self) -> Callable[[Tensor], Tensor]:
        r = self._normalized(self.settings.number("user_exponent"))
        product = sp.coo_matrix(sp.csr_matrix(r.T @ r))
        values = torch.from_numpy(product.data ** self.settings.number("power")).float()
        row, col = (torch.from_numpy(index.astype(np.int64)) for index in product.coords)
        pattern = SparsePattern(row, col, product.shape).to(self.device)
        values = values.to(self.device)
        order = self.settings.integer("order")

        def polynomial(x: Tensor) -> Tensor:
            once = spmm(pattern, values, x)
            if order == 1:
                return once
            twice = spmm(pattern, values, once)
            if order == 2:
                return 2 * once - twice
            return once + 0.01 * (10 * twice - spmm(pattern, values, twice) - 29 * once)

        return polynomial

    def _plateau(self) -> np.ndarray:
        """Compute the Chebyshev coefficients of the plateau filter. Shape: (``order`` + 1,)"""
        flatness = self.settings.number("flatness")
        return np.polynomial.chebyshev.chebinterpolate(
            lambda x: 0.5 - 0.5 * np.sign(x) * np.abs(x) ** flatness,
            self.settings.integer("order"),
        )

    def _column(self, exponent: float) -> Tensor:
        """Raise each item's degree plus c to a power, as a column. Shape: (items, 1)"""
        return torch.from_numpy(self._scale(exponent)).float()[:, None].to(self.device)


def chebyshev_sum(
    operator: Callable[[Tensor], Tensor], coefficients: np.ndarray, x: Tensor
) -> Tensor:
    r"""Compute :math:`\sum_j c_j T_j(M)\,x` by the recursion :math:`T_{j+1} = 2 M T_j - T_{j-1}`.

    Args:
        operator: function that multiplies by M.
        coefficients: c_j, at least two. Shape: (terms,)
        x: columns to multiply by the polynomial of M. Shape: (rows, columns)
    """
    first, *rest = coefficients.tolist()
    before, last = x, operator(x)
    total: Tensor = first * before + rest[0] * last
    for coefficient in rest[1:]:
        before, last = last, 2 * operator(last) - before
        total += coefficient * last
    return total
