"""Detect the layout of delimited text with one interaction per line: delimiter, header, columns."""

import contextlib
import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from recbole_lightgnn.data.matrix import one_line
from recbole_lightgnn.data.text import blocks
from recbole_lightgnn.data.times import is_date
from recbole_lightgnn.errors import InputError
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
QUOTING = ",;"  # with these delimiters, "..." is one field; with others, " is a plain character
_RECBOLE_TYPE = re.compile(r":(token|float)(_seq)?$")
_HEAD = 20  # number of lines from which the layout is detected

KNOWN_COLUMNS = {  # usual names of columns: lower case, without _ and - and RecBole's type
    "user": "user userid uid u reviewerid customerid visitorid",
    "item": "item itemid iid i movieid asin businessid productid bookid artistid locationid",
    "rating": "rating ratings stars score overall",
    "time": "timestamp time date unixreviewtime ts",
}
_DEFAULT_POSITION = {"user": 0, "item": 1, "rating": 2, "time": 3}  # in a table without header


class Layout(NamedTuple):
    """Layout of a delimited text file.

    Attributes:
        delimiter: text between two fields.
        header: whether the first line has the names of the columns.
        n_fields: number of fields in each line.
        columns: position, from 0, of each column that is read, by its meaning (``user``, ``item``,
            ``rating``, ``time``).
        dated: whether the times in the file are dates and not numbers.
        typed: whether the header has the type of each column, as in an atomic file. Then empty
            lines are skipped, as in a run.
    """

    delimiter: str
    header: bool
    n_fields: int
    columns: dict[str, int]
    dated: bool = False
    typed: bool = False


def detect_layout(
    path: Path, wanted: Mapping[str, str | None], delimiter: str | None, header: bool | None
) -> Layout:
    """Determine the layout of a text file from the user's choices and the file's first lines.

    Args:
        path: the text file.
        wanted: for each column to read, its name or its position from 1; None to detect it.
        delimiter: text between two fields; None to detect it.
        header: whether the first line has the names of the columns; None to detect it.

    Raises:
        InputError: if the file is empty, a column is missing, or no delimiter fits the first lines.
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
    for delimiter in DELIMITERS:  # a header with types is enough
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
    """Split a line at a delimiter, but not at a comma or semicolon in a quoted field."""
    if delimiter in QUOTING and '"' in line:
        with contextlib.suppress(csv.Error):  # the error is reported when the line is read
            return next(csv.reader([line], delimiter=delimiter))
    return line.split(delimiter)


def _has_header(rows: list[list[str]], wanted: Mapping[str, str | None]) -> bool:
    """Whether the first row is a header: types, known names, or a text with only numbers below."""
    first = {_plain(field) for field in rows[0]}
    known = {name for names in KNOWN_COLUMNS.values() for name in names.split() if len(name) > 2}
    named = {_plain(name) for name in wanted.values() if name is not None and not name.isdigit()}
    if first & (known | named) or has_types(rows[0]):
        return True
    columns = zip(*rows, strict=False) if len(rows) > 1 else ()
    return any(not _is_number(name) and all(map(_is_number, below)) for name, *below in columns)


def has_types(header: list[str]) -> bool:
    """Whether all columns of a header have a type, as in ``user_id:token``."""
    return all(_RECBOLE_TYPE.search(name.strip()) for name in header)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plain(name: str) -> str:
    """Convert a column's name to the spelling in `KNOWN_COLUMNS`, such as ``userid``."""
    return re.sub(r"[\s_-]", "", _RECBOLE_TYPE.sub("", name.strip())).lower()


def find_columns(
    where: str, header: list[str] | None, n_fields: int, wanted: Mapping[str, str | None]
) -> dict[str, int]:
    """Find the position, from 0, of each column to read.

    Args:
        where: file and line of the header, for error messages.
        header: names of all columns; None if the table has no header.
        n_fields: number of columns.
        wanted: for each column to read, its name or its position from 1; None to detect it.

    Raises:
        InputError: if a column is missing, two columns have the name of a column to read, one
            column would be read with two meanings, or the column of users or of items has a type
            other than ``token``.
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
