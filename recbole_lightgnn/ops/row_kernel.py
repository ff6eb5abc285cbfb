"""Compiled kernel (numba and LLVM) that computes rows of a sparse product in vector registers.

A packed row (:class:`recbole_lightgnn.ops.PackedRows`) stores only the entries that pruning left. A
plain numba loop loads them one by one, and writes a row's running sum to memory at every term. Here
the sum stays in vector registers, and one instruction (`expandload`) moves the stored entries of 16
columns to their columns. numba has no such instruction, so this file writes LLVM instructions.
:func:`recbole_lightgnn.ops.reference.power_sum_reference` gives the same result in plain torch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import llvmlite.binding
import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from recbole_lightgnn.utils.jit import compiled

Array = npt.NDArray[Any]
AddedKind = Literal["packed", "dense", "none"]

_LANES = 16  # floats in one vector register of AVX-512
_TERMS = 64  # terms in a partial sum; short ones have less rounding error
_AHEAD = 8  # number of terms between the prefetch of a row and its use

_I8, _I32, _I64, _FLOAT = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()


def compiler_available() -> bool:
    """Whether numba compiles; the environment variable NUMBA_DISABLE_JIT switches this off."""
    return not numba.config.DISABLE_JIT  # type: ignore[attr-defined]


@lru_cache
def expands_in_hardware() -> bool:
    """Whether the processor can expand 16 columns of a packed row at once, by AVX-512."""
    return compiler_available() and bool(
        llvmlite.binding.get_host_cpu_features().get("avx512f", False)
    )


@lru_cache
def row_kernel(width: int, packed_source: bool, added_kind: AddedKind) -> Callable[..., None]:
    r"""Compile the product :math:`Y = \beta X + M Z` with a CSR matrix M, as a loop over rows.

    .. math:: Y_i = \beta X_i + \sum_e w_e Z_{c_e}

    The sum is over the nonzeros e of row i of M, with value :math:`w_e` in column :math:`c_e`.

    Args:
        width: number of columns of X, Y and Z.
        packed_source: whether Z is packed (`PackedRows`) or dense.
        added_kind: whether X is packed, dense or absent.

    Returns:
        A function that writes the rows ``first`` to ``last`` (exclusive) of Y and releases the GIL.
        Its arguments: ``pointers``, ``columns`` and ``weights`` of M; entries and index of Z;
        entries and index of X; beta; Y; ``first``; ``last``. Entries and index are as in
        :class:`recbole_lightgnn.ops.PackedRows`; a dense table needs no index.
    """

    def rows(
        pointers: Array,
        columns: Array,
        weights: Array,
        source: Array,
        source_index: Array,
        added: Array,
        added_index: Array,
        beta: float,
        out: Array,
        first: int,
        last: int,
    ) -> None:
        final_edge = np.int64(pointers[last] - 1)
        for row in range(first, last):
            start, stop = np.int64(pointers[row]), np.int64(pointers[row + 1])
            end = min(start + _TERMS, stop)
            _sum_row(
                width,
                packed_source,
                added_kind,
                columns.ctypes.data,
                weights.ctypes.data,
                start,
                end,
                final_edge,
                source.ctypes.data,
                source_index.ctypes.data,
                added.ctypes.data,
                added_index.ctypes.data,
                beta,
                out.ctypes.data,
                row,
            )
            while end < stop:
                start, end = end, min(end + _TERMS, stop)
                _sum_row(
                    width,
                    packed_source,
                    "dense",
                    columns.ctypes.data,
                    weights.ctypes.data,
                    start,
                    end,
                    final_edge,
                    source.ctypes.data,
                    source_index.ctypes.data,
                    out.ctypes.data,
                    added_index.ctypes.data,
                    np.float32(1.0),
                    out.ctypes.data,
                    row,
                )

    return compiled(rows)


def _write_sum_row(
    _context: Any,
    width: Any,
    packed_source: Any,
    added_kind: Any,
    columns: Any,
    weights: Any,
    start: Any,
    stop: Any,
    final_edge: Any,
    source: Any,
    source_index: Any,
    added: Any,
    added_index: Any,
    beta: Any,
    out: Any,
    row: Any,
) -> tuple[Any, Any]:
    """Generate code for a row of Y: the sum over the nonzeros ``start`` to ``stop`` (exclusive).

    ``width``, ``packed_source`` and ``added_kind`` are compile-time constants; arrays are
    addresses.
    """
    blocks = [_LANES] * (width.literal_value // _LANES)
    if width.literal_value % _LANES:
        blocks.append(width.literal_value % _LANES)
    address, whole = types.uintp, types.int64
    signature = types.void(
        *(width, packed_source, added_kind),
        *(address, address, whole, whole, whole),  # columns, weights, start, stop, final edge
        *(address, address, address, address),  # source, its index, added, its index
        *(types.float32, address, whole),  # beta, out, row
    )

    def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        columns, weights, start, stop, final_edge = values[3:8]
        source, source_index, added, added_index, beta, out, row = values[8:]
        code = _Code(builder, blocks)
        read_source = code.packed if packed_source.literal_value else code.dense
        sums = [ir.Constant(ir.VectorType(_FLOAT, lanes), None) for lanes in blocks]

        before = builder.block
        test, body, end = (builder.append_basic_block(name) for name in ("test", "body", "end"))
        builder.branch(test)
        builder.position_at_end(test)
        edge = builder.phi(_I64)
        edge.add_incoming(start, before)
        running = [builder.phi(value.type) for value in sums]
        for phi, value in zip(running, sums, strict=True):
            phi.add_incoming(value, before)
        builder.cbranch(builder.icmp_signed("<", edge, stop), body, end)

        builder.position_at_end(body)
        if packed_source.literal_value:
            farther = code.column(columns, code.ahead(edge, 2 * _AHEAD, final_edge))
            code.prefetch_index(source_index, farther)
        coming = code.column(columns, code.ahead(edge, _AHEAD, final_edge))
        code.prefetch(packed_source.literal_value, source, source_index, coming)
        terms, masks = read_source(source, source_index, code.column(columns, edge))
        weight = code.splat(code.load(weights, edge, _FLOAT))
        following = builder.add(edge, _I64(1))
        edge.add_incoming(following, body)
        for phi, value in zip(running, code.add(running, weight, terms, masks), strict=True):
            phi.add_incoming(value, body)
        builder.branch(test)

        builder.position_at_end(end)
        total = running
        if added_kind.literal_value != "none":
            read_added = code.packed if added_kind.literal_value == "packed" else code.dense
            total = code.add(running, code.splat(beta), *read_added(added, added_index, row))
        code.store(total, out, row)
        return context.get_dummy_value()

    return signature, generate


_sum_row: Any = intrinsic(prefer_literal=True)(_write_sum_row)


class _Code:
    """Writer of LLVM instructions for one row of a table.

    A row is a list of vectors, one for each block of up to 16 columns.
    """

    def __init__(self, builder: Any, blocks: list[int]) -> None:
        self.builder, self.blocks = builder, blocks
        self.width = sum(blocks)
        self.index_width = 1 + -(-self.width // 64)

    def call(self, name: str, result: Any, arguments: list[Any]) -> Any:
        """Write a call of an LLVM intrinsic function and return its value."""
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            self.builder.module, kind, name
        )
        return self.builder.call(function, arguments)

    def at(self, base: Any, position: Any, kind: Any, size: int) -> Any:
        """Return a pointer to element ``position`` of an array with elements of ``size`` bytes."""
        address = self.builder.add(base, self.builder.mul(position, _I64(size)))
        return self.builder.inttoptr(address, kind.as_pointer())

    def load(self, base: Any, position: Any, kind: Any, size: int = 4, align: int = 4) -> Any:
        """Load an array's element ``position``."""
        value = self.builder.load(self.at(base, position, kind, size))
        value.align = align
        return value

    def column(self, columns: Any, edge: Any) -> Any:
        """Load the column number of the nonzero ``edge``."""
        return self.builder.zext(self.load(columns, edge, _I32), _I64)

    def splat(self, number: Any) -> list[Any]:
        """Repeat a number in every lane of every block."""
        result = []
        for lanes in self.blocks:
            empty = ir.Constant(ir.VectorType(_FLOAT, lanes), ir.Undefined)
            one = self.builder.insert_element(empty, number, _I32(0))
            zeros = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
            result.append(self.builder.shuffle_vector(one, empty, zeros))
        return result

    def dense(self, data: Any, _index: Any, row: Any) -> tuple[list[Any], list[Any]]:
        """Load a dense row; return its blocks, and ``None`` as the mask of each."""
        start = self.builder.mul(row, _I64(self.width))
        terms = []
        for block, lanes in enumerate(self.blocks):
            position = self.builder.add(start, _I64(block * _LANES))
            terms.append(self.load(data, position, ir.VectorType(_FLOAT, lanes)))
        return terms, [None] * len(self.blocks)

    def packed(self, data: Any, index: Any, row: Any) -> tuple[list[Any], list[Any]]:
        """Load a packed row; return its blocks, 0 where nothing is stored, and their masks."""
        b = self.builder
        position, words = self.start(index, row), {}
        terms, masks = [], []
        for block, lanes in enumerate(self.blocks):
            word, shift = divmod(block * _LANES, 64)
            if word not in words:
                at = b.add(b.mul(row, _I64(self.index_width)), _I64(1 + word))
                words[word] = self.load(index, at, _I64, size=8, align=8)
            bits = b.trunc(b.lshr(words[word], _I64(shift)), ir.IntType(lanes))
            mask = b.bitcast(bits, ir.VectorType(ir.IntType(1), lanes))
            kind = ir.VectorType(_FLOAT, lanes)
            arguments = [self.at(data, position, _FLOAT, 4), mask, ir.Constant(kind, None)]
            terms.append(self.call(f"llvm.masked.expandload.v{lanes}f32", kind, arguments))
            masks.append(mask)
            count = self.call(f"llvm.ctpop.i{lanes}", bits.type, [bits])
            position = b.add(position, b.zext(count, _I64))
        return terms, masks

    def start(self, index: Any, row: Any) -> Any:
        """Load the position of a packed row's first entry."""
        at = self.builder.mul(row, _I64(self.index_width))
        return self.load(index, at, _I64, size=8, align=8)

    def add(
        self, sums: list[Any], weight: list[Any], terms: list[Any], masks: list[Any]
    ) -> list[Any]:
        """Compute ``sums + weight * terms`` in the lanes with a stored entry (masked lanes)."""
        result = []
        for lanes, total, factor, term, mask in zip(
            self.blocks, sums, weight, terms, masks, strict=True
        ):
            value = self.call(f"llvm.fmuladd.v{lanes}f32", total.type, [factor, term, total])
            result.append(value if mask is None else self.builder.select(mask, value, total))
        return result

    def ahead(self, edge: Any, distance: int, final_edge: Any) -> Any:
        """Return the later nonzero ``edge + distance``, at most ``final_edge``."""
        later = self.builder.add(edge, _I64(distance))
        within = self.builder.icmp_signed("<", later, final_edge)
        return self.builder.select(within, later, final_edge)

    def prefetch(self, packed: bool, data: Any, index: Any, row: Any) -> None:
        """Prefetch a dense row, or about half as many bytes of a packed row."""
        b = self.builder
        start = self.start(index, row) if packed else b.mul(row, _I64(self.width))
        n_lines = -(-4 * self.width // 64)
        for line in range(n_lines // 2 + 1 if packed else n_lines):
            self.prefetch_line(self.at(data, b.add(start, _I64(16 * line)), _I8, 4))

    def prefetch_index(self, index: Any, row: Any) -> None:
        """Prefetch the index of a packed row."""
        self.prefetch_line(self.at(index, row, _I8, 8 * self.index_width))

    def prefetch_line(self, pointer: Any) -> None:
        """Prefetch the cache line (64 bytes) that ``pointer`` points into."""
        self.call("llvm.prefetch.p0", ir.VoidType(), [pointer, _I32(0), _I32(3), _I32(1)])

    def store(self, sums: list[Any], out: Any, row: Any) -> None:
        """Store a row of the dense result."""
        start = self.builder.mul(row, _I64(self.width))
        for block, value in enumerate(sums):
            position = self.builder.add(start, _I64(block * _LANES))
            self.builder.store(value, self.at(out, position, value.type, 4)).align = 4
