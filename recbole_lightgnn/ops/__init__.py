"""Sparse products over a fixed pattern whose values are learned."""

from recbole_lightgnn.ops.pattern import SparsePattern
from recbole_lightgnn.ops.products import power_sum, product, sddmm, spmm

__all__ = ["SparsePattern", "power_sum", "product", "sddmm", "spmm"]
