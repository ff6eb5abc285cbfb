"""Delimited text, a line an interaction: which column is what, and the columns block by block."""

import contextlib
import csv
import functools
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.data.names import BadName, Names
from recbole_lightgnn.data.text import Block, blocks, integers
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.settings import did_you_mean

DELIMITERS = ("::", "\t", ",", ";", "|", " ")  # the earlier ones first
_SPELT = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "space": " ", "pipe": "|"}
_QUOTING = ",;"  # where "..." is one field; elsewhere " is a character like others
_UNIT = "\x1f"  # what delimiters of two bytes, and those beside quotes, become
_HEAD = 20  # lines looked at

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


class Rows(NamedTuple):
    """Some interactions; rating and time where they are asked for. Shape of each: (n,)"""

    user: NDArray[np.int64]  # as `Names` numbers them
    item: NDArray[np.int64]
    rating: NDArray[np.float64] | None = None
    time: NDArray[np.float64] | None = None


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
    return Layout(delimiter, header, len(first), columns)


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
    return re.sub(r"[\s_-]", "", name.partition(":")[0]).lower()


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
    for position, (what, given) in enumerate(wanted.items()):
        names = [] if header is None else [name.strip() for name in header]
        plain = [_plain(name) for name in names]
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
    for nth, block in enumerate(blocks(path)):
        if nth == 0 and layout.header:
            end = block.data.index(b"\n") + 1
            block = Block(path, block.data[end:], 2)
            if not block.data:
                continue
        yield _rows(_Fields(block, layout), layout, names)


def _rows(fields: "_Fields", layout: Layout, names: Mapping[str, Names]) -> Rows:
    columns = {}
    for what, column in layout.columns.items():
        values = fields.integers(column)
        if values is None and what in names:
            values = _ids(fields, column, what, names[what])
        elif values is None:
            values = _numbers(fields, column, what)
        columns[what] = values
    return Rows(**columns)


class _Fields:
    """The fields of a block: each line has as many as it should."""

    def __init__(self, block: Block, layout: Layout) -> None:
        self.block, delimiter = _undelimited(block, layout.delimiter)
        self.delimiter = delimiter.encode()
        self.n = layout.n_fields
        self.data = np.frombuffer(self.block.data, np.uint8)
        ends = np.flatnonzero((self.data == ord(delimiter)) | (self.data == ord("\n")))
        lines = np.flatnonzero(self.data[ends] == ord("\n"))
        if len(ends) != self.n * len(lines) or (np.diff(lines, prepend=-1) != self.n).any():
            line = int(np.flatnonzero(np.diff(lines, prepend=-1) != self.n)[0])
            raise self.fault(
                line,
                f"{lines[line] - (lines[line - 1] if line else -1)} fields where line 1 has "
                f"{self.n}",
                f"expected fields parted by {layout.delimiter!r}: mend the line, or give another "
                "--delimiter",
            )
        self.ends = ends.reshape(-1, self.n)  # (lines, n)

    def integers(self, column: int) -> NDArray[np.int64] | None:
        ends = self.ends[:, column]
        if column:
            starts = self.ends[:, column - 1] + 1
        else:
            starts = np.concatenate([[0], self.ends[:-1, -1] + 1])
        return integers(self.data, starts, ends)

    def tokens(self, column: int) -> list[bytes]:
        return self._all[column :: self.n]

    @functools.cached_property
    def _all(self) -> list[bytes]:
        return self.block.data[:-1].replace(b"\n", self.delimiter).split(self.delimiter)

    def fault(self, line: int, what: str, remedy: str) -> InputError:
        return InputError(f"{self.block.path}, line {self.block.line + line}: {what}; {remedy}")


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


def _ids(fields: _Fields, column: int, what: str, names: Names) -> NDArray[np.int64]:
    tokens = fields.tokens(column)
    try:
        return np.fromiter(map(names.__getitem__, tokens), np.int64, len(tokens))
    except BadName as error:
        line = tokens.index(error.name)
        raise fields.fault(
            line, f"{what} {shown(error.name)} {error}", f"expected a {what}: mend the line"
        ) from error


def _numbers(fields: _Fields, column: int, what: str) -> NDArray[np.float64]:
    tokens = fields.tokens(column)
    if b"_" not in fields.block.data:  # Python reads 1_000, others do not
        with contextlib.suppress(ValueError):
            values = np.fromiter(map(float, tokens), np.float64, len(tokens))
            if np.isfinite(values).all():
                return values
    for line, token in enumerate(tokens):
        if not _is_finite(token):
            raise fields.fault(
                line,
                f"{what} {shown(token)} is no finite number",
                f"expected a number: mend the line, or name another column with --{what}",
            )
    return np.fromiter(map(float, tokens), np.float64, len(tokens))


def _is_finite(token: bytes) -> bool:
    try:
        return b"_" not in token and bool(np.isfinite(float(token)))
    except ValueError:
        return False


def shown(token: bytes) -> str:
    """The start of a foreign token, for an error."""
    text = token[:40].decode(errors="replace")
    return ascii(text) if len(token) <= 40 else f"{text!a}..."
