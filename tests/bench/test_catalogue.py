"""``bench catalogue``: what it measures, and that it checks the loss; no speed is tested."""

import json
from pathlib import Path

import pytest

from recbole_lightgnn.bench import catalogue
from recbole_lightgnn.bench.measure import WrongResult
from recbole_lightgnn.cli.main import main
from recbole_lightgnn.models.objective import CandidateSampler


@pytest.mark.slow
def test_both_losses_are_measured_on_each_size(monkeypatch, capsys):
    monkeypatch.setattr(catalogue, "SECONDS", 0.1)
    assert main(["bench", "catalogue", "--largest=2e4", "--json=c.json", "--plot=c.svg"]) == 0
    result = json.loads(Path("c.json").read_text())
    names = [row["operation"] for row in result["rows"]]
    assert [int(name.split()[0]) for name in names] == pytest.approx([10_000, 20_000], rel=0.01)
    for row in result["rows"]:
        assert list(row["seconds"]) == [catalogue.SAMPLED, catalogue.ALL]
        assert row["times_ours"][catalogue.ALL] > 0
    printed = capsys.readouterr().out
    assert "all results are right" in printed
    assert "the sample has 8192 items" in printed


def test_a_wrong_loss_is_reported(monkeypatch):
    draw = CandidateSampler.__call__

    def twice(self, asked):
        candidates = draw(self, asked)
        return candidates._replace(log_weight=candidates.items / 1000)

    monkeypatch.setattr(CandidateSampler, "__call__", twice)
    with pytest.raises(WrongResult, match="the sampled softmax"):
        catalogue.check(1000)


def test_a_small_catalogue_is_refused(capsys):
    assert main(["bench", "catalogue", "--largest=100"]) == 2
    assert "--largest: needs 10000 items or more, got 100" in capsys.readouterr().err
