"""The fixed places of a sparse matrix, with everything that does not depend on its values."""

from __future__ import annotations

import warnings
from functools import cached_property

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
        self.row, self.col, self.shape = row.long(), col.long(), shape

    @property
    def nnz(self) -> int:
        """Number of nonzeros, repeated places counted each time."""
        return len(self.row)

    @property
    def device(self) -> torch.device:
        """Where the places are stored."""
        return self.row.device

    @cached_property
    def _by_row(self) -> tuple[Tensor, Tensor]:
        return _compress(self.row, self.shape[0]), self.col.int()

    @cached_property
    def _by_col(self) -> tuple[Tensor, Tensor]:
        return (
            _compress(self.col[self._column_order], self.shape[1]),
            self.row[self._column_order].int(),
        )

    @cached_property
    def _column_order(self) -> Tensor:
        return torch.argsort(self.col, stable=True)

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
        return SparsePattern(self.row.to(device), self.col.to(device), self.shape)


def _compress(index: Tensor, size: int) -> Tensor:
    """Row pointers of ascending row numbers. Shape: (size + 1,)"""
    pointers = index.new_zeros(size + 1)
    pointers[1:] = torch.bincount(index, minlength=size).cumsum(0)
    return pointers.int()
