"""Follow the advice of an error message: read the flags that the message suggests."""

import re
import shlex
from typing import Any

from recbole_lightgnn.cli.options import read_settings

_FLAG = r"--[\w.]+=(?:\"[^\"]*\"|'[^']*'|[^\s,;]+)"
_FLAGS = re.compile(rf"{_FLAG}(?: {_FLAG})*")


def remedies(message: str) -> list[dict[str, Any]]:
    """Settings of each remedy in a message. Flags that stand side by side are one remedy.

    Flags are split as by a shell, and read as by the command line.
    """
    return [read_settings(shlex.split(flags)) for flags in _FLAGS.findall(message)]


def followed(given: dict[str, Any], remedy: dict[str, Any]) -> dict[str, Any]:
    """The settings of a user who follows a remedy, which overrides the given settings."""
    kept = {key: value for key, value in given.items() if key not in remedy}
    return {**kept, **remedy}
