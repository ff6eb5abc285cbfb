"""Polynomials of a bipartite matrix applied to tables of which only some entries are stored.

For use without gradients: a product keeps each row of its result in registers (`row_kernel`).
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
from recbole_lightgnn.ops.row_kernel import Array, OwnKind, compiles, row_kernel

_PARTS = 4  # of a product, for each thread: one that is held up leaves the others its parts


@dataclass(frozen=True)
class PackedRows:
    """A table of which only some entries are stored.

    Attributes:
        values: the entries, row by row. Shape: (entries,)
        index: of each row, where its entries begin, and a bit for each column that has one, 64 to
            a number, the first column the lowest. int64. Shape: (rows, 1 + ceil(width / 64))
        width: columns.
    """

    values: Tensor
    index: Tensor
    width: int

    @staticmethod
    def index_of(mask: Tensor) -> Tensor:
        """The index of a table whose entries are where ``mask`` is true. Shape: (rows, width)"""
        places = mask.cpu().numpy()
        rows, width = places.shape
        bits = np.zeros((rows, -(-width // 64) * 64), dtype=bool)
        bits[:, :width] = places
        counts = places.sum(axis=1)
        start = (counts.cumsum() - counts).astype(np.int64)
        words = np.packbits(bits, axis=1, bitorder="little").view(np.int64)
        return torch.from_numpy(np.column_stack([start, words]))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the table."""
        return len(self.index), self.width

    @property
    def counts(self) -> Tensor:
        """Entries of each row. Shape: (rows,)"""
        ends = torch.cat([self.index[1:, 0], self.index.new_tensor([len(self.values)])])
        return ends - self.index[:, 0]

    def dense(self) -> Tensor:
        """The table, zero where there is no entry. Shape: (rows, width)"""
        words = self.index[:, 1:].contiguous().numpy()
        bits = np.unpackbits(words.view(np.uint8), axis=1, count=self.width, bitorder="little")
        table = self.values.new_zeros(self.shape)
        table[torch.from_numpy(bits).bool()] = self.values
        return table


Rows = Tensor | PackedRows


def polynomial(
    pattern: SparsePattern,
    values: Tensor,
    rows: Rows,
    cols: Rows,
    coefficients: Sequence[float],
) -> tuple[Tensor, Tensor]:
    r"""A polynomial of a bipartite matrix, applied; without gradients.

    .. math:: \sum_{k=0}^{K} c_k \hat A^k X,\qquad
              \hat A = \begin{pmatrix}0 & S\\ S^\top & 0\end{pmatrix},\qquad c_K = 1

    By Horner's rule, :math:`c_0 X + \hat A(c_1 X + \hat A(\dots))`: K products with S and K with
    its transpose, each with its sum, and nothing else. The first reads X as it is stored; what
    they give is dense.

    Args:
        pattern: places of S. Shape: (rows, cols)
        values: S at these places. Shape: (nnz,)
        rows: the part of X that S takes to. Shape: (rows, width)
        cols: the part of X that S takes from. Shape: (cols, width)
        coefficients: :math:`c_0 \dots c_K`, the last of them 1.

    Returns:
        Shapes: (rows, width) and (cols, width)

    Raises:
        ValueError: if a shape does not fit the pattern, or the last coefficient is not 1.
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
        matrix, turned = pattern.matrix(values), pattern.matrix(values, transpose=True)
        with layers(values, _entries(rows), _entries(cols)) as layer:
            factor = inner.pop()
            row_sum, col_sum = layer((matrix, cols, rows, factor), (turned, rows, cols, factor))
            while inner:
                factor = inner.pop()
                row_sum, col_sum = layer(
                    (matrix, col_sum, rows, factor), (turned, row_sum, cols, factor)
                )
        return row_sum, col_sum


def multiply_adds(pattern: SparsePattern, rows: Rows, cols: Rows, *, n_products: int) -> int:
    r"""What :func:`polynomial` executes: multiplications, each with the addition it is part of.

    One for each nonzero and each entry of the row that it multiplies, and one for each entry of
    each :math:`c_k X` that is added. Where entries are packed, those alone: the lanes
    of a vector that hold none are masked out, and not counted.

    Args:
        pattern: places of S.
        rows: as there.
        cols: as there.
        n_products: K.
    """
    if n_products == 0:
        return 0
    width = rows.shape[1]
    first = int(_counts(cols)[pattern.col].sum() + _counts(rows)[pattern.row].sum())
    own = int(_counts(rows).sum() + _counts(cols).sum())
    return first + 2 * (n_products - 1) * pattern.nnz * width + n_products * own


def resident_bytes(pattern: SparsePattern, rows: Rows, cols: Rows) -> int:
    """Bytes that :func:`polynomial` reads: tables, and the matrix with its values, by row and by
    column; without what it computes."""
    tables = sum(
        part.values.nbytes + part.index.nbytes if isinstance(part, PackedRows) else part.nbytes
        for part in (rows, cols)
    )
    pointers = 4 * (sum(pattern.shape) + 2)
    return tables + 2 * (4 + 4) * pattern.nnz + pointers


# --- one layer ------------------------------------------------------------------------------

Part = Callable[[], None]
Product = tuple[Tensor, Rows, Rows | None, float]  # CSR matrix M, Z, X, beta: M Z + beta X
Layer = Callable[..., list[Tensor]]  # of products, which share their parts


@contextmanager
def layers(*parts: Tensor) -> Iterator[Layer]:
    """Who computes the products of a layer: the kernel, of float32 on a CPU, or torch.

    The kernel is called by as many threads as torch may use. They are Python's, which end with the
    call: numba's own would stay, and meet torch's on the same cores.
    """
    n_threads = torch.get_num_threads()
    if not _runs_here(*parts):
        yield _by_torch
    elif n_threads == 1:
        yield partial(_by_kernel, None, 1)
    else:
        with ThreadPoolExecutor(n_threads - 1) as pool:  # and the caller
            yield partial(_by_kernel, pool, n_threads)


def _by_torch(*products: Product) -> list[Tensor]:
    results = []
    for matrix, source, own, factor in products:
        dense = _dense(source)
        if own is None:  # as `matrix @ dense`, which fills and copies the result before it begins
            empty = dense.new_empty(matrix.shape[0], dense.shape[1])
            results.append(empty.addmm_(matrix, dense, beta=0))
        else:
            results.append(torch.addmm(_dense(own), matrix, dense, beta=factor))
    return results


def _by_kernel(pool: ThreadPoolExecutor | None, n_threads: int, *products: Product) -> list[Tensor]:
    n_parts = _PARTS * n_threads if n_threads > 1 else 1
    results = [
        _entries(source).new_empty(matrix.shape[0], source.shape[1])
        for matrix, source, _, _ in products
    ]
    parts = iter(  # each is taken by whoever is free: a list's iterator gives none twice
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
    """The product, its rows cut so that parts have as many terms, X being one of each row."""
    matrix, source, own, factor = product
    kind: OwnKind = "none" if own is None else "packed" if isinstance(own, PackedRows) else "dense"
    pointers = matrix.crow_indices().numpy()
    terms = pointers + np.arange(len(pointers))
    cuts = np.searchsorted(terms, np.linspace(0, terms[-1], n_parts + 1)).tolist()
    kernel = row_kernel(source.shape[1], isinstance(source, PackedRows), kind)
    given: tuple[Any, ...] = (
        pointers,
        matrix.col_indices().numpy().astype(np.int32, copy=False),  # the kernel reads 32 bits
        matrix.values().numpy(),
        *_arrays(source),
        *_arrays(source if own is None else own),
        np.float32(factor),
        result.numpy(),
    )
    for first, last in pairwise(cuts):
        if first < last:
            yield partial(kernel, *given, first, last)


_NO_INDEX = np.empty((0, 1), dtype=np.int64)


def _arrays(rows: Rows) -> tuple[Array, Array]:
    index = rows.index.numpy() if isinstance(rows, PackedRows) else _NO_INDEX
    # A column of a wider table would flatten to numbers that are apart in memory.
    return _entries(rows).contiguous().view(-1).numpy(), index


def _entries(rows: Rows) -> Tensor:
    return (rows.values if isinstance(rows, PackedRows) else rows).detach()


def _runs_here(*parts: Tensor) -> bool:
    here = (part.device.type == "cpu" and part.dtype == torch.float32 for part in parts)
    return compiles() and all(here)


def _dense(rows: Rows) -> Tensor:
    return rows.dense() if isinstance(rows, PackedRows) else rows


def _counts(rows: Rows) -> Tensor:
    if isinstance(rows, PackedRows):
        return rows.counts
    return torch.full((len(rows),), rows.shape[1])
