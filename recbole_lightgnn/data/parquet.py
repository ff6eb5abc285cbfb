"""Read a Parquet table of interactions in batches; needs pyarrow (extra ``parquet``)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.data.atomic import progress_bar
from recbole_lightgnn.data.matrix import one_line
from recbole_lightgnn.data.names import BadName, Names
from recbole_lightgnn.data.table import Rows
from recbole_lightgnn.data.table_layout import find_columns
from recbole_lightgnn.data.text import quote_token
from recbole_lightgnn.errors import InputError

_BATCH = 2**18  # rows


def parquet_rows(
    path: Path, wanted: Mapping[str, str | None], names: dict[str, Names]
) -> Iterator[Rows]:
    """Yield the interactions of a Parquet file in batches.

    Args:
        path: the Parquet file.
        wanted: for each column to read, its name or its position from 1; None to detect it.
        names: receives the `Names` of users (key ``user``) and of items (key ``item``).

    Raises:
        InputError: if pyarrow is not installed, the file is damaged, or a column is missing, has an
            unsuitable type, or has a missing or malformed value.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise InputError(
            f"{path} is a Parquet file, which needs the package 'pyarrow'; install it, or export "
            "the table as text"
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            header = file.schema_arrow.names
            columns = find_columns(str(path), header, len(header), wanted)
            names |= {what: Names() for what in ("user", "item")}
            titles = {what: header[position] for what, position in columns.items()}
            for title in titles.values():
                if header.count(title) > 1:
                    raise InputError(
                        f"{path} has {header.count(title)} columns named {one_line(title)}; "
                        "expected different names: rename them"
                    )
            with progress_bar(file.metadata.num_rows, str(path), "rows") as bar:
                done = 0
                for batch in file.iter_batches(_BATCH, columns=list(titles.values())):
                    read = {
                        what: _column(path, batch.column(title), what, names.get(what), done)
                        for what, title in titles.items()
                    }
                    done += len(batch)
                    bar.update(len(batch))
                    yield Rows(**read)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read as Parquet ({one_line(error)}); expected a complete file: get "
            "it again"
        ) from error


def _column(path: Path, column: Any, what: str, names: Names | None, before: int) -> NDArray[Any]:
    """Convert a column in a batch of rows to an array of numbers.

    Args:
        path: the Parquet file.
        column: pyarrow array. Shape: (n,)
        what: meaning of the column, such as ``user``.
        names: table that numbers the tokens; None for ratings and times.
        before: number of rows in the file before the batch.
    """
    import pyarrow as pa

    column.validate(full=True)  # finds text that is not UTF-8 and offsets outside the buffer
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise _fault(path, before + row, f"{what} is missing (null)")
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if names is None:
        return _values(path, column, what, before)
    return _token_numbers(path, column, what, names, before)


def _values(path: Path, column: Any, what: str, before: int) -> NDArray[Any]:
    """Convert a column of ratings or times to an array of numbers."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_date32(kind):  # days in 32 bits
        column = column.cast(pa.int32())
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_integer(kind):
        integers: NDArray[np.int64] = column.cast(pa.int64()).to_numpy(zero_copy_only=False)
        return integers
    if not pa.types.is_floating(kind):
        raise InputError(f"{path}: column {what} is of type {kind}; expected numbers or times")
    values: NDArray[np.float64]
    values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise _fault(path, before + row, f"{what} is not a finite number")
    return values


def _token_numbers(
    path: Path, column: Any, what: str, names: Names, before: int
) -> NDArray[np.int64]:
    """Convert a column of user or item tokens, which are integers or text, to numbers."""
    import pyarrow as pa
    from pyarrow import compute

    kind = column.type
    if pa.types.is_integer(kind):
        if len(column) == 0 or (
            compute.min(column).as_py() >= 0 and compute.max(column).as_py() < 10**18
        ):
            numbers: NDArray[np.int64] = column.cast(pa.int64()).to_numpy(zero_copy_only=False)
            return numbers
        column = column.cast(pa.string())
    elif not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputError(
            f"{path}: column {what} is of type {kind}; expected integers or text: convert it"
        )
    try:
        return names.numbers(*_text_and_bounds(column.cast(pa.large_string())))
    except BadName as error:
        reason = f"{what} {quote_token(error.name)} {error}"
        raise _fault(path, before + error.nth, reason) from error


def _text_and_bounds(column: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the bytes of all texts of a column, and the start and end of each text in them."""
    _, bounds, data = column.buffers()
    bounds = np.frombuffer(bounds, np.int64)[column.offset : column.offset + len(column) + 1].copy()
    data = np.frombuffer(data or b"", np.uint8)
    return data, bounds[:-1], bounds[1:]


def _fault(path: Path, row: int, what: str) -> InputError:
    return InputError(f"{path}, row {row + 1}: {what}; expected a value: correct the table")
