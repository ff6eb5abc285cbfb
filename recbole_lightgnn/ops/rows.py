"""Propagation without gradients: polynomials of a bipartite matrix, for dense or packed tables.

On a CPU the products run in the compiled kernel of `row_kernel`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_lightgnn.ops.pattern import SparsePattern
from recbole_lightgnn.ops.row_kernel import AddedKind, Array, compiler_available, row_kernel

_PARTS = 4  # parts of a product for each thread; a free thread takes another's parts


@dataclass(frozen=True)
class PackedRows:
    """A pruned table that stores only the entries (single numbers) that pruning left.

    Attributes:
        values: the stored entries, row by row. Shape: (entries,)
        index: int64. ``index[r, 0]`` is the position in ``values`` of row r's first entry. The
            other columns are a bit mask: bit b (0 is the lowest) of ``index[r, 1 + w]`` is 1 if row
            r stores an entry in column ``64 * w + b``. Shape: (rows, 1 + ceil(width / 64))
        width: number of columns of the table.
    """

    values: Tensor
    index: Tensor
    width: int

    @staticmethod
    def index_of(mask: Tensor) -> Tensor:
        """Build ``index`` from a mask of the stored entries. Shape: (rows, 1 + ceil(width / 64))

        Args:
            mask: true where an entry is stored. Shape: (rows, width)
        """
        stored = mask.cpu().numpy()
        rows, width = stored.shape
        bits = np.zeros((rows, -(-width // 64) * 64), dtype=bool)
        bits[:, :width] = stored
        counts = stored.sum(axis=1)
        start = (counts.cumsum() - counts).astype(np.int64)
        words = np.packbits(bits, axis=1, bitorder="little").view(np.int64)
        return torch.from_numpy(np.column_stack([start, words]))

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and number of columns of the table."""
        return len(self.index), self.width

    @property
    def counts(self) -> Tensor:
        """Number of entries stored in each row. Shape: (rows,)"""
        ends = torch.cat([self.index[1:, 0], self.index.new_tensor([len(self.values)])])
        return ends - self.index[:, 0]

    def dense(self) -> Tensor:
        """Return the whole table, with 0 for entries that are not stored. Shape: (rows, width)"""
        words = self.index[:, 1:].contiguous().numpy()
        bits = np.unpackbits(words.view(np.uint8), axis=1, count=self.width, bitorder="little")
        table = self.values.new_zeros(self.shape)
        table[torch.from_numpy(bits).bool()] = self.values
        return table


Rows = Tensor | PackedRows  # a table, dense or packed


def polynomial(
    pattern: SparsePattern,
    values: Tensor,
    rows: Rows,
    cols: Rows,
    coefficients: Sequence[float],
) -> tuple[Tensor, Tensor]:
    r"""Apply a polynomial of a bipartite adjacency matrix to embeddings, without gradients.

    .. math:: \sum_{k=0}^{K} c_k \hat A^k X,\qquad
              \hat A = \begin{pmatrix}0 & S\\ S^\top & 0\end{pmatrix},\qquad c_K = 1

    Horner's rule, :math:`c_0 X + \hat A(c_1 X + \hat A(\dots))`, takes K products with S and K with
    the transpose, additions included. A packed X is not expanded in memory; all results are dense.
    :func:`recbole_lightgnn.ops.power_sum` computes the same with gradients.

    Args:
        pattern: positions of the nonzeros of S. Shape: (rows, cols)
        values: values of the nonzeros of S. Shape: (nnz,)
        rows: rows of X for the rows of S (the users), dense or packed. Shape: (rows, width)
        cols: rows of X for the columns of S (the items), dense or packed. Shape: (cols, width)
        coefficients: :math:`c_0 \dots c_K`; the last must be 1. Length: K + 1

    Returns:
        The polynomial for the rows and the columns of S. Shapes: (rows, width), (cols, width)

    Raises:
        ValueError: if a shape does not fit the pattern, the widths differ, or the last coefficient
            is not 1.
    """
    for name, part, size in (("rows", rows, pattern.shape[0]), ("cols", cols, pattern.shape[1])):
        if len(part.shape) != 2 or part.shape[0] != size:
            raise ValueError(f"{name} must have shape ({size}, width) (got {tuple(part.shape)})")
    if rows.shape[1] != cols.shape[1]:
        raise ValueError(
            f"rows and cols must have one width (got {rows.shape[1]} and {cols.shape[1]})"
        )
    *inner, last = coefficients
    if last != 1:
        raise ValueError(f"the last coefficient must be 1 (got {last})")
    with torch.no_grad():
        if not inner:
            return _dense(rows).detach(), _dense(cols).detach()
        values = values.detach()
        matrix, transposed = pattern.matrix(values), pattern.matrix(values, transpose=True)
        with product_backend(values, _entries(rows), _entries(cols)) as multiply:
            beta = inner.pop()
            row_sum, col_sum = multiply((matrix, cols, rows, beta), (transposed, rows, cols, beta))
            while inner:
                beta = inner.pop()
                row_sum, col_sum = multiply(
                    (matrix, col_sum, rows, beta), (transposed, row_sum, cols, beta)
                )
        return row_sum, col_sum


def multiply_adds(pattern: SparsePattern, rows: Rows, cols: Rows, *, n_products: int) -> int:
    r"""Count the multiply-add operations of :func:`polynomial`.

    An operation is a multiplication and an addition. Each nonzero of S takes one for every entry of
    the row that it multiplies. Adding :math:`c_k X` takes one for every entry of X. Of a packed
    table, only the stored entries count.

    Args:
        pattern: positions of the nonzeros of S. Shape: (rows, cols)
        rows: table with a row for each row of S, dense or packed. Shape: (rows, width)
        cols: table with a row for each column of S, dense or packed. Shape: (cols, width)
        n_products: K, the degree of the polynomial.
    """
    if n_products == 0:
        return 0
    width = rows.shape[1]
    first = int(_counts(cols)[pattern.col].sum() + _counts(rows)[pattern.row].sum())
    added = int(_counts(rows).sum() + _counts(cols).sum())
    return first + 2 * (n_products - 1) * pattern.nnz * width + n_products * added


def resident_bytes(pattern: SparsePattern, rows: Rows, cols: Rows) -> int:
    """Count the bytes of the inputs of :func:`polynomial`: two tables, and S by row and by column.

    Args:
        pattern: positions of the nonzeros of S. Shape: (rows, cols)
        rows: table with a row for each row of S, dense or packed. Shape: (rows, width)
        cols: table with a row for each column of S, dense or packed. Shape: (cols, width)
    """
    tables = sum(
        part.values.nbytes + part.index.nbytes if isinstance(part, PackedRows) else part.nbytes
        for part in (rows, cols)
    )
    pointers = 4 * (sum(pattern.shape) + 2)
    return tables + 2 * (4 + 4) * pattern.nnz + pointers


# --- the products of one layer ---------------------------------------------------------------

Part = Callable[[], None]  # computes some rows of a product
Product = tuple[Tensor, Rows, Rows | None, float]  # CSR matrix M, Z, X, beta: M Z + beta X
Backend = Callable[..., list[Tensor]]  # products -> their results


@contextmanager
def product_backend(*operands: Tensor) -> Iterator[Backend]:
    """Choose how to compute sparse products: by the compiled kernel or by torch.

    The kernel computes products of float32 on a CPU, and torch all others. The kernel runs in as
    many threads as torch may use. They are Python threads, which end with this context manager;
    numba's threads would stay alive and compete with torch's for the cores.

    Args:
        operands: all values and tables that are multiplied or added.

    Yields:
        A function of one or more products (M, Z, X, beta). It returns the list of ``M Z + beta X``,
        or ``M Z`` if X is ``None``.
    """
    n_threads = torch.get_num_threads()
    if not _kernel_applies(*operands):
        yield _by_torch
    elif n_threads == 1:
        yield partial(_by_kernel, None, 1)
    else:
        with ThreadPoolExecutor(n_threads - 1) as pool:  # the caller is one more thread
            yield partial(_by_kernel, pool, n_threads)


def _by_torch(*products: Product) -> list[Tensor]:
    results = []
    for matrix, source, added, beta in products:
        dense = _dense(source)
        if added is None:  # faster than `matrix @ dense`, which first fills and copies the result
            empty = dense.new_empty(matrix.shape[0], dense.shape[1])
            results.append(empty.addmm_(matrix, dense, beta=0))
        else:
            results.append(torch.addmm(_dense(added), matrix, dense, beta=beta))
    return results


def _by_kernel(pool: ThreadPoolExecutor | None, n_threads: int, *products: Product) -> list[Tensor]:
    n_parts = _PARTS * n_threads if n_threads > 1 else 1
    results = [
        _entries(source).new_empty(matrix.shape[0], source.shape[1])
        for matrix, source, _, _ in products
    ]
    parts = iter(  # shared by the threads; a list's iterator yields each part to one thread only
        [
            part
            for product, result in zip(products, results, strict=True)
            for part in _parts(product, result, n_parts)
        ]
    )
    helpers = [pool.submit(_compute, parts) for _ in range(n_threads - 1)] if pool else []
    _compute(parts)
    for helper in helpers:
        helper.result()
    return results


def _compute(parts: Iterator[Part]) -> None:
    for part in parts:
        part()


def _parts(product: Product, result: Tensor, n_parts: int) -> Iterator[Part]:
    """Yield functions for ranges of a product's rows with about equal work."""
    matrix, source, added, beta = product
    kind: AddedKind = "dense"
    if added is None:
        kind = "none"
    elif isinstance(added, PackedRows):
        kind = "packed"
    pointers = matrix.crow_indices().numpy()
    terms = pointers + np.arange(len(pointers))  # cumulative: a row's nonzeros, and one term of X
    cuts = np.searchsorted(terms, np.linspace(0, terms[-1], n_parts + 1)).tolist()
    kernel = row_kernel(source.shape[1], isinstance(source, PackedRows), kind)
    arguments: tuple[Any, ...] = (
        pointers,
        matrix.col_indices().numpy().astype(np.int32, copy=False),  # the kernel reads 32 bits
        matrix.values().numpy(),
        *_arrays(source),
        *_arrays(source if added is None else added),
        np.float32(beta),
        result.numpy(),
    )
    for first, last in pairwise(cuts):
        if first < last:
            yield partial(kernel, *arguments, first, last)


_NO_INDEX = np.empty((0, 1), dtype=np.int64)


def _arrays(rows: Rows) -> tuple[Array, Array]:
    index = rows.index.numpy() if isinstance(rows, PackedRows) else _NO_INDEX
    # The kernel reads contiguous memory. Some columns of a wider table are not contiguous.
    return _entries(rows).contiguous().view(-1).numpy(), index


def _entries(rows: Rows) -> Tensor:
    return (rows.values if isinstance(rows, PackedRows) else rows).detach()


def _kernel_applies(*operands: Tensor) -> bool:
    fits = (part.device.type == "cpu" and part.dtype == torch.float32 for part in operands)
    return compiler_available() and all(fits)


def _dense(rows: Rows) -> Tensor:
    return rows.dense() if isinstance(rows, PackedRows) else rows


def _counts(rows: Rows) -> Tensor:
    if isinstance(rows, PackedRows):
        return rows.counts
    return torch.full((len(rows),), rows.shape[1])
