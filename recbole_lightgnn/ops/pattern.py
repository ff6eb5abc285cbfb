"""Fixed positions of a sparse matrix's nonzeros, with the indices that products need."""

from __future__ import annotations

import warnings
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

# torch warns on first use that its CSR layout is in beta.
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")


class SparsePattern:
    """Positions of a sparse matrix's nonzeros; the positions are fixed, the values are trained.

    The orders by row and by column are computed once, so that products with the transpose are as
    fast as with the matrix. The values of a repeated position are added.

    Args:
        row: row number of every nonzero, in ascending order. Shape: (nnz,)
        col: column number of every nonzero. Shape: (nnz,)
        shape: number of rows and number of columns of the matrix.

    Raises:
        ValueError: if shapes differ, a position is outside ``shape``, or ``row`` does not ascend.
    """

    def __init__(self, row: Tensor, col: Tensor, shape: tuple[int, int]) -> None:
        if row.ndim != 1 or row.shape != col.shape:
            raise ValueError(
                f"row and col must be vectors of one length (got {tuple(row.shape)} "
                f"and {tuple(col.shape)})"
            )
        for name, index, size in (("row", row, shape[0]), ("col", col, shape[1])):
            if len(index) and not 0 <= int(index.min()) <= int(index.max()) < size:
                raise ValueError(
                    f"{name} must lie in [0, {size}) (got {int(index.min())} to {int(index.max())})"
                )
        if len(row) > 1 and bool((row[1:] < row[:-1]).any()):
            raise ValueError("row must ascend: sort the positions by row first")
        small = max(len(row), *shape) <= torch.iinfo(torch.int32).max
        self.shape = shape
        # A product reads mostly indices; 32 bits, where they suffice, halve the bytes.
        dtype = torch.int32 if small else torch.int64
        self._by_row = _compress(row, shape[0]).to(dtype), col.to(dtype)

    @property
    def row(self) -> Tensor:
        """Row number of every nonzero, ascending; built at every access. Shape: (nnz,)"""
        number = torch.arange(self.shape[0], device=self.device)
        return number.repeat_interleave(self._by_row[0].diff(), output_size=self.nnz)

    @property
    def col(self) -> Tensor:
        """Column number of every nonzero; built at every access. Shape: (nnz,)"""
        return self._by_row[1].long()

    @property
    def nnz(self) -> int:
        """Number of nonzeros, repeated positions included."""
        return len(self._by_row[1])

    @property
    def device(self) -> torch.device:
        """Device that holds the positions."""
        return self._by_row[1].device

    @property
    def _by_col(self) -> tuple[Tensor, Tensor]:
        return self._transposed[:2]

    @property
    def _column_order(self) -> Tensor:
        return self._transposed[2]

    @cached_property
    def _transposed(self) -> tuple[Tensor, Tensor, Tensor]:
        """CSR form of the transpose: pointers, row numbers, and the permutation by column.

        SciPy sorts stably by counting, in one pass. Shapes: (cols + 1,), (nnz,), (nnz,)
        """
        pointers, col = (part.cpu().numpy() for part in self._by_row)
        numbers = np.arange(self.nnz, dtype=col.dtype)
        by_column = sp.csr_matrix((numbers, col, pointers), shape=self.shape).tocsc()
        col_pointers, row, order = (
            torch.from_numpy(part.astype(col.dtype, copy=False)).to(self.device)
            for part in (by_column.indptr, by_column.indices, by_column.data)
        )
        return col_pointers, row, order

    def matrix(self, values: Tensor, transpose: bool = False) -> Tensor:
        """Build the sparse matrix, or the transpose, as a torch CSR tensor.

        Args:
            values: one value for each nonzero, in the order of ``row``. Shape: (nnz,)
            transpose: whether to build the transpose.

        Returns:
            CSR tensor. Shape: (rows, cols), or (cols, rows) with ``transpose``

        Raises:
            ValueError: if ``values`` does not have one value for each nonzero.
        """
        if values.shape != (self.nnz,):
            raise ValueError(
                f"values must have shape ({self.nnz},), one for each nonzero "
                f"(got {tuple(values.shape)})"
            )
        compressed, index = self._by_col if transpose else self._by_row
        size = self.shape[::-1] if transpose else self.shape
        ordered = values.index_select(0, self._column_order) if transpose else values
        return torch.sparse_csr_tensor(
            compressed, index, ordered, size=size, check_invariants=False
        )

    def keep(self, mask: Tensor) -> SparsePattern:
        """Return the pattern with only the nonzeros where ``mask`` (bool, shape (nnz,)) is true."""
        return SparsePattern(self.row[mask], self.col[mask], self.shape)

    def to(self, device: torch.device | str) -> SparsePattern:
        """Return this pattern with all tensors on ``device``."""
        if torch.device(device) == self.device:
            return self
        return SparsePattern(self.row.to(device), self.col.to(device), self.shape)


def _compress(index: Tensor, size: int) -> Tensor:
    """Compute the CSR pointers of ascending row numbers. Shape: (size + 1,)"""
    pointers = index.new_zeros(size + 1, dtype=torch.int64)
    pointers[1:] = torch.bincount(index, minlength=size).cumsum(0)
    return pointers
