"""Reference implementations of the sparse products in plain loops, for tests."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recbole_lightgnn.ops.pattern import SparsePattern


def spmm_reference(
    pattern: SparsePattern, values: Tensor, dense: Tensor, *, transpose: bool = False
) -> Tensor:
    """Compute :func:`recbole_lightgnn.ops.spmm` nonzero by nonzero, with gradients by autograd."""
    rows = [dense.new_zeros(dense.shape[1]) for _ in range(pattern.shape[int(transpose)])]
    for value, i, j in zip(values, pattern.row.tolist(), pattern.col.tolist(), strict=True):
        target, source = (j, i) if transpose else (i, j)
        rows[target] = rows[target] + value * dense[source]
    return torch.stack(rows)


def sddmm_reference(pattern: SparsePattern, left: Tensor, right: Tensor) -> Tensor:
    """Compute :func:`recbole_lightgnn.ops.sddmm` nonzero by nonzero."""
    pairs = zip(pattern.row.tolist(), pattern.col.tolist(), strict=True)
    return torch.stack([left[i] @ right[j] for i, j in pairs])


def power_sum_reference(
    pattern: SparsePattern,
    values: Tensor,
    rows: Tensor,
    cols: Tensor,
    *,
    coefficients: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """Compute `recbole_lightgnn.ops.power_sum`, and `polynomial`, power by power."""
    row_sum, col_sum = coefficients[0] * rows, coefficients[0] * cols
    for coefficient in coefficients[1:]:
        rows, cols = (
            spmm_reference(pattern, values, cols),
            spmm_reference(pattern, values, rows, transpose=True),
        )
        row_sum, col_sum = row_sum + coefficient * rows, col_sum + coefficient * cols
    return row_sum, col_sum
