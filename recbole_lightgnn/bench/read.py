"""Time and memory of reading an atomic file, compared with RecBole's own reader.

Each reader runs in its own process, on the same file, and must give the same table.
"""

import tempfile
import time
from collections.abc import Mapping
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_lightgnn.bench.imports import INTERACTIONS, LEAST, write_table
from recbole_lightgnn.bench.measure import (
    WrongResult,
    conditions,
    in_a_process,
    peak_mb,
    row,
    summary,
)
from recbole_lightgnn.bench.text import conditions_text, milliseconds, short
from recbole_lightgnn.errors import InputError

OURS, THEIRS = "ours", "RecBole's"
READS = 5  # measured reads, after one to warm up
_HEADER = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"


def run(interactions: int | None = None) -> dict[str, Any]:
    """Read a file with both readers, check that their tables are equal, and measure both.

    Args:
        interactions: number of lines of the file; ``None`` for a million.

    Returns:
        The result, for a JSON file. ``rows``: seconds of both readers. ``memory``, in 10^6 bytes:
        ``peak_mb``, peak memory of each reader's process; ``loaded_mb``, peak memory of a process
        that only loads the libraries. ``times_ours`` divides RecBole's ``peak_mb`` by ours, after
        ``loaded_mb`` is subtracted from both.

    Raises:
        InputError: if the file would be too short.
        WrongResult: if the tables differ.
    """
    n = INTERACTIONS if interactions is None else interactions
    if n < LEAST:
        raise InputError(f"--interactions: needs {LEAST} interactions or more, got {n}")
    before = conditions()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "bench", "bench.inter")
        file.parent.mkdir()
        write_table(file, n, names=True)
        lines = file.read_bytes().partition(b"\n")[2].replace(b",", b"\t")
        file.write_bytes(_HEADER + lines)
        loaded = in_a_process(_measured, "", file)["peak_mb"]
        measured = {name: in_a_process(_measured, name, file) for name in (OURS, THEIRS)}
    if measured[OURS]["table"] != measured[THEIRS]["table"]:
        raise WrongResult("our reader and RecBole's gave different tables")
    peaks = {name: one["peak_mb"] for name, one in measured.items()}
    added = {name: max(peak - loaded, 1.0) for name, peak in peaks.items()}
    seconds = {name: summary(one["seconds"]) for name, one in measured.items()}
    return {
        "bench": "read",
        "graph": file.name,
        "interactions": n,
        "file_mb": (len(_HEADER) + len(lines)) / 1e6,
        "conditions": before,
        "rows": [row("read an atomic file", seconds)],
        "memory": {
            "loaded_mb": loaded,
            "peak_mb": peaks,
            "times_ours": added[THEIRS] / added[OURS],
        },
    }


def _measured(reader: str, file: Path) -> dict[str, Any]:
    """Read a file with the named reader in this process and measure; an empty name reads nothing.

    Returns:
        ``seconds`` of each read, ``peak_mb`` of the process, and ``table``: the types of the
        columns and a hash of each line. If nothing is read, ``peak_mb`` alone.
    """
    from pandas.util import hash_pandas_object
    from recbole.data.dataset import Dataset
    from recbole.utils import FeatureSource

    from recbole_lightgnn.config.recbole_config import build_config

    settings = {"data_path": str(file.parent.parent), "load_col": None}
    dataset = Dataset.__new__(Dataset)  # with __init__ it would read the file
    dataset.config, dataset.logger = build_config("BPR", "bench", (), settings), getLogger()
    if not reader:
        return {"peak_mb": peak_mb()}
    read = Dataset._load_feat if reader == OURS else Dataset._load_feat.__wrapped__
    seconds: list[float] = []
    table: Any = None
    for _ in range(READS + 1):
        table = None  # so that two tables are never in memory
        dataset._get_preset()
        start = time.perf_counter()
        table = read(dataset, str(file), FeatureSource.INTERACTION)
        seconds.append(time.perf_counter() - start)
    peak = peak_mb()  # before the hash
    kinds = {name: str(kind) for name, kind in table.dtypes.items()}
    hashes = hash_pandas_object(table, index=False)
    return {"seconds": seconds[1:], "peak_mb": peak, "table": (kinds, hashes.to_list())}


def text(result: Mapping[str, Any]) -> str:
    """Format `run`'s result (plus the key ``environment``) as lines of text."""
    ((one,), memory) = (result["rows"], result["memory"])
    time_ratio, memory_ratio = short(one["times_ours"][THEIRS]), short(memory["times_ours"])
    readers = [
        f"{name:10} {milliseconds(seconds)} ms, {memory['peak_mb'][name]:.0f} MB at its peak"
        for name, seconds in one["seconds"].items()
    ]
    return "\n".join(
        [
            f"an atomic file of {result['interactions']} interactions, {result['file_mb']:.0f} MB; "
            "both readers give the same table, each in its own process",
            "",
            *readers,
            f"RecBole's / ours: {time_ratio} in time, {memory_ratio} in memory above that of the "
            f"libraries ({memory['loaded_mb']:.0f} MB)",
            "",
            "median (quartiles) in milliseconds",
            conditions_text(result),
        ]
    )
