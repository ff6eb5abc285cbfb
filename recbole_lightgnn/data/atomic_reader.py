"""Read atomic files without changing any field, for a run and for ``data check``.

RecBole itself reads these files with the defaults of ``pandas.read_csv``, which guess. One field
too many in a line shifts all columns by one. A stray quote swallows the lines up to the next
quote. Ids such as ``NA``, ``null``, ``None`` and ``nan`` become missing values. Here:

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
import math
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_lightgnn.data.atomic_header import AtomicFile, body
from recbole_lightgnn.data.table import with_plain_delimiter
from recbole_lightgnn.data.text import Block
from recbole_lightgnn.data.times import BadValue, parse_times
from recbole_lightgnn.errors import InputError

PADDING = "[PAD]"  # RecBole's token for no user and no item
_PARTS_OF_BOOLEANS = (b"rue", b"RUE", b"alse", b"ALSE")  # pandas reads True and False as 1 and 0
_EXACT: dict[str, Any] = (  # to read floats exactly; pandas 3.1 does so anyway, and would warn
    {"float_precision": "round_trip"}
    if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1)
    else {}
)
_EXACT_IN_FLOAT64 = 2**53  # from this integer on, float64 skips some


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
    for block in body(file):
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
    """Parse the text of one field in the column ``name`` of floats.

    Raises:
        InputError: if the text is not a finite number; the message names the line of ``row``.
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
    """Parse plain numbers in ±``limit``, 5 times as fast as `parse_times`; None if one differs."""
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
