"""Read atomic files without changing any field, for a run and for ``data check``.

RecBole alone reads these files with the defaults of ``pandas.read_csv``, which guess. A line with
one field more than the header shifts all columns by one. A stray quote swallows the lines up to the
next quote. The ids ``NA``, ``null``, ``None`` and ``nan`` become missing values. Here:

- A line is split at every separator. It must have as many fields as the header. Empty lines are
  skipped.
- If the separator is a comma or a semicolon, quotes enclose a field, as in an imported table. With
  any other separator, a quote is a plain character.
- Only an empty field is a missing value. An id cannot be missing.
- A field in a column of floats is a finite number, or empty.

Any other content raises an InputError that names file, line and remedy.
`recbole_lightgnn.data.text` lists the accepted line endings and byte order marks.
"""

import io
import json
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_lightgnn.data.table import with_plain_delimiter
from recbole_lightgnn.data.text import Block, blocks, first_line
from recbole_lightgnn.data.times import BadValue, parse_times
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.text import did_you_mean

TYPES = ("float", "float_seq", "token", "token_seq")
_SEPARATORS = ("\t", ",", ";", "|", " ", "::")
PADDING = "[PAD]"  # RecBole's token for no user and no item
_PARTS_OF_BOOLEANS = (b"rue", b"RUE", b"alse", b"ALSE")  # pandas reads True and False as 1 and 0
_EXACT: dict[str, Any] = (  # to read floats exactly; pandas 3.1 does so anyway, and would warn
    {"float_precision": "round_trip"}
    if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1)
    else {}
)
_EXACT_IN_FLOAT64 = 2**53  # from this integer on, float64 skips some


class AtomicFile(NamedTuple):
    """An atomic file and what its header says.

    Attributes:
        path: the file.
        types: type of each column, such as ``token``, by name of the column; in the order of the
            file.
        separator: text between two fields.
        encoding: encoding of the file's text, such as ``utf-8``.
    """

    path: Path
    types: dict[str, str]
    separator: str = "\t"
    encoding: str = "utf-8"

    def fault(self, row: int, what: str, remedy: str) -> InputError:
        """Return an InputError that names the line of a row.

        Args:
            row: row from 0; the header and empty lines are not counted.
            what: what is wrong in the row.
            remedy: what was expected, and what to do.
        """
        return InputError(f"{self.path}, line {_line_of(self, row)}: {what}; {remedy}")


# --- header ---------------------------------------------------------------------------------


def open_atomic(path: Path, separator: str = "\t", encoding: str | None = None) -> AtomicFile:
    """Read the header of an atomic file, which has ``NAME:TYPE`` for each column.

    Args:
        path: the file.
        separator: text between two fields.
        encoding: encoding of the file's text; None for UTF-8.

    Raises:
        InputError: if the file cannot be read, a column is not ``NAME:TYPE``, or two columns have
            the same name.
    """
    encoding = encoding or "utf-8"
    if not separator:
        raise InputError(
            "field_separator is empty; expected the text between fields, such as a tab"
        )
    header = first_line(path, encoding)
    types: dict[str, str] = {}
    for column in header.split(separator):
        name, _, kind = column.partition(":")
        if not name or kind not in TYPES:
            near = _other_separator(header) or (did_you_mean(kind, TYPES) if name else "")
            raise InputError(
                f"{path}, line 1: expected columns NAME:TYPE with TYPE one of {', '.join(TYPES)}, "
                f"separated by {separator!r}, got {column!r}{near}"
            )
        if name in types:
            raise InputError(
                f"{path}, line 1: two columns are named {name!r}; expected different names: rename "
                "or remove one of them"
            )
        types[name] = kind
    return AtomicFile(path, types, separator, encoding)


def _other_separator(header: str) -> str:
    """Suggest a different separator that splits the header into valid columns.

    Returns:
        The suggestion as the end of a message; empty if no separator fits.
    """
    for separator in _SEPARATORS:
        kinds = [column.partition(":")[2] for column in header.split(separator)]
        if len(kinds) > 1 and all(kind in TYPES for kind in kinds):
            flag = f"--field_separator='{json.dumps(separator)}'"
            return (
                f" (the columns are separated by {separator!r}: set field_separator to it, {flag})"
            )
    return ""


def check_columns(file: AtomicFile, columns: Collection[str], needed: Collection[str]) -> None:
    """Check that all columns of a file that a run needs are loaded.

    Args:
        file: the file.
        columns: names of the file's columns that are loaded.
        needed: names of the columns that must be loaded.

    Raises:
        InputError: if a needed column is not loaded.
    """
    for name in needed:
        if name not in columns:
            why = "is not loaded" if name in file.types else "is not in the file"
            remedy = "add it to load_col" if name in file.types else "correct the header"
            raise InputError(
                f"{file.path}, line 1: column {name!r} {why}; expected it beside "
                f"{', '.join(map(repr, columns))}: {remedy}, or the setting that names it"
            )


def check_ids(file: AtomicFile, ids: Collection[str]) -> None:
    """Check that the id columns of a file have the type ``token``.

    Args:
        file: the file.
        ids: names of columns with ids; the file may lack some of these columns.

    Raises:
        InputError: if an id column has a type other than ``token``.
    """
    for name in ids:
        if file.types.get(name, "token") != "token":
            raise InputError(
                f"{file.path}, line 1: expected {name}:token, got {name}:{file.types[name]}; an id "
                "is one token: correct the header"
            )


def check_new_columns(
    file: AtomicFile,
    columns: Collection[str],
    kind: str,
    known: Mapping[str, tuple[str, str]],
    ids: Mapping[str, str],
) -> None:
    """Check that a file's columns do not conflict with columns of the dataset's earlier files.

    RecBole keeps one column per name: a second column would silently replace the first. RecBole
    concatenates the interaction files, so all interaction files must have the same columns.

    Args:
        file: the file.
        columns: names of the file's columns that are loaded.
        kind: kind of the file, such as ``inter`` or ``user``.
        known: by name of a column in the earlier files, the kind of its file and its type.
        ids: name of the id column by kind of file. Files of the kind ``inter`` may have the same
            columns.

    Raises:
        InputError: if a column conflicts, or interaction files have different columns.
    """
    for name in columns:
        here = file.types[name]
        other, type_there = known.get(name, (kind, here))
        if other != kind and not (name == ids.get(kind) and other == "inter"):
            raise InputError(
                f"{file.path}, line 1: the .{other} file has a column {name!r}, too; expected "
                "different names, because RecBole would mix the two: rename one of them"
            )
        if type_there != here:
            raise InputError(
                f"{file.path}, line 1: {name}:{here} here, but {name}:{type_there} in the .{other} "
                "file read before; expected the same type in each: correct the header"
            )
    before = {name for name, (other, _) in known.items() if other == kind}
    if kind == "inter" and before and (odd := before.symmetric_difference(columns)):
        is_here = "is" if min(odd) in columns else "is not"
        raise InputError(
            f"{file.path}, line 1: column {min(odd)!r} {is_here} in this file, unlike in the "
            ".inter file read before; expected the same columns in each: add or remove it"
        )


# --- columns --------------------------------------------------------------------------------


def read_columns(
    file: AtomicFile,
    columns: Collection[str],
    required: Collection[str] = (),
    text: Collection[str] = (),
) -> pd.DataFrame:
    """Read some columns of an atomic file.

    Args:
        file: the file (`open_atomic`).
        columns: names of the columns to read.
        required: names of the id columns, which must not have missing values.
        text: names of columns to return as text, whatever type the header gives.

    Returns:
        A table with one row for each line. Tokens and sequences are text, floats are float64, and
        missing values are NaN.

    Raises:
        InputError: if the file cannot be read or has no rows, a line has more or fewer fields than
            the header, a float is not a finite number, or an id is empty or is the token `PADDING`.
    """
    names = [name for name in file.types if name in columns]
    floats = [name for name in names if file.types[name] == "float" and name not in text]
    parts: list[pd.DataFrame] = []
    n_rows = 0
    for block in _body(file):
        parts.append(_frame(file, names, floats, block, n_rows))
        n_rows += len(parts[-1])
    if not parts:
        raise InputError(
            f"{file.path} has no lines below its header; expected at least one: check that it is "
            "the right file, or remove it"
        )
    frame = pd.concat(parts, ignore_index=True)
    for name in required:
        if name in names:
            _check_tokens(file, name, frame[name])
    return frame


def _body(file: AtomicFile) -> Iterator[Block]:
    """Yield the lines of a file below its header, in blocks."""
    for nth, block in enumerate(blocks(file.path, file.encoding)):
        if nth == 0:
            block = Block(file.path, block.data[block.data.index(b"\n") + 1 :], 2)
        if block.data:
            yield block


def _frame(
    file: AtomicFile, names: list[str], floats: list[str], block: Block, first_row: int
) -> pd.DataFrame:
    """Parse the lines of a block into a table.

    Args:
        file: the file.
        names: names of the columns to read.
        floats: names of the columns to parse as floats.
        block: lines below the header.
        first_row: row, from 0, of the block's first line that is not empty.
    """
    block, separator = with_plain_delimiter(block, file.separator)
    lines = _without_empty_lines(file, block, separator)
    try:
        frame = _parse(file, names, lines, separator, floats)
        clean = np.isfinite(frame[floats].to_numpy(np.float64)).all()
    except ValueError:  # a float that pandas cannot read
        clean = False
    if not clean or (floats and any(word in lines for word in _PARTS_OF_BOOLEANS)):
        frame = _parse(file, names, lines, separator, [])
        for name in floats:
            frame[name] = _numbers(file, name, frame[name], first_row)
    return frame


def _without_empty_lines(file: AtomicFile, block: Block, separator: str) -> bytes:
    data = np.frombuffer(block.data, np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    separators = np.flatnonzero(data == ord(separator))
    found = np.diff(np.searchsorted(separators, ends), prepend=0) + 1
    empty = np.diff(ends, prepend=-1) == 1
    wrong = np.flatnonzero((found != len(file.types)) & ~empty)
    if len(wrong):
        at_end = " (the last is empty)" if data[ends[wrong[0]] - 1] == ord(separator) else ""
        raise block.fault(
            int(ends[wrong[0]]),
            f"{found[wrong[0]]} fields{at_end} where line 1 has {len(file.types)}",
            f"expected fields separated by {file.separator!r}: correct the line",
        )
    if not empty.any():
        return block.data
    return b"".join(line + b"\n" for line in block.data.split(b"\n") if line)


def _parse(
    file: AtomicFile, names: list[str], lines: bytes, separator: str, floats: list[str]
) -> pd.DataFrame:
    return pd.read_csv(
        io.BytesIO(lines),
        sep=separator,
        header=None,
        names=list(file.types),
        usecols=names,
        index_col=False,
        dtype={name: np.float64 if name in floats else str for name in names},
        na_values=[""],
        keep_default_na=False,
        skip_blank_lines=False,
        quoting=3,  # csv.QUOTE_NONE
        **_EXACT,
        low_memory=False,
    )


def _numbers(file: AtomicFile, name: str, texts: pd.Series, first_row: int) -> NDArray[np.float64]:
    """Parse the texts of a column of floats one by one; missing texts become NaN."""
    numbers = np.full(len(texts), np.nan)
    for nth in np.flatnonzero(texts.notna()):
        numbers[nth] = parse_number(file, name, texts.iloc[nth], first_row + int(nth))
    return numbers


def parse_number(file: AtomicFile, name: str, text: str, row: int) -> float:
    """Parse the text of one field in a column of floats.

    Args:
        file: the file.
        name: name of the column.
        text: the number as text.
        row: row of the field, from 0, for the error message.

    Raises:
        InputError: if the text is not a finite number.
    """
    try:
        number = math.nan if "_" in text else float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise file.fault(
            row,
            f"{name} {text[:40]!a} is not a finite number",
            f"expected a number, as {name}:{file.types[name]} says: correct the line, or leave the "
            "field empty if the value is missing",
        )
    return number


def read_times(file: AtomicFile, name: str, texts: pd.Series) -> NDArray[Any]:
    """Parse a column of times (`times.parse_times`); missing times become NaN.

    Returns:
        The times as float64; as int64 if float64 would round and none is missing. Shape: (n_rows,)

    Raises:
        InputError: if a time is malformed.
    """
    there = np.flatnonzero(texts.notna())
    tokens = texts.to_numpy(object)[there]
    try:
        times = _numbers_below(_EXACT_IN_FLOAT64, tokens)
        if times is None:
            times = parse_times([text.encode() for text in tokens])
    except BadValue as error:
        remedy = (
            f"expected {error.expected}: correct the line, or name another column by TIME_FIELD"
        )
        raise file.fault(int(there[error.nth]), f"{name} {error.what}", remedy) from error
    if times.dtype == np.int64 and np.abs(times).max(initial=0) < _EXACT_IN_FLOAT64:
        times = times.astype(np.float64)
    if len(there) == len(texts):
        return times
    filled = np.full(len(texts), np.nan)
    filled[there] = times
    return filled


def _numbers_below(limit: int, tokens: NDArray[Any]) -> NDArray[np.float64] | None:
    """Parse times that are plain numbers, five times as fast as `parse_times`.

    Returns:
        The numbers; None if a token is not a number, or a number is not between ``-limit`` and
        ``limit``.
    """
    try:
        numbers = tokens.astype(np.float64)
    except ValueError:
        return None
    is_plain = np.isfinite(numbers).all() and np.abs(numbers).max(initial=0) < limit
    return numbers if is_plain and not any("_" in token for token in tokens) else None


def split_sequences(
    file: AtomicFile, name: str, texts: pd.Series, separator: str = " "
) -> list[NDArray[Any]]:
    """Split a column of sequences into one array per row; a missing value gives an empty array.

    Raises:
        InputError: if the column's sequences are of floats, and an element is not a finite number.
    """
    rows = ([text for text in row.split(separator) if text] for row in texts.fillna(""))
    if file.types[name] == "token_seq":
        return [np.array(row) for row in rows]
    return [
        np.array([parse_number(file, name, text, nth) for text in row])
        for nth, row in enumerate(rows)
    ]


def _check_tokens(file: AtomicFile, name: str, tokens: pd.Series) -> None:
    for bad, what in ((tokens.isna(), "is empty"), (tokens == PADDING, f"is {PADDING}")):
        if bad.any():
            raise file.fault(
                int(np.flatnonzero(bad)[0]),
                f"{name} {what}",
                f"expected an id ({PADDING} is RecBole's padding): correct or remove the line",
            )


def _line_of(file: AtomicFile, row: int) -> int:
    """Find the line number of a row by reading the file again.

    Row 0 is the first line below the header that is not empty.
    """
    for block in _body(file):
        for nth, line in enumerate(block.data.split(b"\n")[:-1]):
            if line:
                row -= 1
            if row < 0:
                return block.line + nth
    raise IndexError(row)
