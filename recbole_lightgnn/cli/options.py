"""Options that several commands share, and settings given as ``--key=value``."""

import argparse
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_lightgnn.config.files import (
    read_value,
)
from recbole_lightgnn.errors import InputError


def split_settings(
    parser: argparse.ArgumentParser, arguments: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Separate settings (``--key=value``) from a command's own flags and arguments.

    A setting is what looks like one and is no flag of the parser. It is taken out before argparse
    reads the rest, which would take a value with a space in it for an argument.

    Returns:
        The settings and the rest.
    """
    flags = {flag for action in parser._actions for flag in action.option_strings}
    settings = [
        argument
        for argument in arguments
        if (match := re.match(r"(--[\w.-]+)=", argument)) and match[1] not in flags
    ]
    return settings, [argument for argument in arguments if argument not in settings]


def read_settings(arguments: Sequence[str]) -> dict[str, Any]:
    """The values of settings given as ``--key=value``, read as YAML.

    Raises:
        InputError: if a value is not YAML, or if a setting is given twice with two values.
    """
    import yaml

    settings: dict[str, Any] = {}
    for argument in arguments:
        key, _, text = argument[2:].partition("=")
        try:
            value = read_value(text)
        except yaml.YAMLError as error:
            raise InputError(f"--{key}: {text!r} is not YAML") from error
        if key in settings and settings[key] != value:
            raise InputError(f"--{key} is given twice: {settings[key]!r} and {value!r}")
        settings[key] = value
    return settings


SHARE = 1 / 16  # of the items that approximate search looks at, by default


def add_key_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--key``."""
    parser.add_argument(
        "--key", type=Path, metavar="FILE", help="holds the secret that names are hashed with"
    )


def add_approximate_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--approximate``."""
    parser.add_argument(
        "--approximate",
        nargs="?",
        type=float,
        const=SHARE,
        metavar="SHARE",
        help=f"look at this share of the items only (default: {SHARE}); `bench approximate` "
        "says what is missed",
    )


def read_secret(path: Path | None) -> bytes | None:
    """The content of a file with a secret, if one is given.

    Raises:
        InputError: if it cannot be read.
    """
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"--key {path} cannot be read: {error.strerror}") from error


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """What the runs of a study have in common."""
    parser.add_argument("--dataset", "-d", help="name of a dataset (default: ml-100k)")
    parser.add_argument("--config_files", default="", help="yaml files, parted by spaces")
    parser.add_argument("--seed", metavar="S", help="of every training, and of a search's draws")


def count(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def minutes(text: str) -> float:
    """A number of minutes above 0, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of minutes above 0, got {text!r}")
    return number
