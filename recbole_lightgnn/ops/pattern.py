"""The fixed places of a sparse matrix, with everything that does not depend on its values."""

from __future__ import annotations

import warnings
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

# torch announces on first use that its CSR layout is in beta; that is no news to our users.
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")


class SparsePattern:
    """Where the nonzeros of a matrix are; its values change, its places do not.

    Both orders, by row and by column, are worked out once, so that a product with the matrix and
    one with its transpose cost the same. Repeated places are allowed: their values add up.

    Args:
        row: row of every nonzero, ascending. Shape: (nnz,)
        col: column of every nonzero. Shape: (nnz,)
        shape: number of rows and of columns.

    Raises:
        ValueError: if the shapes differ, a place lies outside ``shape``, or rows do not ascend.
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
            raise ValueError("row must ascend: sort the places by row first")
        small = max(len(row), *shape) <= torch.iinfo(torch.int32).max
        self.shape = shape
        # Row numbers are in the pointers; half the bytes an index are half of what a product reads.
        dtype = torch.int32 if small else torch.int64
        self._by_row = _compress(row, shape[0]).to(dtype), col.to(dtype)

    @property
    def row(self) -> Tensor:
        """Row of every nonzero, ascending; built anew on every access. Shape: (nnz,)"""
        number = torch.arange(self.shape[0], device=self.device)
        return number.repeat_interleave(self._by_row[0].diff(), output_size=self.nnz)

    @property
    def col(self) -> Tensor:
        """Column of every nonzero; built anew on every access. Shape: (nnz,)"""
        return self._by_row[1].long()

    @property
    def nnz(self) -> int:
        """Number of nonzeros, repeated places counted each time."""
        return len(self._by_row[1])

    @property
    def device(self) -> torch.device:
        """Where the places are stored."""
        return self._by_row[1].device

    @property
    def _by_col(self) -> tuple[Tensor, Tensor]:
        return self._turned[:2]

    @property
    def _column_order(self) -> Tensor:
        return self._turned[2]

    @cached_property
    def _turned(self) -> tuple[Tensor, Tensor, Tensor]:
        """Column pointers, the rows in the order of columns, and that order: stable.

        By counting, in one pass, where sorting takes several and more memory.
        """
        pointers, col = (part.cpu().numpy() for part in self._by_row)
        places = np.arange(self.nnz, dtype=col.dtype)
        turned = sp.csr_matrix((places, col, pointers), shape=self.shape).tocsc()
        by_col, row, order = (
            torch.from_numpy(part.astype(col.dtype, copy=False)).to(self.device)
            for part in (turned.indptr, turned.indices, turned.data)
        )
        return by_col, row, order

    def matrix(self, values: Tensor, transpose: bool = False) -> Tensor:
        """The matrix (or its transpose) as a torch CSR tensor holding ``values``.

        Args:
            values: one value a nonzero, in the order of ``row``. Shape: (nnz,)
            transpose: whether to return the transpose.
        """
        if values.shape != (self.nnz,):
            raise ValueError(
                f"values must have shape ({self.nnz},), one a nonzero (got {tuple(values.shape)})"
            )
        compressed, index = self._by_col if transpose else self._by_row
        size = self.shape[::-1] if transpose else self.shape
        ordered = values.index_select(0, self._column_order) if transpose else values
        return torch.sparse_csr_tensor(
            compressed, index, ordered, size=size, check_invariants=False
        )

    def keep(self, mask: Tensor) -> SparsePattern:
        """The pattern of the nonzeros where ``mask`` (bool, shape (nnz,)) is true."""
        return SparsePattern(self.row[mask], self.col[mask], self.shape)

    def to(self, device: torch.device | str) -> SparsePattern:
        """The same pattern on another device."""
        if torch.device(device) == self.device:
            return self
        return SparsePattern(self.row.to(device), self.col.to(device), self.shape)


def _compress(index: Tensor, size: int) -> Tensor:
    """Row pointers of ascending row numbers. Shape: (size + 1,)"""
    pointers = index.new_zeros(size + 1, dtype=torch.int64)
    pointers[1:] = torch.bincount(index, minlength=size).cumsum(0)
    return pointers
