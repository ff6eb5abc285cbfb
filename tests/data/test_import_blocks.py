"""``recbole-lightgnn import pairs``: reading text in blocks, with threads and compiled loops."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from helpers.imports import ROWS, bring, card_of, everything, imported, lines, parquet, refused

from recbole_lightgnn.data import text


@pytest.mark.parametrize(
    ("first", "second"),
    [("1,2,3", "1,2,3,4"), (",2", "a\0b,2"), (",2", "1"), ("1", "\udcff,2")],
)
@pytest.mark.parametrize("processors", [1, 8])
def test_the_earlier_of_two_faulty_lines_is_named(table, monkeypatch, first, second, processors):
    monkeypatch.setattr(text, "BLOCK", 64)
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    rows = [f"{n},{n % 7}" for n in range(500)]
    rows[200], rows[240] = first, second
    content = "\n".join([*rows, ""]).encode(errors="surrogateescape")
    refused(table(content), r"csv, line 201: ")


def test_a_pipe_is_refused_and_not_read_in_part(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "is a pipe or device")


def test_without_compilation_the_result_is_the_same(table):
    rows = [(u, i) for u in range(1000, 1012) for i in range(300, 306)] + [("ann", "é")]
    path = table(lines(rows))
    folder = bring(path)
    script = (
        "import sys; from pathlib import Path; from recbole_lightgnn.data import pairs; "
        "pairs.import_pairs(Path(sys.argv[1]), 'tiny', Path('plain'))"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-W", "ignore", "-c", script, str(path)]
    subprocess.run(command, env=environment, check=True)
    assert imported(Path("plain/tiny")) == imported(folder)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "unwritable"])
def test_lost_compiled_code_is_compiled_again(table, tmp_path, damage):
    path, cache = table(lines(ROWS)), tmp_path / "cache"
    script = (
        "import resource, sys; from pathlib import Path; from recbole_lightgnn.data import pairs; "
        "size = int(sys.argv[3]); resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)); "
        "pairs.import_pairs(Path(sys.argv[1]), sys.argv[2])"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}

    def run(name, most=2**30):
        command = [sys.executable, "-c", script, str(path), name, str(most)]
        subprocess.run(command, env=environment, check=True)

    if damage == "cut":
        run("first")
        for file in cache.rglob("*.nb?"):
            file.write_bytes(file.read_bytes()[:20])
        run("tiny")
    else:
        run("tiny", most=4096)
    assert everything(Path("dataset/tiny")) == set(ROWS)


def test_1970_01_01_is_a_date(table):
    rows = [(1, i, 5, "1970-01-01") for i in range(12)]
    content = lines([*rows, (1, 99, 5, "bad")])
    refused(table(content), "line 13: time 'bad' is not a date", split="time", header=False)


@pytest.mark.parametrize("kind", ["text", "int64", "datetime64[ns]"])
def test_nanoseconds_keep_their_order(table, tmp_path, kind):
    times = [1_700_000_000_000_000_000 + 10 * (9 - n) for n in range(10)]
    rows = [("u", str(n), time) for n, time in enumerate(times)]
    if kind == "text":
        path = table(lines(rows, header="user,item,time"))
    else:
        frame = pd.DataFrame(rows, columns=["user", "item", "time"]).astype({"time": kind})
        path = parquet(tmp_path / "t.parquet", frame)
    assert imported(bring(path, split="time"))["test"] == [("u", "0")]


def test_a_field_longer_than_python_reads(table):
    refused(table('"' + "a" * 200_000 + '",b\n' + lines(ROWS)), "line 1")


def test_two_columns_of_one_name(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table([["a"], [1], [2]], names=["user", "item", "item"]), path)
    refused(path, r"t\.parquet has 2 columns named item")


def test_ids_with_a_colon_are_not_a_header(table):
    rows = [(f"user:{u}", f"item:{i}") for u in range(6) for i in range(10)]
    folder = bring(table(lines(rows)))
    assert everything(folder) == set(rows)
    assert card_of(folder)["header"] is False
