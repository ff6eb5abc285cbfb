"""Texts for error messages: suggestions for misspelt names."""

import difflib
from collections.abc import Iterable
from typing import Any

from recbole_lightgnn.errors import InputError


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Suggest the valid name that is closest to a wrong name; case is ignored.

    Returns:
        `` (did you mean 'x'?)``, or an empty string if no name is close.
    """
    by_lower = {str(valid).lower(): str(valid) for valid in names}
    closest = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    return f" (did you mean {by_lower[closest[0]]!r}?)" if closest else ""


def must_be_one_of(key: str, value: Any, names: Iterable[str]) -> None:
    """Raise InputError if ``value``, of the setting or option ``key``, is not one of ``names``."""
    names = list(names)
    if value not in names:
        raise InputError(
            f"{key} must be one of {', '.join(names)}, got {value!r}{did_you_mean(value, names)}"
        )
