"""Time and memory of the import of a table, compared with ``pandas.read_csv``."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_lightgnn.bench.measure import (
    WrongResult,
    conditions,
    in_a_process,
    measure,
    peak_mb,
)
from recbole_lightgnn.errors import InputError

Importer = Callable[[Path, str, Path, bool], Path]  # (table, name, folder, overwrite) -> dataset
Action = Callable[[Importer, Path, Path], None]

INTERACTIONS = 1_000_000  # default length of the table
LEAST = 1000  # smallest length of the table
LARGER = 10  # memory is measured on a table that is this many times as long
SECONDS = 20.0  # measuring time
_ROWS = 1_000_000  # rows written at once


def import_table(table: Path, name: str, out: Path, overwrite: bool) -> Path:
    """Import a table; `recbole_lightgnn.data.pairs` is loaded only when this function is called.

    Args:
        table: path of the table.
        name: name of the dataset.
        out: folder of datasets.
        overwrite: whether to replace a dataset with the same name.

    Returns:
        The folder of the dataset.
    """
    from recbole_lightgnn.data.pairs import import_pairs

    return import_pairs(table, name, out, overwrite)


def run(interactions: int | None = None, importer: Importer = import_table) -> dict[str, Any]:
    """Check and time the import of a table; measure memory on a table ten times as long.

    Args:
        interactions: number of lines of the table; ``None`` for a million.
        importer: function that imports a table and that another process can load.

    Returns:
        The result, for a JSON file. ``seconds``: seconds of the import (``ours``) and of
        ``read_csv``, for a table with names of users and items, and for a table with numbers.
        ``times_read_csv``: median of the import divided by the median of ``read_csv``. ``memory``:
        peak memory, in 10^6 bytes, of three processes with a table of numbers. One only imports the
        table (``ours``), one only calls ``read_csv``, one only loads the libraries (``loaded``).

    Raises:
        InputError: if the table would be too short.
        WrongResult: if the imported pairs are not the pairs of the table.
    """
    n = INTERACTIONS if interactions is None else interactions
    if n < LEAST:
        raise InputError(f"--interactions: needs {LEAST} interactions or more, got {n}")
    before = conditions()
    with tempfile.TemporaryDirectory() as folder:
        table, out = Path(folder, "table.csv"), Path(folder, "out")
        seconds, megabytes = {}, {}
        for ids in ("names", "numbers"):
            write_table(table, n, names=ids == "names")
            _check(table, importer(table, "bench", out, True))
            seconds[ids] = measure(
                {
                    "ours": lambda: importer(table, "bench", out, True),
                    "read_csv": lambda: pd.read_csv(table),
                },
                seconds=SECONDS / 2,
            )
            megabytes[ids] = table.stat().st_size / 1e6
        write_table(table, LARGER * n)
        memory = {
            name: in_a_process(_measured, action, importer, table, out)
            for name, action in (("loaded", _nothing), ("ours", _import), ("read_csv", _read))
        }
    return {
        "bench": "import",
        "interactions": n,
        "table_mb": megabytes,
        "conditions": before,
        "seconds": seconds,
        "times_read_csv": {
            ids: taken["ours"]["median"] / taken["read_csv"]["median"]
            for ids, taken in seconds.items()
        },
        "memory": {"interactions": LARGER * n, "peaks": memory},
    }


def write_table(path: Path, n: int, *, names: bool = False, seed: int = 0) -> None:
    """Write a table ``user,item,rating,timestamp`` with degrees as in `graphs.power_law_graph`.

    There is one user per 34 lines and one item per 25 lines, as in LightGCN's Gowalla. About one
    pair in thirty occurs twice.

    Args:
        path: path of the table.
        n: number of lines.
        names: whether users and items are names such as ``USER000001``, instead of numbers.
        seed: seed of the random table.
    """
    draw = np.random.default_rng(seed)
    users, items = draw.permutation(max(1, n // 34)), draw.permutation(max(1, n // 25))
    for start in range(0, n, _ROWS):
        size = min(_ROWS, n - start)
        part = {
            "user": users[(len(users) * draw.random(size) ** 2).astype(np.int64)],
            "item": items[(len(items) * draw.random(size) ** 2).astype(np.int64)],
            "rating": draw.integers(1, 11, size) / 2,
            "timestamp": draw.integers(10**9, 2 * 10**9, size),
        }
        rows = pd.DataFrame(part)
        if names:
            for column in ("user", "item"):
                rows[column] = column.upper() + rows[column].map("{:06d}".format)
        how = {"mode": "a", "header": False} if start else {}
        rows.to_csv(path, index=False, **how)


def _check(table: Path, folder: Path) -> None:
    """Check that the three files of an imported dataset hold each pair of the table exactly once.

    Raises:
        WrongResult: if a pair is missing, repeated or wrong.
    """
    files = [folder / f"{folder.name}.{split}.inter" for split in ("train", "valid", "test")]
    got = pd.concat(
        [pd.read_csv(file, sep="\t", names=["user", "item"], header=0) for file in files]
    )
    wanted = pd.read_csv(table, usecols=["user", "item"]).drop_duplicates()
    got, wanted = (
        pairs.sort_values(["user", "item"], ignore_index=True) for pairs in (got, wanted)
    )
    if not got.equals(wanted):
        raise WrongResult(f"the import of {len(wanted)} pairs gave {len(got)}, or others")


# --- memory ---------------------------------------------------------------------------------


def _measured(action: Action, importer: Importer, table: Path, out: Path) -> dict[str, float]:
    """Run an action; return its seconds, and this process's peak memory in 10^6 bytes."""
    start = time.perf_counter()
    action(importer, table, out)
    seconds = time.perf_counter() - start
    return {"peak_mb": peak_mb(), "seconds": seconds}


def _nothing(importer: Importer, table: Path, out: Path) -> None:
    pass


def _import(importer: Importer, table: Path, out: Path) -> None:
    importer(table, "larger", out, True)


def _read(importer: Importer, table: Path, out: Path) -> None:
    pd.read_csv(table)


# --- text -----------------------------------------------------------------------------------


def text(result: dict[str, Any]) -> str:
    """Format `run`'s result (plus the key ``environment``) as lines of text."""
    where, memory = result["environment"], result["memory"]
    lines = [f"a table of {result['interactions']} interactions; the imported pairs are its pairs"]
    for ids, ratio in result["times_read_csv"].items():
        lines += ["", f"users and items are {ids}: {result['table_mb'][ids]:.0f} MB"]
        for name, seconds in result["seconds"][ids].items():
            median, lower, upper = (seconds[key] for key in ("median", "lower", "upper"))
            lines.append(f"{name:10} {median:.3f} s ({lower:.3f}-{upper:.3f})")
        lines.append(f"import / read_csv: {ratio:.2f}")
    lines += ["", f"a table of {memory['interactions']} interactions, each in its own process"]
    for name, peak in memory["peaks"].items():
        lines.append(f"{name:10} {peak['peak_mb']:.0f} MB at its peak, {peak['seconds']:.1f} s")
    libraries = (f"{name} {where['libraries'][name]}" for name in ("numpy", "pandas"))
    lines += [
        "",
        "median (quartiles)",
        f"{where['processor']}, {where['cores']} cores; {', '.join(libraries)}; load before: "
        f"{result['conditions']['load']:.1f}",
    ]
    return "\n".join(lines)
