"""Read delimited text with one interaction per line: detect its layout, then parse its columns."""

import contextlib
import csv
import functools
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.data.matrix import one_line
from recbole_lightgnn.data.names import BadName, Names
from recbole_lightgnn.data.prefetch import map_ahead
from recbole_lightgnn.data.text import MAX_DIGITS, Block, blocks, parse_floats, quote_token
from recbole_lightgnn.data.times import BadValue, is_date, parse_dates, parse_numbers
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.jit import compiled
from recbole_lightgnn.utils.text import did_you_mean

DELIMITERS = ("::", "\t", ",", ";", "|", " ")  # in the order in which they are tried
_DELIMITER_NAMES = {
    "tab": "\t",
    "\\t": "\t",
    "comma": ",",
    "semicolon": ";",
    "space": " ",
    "pipe": "|",
}
_QUOTING = ",;"  # with these delimiters, "..." is one field; with others, " is a plain character
_UNIT = "\x1f"  # replaces a delimiter that has two bytes or may stand in a quoted field
_RECBOLE_TYPE = re.compile(r":(token|float)(_seq)?$")
_HEAD = 20  # number of lines from which the layout is detected
_LINE_END, _ZERO = b"\n0"

KNOWN_COLUMNS = {  # usual names of columns: lower case, without _ and - and RecBole's type
    "user": "user userid uid u reviewerid customerid visitorid",
    "item": "item itemid iid i movieid asin businessid productid bookid artistid locationid",
    "rating": "rating ratings stars score overall",
    "time": "timestamp time date unixreviewtime ts",
}
_DEFAULT_POSITION = {"user": 0, "item": 1, "rating": 2, "time": 3}  # in a table without header


class Layout(NamedTuple):
    """Layout of a delimited text.

    Attributes:
        delimiter: text between two fields.
        header: whether the first line has the names of the columns.
        n_fields: number of fields in each line.
        columns: position from 0 of each column that is read (``user``, ``item``, ``rating``,
            ``time``).
        dated: whether times are dates, not numbers.
        typed: whether the header has the type of each column, as in an atomic file. Then any text
            can be a user or item, and empty lines are skipped, as when a run reads the file.
    """

    delimiter: str
    header: bool
    n_fields: int
    columns: dict[str, int]
    dated: bool = False
    typed: bool = False


class Rows(NamedTuple):
    """Consecutive interactions of a table, as columns.

    Attributes:
        user: user number of each interaction (`Names`). Shape: (n,)
        item: item number of each interaction (`Names`). Shape: (n,)
        rating: ratings; None if they are not read. Shape: (n,)
        time: times that can be compared with each other; None if they are not read. Shape: (n,)
    """

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    rating: NDArray[Any] | None = None
    time: NDArray[Any] | None = None


# --- layout ---------------------------------------------------------------------------------


def detect_layout(
    path: Path, wanted: Mapping[str, str | None], delimiter: str | None, header: bool | None
) -> Layout:
    """Determine the layout of a text from the user's choices and its first lines.

    Args:
        path: the text file.
        wanted: for each column to read, its name or its position from 1; None to detect it.
        delimiter: text between two fields; None to detect it.
        header: whether the first line has the names of the columns; None to detect it.

    Raises:
        InputError: if the file is empty, a column is missing, or no delimiter fits.
    """
    block = next(blocks(path), None)
    if block is None:
        raise InputError(
            f"{path} has no interactions; expected one interaction per line: check the file"
        )
    first, *others = block.data.decode().split("\n", _HEAD)[:-1]
    lines = [first, *filter(None, others)]
    delimiter = _detect_delimiter(path, lines) if delimiter is None else _parse_delimiter(delimiter)
    rows = [split_line(line, delimiter) for line in lines]
    names = rows[0]
    if header is None:
        header = _has_header(rows, wanted)
    columns = find_columns(f"{path}, line 1", names if header else None, len(names), wanted)
    dated = False
    if "time" in columns and len(rows) > header:
        time = rows[header][columns["time"] :][:1]  # empty if the line is too short
        dated = any(is_date(text.encode()) for text in time)
    return Layout(delimiter, header, len(names), columns, dated, header and has_types(names))


def _parse_delimiter(delimiter: str) -> str:
    delimiter = _DELIMITER_NAMES.get(delimiter, delimiter)
    if (delimiter != "::" and not re.fullmatch(r"[\t -~]", delimiter)) or delimiter in '"\\':
        raise InputError(
            f"--delimiter {delimiter!r} cannot be used; expected one ASCII character, ::, or one "
            f"of {', '.join(_DELIMITER_NAMES)}"
        )
    return delimiter


def _detect_delimiter(path: Path, lines: list[str]) -> str:
    for delimiter in DELIMITERS:  # a header with types tells, whatever is below it
        names = split_line(lines[0], delimiter)
        if len(names) > 1 and has_types(names):
            return delimiter
    for delimiter in DELIMITERS:
        counts = {len(split_line(line, delimiter)) for line in lines}
        if len(counts) == 1 and max(counts) > 1:
            return delimiter
    raise InputError(
        f"{path}, line 1: no delimiter splits the first lines into the same number of fields "
        f"(tried {' '.join(map(repr, DELIMITERS))}); expected a table: give --delimiter, or "
        "correct the file"
    )


def split_line(line: str, delimiter: str) -> list[str]:
    """Split a line at a delimiter; a comma or semicolon in a quoted field does not split it."""
    if delimiter in _QUOTING and '"' in line:
        with contextlib.suppress(csv.Error):  # the error is reported when the line is read
            return next(csv.reader([line], delimiter=delimiter))
    return line.split(delimiter)


def _has_header(rows: list[list[str]], wanted: Mapping[str, str | None]) -> bool:
    """Tell whether the first row has the names of the columns.

    It has if all fields have a type, if a field is a usual or a requested name, or if a field that
    is not a number stands above numbers only.
    """
    first = {_plain(field) for field in rows[0]}
    known = {name for names in KNOWN_COLUMNS.values() for name in names.split() if len(name) > 2}
    named = {_plain(name) for name in wanted.values() if name is not None and not name.isdigit()}
    if first & (known | named) or has_types(rows[0]):
        return True
    columns = zip(*rows, strict=False) if len(rows) > 1 else ()
    return any(not _is_number(name) and all(map(_is_number, below)) for name, *below in columns)


def has_types(header: list[str]) -> bool:
    """Tell whether all columns of a header have a type, as in ``user_id:token``."""
    return all(_RECBOLE_TYPE.search(name.strip()) for name in header)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plain(name: str) -> str:
    """Normalize a column's name as in `KNOWN_COLUMNS`."""
    return re.sub(r"[\s_-]", "", _RECBOLE_TYPE.sub("", name.strip())).lower()


def find_columns(
    where: str, header: list[str] | None, n_fields: int, wanted: Mapping[str, str | None]
) -> dict[str, int]:
    """Find the positions of the wanted columns.

    Args:
        where: file and line, for error messages.
        header: names of all columns; None if the table has no header.
        n_fields: number of columns.
        wanted: for each column to read, its name or its position from 1; None to detect it.

    Returns:
        Position from 0 of each wanted column.

    Raises:
        InputError: if a column is missing, two columns have the wanted name, two wanted columns
            are the same, or users or items have a type other than ``token``.
    """
    found: dict[str, int] = {}
    names = [] if header is None else [" ".join(name.split()) for name in header]
    plain = [_plain(name) for name in names]
    for nth, (what, choice) in enumerate(wanted.items()):
        given = None if choice is None else " ".join(choice.split())
        if given is not None and given in names:
            found[what] = names.index(given)
        elif given is not None and _plain(given) in plain and not given.isdigit():
            found[what] = plain.index(_plain(given))
        elif given is not None and given.isdigit() and 1 <= int(given) <= n_fields:
            found[what] = int(given) - 1
        elif given is None and (known := [k for k in KNOWN_COLUMNS[what].split() if k in plain]):
            found[what] = plain.index(known[0])
        elif given is None and header is None and _DEFAULT_POSITION[what] < n_fields:
            found[what] = _DEFAULT_POSITION[what]
        else:
            near = did_you_mean(given, names) if given and names else ""
            raise InputError(
                f"{where}: no column {given or what!r}{near}; it has {n_fields} columns"
                f"{': ' + ', '.join(names)[:200] if names else ''}: name it with --{what} (a name, "
                "or a position from 1)"
            )
        _check_column(where, header, what, found[what], choice)
        for other in list(found)[:nth]:
            if found[other] == found[what]:
                raise InputError(
                    f"{where}: {other} and {what} are both column {found[what] + 1}; name them "
                    f"with --{other} and --{what}"
                )
    return found


def _check_column(
    where: str, header: list[str] | None, what: str, position: int, choice: str | None
) -> None:
    if header is None:
        return
    names = [_RECBOLE_TYPE.sub("", name.strip()) for name in header]
    name, full = names[position], header[position].strip()
    if what in ("user", "item") and has_types(header) and full != f"{name}:token":
        raise InputError(
            f"{where}: expected {name}:token, got {full}; an id is one token: correct the header"
        )
    if names.count(name) > 1 and choice != str(position + 1):
        raise InputError(
            f"{where} has {names.count(name)} columns named {one_line(name)}; expected different "
            "names: rename them"
        )


# --- columns --------------------------------------------------------------------------------


def text_rows(path: Path, layout: Layout, names: dict[str, Names]) -> Iterator[Rows]:
    """Yield the interactions of a delimited text, block by block.

    Args:
        path: the text file.
        layout: its layout (`detect_layout`).
        names: filled with a table of the user tokens (``user``) and of the item tokens (``item``).

    Raises:
        InputError: if a line has more or fewer fields than the first, or a field is malformed.
    """
    names |= {what: Names(any_text=layout.typed) for what in ("user", "item")}
    for fields in map_ahead(functools.partial(_Fields, layout), _body(path, layout)):
        yield Rows(**{what: _column(fields, names, what) for what in layout.columns})


def _column(fields: "_Fields", names: Mapping[str, Names], what: str) -> NDArray[Any]:
    if (values := fields.integers(what)) is not None and not (what == "time" and fields.dated):
        return values
    if what in names:
        return _token_numbers(fields, what, names[what])
    return _dates(fields, what) if what == "time" and fields.dated else _numbers(fields, what)


def _body(path: Path, layout: Layout) -> Iterator[Block]:
    """Yield the lines below the header."""
    for nth, block in enumerate(blocks(path)):
        if nth == 0 and layout.header:
            block = Block(path, block.data[block.data.index(b"\n") + 1 :], 2)
        if block.data:
            yield block


class _Fields:
    """Positions of the wanted fields in a block of lines, and their values if they are integers.

    Args:
        layout: layout of the text.
        block: lines below the header.

    Raises:
        InputError: if a line has more or fewer fields than the layout.
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
        """Return the start and the end of a column's fields in ``data``. Shape: (n_lines,) each"""
        row = self._row[what]
        return self._starts[row], self._ends[row]

    def tokens(self, what: str) -> list[bytes]:
        """Return a column's fields as bytes."""
        starts, ends = self.bounds(what)
        data = self.block.data
        return [data[s:e] for s, e in zip(starts.tolist(), ends.tolist(), strict=True)]

    def fault(self, line: int, what: str, remedy: str) -> InputError:
        """Return the error for a line, numbered from 0 without skipped empty lines."""
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
    """Find the fields of the wanted columns, up to the first line with a wrong number of fields.

    Args:
        data: bytes of whole lines. Shape: (n_bytes,)
        delimiter: byte between two fields.
        rows: row of the outputs for each field; -1 for an unwanted field. Shape: (n_fields,)
        starts: filled with the start of each field in ``data``. Shape: (n_columns, n_lines)
        ends: filled with the end of each field in ``data``. Shape: (n_columns, n_lines)
        integers: filled with the value of each field of digits. Shape: (n_columns, n_lines)
        only_integers: set to False for each column with a field that is not an integer as
            `text.parse_integers` accepts it. Shape: (n_columns,)

    Returns:
        The number of lines before the malformed line, or of all lines if there is none.
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
    """Rewrite lines with a one-byte delimiter that no field contains; return both."""
    quoted = delimiter in _QUOTING and b'"' in block.data
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
    """Raise a `BadValue` as InputError with file and line."""
    try:
        yield
    except BadValue as error:
        raise fields.fault(
            error.nth,
            f"{what} {error.what}",
            f"expected {error.expected}: correct the line, or name another column with --{what}",
        ) from error
