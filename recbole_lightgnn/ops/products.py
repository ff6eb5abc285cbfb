"""Products of a sparse matrix with a dense one, with gradients to both.

torch's own autograd through CSR values builds dense intermediates (24 GB were not enough on the
Yelp graph), and its COO product is several times slower; the three products here are all that
either gradient needs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_lightgnn.ops.pattern import SparsePattern


def spmm(
    pattern: SparsePattern,
    values: Tensor,
    dense: Tensor,
    *,
    add: Tensor | None = None,
    transpose: bool = False,
) -> Tensor:
    r"""Sparse times dense, plus dense: :math:`S X + Y`; with ``transpose`` :math:`S^\top X + Y`.

    Gradients: :math:`\partial_X = S^\top G`, :math:`\partial_Y = G` and
    :math:`\partial_{S_{ij}} = \langle G_i, X_j \rangle` at the pattern's places only.

    Args:
        pattern: places of S. Shape: (rows, cols)
        values: S at these places. Shape: (nnz,)
        dense: X. Shape: (cols, width), or (rows, width) with ``transpose``
        add: Y, or ``None`` for the product alone; as a part of the product it costs a copy where
            a sum afterwards costs two passes. Shape: as the result
        transpose: whether to multiply by the transpose.

    Returns:
        Shape: (rows, width), or (cols, width) with ``transpose``

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
    pattern: SparsePattern, values: Tensor, rows: Tensor, cols: Tensor, *, n_powers: int
) -> tuple[Tensor, Tensor]:
    r"""The first powers of a bipartite matrix, summed and applied.

    .. math:: \sum_{l=0}^{L}\hat A^l X,\qquad
              \hat A = \begin{pmatrix}0 & S\\ S^\top & 0\end{pmatrix}

    By Horner's rule, :math:`X + \hat A(X + \hat A(\dots))`, so that a power costs a product and
    nothing else, and the gradient, :math:`\hat A` being symmetric, is the same sum of what
    arrives. Gradients reach X, not the values.

    Args:
        pattern: places of S. Shape: (rows, cols)
        values: S at these places; treated as constant. Shape: (nnz,)
        rows: the part of X that S takes to. Shape: (rows, width)
        cols: the part of X that S takes from. Shape: (cols, width)
        n_powers: L, at least 0.

    Returns:
        Shapes: (rows, width) and (cols, width)

    Raises:
        ValueError: if a shape does not fit the pattern.
    """
    for name, part, size in (("rows", rows, pattern.shape[0]), ("cols", cols, pattern.shape[1])):
        if part.ndim != 2 or part.shape[0] != size:
            raise ValueError(f"{name} must have shape ({size}, width) (got {tuple(part.shape)})")
    if n_powers == 0:
        return rows, cols
    result: tuple[Tensor, Tensor] = _PowerSum.apply(rows, cols, pattern, values, n_powers)  # type: ignore[no-untyped-call]
    return result


def sddmm(pattern: SparsePattern, left: Tensor, right: Tensor) -> Tensor:
    r"""Dense times dense at the pattern's places: :math:`\langle L_i, R_j \rangle`.

    Not differentiable: it is the gradient of :func:`spmm` to its values, and scores edges.

    Args:
        pattern: the places (i, j). Shape: (rows, cols)
        left: L. Shape: (rows, width)
        right: R. Shape: (cols, width)

    Returns:
        Shape: (nnz,)
    """
    if pattern.nnz == 0:
        return left.new_zeros(0)
    places = pattern.matrix(left.new_zeros(pattern.nnz))
    with torch.no_grad():
        product: Tensor = torch.sparse.sampled_addmm(places, left, right.t(), beta=0.0)
        return product.values()


def _product(matrix: Tensor, dense: Tensor, add: Tensor | None = None) -> Tensor:
    """``matrix @ dense + add``; torch's own ``@`` fills and copies the result before it begins."""
    if add is not None:
        return torch.addmm(add, matrix, dense)
    return dense.new_empty(matrix.shape[0], dense.shape[1]).addmm_(matrix, dense, beta=0)


class _SparseDense(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        dense: Tensor,
        add: Tensor | None,
        pattern: SparsePattern,
        transpose: bool,
    ) -> Tensor:
        ctx.pattern, ctx.transpose = pattern, transpose
        ctx.save_for_backward(values, dense)
        return _product(pattern.matrix(values, transpose), dense, add)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        values, dense = ctx.saved_tensors
        grad = grad.contiguous()
        left, right = (dense, grad) if ctx.transpose else (grad, dense)
        grad_values = sddmm(ctx.pattern, left, right) if ctx.needs_input_grad[0] else None
        grad_dense = (
            _product(ctx.pattern.matrix(values, not ctx.transpose), grad)
            if ctx.needs_input_grad[1]
            else None
        )
        return grad_values, grad_dense, grad if ctx.needs_input_grad[2] else None, None, None


class _PowerSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, cols: Tensor, pattern: SparsePattern, values: Tensor, n_powers: int
    ) -> tuple[Tensor, Tensor]:
        ctx.matrix, ctx.turned = pattern.matrix(values), pattern.matrix(values, transpose=True)
        ctx.n_powers = n_powers
        return _horner(ctx.matrix, ctx.turned, rows, cols, n_powers)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_rows: Tensor, grad_cols: Tensor) -> tuple[Tensor | None, ...]:
        grads = grad_rows.contiguous(), grad_cols.contiguous()
        grads = _horner(ctx.matrix, ctx.turned, *grads, ctx.n_powers)
        return *grads, None, None, None


def _horner(
    matrix: Tensor, turned: Tensor, rows: Tensor, cols: Tensor, n_powers: int
) -> tuple[Tensor, Tensor]:
    row_sum, col_sum = rows, cols
    for _ in range(n_powers):
        row_sum, col_sum = (
            _product(matrix, col_sum, add=rows),
            _product(turned, row_sum, add=cols),
        )
    return row_sum, col_sum
