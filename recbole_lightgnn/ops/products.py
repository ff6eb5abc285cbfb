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
    pattern: SparsePattern, values: Tensor, dense: Tensor, *, transpose: bool = False
) -> Tensor:
    r"""Sparse times dense: :math:`S X`, or :math:`S^\top X` with ``transpose``.

    Gradients: :math:`\partial_X = S^\top G` and
    :math:`\partial_{S_{ij}} = \langle G_i, X_j \rangle` at the pattern's places only.

    Args:
        pattern: places of S. Shape: (rows, cols)
        values: S at these places. Shape: (nnz,)
        dense: X. Shape: (cols, width), or (rows, width) with ``transpose``
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
    result: Tensor = _SparseDense.apply(values, dense, pattern, transpose)  # type: ignore[no-untyped-call]
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


class _SparseDense(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Tensor, dense: Tensor, pattern: SparsePattern, transpose: bool
    ) -> Tensor:
        ctx.pattern, ctx.transpose = pattern, transpose
        ctx.save_for_backward(values, dense)
        return pattern.matrix(values, transpose) @ dense

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        values, dense = ctx.saved_tensors
        grad = grad.contiguous()
        left, right = (dense, grad) if ctx.transpose else (grad, dense)
        grad_values = sddmm(ctx.pattern, left, right) if ctx.needs_input_grad[0] else None
        grad_dense = (
            ctx.pattern.matrix(values, not ctx.transpose) @ grad
            if ctx.needs_input_grad[1]
            else None
        )
        return grad_values, grad_dense, None, None
