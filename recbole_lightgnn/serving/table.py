"""Write recommendations as a CSV or Parquet file, one chunk of users at a time."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.serving.recommender import Ranked
from recbole_lightgnn.utils.files import check_writable, whole_file

COLUMNS = ("user", "rank", "item", "score")
_SUFFIXES = (".csv", ".parquet")

WriteRows = Callable[[Sequence[str], Ranked], None]  # appends the recommendations of some users


def check_table_path(path: Path) -> None:
    """Check that a table of recommendations can be written to a path.

    Raises:
        InputError: if the suffix is not ``.csv`` or ``.parquet``, a library for the format is
            missing or the path is not writable.
    """
    if path.suffix not in _SUFFIXES:
        raise InputError(f"--out {path}: expected a name that ends in .csv or .parquet")
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise InputError(
            "--out with .parquet needs pyarrow, which is not installed: "
            "pip install 'recbole-lightgnn[parquet]', or write .csv"
        )
    check_writable("--out", path)


@contextmanager
def table_writer(path: Path) -> Iterator[WriteRows]:
    """Open a table for writing. Only a complete file appears at ``path``, and none after an error.

    Yields a function that appends recommendations of some users: one row per user and item, with
    the columns `COLUMNS`. Ranks start at 1.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial, _WRITERS[path.suffix](partial) as write:
        yield write


def _columns(users: Sequence[str], ranked: Ranked) -> list[np.ndarray]:
    """Make the columns `COLUMNS` from some users' recommendations, without missing items."""
    row, rank = np.nonzero(ranked.scores > -np.inf)
    names = np.array(users, object)
    items, scores = ranked.items[row, rank], ranked.scores[row, rank]
    return [names[row], rank.astype(np.int32) + 1, items, scores]


@contextmanager
def _csv(path: Path) -> Iterator[WriteRows]:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)

        def write(users: Sequence[str], ranked: Ranked) -> None:
            *others, scores = _columns(users, ranked)
            table.writerows(zip(*others, (f"{score:.9g}" for score in scores), strict=True))

        yield write


@contextmanager
def _parquet(path: Path) -> Iterator[WriteRows]:
    import pyarrow as pa
    from pyarrow import parquet

    types = (pa.string(), pa.int32(), pa.string(), pa.float32())
    schema = pa.schema(list(zip(COLUMNS, types, strict=True)))
    with parquet.ParquetWriter(path, schema) as table:

        def write(users: Sequence[str], ranked: Ranked) -> None:
            columns = [pa.array(c, t) for c, t in zip(_columns(users, ranked), types, strict=True)]
            table.write_batch(pa.record_batch(columns, schema=schema))

        yield write


_WRITERS = {".csv": _csv, ".parquet": _parquet}
