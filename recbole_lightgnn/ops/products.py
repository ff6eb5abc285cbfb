"""Products of a sparse matrix with a dense one, with gradients to both.

torch's own autograd through CSR values builds dense intermediates (24 GB were not enough on the
Yelp graph), and its COO product is several times slower; the three products here are all that
either gradient needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_lightgnn.ops.pattern import SparsePattern
from recbole_lightgnn.ops.rows import Layer, layers


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
    pattern: SparsePattern,
    values: Tensor,
    rows: Tensor,
    cols: Tensor,
    *,
    coefficients: Sequence[float],
) -> tuple[Tensor, Tensor]:
    r"""A polynomial of a bipartite matrix, applied.

    .. math:: \sum_{l=0}^{L} c_l\hat A^l X,\qquad
              \hat A = \begin{pmatrix}0 & S\\ S^\top & 0\end{pmatrix},\qquad c_L = 1

    By Horner's rule, :math:`H_l = c_l X + \hat A H_{l+1}` from :math:`H_L = X`, so that a
    power costs a product and nothing else. With :math:`G_l = \hat A^l G` of the gradient G that
    arrives, :math:`\hat A` being symmetric, the gradients are
    :math:`\partial_X = \sum_l c_l G_l` and, at the pattern's places only,
    :math:`\partial_{\hat A} = \sum_{l<L} G_l H_{l+1}^\top`.

    Args:
        pattern: places of S. Shape: (rows, cols)
        values: S at these places. Shape: (nnz,)
        rows: the part of X that S takes to. Shape: (rows, width)
        cols: the part of X that S takes from. Shape: (cols, width)
        coefficients: c, one a power from the zeroth on, the last of them 1. Shape: (L + 1,)

    Returns:
        Shapes: (rows, width) and (cols, width)

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
    r"""Dense times dense at the pattern's places: :math:`\langle L_i, R_j \rangle`.

    Not differentiable: it is the gradient of :func:`spmm` to its values, and scores edges.

    Args:
        pattern: the places (i, j). Shape: (rows, cols)
        left: L. Shape: (rows, width)
        right: R. Shape: (cols, width)

    Returns:
        Shape: (nnz,)
    """
    with torch.no_grad():
        return _sampled(pattern, left, right, None)


def product(matrix: Tensor, dense: Tensor, add: Tensor | None = None) -> Tensor:
    r"""A sparse matrix that is there already, times dense, plus dense: :math:`S X + Y`.

    Not differentiable: what the others are made of.

    Args:
        matrix: S, of :meth:`SparsePattern.matrix`. Shape: (rows, cols)
        dense: X. Shape: (cols, width)
        add: Y, or ``None``. Shape: (rows, width)

    Returns:
        Shape: (rows, width)
    """
    parts = (matrix.values(), dense) if add is None else (matrix.values(), dense, add)
    with layers(*parts) as layer:
        (result,) = layer((matrix, dense, add, 1.0))
    return result


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
        return product(pattern.matrix(values, transpose), dense, add)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
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
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        rows: Tensor,
        cols: Tensor,
        pattern: SparsePattern,
        coefficients: tuple[float, ...],
    ) -> tuple[Tensor, Tensor]:
        ctx.pattern, ctx.lower = pattern, coefficients[:-1]
        ctx.matrices = pattern.matrix(values), pattern.matrix(values, transpose=True)
        inner: list[Tensor] | None = [] if ctx.needs_input_grad[0] else None
        result = _horner(ctx.matrices, (rows, cols), ctx.lower, inner)
        ctx.save_for_backward(*(inner or []))
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_rows: Tensor, grad_cols: Tensor) -> tuple[Tensor | None, ...]:
        pattern, matrices, lower = ctx.pattern, ctx.matrices, ctx.lower
        pair, inner = (grad_rows.contiguous(), grad_cols.contiguous()), list(ctx.saved_tensors)
        if not inner:
            return None, *_horner(matrices, pair, lower), None, None
        total = lower[0] * pair[0], lower[0] * pair[1]
        grad_values: Tensor | None = None
        with layers(matrices[0].values(), *pair) as layer:
            for power in range(1, len(lower) + 1):
                of_cols, of_rows = inner.pop(), inner.pop()
                # G_{l-1} H_l^T, a half for each direction
                grad_values = _sampled(pattern, pair[0], of_cols, grad_values)
                grad_values = _sampled(pattern, of_rows, pair[1], grad_values)
                if power == len(lower):  # the last product adds what came before it
                    total = _across(layer, matrices, pair, total, 1.0)
                    break
                pair = _across(layer, matrices, pair, pair, 0.0)
                for part, more in zip(total, pair, strict=True):
                    part.add_(more, alpha=lower[power])
        return grad_values, *total, None, None


def _horner(
    matrices: tuple[Tensor, Tensor],
    pair: tuple[Tensor, Tensor],
    lower: tuple[float, ...],
    inner: list[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The polynomial; a list ``inner`` gets what each product was of: H_L, H_{L-1}, ..., H_1."""
    result = pair
    with layers(matrices[0].values(), *pair) as layer:
        for coefficient in reversed(lower):
            if inner is not None:
                inner += result
            result = _across(layer, matrices, result, pair, coefficient)
    return result


def _across(
    layer: Layer,
    matrices: tuple[Tensor, Tensor],
    pair: tuple[Tensor, Tensor],
    add: tuple[Tensor, Tensor],
    factor: float,
) -> tuple[Tensor, Tensor]:
    """One product with the bipartite matrix, S and its transpose, and ``factor * add``."""
    rows, cols = layer(
        (matrices[0], pair[1], add[0], factor), (matrices[1], pair[0], add[1], factor)
    )
    return rows, cols


def _sampled(pattern: SparsePattern, left: Tensor, right: Tensor, add: Tensor | None) -> Tensor:
    """Products of rows at the pattern's places, and ``add``. Shape: (nnz,)"""
    if pattern.nnz == 0:
        return left.new_zeros(0)
    matrix = pattern.matrix(left.new_zeros(pattern.nnz) if add is None else add)
    beta = 0.0 if add is None else 1.0
    found: Tensor = torch.sparse.sampled_addmm(matrix, left, right.t(), beta=beta)
    return found.values()
