"""Which runs count as finished, and the estimate of the time left."""

import json
import time

import pytest

from recbole_lightgnn.comparison.layout import Run, RunFolder
from recbole_lightgnn.comparison.progress import Progress, rounded


def run_of(model, seed, folder):
    run_folder = RunFolder(folder / f"{model}-{seed}")
    return Run(model, model, "planted", seed, {}, {}, run_folder, {"users": 7})


def test_the_time_left_is_estimated_from_finished_runs(tmp_path):
    runs = [run_of(model, seed, tmp_path) for model in ("A", "B") for seed in (1, 2, 3)]
    done = {("A", 1): 100.0, ("A", 2): 200.0, ("B", 1): 30.0}
    for run in runs:
        if seconds := done.get((run.model, run.seed)):
            run.folder.path.mkdir()
            record = {"model": run.model, "seed": run.seed, "seconds": 1.0}
            record["dataset_fingerprint"] = {"users": 7, "card_sha256": "0"}
            row = {"seconds": seconds - 5, "test_seconds": 5.0, "test": {}}
            run.folder.record_file.write_text(json.dumps(record | {"rows": [row]}))
    # Expected: one run of A at 150 s, two of B at 30 s.
    assert Progress(runs, 1).seconds_left() == pytest.approx(210)
    assert Progress(runs, 2).seconds_left() == pytest.approx(105)
    assert Progress([run_of("C", 1, tmp_path)], 1).seconds_left() is None
    assert Progress([*runs, run_of("C", 1, tmp_path)], 1).seconds_left() == pytest.approx(320)


def test_a_run_that_takes_longer_than_estimated_is_taken_to_be_half_way(tmp_path):
    runs = [run_of("A", seed, tmp_path) for seed in (1, 2)]
    runs[0].folder.path.mkdir()
    row = {"seconds": 7.0, "test_seconds": 1.0, "test": {}}
    record = {"model": "A", "seed": 1, "seconds": 8.0, "rows": [row]}
    runs[0].folder.record_file.write_text(
        json.dumps(record | {"dataset_fingerprint": {"users": 7}})
    )
    progress = Progress(runs, 1)
    progress.begun[runs[1]] = time.monotonic() - 6
    assert progress.seconds_left() == pytest.approx(2, abs=0.5)
    progress.begun[runs[1]] = time.monotonic() - 3600
    assert progress.seconds_left() == pytest.approx(3600, abs=60)
    other = Progress([runs[0], run_of("B", 1, tmp_path)], 1)  # the time of A says little about B
    other.begun[other.left[0]] = time.monotonic() - 7
    assert other.seconds_left() == pytest.approx(7, abs=0.5)


@pytest.mark.parametrize(
    "change",
    [
        {"rows": None},
        {"rows": []},
        {"rows": [{}]},
        {"rows": [{"seconds": 8.0, "test": {}}]},
        {"seed": 2},
        {"dataset_fingerprint": {"users": 8}},
        None,
    ],
)
def test_a_damaged_or_foreign_record_does_not_count(tmp_path, change):
    run = run_of("A", 1, tmp_path)
    run.folder.path.mkdir()
    row = {"seconds": 8.0, "test": {}, "test_seconds": 1.0}
    record = {"model": "A", "seed": 1, "rows": [row], "dataset_fingerprint": {"users": 7}}
    run.folder.record_file.write_text(json.dumps(record))
    assert run.record() == record
    run.folder.record_file.write_text(json.dumps([] if change is None else record | change))
    assert run.record() is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5940, "99 min"), (11100, "3 h 05 min")],
)
def test_durations(seconds, text):
    assert rounded(seconds) == text
