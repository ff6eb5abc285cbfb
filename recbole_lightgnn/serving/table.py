"""Recommendations as a table, written some users at a time."""

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

Write = Callable[[Sequence[str], Ranked], None]


def check_table(path: Path) -> None:
    """Raise InputError unless a table can be written there."""
    if path.suffix not in _SUFFIXES:
        raise InputError(f"--out {path}: expected a name that ends in .csv or .parquet")
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise InputError(
            "--out of Parquet needs pyarrow, which is not installed: "
            "pip install 'recbole-lightgnn[parquet]', or write .csv"
        )
    check_writable("--out", path)


@contextmanager
def writing(path: Path) -> Iterator[Write]:
    """What adds the recommendations of some users to a table, which is whole at the end or absent.

    Its columns are `COLUMNS`; ranks are from 1.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial, _WRITERS[path.suffix](partial) as write:
        yield write


def _columns(users: Sequence[str], ranked: Ranked) -> list[np.ndarray]:
    """The table's columns, without the places where there are no more items."""
    row, rank = np.nonzero(ranked.scores > -np.inf)
    names = np.array(users, object)
    return [
        names[row],
        rank.astype(np.int32) + 1,
        ranked.items[row, rank],
        ranked.scores[row, rank],
    ]


@contextmanager
def _csv(path: Path) -> Iterator[Write]:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)

        def write(users: Sequence[str], ranked: Ranked) -> None:
            *others, scores = _columns(users, ranked)
            table.writerows(zip(*others, (f"{score:.9g}" for score in scores), strict=True))

        yield write


@contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = (pa.string(), pa.int32(), pa.string(), pa.float32())
    schema = pa.schema(list(zip(COLUMNS, kinds, strict=True)))
    with parquet.ParquetWriter(path, schema) as table:

        def write(users: Sequence[str], ranked: Ranked) -> None:
            columns = [pa.array(c, k) for c, k in zip(_columns(users, ranked), kinds, strict=True)]
            table.write_batch(pa.record_batch(columns, schema=schema))

        yield write


_WRITERS = {".csv": _csv, ".parquet": _parquet}
