"""``bench read``: what it measures, and that it checks the tables; no speed is tested."""

import json
from pathlib import Path

import pytest

from recbole_lightgnn.bench import read
from recbole_lightgnn.bench.measure import WrongResult
from recbole_lightgnn.cli.main import main


@pytest.mark.slow
def test_bench_read_measures_both_readers_on_the_same_file(capsys):
    assert main(["bench", "read", "--interactions=5000", "--json=r.json", "--plot=r.svg"]) == 0
    result = json.loads(Path("r.json").read_text())
    assert result["interactions"] == 5000
    (row,) = result["rows"]
    assert list(row["seconds"]) == [read.OURS, read.THEIRS]
    assert [taken["calls"] for taken in row["seconds"].values()] == [read.READS] * 2
    medians = [taken["median"] for taken in row["seconds"].values()]
    assert row["times_ours"][read.THEIRS] == pytest.approx(medians[1] / medians[0])
    memory = result["memory"]
    assert 20 < memory["loaded_mb"] < 10_000
    ours, theirs = (max(peak - memory["loaded_mb"], 1) for peak in memory["peak_mb"].values())
    assert memory["times_ours"] == pytest.approx(theirs / ours)
    printed = capsys.readouterr().out
    assert "an atomic file of 5000 interactions, 0 MB; both readers give the same" in printed
    assert "RecBole's / ours: " in printed
    assert "RecBole" in Path("r.svg").read_text()


@pytest.mark.slow
def test_other_tables_are_reported(monkeypatch):
    whole = read.in_a_process

    def loses_a_line(action, reader, file):
        if reader == read.THEIRS:
            file.write_bytes(file.read_bytes()[:-1].rpartition(b"\n")[0] + b"\n")
        return whole(action, reader, file)

    monkeypatch.setattr(read, "in_a_process", loses_a_line)
    with pytest.raises(WrongResult, match="our reader and RecBole's gave different tables"):
        read.run(1000)


def test_a_file_that_is_too_short_is_refused(capsys):
    assert main(["bench", "read", "--interactions=999"]) == 2
    assert "needs 1000 interactions or more, got 999" in capsys.readouterr().err
