"""Read the columns of a dataset's file as a run's settings say, for a run and for ``data check``.

The column of times is parsed if its type is ``float``, or if the run orders interactions by time.
"""

from collections.abc import Collection
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from recbole_lightgnn.data.atomic_header import AtomicFile, check_columns, check_ids
from recbole_lightgnn.data.atomic_reader import read_columns, read_times
from recbole_lightgnn.data.file_kinds import FileSettings, id_columns, needed_columns
from recbole_lightgnn.data.times import is_date
from recbole_lightgnn.errors import InputError


def check_header(
    file: AtomicFile, columns: Collection[str], kind: str, settings: FileSettings
) -> None:
    """Raise InputError if an id is not a token, or a column that a run needs is not loaded.

    ``columns`` names the loaded columns; ``kind`` is the kind of file, such as ``inter``.
    """
    check_ids(file, id_columns(settings))
    check_columns(file, columns, needed_columns(settings, kind))


def with_times(
    file: AtomicFile, columns: Collection[str], kind: str, settings: FileSettings
) -> tuple[AtomicFile, "TimeColumn | None"]:
    """Find the file's column of times, if the column must be parsed.

    Args:
        file: the file.
        columns: names of the file's columns that are loaded.
        kind: kind of the file, such as ``inter``.
        settings: the run's settings.

    Returns:
        First, a copy of ``file`` in which the column has the type ``float``. Second, the column. If
        no column must be parsed: ``file`` itself and ``None``.

    Raises:
        InputError: if the run orders interactions by time and the file has no such column.
    """
    time = TimeColumn(settings, file) if kind == "inter" else None
    if time is None or not time.parsed or time.field not in columns:
        return file, None
    return file._replace(types={**file.types, time.field: "float"}), time


def read_features(
    file: AtomicFile,
    columns: Collection[str],
    settings: FileSettings,
    time: "TimeColumn | None",
    dated: dict[str, bool],
) -> pd.DataFrame:
    """Read columns of a file with `atomic_reader.read_columns`, and parse the column of times.

    Args:
        file: the file.
        columns: names of the columns to read.
        settings: the run's settings.
        time: the column of times to parse (`with_times`), or ``None``.
        dated: whether the column of times has dates in the earlier files, by name of the column;
            updated.

    Raises:
        InputError: if the file cannot be used; the message names file, line and remedy.
    """
    times = [time.field] if time else []
    frame = read_columns(file, columns, id_columns(settings) & set(columns), times)
    if time:
        time.check_like(frame[time.field], dated)
        frame[time.field] = time.parse(frame[time.field])
    return frame


# --- times ------------------------------------------------------------------------------------


def why_ordered(settings: FileSettings) -> str:
    """Name the setting or model that needs interactions in order of time; empty if none does."""
    from recbole.utils import ModelType

    if settings["time-aware"]:
        return f"time-aware {settings['model']}"
    if settings["benchmark_filename"] is not None:  # already split, and sequences already made
        return ""
    if settings["MODEL_TYPE"] == ModelType.SEQUENTIAL:
        return f"the sequential model {settings['model']}"
    eval_args = settings["eval_args"]
    if eval_args["order"] == "TO":
        return "eval_args.order=TO"
    return "eval_args.split=TS" if "TS" in (eval_args["split"] or ()) else ""


def _without_times(settings: FileSettings) -> str:
    """Say how to change the settings so that a run needs no times (`why_ordered`)."""
    from recbole.utils import ModelType

    if settings["time-aware"]:
        return "write --time-aware=False"
    if settings["MODEL_TYPE"] == ModelType.SEQUENTIAL:
        return "choose a model that is not sequential"
    by_time = "TS" in (settings["eval_args"]["split"] or ())
    split = ' --eval_args.split="{RS: [0.8, 0.1, 0.1]}"' if by_time else ""
    return f"write --eval_args.order=RO{split}"


class TimeColumn:
    """The column of times in an interaction file.

    Raises:
        InputError: if the run needs times, and the column is missing or is in the setting
            ``discretization``.
    """

    def __init__(self, settings: FileSettings, file: AtomicFile) -> None:
        self.settings, self.field, self.file = settings, settings["TIME_FIELD"], file
        self.reason = why_ordered(settings)
        self.type = file.types.get(self.field, "")
        if self.reason:
            self._check_needed(list(file.types))
        if self.type.endswith("_seq") and (self.reason or settings["rm_dup_inter"]):
            raise InputError(
                f"{file.path}, line 1: {self.field}:{self.type} has several times in a field, and "
                f"{self.reason or 'rm_dup_inter'} needs one: write {self.field}:float, or "
                f"{_without_times(settings) if self.reason else 'leave rm_dup_inter out'}"
            )

    def _check_needed(self, fields: list[str]) -> None:
        if self.field not in fields:
            raise InputError(
                f"{self.file.path}, line 1: no column {self.field!r} (setting TIME_FIELD), which "
                f"{self.reason} needs; it has {', '.join(fields)}: name the column of times by "
                f"TIME_FIELD, or {_without_times(self.settings)}"
            )
        if self.field in (self.settings["discretization"] or ()):
            raise InputError(
                f"discretization must not name {self.field!r}, the column of times, which "
                f"{self.reason} needs as they are: leave it out, or use a copy of the column"
            )

    @property
    def parsed(self) -> bool:
        """Whether to parse the column: if ``float``, or if ``token`` and the run needs times."""
        # An interval, and not a list of tokens: its ends are numbers or dates.
        wanted = (self.settings["val_interval"] or {}).get(self.field)
        tokens = isinstance(wanted, list) and any(isinstance(one, str) for one in wanted)
        interval = wanted is not None and not tokens
        ordered = self.reason or self.settings["rm_dup_inter"] or interval
        return self.type == "float" or (self.type == "token" and bool(ordered))

    def parse(self, texts: Any) -> NDArray[Any]:
        """Convert the column's texts, a pandas series, to numbers; a missing time becomes NaN.

        Raises:
            InputError: if a time is malformed, or if one is missing and the run needs all times.
        """
        if self.reason and (missing := texts.isna()).any():
            raise self.file.fault(
                int(missing.to_numpy().argmax()),
                f"{self.field} has no time",
                f"expected a time ({self.reason} needs it): correct the line, or name another "
                "column by TIME_FIELD",
            )
        return read_times(self.file, self.field, texts)

    def check_like(self, texts: pd.Series, before: dict[str, bool]) -> None:
        """Check that dates and numbers are not mixed in the time columns of the interaction files.

        Args:
            texts: the column's texts in this file, a pandas series.
            before: whether the column has dates in the earlier files, by name of the column;
                updated.

        Raises:
            InputError: if this file has dates and an earlier file has numbers, or the reverse.
        """
        there = texts.notna().to_numpy()
        if not there.any():
            return
        row = int(there.argmax())
        dated = is_date(texts.iloc[row].encode())
        if before.setdefault(self.field, dated) != dated:
            kinds = ("a number", "dates") if before[self.field] else ("a date", "numbers")
            raise self.file.fault(
                row,
                f"{self.field} {texts.iloc[row][:40]!a} is {kinds[0]}, but the .inter file read "
                f"before has {kinds[1]}",
                "expected the same in all files: write all times in one form",
            )
