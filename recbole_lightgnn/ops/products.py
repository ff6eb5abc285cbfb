"""Differentiable products of a sparse matrix with a dense matrix.

torch builds dense matrices for the gradient of a CSR matrix's values (24 GB were not enough on the
Yelp graph), and torch's COO product is several times slower. The functions here use three products
only, also for gradients: sparse times dense, transposed sparse times dense, and dense times dense
at the nonzeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_lightgnn.ops.pattern import SparsePattern
from recbole_lightgnn.ops.rows import Backend, product_backend


def spmm(
    pattern: SparsePattern,
    values: Tensor,
    dense: Tensor,
    *,
    add: Tensor | None = None,
    transpose: bool = False,
) -> Tensor:
    r"""Multiply a sparse matrix by a dense one and add a dense one: :math:`S X + Y`.

    With ``transpose``, it is :math:`S^\top X + Y`. With the upstream gradient G, the gradients are
    :math:`\partial_X = S^\top G`, :math:`\partial_Y = G` and
    :math:`\partial_{S_{ij}} = \langle G_i, X_j \rangle`, where :math:`\partial_{S_{ij}}` is
    computed at the nonzeros only.

    Args:
        pattern: positions of the nonzeros of S. Shape: (rows, cols)
        values: values of the nonzeros of S. Shape: (nnz,)
        dense: X. Shape: (cols, width), or (rows, width) with ``transpose``
        add: Y, or ``None``; adding it here is faster. Shape: as the result
        transpose: whether to multiply by the transpose of S.

    Returns:
        The result. Shape: (rows, width), or (cols, width) with ``transpose``

    Raises:
        ValueError: if a shape does not fit the pattern.
    """
    inner = pattern.shape[0] if transpose else pattern.shape[1]
    if dense.ndim != 2 or dense.shape[0] != inner:
        raise ValueError(
            f"dense must have shape ({inner}, width) to meet a pattern of shape {pattern.shape}"
            f"{' transposed' if transpose else ''} (got {tuple(dense.shape)})"
        )
    result: Tensor = _SparseDense.apply(values, dense, add, pattern, transpose)  # type: ignore[no-untyped-call]
    return result


def power_sum(
    pattern: SparsePattern,
    values: Tensor,
    rows: Tensor,
    cols: Tensor,
    *,
    coefficients: Sequence[float],
) -> tuple[Tensor, Tensor]:
    r"""Apply a polynomial of a bipartite adjacency matrix to embeddings, differentiably.

    .. math:: \sum_{l=0}^{L} c_l\hat A^l X,\qquad
              \hat A = \begin{pmatrix}0 & S\\ S^\top & 0\end{pmatrix},\qquad c_L = 1

    Horner's rule computes the polynomial: :math:`H_L = X`, then
    :math:`H_l = c_l X + \hat A H_{l+1}` down to the result :math:`H_0`. With the upstream gradient
    G and :math:`G_l = \hat A^l G`, the gradients are :math:`\partial_X = \sum_l c_l G_l` and, at
    the nonzeros only, :math:`\partial_{\hat A} = \sum_{l<L} G_l H_{l+1}^\top`.

    Args:
        pattern: positions of the nonzeros of S. Shape: (rows, cols)
        values: values of the nonzeros of S. Shape: (nnz,)
        rows: rows of X for the rows of S (the users). Shape: (rows, width)
        cols: rows of X for the columns of S (the items). Shape: (cols, width)
        coefficients: :math:`c_0 \dots c_L`; the last must be 1. Length: L + 1

    Returns:
        The polynomial for the rows and the columns of S. Shapes: (rows, width), (cols, width)

    Raises:
        ValueError: if a shape does not fit the pattern, or the last coefficient is not 1.
    """
    for name, part, size in (("rows", rows, pattern.shape[0]), ("cols", cols, pattern.shape[1])):
        if part.ndim != 2 or part.shape[0] != size:
            raise ValueError(f"{name} must have shape ({size}, width) (got {tuple(part.shape)})")
    if not coefficients or coefficients[-1] != 1:
        raise ValueError(f"the last coefficient must be 1 (got {list(coefficients)})")
    if len(coefficients) == 1:
        return rows, cols
    result: tuple[Tensor, Tensor] = _PowerSum.apply(  # type: ignore[no-untyped-call]
        values, rows, cols, pattern, tuple(coefficients)
    )
    return result


def sddmm(pattern: SparsePattern, left: Tensor, right: Tensor) -> Tensor:
    r"""Compute inner products :math:`\langle L_i, R_j \rangle` at nonzeros (i, j). Shape: (nnz,)

    Not differentiable. Used for the gradient of the values in :func:`spmm`, and for the scores of
    a graph's edges.

    Args:
        pattern: positions (i, j) of the nonzeros. Shape: (rows, cols)
        left: L. Shape: (rows, width)
        right: R. Shape: (cols, width)
    """
    with torch.no_grad():
        return _sampled(pattern, left, right, None)


def edge_products(pattern: SparsePattern, left: Tensor, right: Tensor) -> Tensor:
    r"""Compute the inner products of :func:`sddmm`, differentiably. Shape: (nnz,)

    These are the logits of attention over a graph. With the upstream gradient G, a sparse matrix,
    the gradients are :math:`\partial_L = G R` and :math:`\partial_R = G^\top L`. No tensor of
    shape (nnz, width) is built.

    Args:
        pattern: positions (i, j) of the nonzeros. Shape: (rows, cols)
        left: L. Shape: (rows, width)
        right: R. Shape: (cols, width)
    """
    result: Tensor = _EdgeProducts.apply(left, right, pattern)  # type: ignore[no-untyped-call]
    return result


def product(matrix: Tensor, dense: Tensor, add: Tensor | None = None) -> Tensor:
    r"""Compute :math:`S X + Y` with a CSR tensor S, without gradients. Shape: (rows, width)

    Args:
        matrix: S, from :meth:`SparsePattern.matrix`. Shape: (rows, cols)
        dense: X. Shape: (cols, width)
        add: Y, or ``None`` for the product alone. Shape: (rows, width)
    """
    parts = (matrix.values(), dense) if add is None else (matrix.values(), dense, add)
    with product_backend(*parts) as multiply:
        (result,) = multiply((matrix, dense, add, 1.0))
    return result


class _EdgeProducts(torch.autograd.Function):
    """Autograd function behind :func:`edge_products`."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, pattern: SparsePattern) -> Tensor:
        """Compute the inner products; save both tables for the gradients."""
        ctx.save_for_backward(left, right)
        ctx.pattern = pattern
        return _sampled(pattern, left, right, None)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of ``left`` and ``right``."""
        left, right = ctx.saved_tensors
        back = product(ctx.pattern.matrix(grad, transpose=True), left)
        return product(ctx.pattern.matrix(grad), right), back, None


class _SparseDense(torch.autograd.Function):
    """Autograd function behind :func:`spmm`."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        dense: Tensor,
        add: Tensor | None,
        pattern: SparsePattern,
        transpose: bool,
    ) -> Tensor:
        """Compute ``S X + Y``; save ``values`` and ``dense`` for the gradients."""
        ctx.pattern, ctx.transpose = pattern, transpose
        ctx.save_for_backward(values, dense)
        return product(pattern.matrix(values, transpose), dense, add)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of ``values``, ``dense`` and ``add``."""
        values, dense = ctx.saved_tensors
        grad = grad.contiguous()
        left, right = (dense, grad) if ctx.transpose else (grad, dense)
        grad_values = sddmm(ctx.pattern, left, right) if ctx.needs_input_grad[0] else None
        grad_dense = (
            product(ctx.pattern.matrix(values, not ctx.transpose), grad)
            if ctx.needs_input_grad[1]
            else None
        )
        return grad_values, grad_dense, grad if ctx.needs_input_grad[2] else None, None, None


class _PowerSum(torch.autograd.Function):
    """Autograd function behind :func:`power_sum`."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        rows: Tensor,
        cols: Tensor,
        pattern: SparsePattern,
        coefficients: tuple[float, ...],
    ) -> tuple[Tensor, Tensor]:
        """Compute the polynomial; save the dense factors for the gradient of ``values``."""
        ctx.pattern, ctx.lower = pattern, coefficients[:-1]
        ctx.matrices = pattern.matrix(values), pattern.matrix(values, transpose=True)
        factors: list[Tensor] | None = [] if ctx.needs_input_grad[0] else None
        result = _horner(ctx.matrices, (rows, cols), ctx.lower, factors)
        ctx.save_for_backward(*(factors or []))
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_rows: Tensor, grad_cols: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of ``values``, ``rows`` and ``cols``."""
        pattern, matrices, lower = ctx.pattern, ctx.matrices, ctx.lower
        pair, factors = (grad_rows.contiguous(), grad_cols.contiguous()), list(ctx.saved_tensors)
        if not factors:
            return None, *_horner(matrices, pair, lower), None, None
        total = lower[0] * pair[0], lower[0] * pair[1]
        grad_values: Tensor | None = None
        with product_backend(matrices[0].values(), *pair) as multiply:
            for power in range(1, len(lower) + 1):
                col_factor, row_factor = factors.pop(), factors.pop()
                # G_{l-1} H_l^T: one term for each direction of an edge
                grad_values = _sampled(pattern, pair[0], col_factor, grad_values)
                grad_values = _sampled(pattern, row_factor, pair[1], grad_values)
                if power == len(lower):  # the last product also adds the running sum
                    total = _bipartite_product(multiply, matrices, pair, total, 1.0)
                    break
                pair = _bipartite_product(multiply, matrices, pair, pair, 0.0)
                for running_sum, term in zip(total, pair, strict=True):
                    running_sum.add_(term, alpha=lower[power])
        return grad_values, *total, None, None


def _horner(
    matrices: tuple[Tensor, Tensor],
    pair: tuple[Tensor, Tensor],
    lower: tuple[float, ...],
    factors: list[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the polynomial of :func:`power_sum` by Horner's rule.

    Args:
        matrices: S and its transpose.
        pair: X for the rows of S, and X for the columns of S.
        lower: the coefficients c_0, ..., c_{L-1}.
        factors: list to append the factors H_L, ..., H_1 to, or ``None``; each is two tensors, for
            the rows and the columns of S.
    """
    result = pair
    with product_backend(matrices[0].values(), *pair) as multiply:
        for coefficient in reversed(lower):
            if factors is not None:
                factors += result
            result = _bipartite_product(multiply, matrices, result, pair, coefficient)
    return result


def _bipartite_product(
    multiply: Backend,
    matrices: tuple[Tensor, Tensor],
    pair: tuple[Tensor, Tensor],
    add: tuple[Tensor, Tensor],
    beta: float,
) -> tuple[Tensor, Tensor]:
    """Multiply ``pair`` by the bipartite matrix of :func:`power_sum`, and add ``beta * add``."""
    rows, cols = multiply(
        (matrices[0], pair[1], add[0], beta), (matrices[1], pair[0], add[1], beta)
    )
    return rows, cols


def _sampled(pattern: SparsePattern, left: Tensor, right: Tensor, add: Tensor | None) -> Tensor:
    """Compute :func:`sddmm` plus ``add``. Shape: (nnz,)"""
    if pattern.nnz == 0:
        return left.new_zeros(0)
    matrix = pattern.matrix(left.new_zeros(pattern.nnz) if add is None else add)
    beta = 0.0 if add is None else 1.0
    products: Tensor = torch.sparse.sampled_addmm(matrix, left, right.t(), beta=beta)
    return products.values()
