"""``bench search``: the runs that it measures; no speed is tested."""

import json
from pathlib import Path

import pytest
from helpers.planted import write_planted

from recbole_lightgnn.cli.main import main


@pytest.mark.slow
def test_the_run_without_a_search_ends_as_the_run_with_it(capsys):
    write_planted(Path("dataset"))
    command = ["bench", "search", "--dataset=planted", "--trials=2", "--json=s.json"]
    assert main(command) == 0
    searched, found, plain = json.loads(Path("s.json").read_text())["rows"]
    assert [row["recipe"] for row in (searched, found, plain)] == ["search", "found", "default"]
    assert searched["tried"] > 2 > found["tried"] == plain["tried"] == 0
    assert 0 < searched["search_seconds"] < searched["seconds"]
    assert (searched["valid"], searched["test"]) == (found["valid"], found["test"])
    assert plain["valid"] != found["valid"]
    assert "default" in capsys.readouterr().out


def test_bad_numbers_are_refused(capsys):
    assert main(["bench", "search", "--dataset=planted", "--trials=0"]) == 2
    assert "search_trials must be" in capsys.readouterr().err
