"""Translate errors that RecBole raises for settings or data into one line that names the settings.

RecBole checks few of its settings. A wrong setting fails deep in RecBole's code, or in a library
that RecBole calls, with an error that does not name the setting. So our code calls RecBole within
the context manager `explained`.
"""

import inspect
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any

from recbole_lightgnn.errors import InputError

# Settings that are not named as a possible cause: most of RecBole's code reads them.
_USUAL = {"data_path", "checkpoint_dir", "show_progress", "state", "use_gpu", "gpu_id", "seed"}
_USUAL |= {"epochs", "model", "dataset", "train_batch_size", "eval_batch_size"}
_OURS = Path(__file__).resolve().parents[1]
_SHOWN = 4  # settings in a message
_LONGEST = 300  # characters of an error's message
# Errors that RecBole raises itself, with a message for the user.
_MEANT = (ValueError, NotImplementedError, AssertionError)


@contextmanager
def explained(what: str, given: Mapping[str, Any], *more: type[Exception]) -> Iterator[None]:
    """Context manager that turns an error from RecBole's code into an InputError.

    An error from our own code, an InputError and an error for a missing package stay unchanged.

    Args:
        what: beginning of the message, such as ``dataset 'x' cannot be used``.
        given: the settings that the user has given.
        more: types of errors that become an InputError even if our own code raised them.

    Raises:
        InputError: with the message of the original error, and the given settings that may be the
            cause.
    """
    try:
        yield
    except (InputError, ModuleNotFoundError):
        raise
    except Exception as error:
        codes = _recbole_codes(error)
        if not codes and not isinstance(error, more):
            raise
        raise InputError(f"{what}: {_reason(error)}{_suspects(codes, given)}") from error


def given_to(config: Any) -> dict[str, Any]:
    """The settings of a run that the user has given, in files, in code or on the command line."""
    return dict(getattr(config, "external_config_dict", {}))


def _recbole_codes(error: Exception) -> list[CodeType]:
    """RecBole's functions in an error's traceback, in call order; empty if our own code raised it.

    Functions of our package `integration` count as RecBole's: they replace parts of RecBole.
    """
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    recbole = Path(str(sys.modules["recbole"].__file__)).parent
    origins = []  # True for RecBole's code, False for ours; libraries do not count
    for code in codes:
        file = Path(code.co_filename)
        if file.is_relative_to(recbole) or file.is_relative_to(_OURS / "integration"):
            origins.append((code, True))
        elif file.is_relative_to(_OURS):
            origins.append((code, False))
    if not origins or not origins[-1][1]:
        return []
    return [code for code, is_recbole in origins if is_recbole]


def _reason(error: Exception) -> str:
    message = " ".join(str(error).split())[:_LONGEST]
    if isinstance(error, _MEANT) and message:
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _suspects(codes: list[CodeType], given: Mapping[str, Any]) -> str:
    """List the given settings that may be the cause of an error, as the end of a message.

    Settings that appear in the source code of the functions in the traceback come first.
    """
    keys: list[str] = []
    rest = [str(key) for key in given if key not in _USUAL]
    for source in map(_source, reversed(codes)):
        keys += (named := [key for key in rest if re.search(rf"\b{re.escape(key)}\b", source)])
        rest = [key for key in rest if key not in named]
    keys += rest
    if not keys:
        return " (no setting was given that explains it; --debug shows where in RecBole)"
    shown = ", ".join(f"{key}={_short(given[key])}" for key in keys[:_SHOWN])
    others = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"; change the settings that you gave: {shown}{others} (--debug shows where in RecBole)"


def _source(code: CodeType) -> str:
    try:
        return inspect.getsource(code)
    except OSError:  # the file is not there any more
        return ""


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
