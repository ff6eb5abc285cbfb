"""Files that are there whole or not at all, and settings and results as JSON has them."""

import contextlib
import enum
import importlib
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lightgnn.errors import InputError

_PICTURES = (".png", ".svg", ".pdf")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to, whose file then takes the place of ``path``.

    A reader sees the old file or the new one, never a part, also if the power goes. On an error
    the old one stays.
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
    """Write strict JSON, whole or not at all; the folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any | None:
    """What a JSON file holds; ``None`` where it is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def check_writable(what: str, path: Path) -> None:
    """Raise InputError unless a file can be written there; to be asked before the work, not after.

    Args:
        what: the setting or option that named the file.
        path: the file; its folder need not exist yet.
    """
    if path.is_dir():
        raise InputError(f"{what} {path} is a folder; name a file in it")
    check_folder(what, path, path.parent)


def check_folder(what: str, path: Path, folder: Path) -> None:
    """Raise InputError unless files can be made in ``folder``, which need not exist yet.

    Args:
        what: the setting or option that named ``path``.
        path: what it named, for the message.
        folder: where a file would be made.
    """
    there = folder.absolute()
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise InputError(
            f"{what} {path} cannot be written: {there} is no writable folder; name another"
        )


def check_can_draw(file: Path) -> None:
    """Raise InputError unless matplotlib is there and ``file`` is a place for a picture."""
    if file.suffix.lower() not in _PICTURES:
        raise InputError(f"--plot {file}: expected a name that ends in {', '.join(_PICTURES)}")
    if file.is_dir() or not file.absolute().parent.is_dir():
        raise InputError(f"--plot {file}: expected a file in a folder that is there")
    check_matplotlib("--plot")


def check_matplotlib(what: str) -> None:
    """Raise InputError unless what draws can draw."""
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        raise InputError(
            f"{what} needs matplotlib, which is not installed: pip install 'recbole-lightgnn[plot]'"
        ) from error


def plain(value: Any, *, text: Callable[[str], str] = str) -> Any:
    """``value`` with plain JSON values only.

    Enums become their names, numbers that are not finite null, and devices, dtypes and the like
    strings.

    Args:
        value: settings, metrics and the like, nested.
        text: what becomes of strings and paths.
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
