"""Files: write them atomically, check paths before a run, convert values to JSON."""

import contextlib
import enum
import importlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lightgnn.errors import InputError

_PICTURES = (".png", ".svg", ".pdf")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write a file atomically: readers see the old file or the whole new file.

    This holds even after a crash or a power failure. After an exception the old file stays.

    Yields:
        A temporary path in the same folder, to write to. At the end of the context, this file is
        renamed to ``path``.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        _replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _replace(partial: Path, path: Path) -> None:
    partial.replace(path)


def write_json(path: Path, content: Any) -> None:
    """Write a file of strict JSON atomically; create its folder if it is missing.

    Raises ValueError if a number is not finite; :func:`plain` turns such numbers into ``None``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    """Write a yaml file atomically, in the order of the mapping."""
    import yaml

    text = yaml.safe_dump(plain(dict(content)), sort_keys=False, allow_unicode=True, width=100)
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any | None:
    """Read a JSON file; return ``None`` if it is missing or not valid JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def check_writable(what: str, path: Path) -> None:
    """Check that a file can be written, before a run starts; its folder need not exist yet.

    Raises InputError if ``path`` is a folder, or no file can be created there. ``what`` is the
    setting or option with the path, for the error message.
    """
    if path.is_dir():
        raise InputError(f"{what} {path} is a folder; name a file in it")
    check_folder(what, path, path.parent)


def check_folder(what: str, path: Path, folder: Path) -> None:
    """Check that files can be created in ``folder``, which need not exist yet.

    Raises InputError if ``folder``, or its nearest existing parent, is not a writable folder. The
    message names the setting or option ``what`` and its value ``path``.
    """
    existing = folder.absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(
            f"{what} {path} cannot be written: {existing} is no writable folder; name another"
        )


def check_can_draw(file: Path) -> None:
    """Raise InputError if ``--plot`` cannot write ``file`` (suffix, folder) or lacks matplotlib."""
    if file.suffix.lower() not in _PICTURES:
        raise InputError(f"--plot {file}: expected a name that ends in {', '.join(_PICTURES)}")
    if file.is_dir() or not file.absolute().parent.is_dir():
        raise InputError(f"--plot {file}: expected a file in an existing folder")
    check_matplotlib("--plot")


def check_matplotlib(what: str) -> None:
    """Raise InputError if matplotlib, which the option or command ``what`` needs, is missing."""
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        raise InputError(
            f"{what} needs matplotlib, which is not installed: pip install 'recbole-lightgnn[plot]'"
        ) from error


def plain(value: Any, *, text: Callable[[str], str] = str) -> Any:
    """Convert nested values to types that JSON can express.

    Enums are converted to names, numbers that are not finite to ``None``, sets to sorted lists.
    Objects of any other type, such as devices and dtypes, are converted to strings.

    Args:
        value: settings, metrics and other values, nested in dicts, lists, tuples and sets.
        text: function that is applied to every string and path.
    """
    if isinstance(value, enum.Enum):
        return value.name
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, np.generic):
        return plain(value.item(), text=text)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | Path):
        return text(str(value))
    if isinstance(value, dict):
        return {str(key): plain(item, text=text) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, text=text) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(plain(item, text=text) for item in value)
    return str(value)
