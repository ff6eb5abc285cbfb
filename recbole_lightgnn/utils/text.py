"""Texts of messages."""

import difflib
from collections.abc import Iterable
from typing import Any

from recbole_lightgnn.errors import InputError


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the nearest of ``names``, or nothing where none is near."""
    by_lower = {str(known).lower(): str(known) for known in names}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    return f" (did you mean {by_lower[near[0]]!r}?)" if near else ""


def must_be_one_of(key: str, value: Any, names: Iterable[str]) -> None:
    """Raise InputError, naming the nearest, unless ``value`` is one of ``names``."""
    names = list(names)
    if value not in names:
        raise InputError(
            f"{key} must be one of {', '.join(names)}, got {value!r}{did_you_mean(value, names)}"
        )
