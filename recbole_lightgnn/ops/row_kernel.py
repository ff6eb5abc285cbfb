"""A row of a sparse product, summed in registers: machine code that numba's loops do not become.

numba writes a running sum of rows to memory at every term, and takes a step for each stored entry
of a row where only some are stored. Here the sum stays in vector registers, and the processor
spreads stored entries over their columns (`expandload`): a row with 20 entries in 64 columns costs
four instructions, and no more memory than its entries. LLVM is told so directly.
:func:`recbole_lightgnn.ops.reference.power_sum_reference` is the same in plain torch.
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
OwnKind = Literal["packed", "dense", "none"]

_LANES = 16  # floats summed by one instruction, where the processor has such
_TERMS = 64  # summed at once: sums of parts round less than one long sum
_AHEAD = 8  # terms ahead of the sum that memory is asked for

_I8, _I32, _I64, _FLOAT = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()


def compiles() -> bool:
    """Whether there is a compiler: the environment may switch numba's off."""
    return not numba.config.DISABLE_JIT  # type: ignore[attr-defined]


@lru_cache
def expands_in_hardware() -> bool:
    """Whether this processor spreads stored entries in one instruction (AVX-512)."""
    return compiles() and bool(llvmlite.binding.get_host_cpu_features().get("avx512f", False))


@lru_cache
def row_kernel(width: int, packed_source: bool, own_kind: OwnKind) -> Callable[..., None]:
    r"""The loop over rows: :math:`Y_i = \beta X_i + \sum_e w_e Z_{c_e}` for rows first to last.

    Args:
        width: columns of X, Y and Z.
        packed_source: whether Z has only its entries stored.
        own_kind: whether X has, or is dense, or there is none (and no beta).

    Returns:
        A function of the CSR matrix (``pointers``, ``columns``, ``weights``), Z and X as arrays of
        entries and their index (as `PackedRows` has them; the index of a dense one is not looked
        at), beta, Y, first and last. It holds no other thread up.
    """

    def rows(
        pointers: Array,
        columns: Array,
        weights: Array,
        source: Array,
        source_index: Array,
        own: Array,
        own_index: Array,
        scale: float,
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
                own_kind,
                columns.ctypes.data,
                weights.ctypes.data,
                start,
                end,
                final_edge,
                source.ctypes.data,
                source_index.ctypes.data,
                own.ctypes.data,
                own_index.ctypes.data,
                scale,
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
                    own_index.ctypes.data,
                    np.float32(1.0),
                    out.ctypes.data,
                    row,
                )

    return compiled(rows)


def _write_sum_row(
    _context: Any,
    width: Any,
    packed_source: Any,
    own_kind: Any,
    columns: Any,
    weights: Any,
    start: Any,
    stop: Any,
    final_edge: Any,
    source: Any,
    source_index: Any,
    own: Any,
    own_index: Any,
    scale: Any,
    out: Any,
    row: Any,
) -> tuple[Any, Any]:
    """One row; the first three arguments are known when it is compiled, arrays are addresses."""
    blocks = [_LANES] * (width.literal_value // _LANES)
    if width.literal_value % _LANES:
        blocks.append(width.literal_value % _LANES)
    address, whole = types.uintp, types.int64
    signature = types.void(
        *(width, packed_source, own_kind),
        *(address, address, whole, whole, whole),  # columns, weights, from, to, final edge
        *(address, address, address, address, types.float32, address, whole),
    )

    def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        columns, weights, start, stop, final_edge = values[3:8]
        source, source_index, own, own_index, scale, out, row = values[8:]
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
        if own_kind.literal_value != "none":
            read_own = code.packed if own_kind.literal_value == "packed" else code.dense
            total = code.add(running, code.splat(scale), *read_own(own, own_index, row))
        code.store(total, out, row)
        return context.get_dummy_value()

    return signature, generate


_sum_row: Any = intrinsic(prefer_literal=True)(_write_sum_row)


class _Code:
    """Writes the instructions that a row is made of, a block of up to 16 columns at a time."""

    def __init__(self, builder: Any, blocks: list[int]) -> None:
        self.builder, self.blocks = builder, blocks
        self.width = sum(blocks)
        self.index_width = 1 + -(-self.width // 64)

    def call(self, name: str, result: Any, arguments: list[Any]) -> Any:
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            self.builder.module, kind, name
        )
        return self.builder.call(function, arguments)

    def at(self, base: Any, place: Any, kind: Any, size: int) -> Any:
        """A pointer to element ``place`` of elements of ``size`` bytes."""
        address = self.builder.add(base, self.builder.mul(place, _I64(size)))
        return self.builder.inttoptr(address, kind.as_pointer())

    def load(self, base: Any, place: Any, kind: Any, size: int = 4, align: int = 4) -> Any:
        value = self.builder.load(self.at(base, place, kind, size))
        value.align = align
        return value

    def column(self, columns: Any, edge: Any) -> Any:
        return self.builder.zext(self.load(columns, edge, _I32), _I64)

    def splat(self, number: Any) -> list[Any]:
        """A number in every lane, for each block."""
        result = []
        for lanes in self.blocks:
            empty = ir.Constant(ir.VectorType(_FLOAT, lanes), ir.Undefined)
            one = self.builder.insert_element(empty, number, _I32(0))
            zeros = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
            result.append(self.builder.shuffle_vector(one, empty, zeros))
        return result

    def dense(self, data: Any, _index: Any, row: Any) -> tuple[list[Any], list[Any]]:
        """A row of a table. The masks are of all lanes, said by none."""
        start = self.builder.mul(row, _I64(self.width))
        terms = []
        for block, lanes in enumerate(self.blocks):
            place = self.builder.add(start, _I64(block * _LANES))
            terms.append(self.load(data, place, ir.VectorType(_FLOAT, lanes)))
        return terms, [None] * len(self.blocks)

    def packed(self, data: Any, index: Any, row: Any) -> tuple[list[Any], list[Any]]:
        """A row of stored entries, each in its place and zeros between, and the masks of places."""
        b = self.builder
        place, words = self.start(index, row), {}
        terms, masks = [], []
        for block, lanes in enumerate(self.blocks):
            word, shift = divmod(block * _LANES, 64)
            if word not in words:
                at = b.add(b.mul(row, _I64(self.index_width)), _I64(1 + word))
                words[word] = self.load(index, at, _I64, size=8, align=8)
            bits = b.trunc(b.lshr(words[word], _I64(shift)), ir.IntType(lanes))
            mask = b.bitcast(bits, ir.VectorType(ir.IntType(1), lanes))
            kind = ir.VectorType(_FLOAT, lanes)
            arguments = [self.at(data, place, _FLOAT, 4), mask, ir.Constant(kind, None)]
            terms.append(self.call(f"llvm.masked.expandload.v{lanes}f32", kind, arguments))
            masks.append(mask)
            count = self.call(f"llvm.ctpop.i{lanes}", bits.type, [bits])
            place = b.add(place, b.zext(count, _I64))
        return terms, masks

    def start(self, index: Any, row: Any) -> Any:
        """Where the entries of a row begin."""
        at = self.builder.mul(row, _I64(self.index_width))
        return self.load(index, at, _I64, size=8, align=8)

    def add(
        self, sums: list[Any], weight: list[Any], terms: list[Any], masks: list[Any]
    ) -> list[Any]:
        """sums + weight * terms, executed in the lanes that hold an entry."""
        result = []
        for lanes, total, factor, term, mask in zip(
            self.blocks, sums, weight, terms, masks, strict=True
        ):
            value = self.call(f"llvm.fmuladd.v{lanes}f32", total.type, [factor, term, total])
            result.append(value if mask is None else self.builder.select(mask, value, total))
        return result

    def ahead(self, edge: Any, distance: int, final_edge: Any) -> Any:
        later = self.builder.add(edge, _I64(distance))
        within = self.builder.icmp_signed("<", later, final_edge)
        return self.builder.select(within, later, final_edge)

    def prefetch(self, packed: bool, data: Any, index: Any, row: Any) -> None:
        """Ask for a row before its turn: all of it, or as much as a packed one mostly has."""
        b = self.builder
        start = self.start(index, row) if packed else b.mul(row, _I64(self.width))
        n_lines = -(-4 * self.width // 64)
        for line in range(n_lines // 2 + 1 if packed else n_lines):
            self.ask(self.at(data, b.add(start, _I64(16 * line)), _I8, 4))

    def prefetch_index(self, index: Any, row: Any) -> None:
        self.ask(self.at(index, row, _I8, 8 * self.index_width))

    def ask(self, pointer: Any) -> None:
        self.call("llvm.prefetch.p0", ir.VoidType(), [pointer, _I32(0), _I32(3), _I32(1)])

    def store(self, sums: list[Any], out: Any, row: Any) -> None:
        start = self.builder.mul(row, _I64(self.width))
        for block, value in enumerate(sums):
            place = self.builder.add(start, _I64(block * _LANES))
            self.builder.store(value, self.at(out, place, value.type, 4)).align = 4
