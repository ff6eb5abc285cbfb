"""Flags that several commands share, and settings given as ``--key=value``.

A shared flag has the same name, type and help in all commands.
"""

import argparse
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_lightgnn.config.aliases import renamed
from recbole_lightgnn.config.files import read_value
from recbole_lightgnn.config.intervals import has_interval, quote_intervals
from recbole_lightgnn.config.schema import read_given
from recbole_lightgnn.errors import InputError, warn

_SWITCHES = {"--refit"}  # settings that may be given without a value, for True
SHARE = 1 / 16  # default share of the items that approximate search scores


# --- settings ---------------------------------------------------------------------------------


def split_settings(
    parser: argparse.ArgumentParser, arguments: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Separate settings (``--key=value``) from a command's flags and other arguments.

    Every argument ``--key=value`` is a setting unless the parser has a flag ``--key``. argparse
    gets only the rest, because it would misread a setting with a space in its value.

    Args:
        parser: parser of the command.
        arguments: arguments of the command line.

    Returns:
        The settings, and the other arguments.
    """
    arguments = [f"{one}=True" if one in _SWITCHES else one for one in arguments]
    flags = {flag for action in parser._actions for flag in action.option_strings}
    settings = [
        argument
        for argument in arguments
        if (match := re.match(r"(--[\w.-]+)=", argument)) and match[1] not in flags
    ]
    return settings, [argument for argument in arguments if argument not in settings]


def read_settings(arguments: Sequence[str]) -> dict[str, Any]:
    """Read settings given as ``--key=value``; old names are translated with a warning.

    Args:
        arguments: settings as returned by `split_settings`; each value is YAML.

    Returns:
        The values by name, with flat names such as ``teacher_settings.epochs``.

    Raises:
        InputError: if a value is not YAML, or if a setting is given twice with different values.
    """
    settings: dict[str, Any] = {}
    for argument in arguments:
        key, _, text = argument[2:].partition("=")
        outer, _, column = key.partition(".")
        if outer == "val_interval" and column:  # replaces this setting of config files as a whole
            value = text.strip("'\" ") if has_interval(text) else _read(key, text)
            given = settings.get(outer, {})
            if not isinstance(given, Mapping) or column in given:
                raise InputError(f"--{outer} is given twice: {given!r} and {argument}")
            settings[outer] = {**given, column: value}
            continue
        value = _read(key, text)
        if key in settings and settings[key] != value:
            raise InputError(f"--{key} is given twice: {settings[key]!r} and {value!r}")
        settings[key] = value
    return renamed(settings, "the command line")


def _read(key: str, text: str) -> Any:
    import yaml

    try:
        return read_given(key, text)
    except yaml.YAMLError as error:
        raise InputError(f"--{key}: {text!r} is not YAML{_quoted(key, text)}") from error


def _quoted(key: str, text: str) -> str:
    """Text for an error message: how to type a value that YAML cannot read."""
    if has_interval(text):
        return f': put an interval in quotes, --{key}="{quote_intervals(text)}"'
    return ": it has brackets, quotes or a sign that YAML reads otherwise; put text in quotes"


def with_seed(options: argparse.Namespace, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings, plus ``seed`` if ``--seed`` was given (see `add_seed_flag`)."""
    return {**settings} if options.seed is None else {**settings, "seed": read_value(options.seed)}


# --- flags of run, tune, ablate and compare -----------------------------------------------------


def add_model_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--model``."""
    parser.add_argument("--model", "-m", metavar="NAME", help="name of a model (default: LightGNN)")


def add_dataset_flag(parser: argparse._ActionsContainer, *, required: bool = False) -> None:
    """Add ``--dataset`` to the parser of a command, or to a group of its flags."""
    default = "" if required else " (default: ml-100k)"
    parser.add_argument(
        "--dataset", "-d", required=required, metavar="NAME", help=f"name of a dataset{default}"
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--dataset`` and ``--config_files``."""
    add_dataset_flag(parser)
    add_config_files_flag(parser)


def add_config_files_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--config_files``."""
    parser.add_argument(
        "--config_files",
        default="",
        metavar="'FILE ...'",
        help="yaml files of settings, separated by spaces",
    )


def add_seed_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--seed``."""
    parser.add_argument(
        "--seed", metavar="S", help="seed of every training, and of the proposals of a search"
    )


def add_out_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--out``, the folder of a study (search, ablation or comparison)."""
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder of checkpoints, records and results; the same folder continues the study",
    )


def add_variants_flag(parser: argparse.ArgumentParser, line: str, default: str) -> None:
    """Add ``--variants``, a yaml file of variants (models with changed settings).

    Args:
        parser: parser of the command.
        line: how a line of the file is written, for the help.
        default: name of the default file in ``properties/study``.
    """
    parser.add_argument(
        "--variants",
        type=Path,
        metavar="FILE.yaml",
        help=f"variants, with lines `{line}` (default: properties/study/{default})",
    )


class _OldFlag(argparse.Action):
    """Store the value of a flag given by its old name; warn, and print the new name."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        new = f"--{self.dest}"
        warn(f"the flag {option_string} is called {new} now")
        setattr(namespace, self.dest, values)


def add_old_flag(parser: argparse.ArgumentParser, old: str, new: str) -> None:
    """Accept the old name of a flag, with a warning; ``--help`` does not show the old name.

    The flag's value must be a path. ``old`` and ``new`` are names such as ``--keep`` and
    ``--archive``.
    """
    parser.add_argument(
        old, action=_OldFlag, dest=new.removeprefix("--"), type=Path, help=argparse.SUPPRESS
    )


# --- flags of recommend, explain, export and serve ----------------------------------------------


def add_key_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--key``, the file of a secret; see `read_secret`."""
    parser.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="file with the secret that the names of users and items are hashed with",
    )


def add_approximate_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--approximate``, the share of items to search."""
    parser.add_argument(
        "--approximate",
        nargs="?",
        type=float,
        const=SHARE,
        metavar="SHARE",
        help=f"search this share of the items only (default: {SHARE}); `bench approximate` "
        "measures how many of the best items are missed",
    )


def read_secret(path: Path | None) -> bytes | None:
    """Read the secret that names are hashed with (``None`` without a file), or raise InputError."""
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"--key {path} cannot be read: {error.strerror}") from error


# --- types of values for argparse ---------------------------------------------------------------


def count(text: str) -> int:
    """Read a whole number above 0; raise ArgumentTypeError for any other text."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def whole_number(text: str) -> int:
    """Read a whole number, also in the form ``1e9``; raise ArgumentTypeError for any other text."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number.is_integer():
        raise argparse.ArgumentTypeError(
            f"expected a whole number such as 1000000 or 1e6, got {text!r}"
        )
    return int(number)


def minutes(text: str) -> float:
    """Read a number of minutes above 0; raise ArgumentTypeError for any other text."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of minutes above 0, got {text!r}")
    return number


def names(text: str) -> list[str]:
    """Parse distinct names, separated by commas; for argparse."""
    return distinct([name.strip() for name in text.split(",")], text)


def distinct(values: list[Any], text: str) -> list[Any]:
    """Return the values parsed from ``text``; refuse empty and repeated ones, for argparse."""
    if "" in values or len(set(values)) < len(values):
        raise argparse.ArgumentTypeError(f"expected each once, separated by commas, got {text!r}")
    return values
