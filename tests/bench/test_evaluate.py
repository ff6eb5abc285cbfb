"""``bench evaluate`` checks before it measures, and writes what it found."""

import json
from pathlib import Path

import pytest
from helpers.planted import N_ITEMS, N_USERS, write_planted

from recbole_lightgnn.bench import evaluate
from recbole_lightgnn.bench.evaluate import DEFAULT, LARGE, OURS, PLAIN
from recbole_lightgnn.bench.measure import WrongResult
from recbole_lightgnn.cli.main import main
from recbole_lightgnn.trainer import evaluation, recbole_evaluation

MEASURED = "a wrong result was measured"


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """The planted dataset, and three rounds of every contender."""
    write_planted(tmp_path / "dataset")
    monkeypatch.setattr(evaluate, "SECONDS", 0.1)


def test_bench_evaluate_measures_ours_and_recboles(capsys):
    files = ["--json=out/evaluate.json", "--plot=evaluate.svg"]
    assert main(["bench", "evaluate", "--dataset=planted", *files]) == 0
    result = json.loads(Path("out/evaluate.json").read_text())
    (row,) = result["rows"]
    assert list(row["seconds"]) == [OURS, PLAIN, LARGE, DEFAULT]
    assert list(row["times_ours"]) == [PLAIN, LARGE, DEFAULT]
    for name, times in row["times_ours"].items():
        quotient = row["seconds"][name]["median"] / row["seconds"][OURS]["median"]
        assert times == pytest.approx(quotient, rel=1e-12)
    assert 0 <= result["deviation"] <= 1e-9
    assert list(result["extra_memory_mb"]) == [OURS, PLAIN, LARGE, DEFAULT]
    assert all(0 <= mb < 500 for mb in result["extra_memory_mb"].values())
    sizes = (result["users"], result["items"], result["ranked_users"])
    assert sizes == (N_USERS, N_ITEMS, N_USERS)
    printed = capsys.readouterr().out
    assert f"planted: {N_USERS} users, {N_ITEMS} items, " in printed
    assert f"{N_USERS} users ranked, 100% of them with a hit in 40" in printed
    assert printed.endswith("picture: evaluate.svg\n")


@pytest.fixture
def never_measured(monkeypatch):
    monkeypatch.setattr(evaluate, "measure", lambda *_, **__: pytest.fail(MEASURED))


def test_a_wrong_metric_is_reported_and_not_measured(never_measured, monkeypatch):
    right = evaluation._ndcg
    monkeypatch.setitem(evaluation.METRICS, "ndcg", lambda *given: right(*given) + 1e-8)
    with pytest.raises(WrongResult, match=r"ours: ndcg@10 is 0\.\d+, not 0\.\d+"):
        evaluate.run("planted")


def test_a_wrong_order_is_reported_and_not_measured(never_measured, monkeypatch):
    """The ranking misses one item, or one group of items."""
    right = evaluation._maxima

    def forgetful(scores, k):
        levels = right(scores, k)
        levels[-1][:, 5] = -float("inf")
        return levels

    monkeypatch.setattr(evaluation, "_maxima", forgetful)
    with pytest.raises(WrongResult, match=r"ours: recall@10 is 0\.\d+, not 0\.\d+"):
        evaluate.run("planted")


def test_recboles_evaluator_is_not_measured_for_ours(never_measured, monkeypatch):
    for module in (evaluate, recbole_evaluation):
        monkeypatch.setattr(module, "final_tables", lambda model: None)
    with pytest.raises(WrongResult, match="ours: LightGCN was not recognized as a model with scor"):
        evaluate.run("planted")


def test_a_metric_that_is_missing_or_no_number_is_wrong():
    found = {LARGE: {"recall@10": 0.5, "ndcg@10": 0.25}}
    close = {"recall@10": 0.5, "ndcg@10": 0.25 - 1e-5}
    assert evaluate._compare(found | {OURS: close}, 1e-4) == pytest.approx(1e-5 / 0.5)
    with pytest.raises(WrongResult, match=r"ours: metrics recall@10, not recall@10, ndcg@10"):
        evaluate._compare(found | {OURS: {"recall@10": 0.5}}, 1e-4)
    with pytest.raises(WrongResult, match=r"ours: ndcg@10 is nan, not 0\.25"):
        evaluate._compare(found | {OURS: close | {"ndcg@10": float("nan")}}, 1e-4)


def test_a_dataset_that_is_not_there_is_one_line(capsys):
    assert main(["bench", "evaluate", "--dataset=nothing"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: dataset nothing is not in ")
