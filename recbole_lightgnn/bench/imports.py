"""How long an import of a table takes beside ``pandas.read_csv`` of it, and in how much memory."""

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

Importer = Callable[[Path, str, Path, bool], Path]  # of table, name, folder, overwrite
Action = Callable[[Importer, Path, Path], None]

INTERACTIONS = 1_000_000
LEAST = 1000
LARGER = 10  # times as many, where memory is measured
SECONDS = 20.0  # about how long is measured
_ROWS = 1_000_000  # written at once


def import_table(table: Path, name: str, out: Path, overwrite: bool) -> Path:
    """As `recbole_lightgnn.data.pairs.import_pairs`, which only the measuring process loads."""
    from recbole_lightgnn.data.pairs import import_pairs

    return import_pairs(table, name, out, overwrite)


def run(interactions: int | None = None, importer: Importer = import_table) -> dict[str, Any]:
    """Check an import, then measure it: its time, and its memory on a table ten times as long.

    Args:
        interactions: lines of the table, by default a million.
        importer: turns a table into a dataset; a function that another process can load.

    Returns:
        The result, of plain values: for a table whose users and items are numbers, and for one
        where they are names, ``seconds`` of the import ("ours") and of ``read_csv`` and
        ``times_read_csv``, the ratio of their medians; and ``memory``, with numbers: the peak of a
        process that did nothing but one of them, and of one that only loaded the libraries.

    Raises:
        InputError: if the table would be too short.
        WrongResult: if the imported pairs are not the table's.
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
    """A table ``user,item,rating,timestamp`` of ``n`` lines, degrees as `graphs.power_law_graph`.

    Users and items are numbers, or names with ten letters. One user for 34 interactions and one
    item for 25, as in LightGCN's Gowalla; about one pair in thirty comes twice.
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
    """The three files together must hold the table's pairs, each once."""
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
    """Peak memory in MB and seconds of an action that has a process to itself."""
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


# --- for reading ----------------------------------------------------------------------------


def text(result: dict[str, Any]) -> str:
    """The result, for reading."""
    where, memory = result["environment"], result["memory"]
    lines = [f"a table of {result['interactions']} interactions; the imported pairs are its pairs"]
    for ids, ratio in result["times_read_csv"].items():
        lines += ["", f"users and items are {ids}: {result['table_mb'][ids]:.0f} MB"]
        for name, taken in result["seconds"][ids].items():
            lines.append(
                f"{name:10} {taken['median']:.3f} s ({taken['lower']:.3f}-{taken['upper']:.3f})"
            )
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
