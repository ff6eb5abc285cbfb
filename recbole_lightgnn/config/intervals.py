"""Check settings that are intervals such as ``[5,inf)``, or mappings from columns to intervals.

Each ``check_`` function raises an InputError of one line, which names the setting ``key``.
"""

import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

from recbole_lightgnn.errors import InputError

_INTERVAL = re.compile(r"[\[(]\s*([^\s,;\[\]()]+)\s*,\s*([^\s,;\[\]()]+)\s*[\])]")
# A sign stands before a number, not between two: 5-20 is 5 to 20.
_NUMBER = re.compile(r"(?:(?<![\d.])[-+])?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?", re.IGNORECASE)


def interval_problem(text: str, *, dates: bool = False) -> str:
    """Describe the fault in a text of intervals such as ``[0,1);(3,4]``; empty if it has no fault.

    Args:
        text: intervals, separated by semicolons. A square bracket includes the end of the interval;
            a round bracket excludes the end.
        dates: whether an end may be a date such as ``2014-12-31``.
    """
    for part in text.split(";"):
        match = _INTERVAL.fullmatch(part.strip())
        ends = [_number(end, dates=dates) for end in match.groups()] if match else []
        if match is None or any(math.isnan(end) for end in ends):
            return "is no interval"
        low, high = ends
        closed = part.strip()[0] == "[" and part.strip()[-1] == "]"
        if low > high or (low == high and not closed):
            return f"holds no number ({part.strip()})"
    return ""


def _number(text: str, *, dates: bool) -> float:
    """Convert an end of an interval to a number; a date to seconds; NaN if it is neither."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text.rstrip("Z")).timestamp() if dates else math.nan
    except (ValueError, OverflowError):
        return math.nan


def change_ends(text: str, change: Callable[[str], str]) -> str:
    """Replace both ends of each interval in a text that `interval_problem` has accepted."""
    return _INTERVAL.sub(
        lambda match: f"{match[0][0]}{change(match[1])},{change(match[2])}{match[0][-1]}", text
    )


def interval_like(value: Any) -> str:
    """Guess the interval that was meant by a value that is no interval: ``[5,inf)`` for 5."""
    low, *higher = sorted(_NUMBER.findall(str(value))[:2], key=float) or ["5"]
    return f"[{low},{higher[0]}]" if higher else f"[{low},inf)"


def quote_intervals(text: str) -> str:
    """Put the intervals in a text in quotes, because ``{rating: [3,inf)}`` alone is not YAML."""
    several = re.compile(rf"{_INTERVAL.pattern}(?:\s*;\s*{_INTERVAL.pattern})*")
    return several.sub(lambda match: f"'{match[0]}'", text)


def has_interval(text: str) -> bool:
    """Whether a text has an interval such as ``[5,inf)``, which is not YAML without quotes."""
    return any(match[0][0] == "(" or match[0][-1] == ")" for match in _INTERVAL.finditer(text))


def check_interval(key: str, value: Any) -> None:
    """Check an interval such as ``[5,inf)``, or several intervals such as ``[0,1);(3,4]``.

    RecBole only warns of a text that is no interval, and ignores it. A list of two numbers is
    accepted, because YAML reads ``[5,20]`` as such a list.

    Raises:
        InputError: if the value is not an interval, or the interval contains no number.
    """
    problem = _interval_problem(value)
    if problem:
        raise InputError(
            f"{key} must be an interval such as [5,inf), got {value!r}, which {problem}: write "
            f"--{key}='{interval_like(value)}', with the quotes"
        )


def _interval_problem(value: Any, *, dates: bool = False) -> str:
    numbers = isinstance(value, list | tuple) and len(value) == 2 and all(map(is_number, value))
    if not isinstance(value, str) and not numbers:
        return "is no interval"
    return interval_problem(str(value), dates=dates)


def is_number(value: Any) -> bool:
    """Whether a value is a number; True and False are not numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_values_by_column(key: str, value: Any) -> None:
    """Check ``val_interval``: a mapping from columns to intervals or to lists of allowed ids.

    Raises InputError unless ``value`` is like ``{rating: "[3,inf)", item_id: ["17", "20"]}``.
    """
    if not isinstance(value, Mapping):
        raise InputError(
            f"{key} must be a mapping from columns to intervals, got {value!r}: write "
            f"--{key}=\"{{rating: '[3,inf)'}}\""
        )
    for column, wanted in value.items():
        tokens = isinstance(wanted, list) and wanted and all(isinstance(x, str) for x in wanted)
        if not tokens and (problem := _interval_problem(wanted, dates=True)):
            raise InputError(
                f"{key}.{column} must be an interval, or a list of tokens in quotes, got "
                f"{_shown(wanted)}, which {problem}: write "
                f'--{key}="{{{column}: {_values_like(wanted)}}}"'
            )


def _values_like(wanted: Any) -> str:
    """Guess what was meant by a value of a column that is neither an interval nor a list of ids."""
    words = [str(one).replace(" ", "T") for one in _listed(wanted)]
    dates = sorted(word for word in words[:2] if _is_date(word))
    if words and len(dates) == len(words[:2]):
        return f"'[{dates[0]},{dates[1]}]'" if len(dates) == 2 else f"'[{dates[0]},inf)'"
    ids = isinstance(wanted, str) and any(math.isnan(_number(word, dates=False)) for word in words)
    if ids or (isinstance(wanted, list) and wanted):
        return "[" + ", ".join(f"'{one}'" for one in _listed(wanted)) + "]"
    return f"'{interval_like(wanted)}'"


def _is_date(text: str) -> bool:
    return math.isnan(_number(text, dates=False)) and not math.isnan(_number(text, dates=True))


def _shown(wanted: Any) -> str:
    """Write a value as a user typed it: YAML has read 2014-12-31 as a date."""
    dates = any(isinstance(one, date) for one in _listed(wanted))
    return f"[{', '.join(map(str, _listed(wanted)))}]" if dates else repr(wanted)


def _listed(wanted: Any) -> list[Any]:
    if isinstance(wanted, str):
        return re.findall(r"[^\s,;()\[\]]+", wanted)
    return list(wanted) if isinstance(wanted, list | tuple) else [wanted]


def check_threshold(key: str, value: Any) -> None:
    """Check ``threshold``: ``{rating: 4}`` gives label 1 to interactions with ratings >= 4."""
    if not isinstance(value, Mapping) or len(value) != 1 or not is_number(*value.values()):
        raise InputError(
            f"{key} must be a mapping from one column to a number, got {value!r}: write "
            f'--{key}="{{rating: 4}}"'
        )
