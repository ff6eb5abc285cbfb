"""Delimited text, a line an interaction: which column is what, and the columns block by block."""

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

from recbole_lightgnn.data.names import BadName, Names
from recbole_lightgnn.data.prefetch import ahead
from recbole_lightgnn.data.text import MAX_DIGITS, Block, blocks, floats, shown
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.jit import compiled
from recbole_lightgnn.utils.text import did_you_mean

DELIMITERS = ("::", "\t", ",", ";", "|", " ")  # the earlier ones first
_SPELT = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "space": " ", "pipe": "|"}
_QUOTING = ",;"  # where "..." is one field; elsewhere " is a character like others
_UNIT = "\x1f"  # what delimiters of two bytes, and those beside quotes, become
_DATE = re.compile(rb"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?)?Z?")
_LONG = re.compile(rb"\d{1,18}|[1-8]\d{18}")  # below 2^63
_RECBOLE_TYPE = re.compile(r":(token|float)(_seq)?$")
_HEAD = 20  # lines looked at
_LINE_END, _ZERO = b"\n0"

KNOWN = {  # names of columns, in small letters and without _ - and type
    "user": "user userid uid u reviewerid customerid visitorid",
    "item": "item itemid iid i movieid asin businessid productid bookid artistid locationid",
    "rating": "rating ratings stars score overall",
    "time": "timestamp time date unixreviewtime ts",
}


class Layout(NamedTuple):
    """How a text is laid out."""

    delimiter: str
    header: bool
    n_fields: int
    columns: dict[str, int]  # user, item, rating, time -> position from 0
    dated: bool = False  # whether times are dates, not numbers


class Rows(NamedTuple):
    """Some interactions; rating and time where they are asked for. Shape of each: (n,)"""

    user: NDArray[np.int64]  # as `Names` numbers them
    item: NDArray[np.int64]
    rating: NDArray[Any] | None = None
    time: NDArray[Any] | None = None


# --- layout ---------------------------------------------------------------------------------


def layout_of(
    path: Path, wanted: Mapping[str, str | None], delimiter: str | None, header: bool | None
) -> Layout:
    """Recognize what the user did not say.

    Args:
        wanted: the columns to read, each with its name or position from 1, or none.
        delimiter: or none.
        header: whether the first line names the columns, or none.

    Raises:
        InputError: if the file is empty, or something is not there or not clear.
    """
    block = next(blocks(path), None)
    if block is None:
        raise InputError(f"{path} holds no interaction; expected a line each: check the file")
    lines = block.data.decode().split("\n", _HEAD)[:-1]
    delimiter = _delimiter(path, lines) if delimiter is None else _spelt(delimiter)
    rows = [_fields(line, delimiter) for line in lines]
    first = rows[0]
    if header is None:
        header = _names_columns(rows, wanted)
    columns = find_columns(f"{path}, line 1", first if header else None, len(first), wanted)
    dated = False
    if "time" in columns and len(rows) > header:
        time = rows[header][columns["time"] :][:1]  # none in a line too short, refused when read
        dated = any(_DATE.fullmatch(text.encode()) for text in time)
    return Layout(delimiter, header, len(first), columns, dated)


def _spelt(delimiter: str) -> str:
    delimiter = _SPELT.get(delimiter, delimiter)
    if (delimiter != "::" and not re.fullmatch(r"[\t -~]", delimiter)) or delimiter in '"\\':
        raise InputError(
            f"--delimiter {delimiter!r} cannot be used; expected one ASCII character, ::, or one "
            f"of {', '.join(_SPELT)}"
        )
    return delimiter


def _delimiter(path: Path, lines: list[str]) -> str:
    for delimiter in DELIMITERS:
        if (
            len(counts := {len(_fields(line, delimiter)) for line in lines}) == 1
            and max(counts) > 1
        ):
            return delimiter
    raise InputError(
        f"{path}, line 1: no delimiter parts the first lines into equally many fields (tried "
        f"{' '.join(map(repr, DELIMITERS))}); expected a table: give --delimiter, or mend the file"
    )


def _fields(line: str, delimiter: str) -> list[str]:
    if delimiter in _QUOTING and '"' in line:
        with contextlib.suppress(csv.Error):  # reading the line will say what is wrong with it
            return next(csv.reader([line], delimiter=delimiter))
    return line.split(delimiter)


def _names_columns(rows: list[list[str]], wanted: Mapping[str, str | None]) -> bool:
    """Whether the first line holds names: known ones, those asked for, or no numbers above some."""
    first = {_plain(field) for field in rows[0]}
    known = {name for names in KNOWN.values() for name in names.split() if len(name) > 2}
    asked = {_plain(name) for name in wanted.values() if name is not None and not name.isdigit()}
    if first & (known | asked):
        return True
    columns = zip(*rows, strict=False) if len(rows) > 1 else ()
    return any(not _is_number(name) and all(map(_is_number, below)) for name, *below in columns)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", _RECBOLE_TYPE.sub("", name.strip())).lower()


def find_columns(
    where: str, header: list[str] | None, n_fields: int, wanted: Mapping[str, str | None]
) -> dict[str, int]:
    """Positions from 0 of the columns that are wanted.

    Args:
        where: names the place in errors.
        header: the names of all columns; none where they have no names.
        n_fields: how many there are.
        wanted: user, item, ... -> name or position from 1 as the user gave it, or none.

    Raises:
        InputError: if one is not there or two are the same.
    """
    found: dict[str, int] = {}
    names = [] if header is None else [" ".join(name.split()) for name in header]
    plain = [_plain(name) for name in names]
    for position, (what, asked) in enumerate(wanted.items()):
        given = None if asked is None else " ".join(asked.split())
        if given is not None and given in names:
            found[what] = names.index(given)
        elif given is not None and _plain(given) in plain and not given.isdigit():
            found[what] = plain.index(_plain(given))
        elif given is not None and given.isdigit() and 1 <= int(given) <= n_fields:
            found[what] = int(given) - 1
        elif given is None and (known := [k for k in KNOWN[what].split() if k in plain]):
            found[what] = plain.index(known[0])
        elif given is None and header is None and _DEFAULT[what] < n_fields:
            found[what] = _DEFAULT[what]
        else:
            near = did_you_mean(given, names) if given and names else ""
            raise InputError(
                f"{where}: no column {given or what!r}{near}; it has {n_fields} columns"
                f"{': ' + ', '.join(names)[:200] if names else ''}: name it with --{what} (a name, "
                "or a position from 1)"
            )
        for other in list(found)[:position]:
            if found[other] == found[what]:
                raise InputError(
                    f"{where}: {other} and {what} are both column {found[what] + 1}; name them "
                    f"with --{other} and --{what}"
                )
    return found


_DEFAULT = {"user": 0, "item": 1, "rating": 2, "time": 3}


# --- columns --------------------------------------------------------------------------------


def text_rows(path: Path, layout: Layout, names: Mapping[str, Names]) -> Iterator[Rows]:
    """The interactions of a text, block by block.

    Args:
        names: numbers of users and of items; filled.

    Raises:
        InputError: if a line has other fields than the first, or one that cannot be read.
    """
    for fields in ahead(functools.partial(_Fields, layout), _body(path, layout)):
        yield Rows(**{what: _column(fields, names, what) for what in layout.columns})


def _column(fields: "_Fields", names: Mapping[str, Names], what: str) -> NDArray[Any]:
    if (values := fields.integers(what)) is not None and not (what == "time" and fields.dated):
        return values
    if what in names:
        return _ids(fields, what, names[what])
    return _dates(fields, what) if what == "time" and fields.dated else _numbers(fields, what)


def _body(path: Path, layout: Layout) -> Iterator[Block]:
    """The lines below the header."""
    for nth, block in enumerate(blocks(path)):
        if nth == 0 and layout.header:
            block = Block(path, block.data[block.data.index(b"\n") + 1 :], 2)
        if block.data:
            yield block


class _Fields:
    """Where the fields of a block are, and what numbers they hold.

    Raises:
        InputError: if a line has more or fewer fields than it should.
    """

    def __init__(self, layout: Layout, block: Block) -> None:
        self.block, delimiter = _undelimited(block, layout.delimiter)
        self.dated = layout.dated
        self.data = np.frombuffer(self.block.data, np.uint8)
        self._row = {what: row for row, what in enumerate(layout.columns)}
        rows = np.full(layout.n_fields, -1)
        rows[list(layout.columns.values())] = np.arange(len(layout.columns))
        n_lines = np.count_nonzero(self.data == _LINE_END)
        shape = (len(self._row), n_lines)
        self._starts, self._ends = np.empty((2, *shape), np.int64)
        self._integers = np.empty(shape, np.int64)  # apart: only this outlives the block
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
                f"expected fields parted by {layout.delimiter!r}: mend the line, or give another "
                "--delimiter",
            )

    def integers(self, what: str) -> NDArray[np.int64] | None:
        """A column's numbers as `text.integers` takes them, if it holds nothing else."""
        row = self._row[what]
        return self._integers[row] if self._only_integers[row] else None

    def places(self, what: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where a column's fields begin, and just behind their ends. Shape of each: (lines,)"""
        row = self._row[what]
        return self._starts[row], self._ends[row]

    def tokens(self, what: str) -> list[bytes]:
        starts, ends = self.places(what)
        data = self.block.data
        return [data[s:e] for s, e in zip(starts.tolist(), ends.tolist(), strict=True)]

    def fault(self, line: int, what: str, remedy: str) -> InputError:
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
    """Find the fields of some columns, up to the first bad line; how many lines came before.

    Args:
        data: bytes of lines, each with its end.
        delimiter: of fields.
        rows: a field of a line -> its row below, or -1. Shape: (fields,)
        starts, ends, integers: filled. Shape of each: (columns, lines)
        only_integers: made false where a field is no integer. Shape: (columns,)
    """
    line = field = start = number = 0
    only_digits = True
    for place in range(len(data)):
        byte = data[place]
        if byte != delimiter and byte != _LINE_END:
            digit = np.int64(byte) - _ZERO
            only_digits &= 0 <= digit <= 9
            number = 10 * number + digit
            continue
        if field < len(rows) and rows[field] >= 0:
            row, length = rows[field], place - start
            starts[row, line], ends[row, line], integers[row, line] = start, place, number
            if not (only_digits and 0 < length <= MAX_DIGITS) or (
                data[start] == _ZERO and length > 1
            ):
                only_integers[row] = False
        field, start, number, only_digits = field + 1, place + 1, 0, True
        if byte == _LINE_END:
            if field != len(rows):
                break
            line, field = line + 1, 0
    return line


def _undelimited(block: Block, delimiter: str) -> tuple[Block, str]:
    """The same fields, parted by one byte that none of them holds; and that byte."""
    quoted = delimiter in _QUOTING and b'"' in block.data
    if not quoted and len(delimiter) == 1:
        return block, delimiter
    if _UNIT.encode() in block.data:
        raise block.fault(
            block.data.index(_UNIT.encode()), "a control character", "expected text: mend the line"
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
                raise csv.Error("a quoted field goes on in the next line")
            lines.append(_UNIT.join(fields))
    except csv.Error as error:
        raise InputError(
            f"{block.path}, line {block.line + len(lines)}: {error}; expected quotes that end on "
            "their line: mend it, or give another --delimiter"
        ) from error
    return block._replace(data="\n".join([*lines, ""]).encode()), _UNIT


def _ids(fields: _Fields, what: str, names: Names) -> NDArray[np.int64]:
    try:
        return names.numbers(fields.data, *fields.places(what))
    except BadName as error:
        raise fields.fault(
            error.nth, f"{what} {shown(error.name)} {error}", f"expected a {what}: mend the line"
        ) from error


def _numbers(fields: _Fields, what: str) -> NDArray[Any]:
    if (values := floats(fields.data, *fields.places(what))) is not None:
        return values
    tokens = fields.tokens(what)
    if all(map(_LONG.fullmatch, tokens)):  # nanoseconds since 1970: more digits than a float has
        return np.array([int(token) for token in tokens], np.int64)
    for line, token in enumerate(tokens):
        if not _is_finite(token):
            other = ", or dates like 2014-12-31T23:59:59 from the first line on"
            raise fields.fault(
                line,
                f"{what} {shown(token)} is no finite number",
                f"expected a number{other if what == 'time' else ''}: mend the line, or name "
                f"another column with --{what}",
            )
    return np.fromiter(map(float, tokens), np.float64, len(tokens))


def _dates(fields: _Fields, what: str) -> NDArray[np.int64]:
    """Microseconds since 1970 of dates in one zone, named (Z) or not: only their order counts."""
    tokens = fields.tokens(what)
    try:
        if all(map(_DATE.fullmatch, tokens)):
            return np.array([token.rstrip(b"Z") for token in tokens], "M8[us]").astype(np.int64)
    except ValueError:
        pass
    for line, token in enumerate(tokens):
        if not _is_date(token):
            raise fields.fault(
                line,
                f"{what} {shown(token)} is no date",
                "expected one like 2014-12-31 or 2014-12-31T23:59:59, as the first line has: mend "
                f"the line, or name another column with --{what}",
            )
    raise AssertionError("every date was one")


def _is_date(token: bytes) -> bool:
    try:
        np.array([token.rstrip(b"Z")], "M8[us]")
    except ValueError:
        return False
    return _DATE.fullmatch(token) is not None


def _is_finite(token: bytes) -> bool:
    try:
        return b"_" not in token and bool(np.isfinite(float(token)))
    except ValueError:
        return False
