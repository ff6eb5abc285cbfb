"""Parse times exactly: integers as int64, other numbers as float64, dates as microseconds."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.data.text import quote_token

_DATE = re.compile(rb"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?)?Z?")
_INTEGER = re.compile(rb"-?(\d{1,18}|[1-8]\d{18})")  # between -2^63 and 2^63


class BadValue(ValueError):
    """Error for a token that is not a number or date as the token's column requires.

    Attributes:
        nth: position of the token in the column, from 0.
        what: what is wrong with the token, such as ``'x' is not a date``.
        expected: what the column requires, such as ``a number``.
    """

    def __init__(self, nth: int, what: str, expected: str) -> None:
        super().__init__(f"{what}; expected {expected}")
        self.nth, self.what, self.expected = nth, what, expected


def is_date(token: bytes) -> bool:
    """Tell whether a token is written as a date, such as ``2014-12-31`` or ``2014-12-31T23:59``."""
    return _DATE.fullmatch(token) is not None


def parse_times(tokens: Sequence[bytes]) -> NDArray[Any]:
    """Parse a column of times: as dates if the first token is a date, else as numbers.

    Raises:
        BadValue: if a token is neither a date nor a number, or the column mixes dates and numbers.
    """
    if len(tokens) and is_date(tokens[0]):
        return parse_dates(tokens)
    return parse_numbers(tokens, or_dates=True)


def parse_dates(tokens: Sequence[bytes]) -> NDArray[np.int64]:
    """Parse dates as microseconds since 1970; all dates are assumed to be in one time zone.

    Raises:
        BadValue: if a token is not a date.
    """
    try:
        if all(map(is_date, tokens)):
            return _microseconds(tokens)
    except ValueError:
        pass
    raise _first_bad(
        tokens,
        _is_real_date,
        "is not a date",
        "one like 2014-12-31 or 2014-12-31T23:59:59, as in the first line",
    )


def parse_numbers(tokens: Sequence[bytes], or_dates: bool = False) -> NDArray[Any]:
    """Parse numbers: as int64 if all are integers, such as nanoseconds since 1970, else float64.

    Raises BadValue for any other token. With ``or_dates``, the error message also mentions dates.
    """
    if all(map(_INTEGER.fullmatch, tokens)):
        return np.array([int(token) for token in tokens], np.int64)
    if all(map(_is_finite, tokens)):
        return np.fromiter(map(float, tokens), np.float64, len(tokens))
    other = ", or dates like 2014-12-31T23:59:59 from the first line on" if or_dates else ""
    raise _first_bad(tokens, _is_finite, "is not a finite number", f"a number{other}")


def _first_bad(
    tokens: Sequence[bytes], good: Callable[[bytes], bool], what: str, expected: str
) -> BadValue:
    nth = next(nth for nth, token in enumerate(tokens) if not good(token))
    return BadValue(nth, f"{quote_token(tokens[nth])} {what}", expected)


def _microseconds(tokens: Sequence[bytes]) -> NDArray[np.int64]:
    return np.array([token.rstrip(b"Z") for token in tokens], "M8[us]").astype(np.int64)


def _is_real_date(token: bytes) -> bool:
    try:
        return is_date(token) and len(_microseconds([token])) == 1
    except ValueError:  # such as 2014-02-30
        return False


def _is_finite(token: bytes) -> bool:
    try:
        return b"_" not in token and bool(np.isfinite(float(token)))
    except ValueError:
        return False
