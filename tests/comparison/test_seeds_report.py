"""`recbole-lightgnn report` of records: means, deviations, the paper's results, bad input."""

import copy
import json
from pathlib import Path

import pytest

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.comparison.paper_numbers import METRICS, SPLITS
from recbole_lightgnn.comparison.seeds_report import read_records, summary


def record(seed, shift=0.0, train="0" * 64):
    """A record of two trainings; all metrics are different."""
    rows = [
        {
            "key": key,
            "entries_kept": kept,
            "interactions_kept": 1.0,
            "bytes": 1000 * kept,
            "seconds": 2.0,
            "valid": dict.fromkeys(METRICS, 0.5),
            "test": {metric: place / 10 + number / 100 + shift
                     for place, metric in enumerate(METRICS)},
        }
        for number, (key, kept) in enumerate([("teacher", 1.0), ("student-00", 0.33)])
    ]  # fmt: skip
    return {
        "model": "LightGNN",
        "dataset": "toy",
        "seed": seed,
        "settings": {"epochs": 3, "seed": seed},
        "dataset_fingerprint": {"train": {"sha256": train}},
        "rows": rows,
    }


def write(name, content):
    Path(name).write_text(json.dumps(content), encoding="utf-8")
    return name


@pytest.fixture
def files():
    return [write(f"{seed}.json", record(seed, seed / 1000)) for seed in (2, 1, 3)]


def test_means_and_deviations(files):
    records = read_records([Path(file) for file in files])
    assert [one["seed"] for one in records] == [1, 2, 3]
    teacher, student = summary(records)
    assert student["test"]["ndcg@20"]["mean"] == pytest.approx(0.112)  # .1 + .01 + .002
    assert student["test"]["ndcg@20"]["std"] == pytest.approx(0.001)
    assert teacher["test"]["recall@20"]["mean"] == pytest.approx(0.002)
    assert student["bytes"] == pytest.approx(330)
    (one, _) = summary(records[:1])
    assert one["test"]["recall@40"]["std"] == 0.0


def test_the_table_and_all_records_in_one_file(files, capsys):
    assert main(["report", *files, "--json=all.json"]) == 0
    table = capsys.readouterr().out
    assert "| student-00 | .33 / 1.00 | 0.0 MB | .0120 ± .0010 | .1120 ± .0010 |" in table
    assert "paper's" not in table
    assert main(["report", "all.json"]) == 0
    assert capsys.readouterr().out == table


def test_some_rows_alone(files, capsys):
    assert main(["report", *files, "--rows=student-00"]) == 0
    table = capsys.readouterr().out
    assert "| student-00 | .33 / 1.00 |" in table
    assert "| teacher |" not in table
    assert main(["report", *files, "--rows=student-00,studnet-01"]) == 2
    assert "--rows must be one of teacher, student-00, got 'studnet-01'" in capsys.readouterr().err


def test_the_papers_results_stand_beside_its_own_split(capsys):
    write("mine.json", record(1, train=SPLITS["yelp"].train_sha256))
    assert main(["report", "mine.json", "--plot=mine.png"]) == 0
    assert "| *paper's LightGNN* | .33 / .77 |  | *.0879* | *.0443* | *.1328* | *.0553* |" in (
        capsys.readouterr().out
    )
    assert Path("mine.png").stat().st_size > 10_000


def changed(path, value):
    other = copy.deepcopy(record(2))
    *outer, last = path
    inside = other
    for key in outer:
        inside = inside[key]
    inside[last] = value
    return other


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (changed(["seed"], 1), "are both of seed 1"),
        (changed(["model"], "BPR"), "is of another model than one.json"),
        (changed(["dataset_fingerprint", "train", "sha256"], "1"), "is of another split"),
        (changed(["settings", "epochs"], 4), "has other settings than one.json (epochs)"),
        ([], "holds no record"),
        ({"bench": "ops"}, "holds no record of a run: expected"),
        ("text", "holds no record of a run: expected"),
    ],
)
def test_what_does_not_belong_together_is_refused(capsys, content, facts):
    write("one.json", record(1))
    assert main(["report", "one.json", write("other.json", content)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: other.json ")
    assert facts in line


def test_a_file_that_is_no_json(capsys):
    Path("broken.json").write_text('{"model": ', encoding="utf-8")
    assert main(["report", "broken.json"]) == 2
    assert "broken.json cannot be read as a record" in capsys.readouterr().err
    assert main(["report", "absent.json"]) == 2
    assert "absent.json cannot be read as a record: No such file" in capsys.readouterr().err
