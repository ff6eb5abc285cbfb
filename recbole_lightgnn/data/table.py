"""Read delimited text with one interaction per line into one array for each column."""

import contextlib
import csv
import functools
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.data.names import BadName, Names
from recbole_lightgnn.data.prefetch import map_ahead
from recbole_lightgnn.data.table_layout import QUOTING, Layout
from recbole_lightgnn.data.text import MAX_DIGITS, Block, blocks, parse_floats, quote_token
from recbole_lightgnn.data.times import BadValue, parse_dates, parse_numbers
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.jit import compiled

_UNIT = "\x1f"  # replaces a delimiter that has two bytes or may stand in a quoted field
_LINE_END, _ZERO = b"\n0"


class Rows(NamedTuple):
    """Consecutive interactions of a table, as one array for each column.

    Attributes:
        user: number of each interaction's user, from a table of `Names`. Shape: (n,)
        item: number of each interaction's item, from a table of `Names`. Shape: (n,)
        rating: rating of each interaction; None if ratings are not read. Shape: (n,)
        time: time of each interaction, as a number that grows with time; None if times are not
            read. Shape: (n,)
    """

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    rating: NDArray[Any] | None = None
    time: NDArray[Any] | None = None


def text_rows(path: Path, layout: Layout, names: dict[str, Names]) -> Iterator[Rows]:
    """Yield the interactions of a delimited text file, block by block.

    ``names`` receives the `Names` of users (key ``user``) and of items (key ``item``). Raises
    InputError if a line has more or fewer fields than the first line, or a field is malformed.
    """
    names |= {what: Names() for what in ("user", "item")}
    for fields in map_ahead(functools.partial(_Fields, layout), _body(path, layout)):
        yield Rows(**{what: _column(fields, names, what) for what in layout.columns})


def _column(fields: "_Fields", names: Mapping[str, Names], what: str) -> NDArray[Any]:
    if (values := fields.integers(what)) is not None and not (what == "time" and fields.dated):
        return values
    if what in names:
        return _token_numbers(fields, what, names[what])
    return _dates(fields, what) if what == "time" and fields.dated else _numbers(fields, what)


def _body(path: Path, layout: Layout) -> Iterator[Block]:
    """Yield the lines of a file below its header, in blocks."""
    for nth, block in enumerate(blocks(path)):
        if nth == 0 and layout.header:
            block = Block(path, block.data[block.data.index(b"\n") + 1 :], 2)
        if block.data:
            yield block


class _Fields:
    """The fields of the wanted columns in a block of lines below the header.

    Raises:
        InputError: if a line has more or fewer fields than the layout says.
    """

    def __init__(self, layout: Layout, block: Block) -> None:
        self.block, delimiter = with_plain_delimiter(block, layout.delimiter)
        self.dated, self._lines = layout.dated, self.block
        if layout.typed and (block.data[:1] == b"\n" or b"\n\n" in block.data):
            lines = b"".join(line + b"\n" for line in self.block.data.split(b"\n") if line)
            self.block = self.block._replace(data=lines)
        self.data = np.frombuffer(self.block.data, np.uint8)
        self._row = {what: row for row, what in enumerate(layout.columns)}
        rows = np.full(layout.n_fields, -1)
        rows[list(layout.columns.values())] = np.arange(len(layout.columns))
        n_lines = np.count_nonzero(self.data == _LINE_END)
        shape = (len(self._row), n_lines)
        self._starts, self._ends = np.empty((2, *shape), np.int64)
        self._integers = np.empty(shape, np.int64)  # separate: only this array outlives the block
        self._only_integers = np.ones(len(self._row), bool)
        good = _parse(
            self.data, ord(delimiter), rows,
            self._starts, self._ends, self._integers, self._only_integers,
        )  # fmt: skip
        if good < n_lines:
            fields = self.block.data.split(b"\n", good + 1)[good].count(delimiter.encode()) + 1
            raise self.fault(
                good,
                f"{fields} fields where line 1 has {layout.n_fields}",
                f"expected fields separated by {layout.delimiter!r}: correct the line, or give "
                "another --delimiter",
            )

    def integers(self, what: str) -> NDArray[np.int64] | None:
        """Return a column as integers; None if `text.parse_integers` would reject a field."""
        row = self._row[what]
        return self._integers[row] if self._only_integers[row] else None

    def bounds(self, what: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return start and end, in ``data``, of each field of a column. Shape: (n_lines,) each"""
        row = self._row[what]
        return self._starts[row], self._ends[row]

    def tokens(self, what: str) -> list[bytes]:
        """Return the fields of a column as bytes."""
        starts, ends = self.bounds(what)
        data = self.block.data
        return [data[s:e] for s, e in zip(starts.tolist(), ends.tolist(), strict=True)]

    def fault(self, line: int, what: str, remedy: str) -> InputError:
        """Return an InputError for a line of the block, counted from 0 without empty lines."""
        if self._lines is not self.block:
            texts = self._lines.data.split(b"\n")
            line = [nth for nth, text in enumerate(texts) if text][line]
        return InputError(f"{self.block.path}, line {self.block.line + line}: {what}; {remedy}")


@compiled
def _parse(
    data: NDArray[np.uint8],
    delimiter: int,
    rows: NDArray[np.int64],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    integers: NDArray[np.int64],
    only_integers: NDArray[np.bool_],
) -> int:
    """Find the wanted columns' fields, up to the first line with a wrong number of fields.

    Args:
        data: bytes of whole lines. Shape: (n_bytes,)
        delimiter: byte between two fields.
        rows: for each field of a line, the row of ``starts``, ``ends`` and ``integers`` that
            receives the field; -1 for an unwanted field. Shape: (n_fields,)
        starts: receives the position of each field's first byte. Shape: (n_columns, n_lines)
        ends: receives the position after each field's last byte. Shape: (n_columns, n_lines)
        integers: receives the value of each field that is an integer. Shape: (n_columns, n_lines)
        only_integers: set to False for each column with a field that `text.parse_integers` would
            not accept. Shape: (n_columns,)

    Returns:
        The number of lines before the line with a wrong number of fields, or of all lines if there
        is no such line.
    """
    line = field = start = number = 0
    only_digits = True
    for position in range(len(data)):
        byte = data[position]
        if byte != delimiter and byte != _LINE_END:
            digit: Any = np.int64(byte) - _ZERO
            only_digits &= 0 <= digit <= 9
            number = 10 * number + digit
            continue
        if field < len(rows) and rows[field] >= 0:
            row, length = rows[field], position - start
            starts[row, line], ends[row, line], integers[row, line] = start, position, number
            if not (only_digits and 0 < length <= MAX_DIGITS) or (
                data[start] == _ZERO and length > 1
            ):
                only_integers[row] = False
        field, start, number, only_digits = field + 1, position + 1, 0, True
        if byte == _LINE_END:
            if field != len(rows):
                break
            line, field = line + 1, 0
    return line


def with_plain_delimiter(block: Block, delimiter: str) -> tuple[Block, str]:
    """Rewrite lines with a one-byte delimiter that is in no field; return lines and delimiter."""
    quoted = delimiter in QUOTING and b'"' in block.data
    if not quoted and len(delimiter) == 1:
        return block, delimiter
    if _UNIT.encode() in block.data:
        raise block.fault(
            block.data.index(_UNIT.encode()),
            "a control character",
            "expected text: correct the line",
        )
    if not quoted:
        return block._replace(data=block.data.replace(delimiter.encode(), _UNIT.encode())), _UNIT
    reader = csv.reader(
        io.StringIO(block.data.decode(), newline=""), delimiter=delimiter, strict=True
    )
    lines = []
    try:
        for nth, fields in enumerate(reader, 1):
            if reader.line_num != nth:
                raise csv.Error("a quoted field continues on the next line")
            lines.append(_UNIT.join(fields))
    except csv.Error as error:
        raise InputError(
            f"{block.path}, line {block.line + len(lines)}: {error}; expected quotes that end on "
            "the same line: correct the line, or give another --delimiter"
        ) from error
    return block._replace(data="\n".join([*lines, ""]).encode()), _UNIT


def _token_numbers(fields: _Fields, what: str, names: Names) -> NDArray[np.int64]:
    try:
        return names.numbers(fields.data, *fields.bounds(what))
    except BadName as error:
        raise fields.fault(
            error.nth,
            f"{what} {quote_token(error.name)} {error}",
            f"expected a token for the {what}: correct the line",
        ) from error


def _numbers(fields: _Fields, what: str) -> NDArray[Any]:
    if (values := parse_floats(fields.data, *fields.bounds(what))) is not None:
        return values
    with _faults_of(fields, what):
        return parse_numbers(fields.tokens(what), or_dates=what == "time")


def _dates(fields: _Fields, what: str) -> NDArray[np.int64]:
    with _faults_of(fields, what):
        return parse_dates(fields.tokens(what))


@contextlib.contextmanager
def _faults_of(fields: _Fields, what: str) -> Iterator[None]:
    """Context manager that turns a `BadValue` into an InputError with file and line."""
    try:
        yield
    except BadValue as error:
        raise fields.fault(
            error.nth,
            f"{what} {error.what}",
            f"expected {error.expected}: correct the line, or name another column with --{what}",
        ) from error
