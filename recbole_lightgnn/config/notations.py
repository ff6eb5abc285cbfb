"""Check values of settings that are written in a special notation.

Splits, ranking modes and lists of columns have such notations; `intervals` checks intervals. Each
``check_`` function checks one notation; ``key`` is the setting's name. Its InputError of one line
says what was given, what was expected, and which flag to type into a shell.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from recbole_lightgnn.config.intervals import (
    check_interval,
    check_threshold,
    check_values_by_column,
    is_number,
)
from recbole_lightgnn.config.teachers import check_teachers
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.text import did_you_mean, must_be_one_of

MODES = "full, labeled, uniN or popN with N the number of sampled items, such as uni100"
_MODE = re.compile(r"full|labeled|(?:uni|pop)0*[1-9]\d*")
_LEFT_OUT = ("valid_and_test", "valid_only", "test_only")
_SHARES = "[0.8, 0.1, 0.1]"
_BUCKETS = "{method: ED, bucket: 5}"
_GPU = r"\s*(?:\d+|(?:GPU|MIG)-[\w/-]+)\s*"
_GPUS = re.compile(rf"(?:{_GPU}(?:,{_GPU})*)?|-1")


# --- splits and rankings ----------------------------------------------------------------------


def check_split(key: str, value: Any) -> None:
    """Check the kind of split, such as ``{RS: [0.8, 0.1, 0.1]}`` or ``{LS: valid_and_test}``.

    Raises InputError unless ``value`` is a mapping with one key: RS (shares, in random order or in
    order of time), LS (leave one out) or TS (shares by time).
    """
    ways = ("RS", "LS", "TS")
    if not isinstance(value, Mapping) or not value:
        raise InputError(
            f"{key} must be a mapping with one of {', '.join(ways)}, got {value!r}: write "
            f'--{key}="{{RS: {_SHARES}}}"'
        )
    for way in value:
        must_be_one_of(key, way, ways)
    if len(value) > 1:
        raise InputError(
            f"{key} must have one of {', '.join(ways)}, got {' and '.join(value)}: write "
            f'--{key}="{{RS: {_SHARES}}}" or --{key}="{{LS: valid_and_test}}"'
        )
    ((way, how),) = value.items()
    if way == "LS" and how not in _LEFT_OUT:  # a split without users is refused with its data
        raise InputError(
            f"{key}.LS must be valid_and_test, got {how!r}: one interaction a user chooses the "
            f'epoch and one tests; write --{key}="{{LS: valid_and_test}}"'
        )
    if way != "LS" and not _are_three_shares(how):
        raise InputError(
            f"{key}.{way} must be three shares, of training, validation and test, got {how!r}: "
            f'write --{key}="{{{way}: {_SHARES}}}"'
        )


def _are_three_shares(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 3:
        return False
    return all(is_number(one) and 0 <= one < math.inf for one in value) and sum(value) > 0


def check_mode(key: str, value: Any) -> None:
    """Check ``mode``, the items ranked for a user: ``full``, ``labeled``, ``uniN`` or ``popN``.

    Args:
        key: name of the setting, for the message.
        value: a mode, or a mapping from ``valid`` and ``test`` to modes.

    Raises:
        InputError: if the value is not a mode; the message suggests the closest mode.
    """
    by_phase = value if isinstance(value, Mapping) and value else {"": value}
    for phase, mode in by_phase.items():
        if phase:
            must_be_one_of(key, phase, ("valid", "test"))
        if not isinstance(mode, str) or not _MODE.fullmatch(mode):
            where = ".".join(filter(None, (key, phase)))
            raise InputError(
                f"{where} must be {MODES}, got {mode!r}: write --{key}={_mode_like(mode)}"
            )


def _mode_like(value: Any) -> str:
    match = re.fullmatch(r"(uni|pop)\D*0*([1-9]\d*)?", str(value).lower())
    if match:
        return match[1] + (match[2] or "100")
    close = did_you_mean(value, ("full", "labeled", "uni100", "pop100"))
    return close.split("'")[1] if close else "full"


# --- columns ----------------------------------------------------------------------------------


def check_columns(key: str, value: Any) -> None:
    """Check a mapping from suffixes of files to lists of columns, such as ``load_col``.

    Raises InputError unless ``value`` is like ``{inter: [user_id, item_id], item: "*"}``; ``*``
    stands for all columns.
    """
    if not isinstance(value, Mapping):
        raise InputError(
            f"{key} must be a mapping from suffixes of files to lists of columns, got {value!r}: "
            f'write --{key}="{{inter: [user_id, item_id]}}"'
        )
    for suffix, columns in value.items():
        names = isinstance(columns, list) and all(isinstance(one, str) for one in columns)
        if not names and columns != "*":
            needed = ["user_id", "item_id"] if suffix == "inter" else []
            given = [columns] if isinstance(columns, str) else []
            listed = ", ".join(dict.fromkeys(needed + given))
            raise InputError(
                f"{key}.{suffix} must be a list of columns, or '*' for all, got {columns!r}: write "
                f'--{key}="{{{suffix}: [{listed}]}}"'
            )


def check_column_list(key: str, value: Any) -> None:
    """Raise InputError unless ``value`` is a column's name or a (perhaps empty) list of names."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(one, str) for one in names):
        raise InputError(f"{key} must be a list of columns, got {value!r}")


def check_columns_by_column(key: str, value: Any) -> None:
    """Check ``preload_weight``: a mapping from columns of ids to columns of vectors.

    Raises InputError unless ``value`` is like ``{ent_id: ent_emb}``.
    """
    pairs = value.items() if isinstance(value, Mapping) else [("", None)]
    for column, vectors in pairs:
        if not isinstance(vectors, str) or not isinstance(column, str):
            raise InputError(
                f"{key} must be a mapping from columns of tokens to columns of vectors, got "
                f'{value!r}: write --{key}="{{item_id: item_emb}}"'
            )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def check_lengths(key: str, value: Any) -> None:
    """Check ``seq_len``: a mapping from columns of sequences to the largest length of a sequence.

    Raises InputError unless ``value`` is like ``{class: 3}``, with lengths of 1 or more.
    """
    lengths = value if isinstance(value, Mapping) else {"class": value}
    for column, length in lengths.items():
        if lengths is not value or not _is_count(length):
            raise InputError(
                f"{key} must be a mapping from columns to integers >= 1, got {value!r}: write "
                f'--{key}="{{{column}: {length if _is_count(length) else 3}}}"'
            )


def check_buckets(key: str, value: Any) -> None:
    """Check ``discretization``: how the numbers of a column are grouped into buckets.

    Raises InputError unless ``value`` is like ``{rating: {method: ED, bucket: 5}}`` (5 buckets of
    equal width) or ``{rating: {method: LD}}`` (buckets by logarithm).
    """
    if not isinstance(value, Mapping):
        raise InputError(
            f"{key} must be a mapping from columns to methods, got {value!r}: write "
            f'--{key}="{{rating: {_BUCKETS}}}"'
        )
    for column, how in value.items():
        where, advice = f"{key}.{column}", f'write --{key}="{{{column}: {_BUCKETS}}}"'
        if not isinstance(how, Mapping) or "method" not in how:
            raise InputError(f"{where} must be a mapping with a method, got {how!r}: {advice}")
        for name in how:
            must_be_one_of(f"keys of {where}", name, ("method", "bucket"))
        must_be_one_of(f"{where}.method", how["method"], ("ED", "LD"))
        bucket = how.get("bucket")
        if how["method"] == "LD" and bucket is not None:
            raise InputError(
                f"{where}.bucket has no effect with method LD, got {bucket!r}: write "
                f'--{key}="{{{column}: {{method: LD}}}}"'
            )
        if how["method"] == "ED" and not _is_count(bucket):
            raise InputError(
                f"{where}.bucket must be an integer >= 1 with method ED, got {bucket!r}: {advice}"
            )


# --- the machine ------------------------------------------------------------------------------


def check_gpus(key: str, value: Any) -> None:
    """Check ``gpu_id``: the GPUs that a run may use.

    RecBole copies the value to ``CUDA_VISIBLE_DEVICES``. If CUDA cannot read the value, no GPU is
    found.

    Args:
        key: name of the setting, for the message.
        value: the number of a GPU; a text of numbers or names, such as ``0,1``, where names begin
            with GPU- or MIG-; or a tuple of numbers, but not a list. An empty text or -1 stands for
            no GPU.

    Raises:
        InputError: if the value has none of these forms.
    """
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    if not isinstance(value, str | int | tuple) or not _GPUS.fullmatch(text):
        numbers = ",".join(re.findall(r"\d+", text)) or "0"
        raise InputError(
            f"{key} must be the number of a GPU, or several with commas, got {value!r}: write "
            f"--{key}={numbers}"
        )


def check_encoding(key: str, value: Any) -> None:
    """Raise InputError unless ``value`` is an encoding that Python knows, such as ``utf-8``."""
    try:
        "".encode(value)
    except (LookupError, TypeError, ValueError):
        from encodings.aliases import aliases

        raise InputError(
            f"{key} must be an encoding that Python knows, such as utf-8, got {value!r}"
            f"{did_you_mean(value, {*aliases.values(), 'utf-8'})}"
        ) from None


# Type, as named in a comment of a yaml file -> function that checks a value that is not empty.
NOTATIONS: dict[str, Callable[[str, Any], None]] = {
    "interval": check_interval,
    "teachers": check_teachers,
    "values by column": check_values_by_column,
    "threshold": check_threshold,
    "split": check_split,
    "mode": check_mode,
    "columns": check_columns,
    "list of columns": check_column_list,
    "columns by column": check_columns_by_column,
    "lengths": check_lengths,
    "buckets": check_buckets,
    "gpus": check_gpus,
    "encoding": check_encoding,
}


def one_line_yaml(value: Any) -> str:
    """Write nested names as a line of YAML, such as ``{inter: [user_id, item_id], item: '*'}``."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {one_line_yaml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(one_line_yaml, value)) + "]"
    return "'*'" if value == "*" else str(value)


def as_list(value: Any) -> list[Any]:
    """Return the elements of a list or tuple, or a list of a single value."""
    return list(value) if isinstance(value, list | tuple) else [value]
