"""Parquet tables of interactions, batch by batch; needs pyarrow (extra ``parquet``)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.data.atomic import progress
from recbole_lightgnn.data.matrix import one_line
from recbole_lightgnn.data.names import BadName, Names
from recbole_lightgnn.data.table import Rows, find_columns
from recbole_lightgnn.data.text import shown
from recbole_lightgnn.errors import InputError

_BATCH = 2**18  # rows


def parquet_rows(
    path: Path, wanted: Mapping[str, str | None], names: Mapping[str, Names]
) -> Iterator[Rows]:
    """The interactions of a Parquet file, some rows at a time.

    Args:
        wanted: the columns to read, each with its name or position from 1, or none.
        names: numbers of users and of items; filled.

    Raises:
        InputError: if pyarrow is not installed, the file is damaged, or a column is missing, of
            another type than integers or text, or has an empty value.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise InputError(
            f"{path} is Parquet, which needs the package 'pyarrow'; install it, or export the "
            "table as text"
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            header = file.schema_arrow.names
            columns = find_columns(str(path), header, len(header), wanted)
            for at in columns.values():
                if header.count(header[at]) > 1:
                    raise InputError(
                        f"{path} has {header.count(header[at])} columns named "
                        f"{one_line(header[at])}; expected names that differ: rename them"
                    )
            with progress(file.metadata.num_rows, str(path), "rows") as bar:
                done = 0
                for batch in file.iter_batches(
                    _BATCH, columns=[header[c] for c in columns.values()]
                ):
                    read = {
                        what: _column(path, batch.column(header[at]), what, names.get(what), done)
                        for what, at in columns.items()
                    }
                    done += len(batch)
                    bar.update(len(batch))
                    yield Rows(**read)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read as Parquet ({one_line(error)}); expected a whole file: get it "
            "again"
        ) from error


def _column(path: Path, column: Any, what: str, names: Names | None, before: int) -> NDArray[Any]:
    import pyarrow as pa
    from pyarrow import compute

    column.validate(full=True)  # text that is no UTF-8, offsets that lead elsewhere
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise _fault(path, before + row, f"{what} is missing (null)")
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if names is None:
        if pa.types.is_date32(kind):  # days, in 32 bits
            column = column.cast(pa.int32())
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_integer(kind):
            return column.cast(pa.int64()).to_numpy(zero_copy_only=False)
        if not pa.types.is_floating(kind):
            raise InputError(f"{path}: column {what} is of type {kind}; expected numbers or times")
        values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise _fault(path, before + row, f"{what} is no finite number")
        return values
    if pa.types.is_integer(kind):
        if len(column) == 0 or (
            compute.min(column).as_py() >= 0 and compute.max(column).as_py() < 10**18
        ):
            return column.cast(pa.int64()).to_numpy(zero_copy_only=False)
    elif not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputError(
            f"{path}: column {what} is of type {kind}; expected integers or text: convert it"
        )
    if pa.types.is_integer(kind):
        column = column.cast(pa.string())
    try:
        return names.numbers(*_places(column.cast(pa.large_string())))
    except BadName as error:
        raise _fault(path, before + error.nth, f"{what} {shown(error.name)} {error}") from error


def _places(column: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Bytes of a column of text, where each value begins, and just behind its end."""
    _, bounds, data = column.buffers()
    bounds = np.frombuffer(bounds, np.int64)[column.offset : column.offset + len(column) + 1].copy()
    data = np.frombuffer(data or b"", np.uint8)
    return data, bounds[:-1], bounds[1:]


def _fault(path: Path, row: int, what: str) -> InputError:
    return InputError(f"{path}, row {row + 1}: {what}; expected a value: mend the table")
