"""Products of sparse matrices with a fixed pattern of nonzeros and learned values."""

from recbole_lightgnn.ops.pattern import SparsePattern
from recbole_lightgnn.ops.products import edge_products, power_sum, product, sddmm, spmm
from recbole_lightgnn.ops.row_kernel import expands_in_hardware
from recbole_lightgnn.ops.rows import (
    PackedRows,
    Rows,
    multiply_adds,
    polynomial,
    resident_bytes,
)

__all__ = [
    "PackedRows",
    "Rows",
    "SparsePattern",
    "edge_products",
    "expands_in_hardware",
    "multiply_adds",
    "polynomial",
    "power_sum",
    "product",
    "resident_bytes",
    "sddmm",
    "spmm",
]
