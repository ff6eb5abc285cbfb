"""``bench infer``: what it counts and measures, and that it checks first; no speed is tested."""

import json
from pathlib import Path

import pytest
import torch
from helpers.planted import N_ITEMS, N_USERS, QUICK, write_planted
from torch.testing import assert_close

from recbole_lightgnn.bench import infer, students
from recbole_lightgnn.bench.measure import WrongResult
from recbole_lightgnn.cli.main import main
from recbole_lightgnn.models.student import LightGNN
from recbole_lightgnn.ops import SparsePattern, expands_in_hardware
from recbole_lightgnn.quick_start import run

TEACHER, UNPRUNED = "teacher, 8 layers", "student, unpruned"
MEASURED = "a wrong result was measured"


@pytest.fixture(autouse=True)
def world(monkeypatch):
    monkeypatch.setattr(infer, "SECONDS", 0.01)
    return write_planted(Path("dataset"))


@pytest.fixture
def trained():
    """The run folder of LightGNN with two pruning runs."""
    return Path(run("LightGNN", "planted", settings=QUICK)["result_file"]).parent


def measured(*arguments):
    assert main(["bench", "infer", *arguments, "--json=infer.json"]) == 0
    return json.loads(Path("infer.json").read_text())


# --- measurements ----------------------------------------------------------------------------


def test_students_are_measured_with_the_unpruned_one_and_a_teacher(capsys, world):
    result = measured("--dataset=planted", "--plot=infer.svg")
    assert (result["users"], result["items"]) == (N_USERS, N_ITEMS)
    assert result["interactions"] == len(world["train"])
    # By default, a pruning run keeps 0.8 of the entries and 0.9 of the interactions.
    pruned = ["student, run 5 (.33/.59)", "student, run 11 (.09/.31)"]
    assert list(result["models"]) == [*pruned, UNPRUNED, TEACHER]
    propagation, one, every = result["rows"]
    others = [f"{name}: by torch's CSR" for name in (*pruned, UNPRUNED)]
    others += [f"{name}: encode" for name in result["models"]]
    assert set(propagation["seconds"]) == {*result["models"], *others}
    assert list(one["seconds"]) == list(every["seconds"]) == list(result["models"])
    for row in result["rows"]:
        median = {name: taken["median"] for name, taken in row["seconds"].items()}
        assert next(iter(median)) == pruned[0]
        assert row["times_ours"] == {
            name: pytest.approx(taken / median[pruned[0]])
            for name, taken in median.items()
            if name != pruned[0]
        }
    assert 0 < result["deviation"] < 1e-5
    printed = capsys.readouterr().out
    assert "untrained, made by a truncated SVD" in printed
    assert f"planted: {N_USERS} users, {N_ITEMS} items" in printed
    assert all(any(line.startswith(name) for line in printed.splitlines()) for name in others)
    drawn = Path("infer.svg").read_text()
    assert all(f"<!-- {name} -->" in drawn for name in (*result["models"], "propagation"))


def test_what_a_model_executes_and_holds(world):
    result = measured("--dataset=planted")
    edges, nodes = len(world["train"]), N_USERS + N_ITEMS + 2  # with RecBole's padding
    teacher = result["models"][TEACHER]
    assert teacher["multiply_adds"] == 8 * 64 * (2 * edges + nodes)
    matrix = 2 * 8 * edges + 4 * (nodes + 2)
    assert teacher["resident_bytes"] == matrix + 4 * 64 * nodes
    unpruned = result["models"][UNPRUNED]
    assert unpruned["of_teacher"] == pytest.approx(0.25)
    assert unpruned["resident_bytes"] == teacher["resident_bytes"]
    for (name, size), (_, student) in zip(
        result["models"].items(),
        list(students.untrained_students("planted").items())[1:],
        strict=False,
    ):
        masks = student.user_embedding.entry_mask, student.item_embedding.entry_mask
        pattern = student.graph.interactions.pattern
        count = 2 * pattern.nnz * 64 + 2 * sum(int(mask.sum()) for mask in masks)
        for i, j in zip(pattern.row.tolist(), pattern.col.tolist(), strict=True):
            count += int(masks[0][i].sum() + masks[1][j].sum())
        if expands_in_hardware():
            assert size["multiply_adds"] == count, name
            assert size["resident_bytes"] < unpruned["resident_bytes"]
        assert size["of_teacher"] == size["multiply_adds"] / teacher["multiply_adds"]


def test_the_students_of_a_run_are_measured(capsys, trained):
    result = measured(f"--run={trained}")
    rows = json.loads((trained / "run.json").read_text())["rows"]
    last = next(row for row in rows if row["key"] == "student-02")
    assert (round(last["entries_kept"], 2), round(last["interactions_kept"], 2)) == (0.64, 0.81)
    assert list(result["models"]) == ["student, run 2 (.64/.81)", UNPRUNED, TEACHER]
    assert (result["graph"], result["width"]) == ("planted", 16)
    assert f"students: of {trained}" in capsys.readouterr().out
    name, taken = students.students_of_run(trained)
    assert name == "planted"
    assert list(taken) == [0, 2]
    assert taken[2].sizes()["entries"] == last["entries"]
    assert taken[2].sizes()["bytes"] == last["bytes"]
    assert (taken[2].edge_weight != 1).all(), "trained"


def test_untrained_students_are_pruned_run_by_run(world):
    made = students.untrained_students("planted")
    assert list(made) == [0, 5, 11]
    entries, edges = (N_USERS + N_ITEMS) * 64, len(world["train"])
    for run_number in range(1, 12):
        entries, edges = round(0.8 * entries), round(0.9 * edges)
        if run_number in made:
            sizes = made[run_number].sizes()
            assert (sizes["entries"], sizes["interactions"]) == (entries, edges)


def test_untrained_students_begin_with_singular_vectors(world):
    student = students.untrained_students("planted")[0]
    left, right = students._singular_vectors(student)
    rank = N_ITEMS  # one less than the 61 rows with RecBole's padding
    assert left.shape == (N_USERS + 1, 64)
    product = left[:, -rank:] @ right[:, -rank:].T
    interactions = student.observed.interactions
    dense = interactions.pattern.matrix(interactions.norm).to_dense()
    assert_close(product, dense, rtol=1e-4, atol=1e-5)


# --- the check -------------------------------------------------------------------------------


def test_wrong_embeddings_are_reported_and_not_measured(monkeypatch):
    right = LightGNN.infer

    def wrong(student):
        user, item = right(student)
        return user, item + 0.01 * item.abs().max()

    monkeypatch.setattr(LightGNN, "infer", wrong)
    monkeypatch.setattr(infer, "measure", lambda *_, **__: pytest.fail(MEASURED))
    with pytest.raises(WrongResult, match=r"student, run 5 \(.33/.59\): part 1 is wrong by 0.01 "):
        infer.run("planted")


def test_wrong_recommendations_are_reported_and_not_measured(monkeypatch):
    def seen_too(user, item, seen, first, last):
        return infer_recommend(user, item, no_interactions(*seen.shape), first, last)

    infer_recommend = infer.recommend
    monkeypatch.setattr(infer, "recommend", seen_too)
    monkeypatch.setattr(infer, "measure", lambda *_, **__: pytest.fail(MEASURED))
    with pytest.raises(WrongResult, match=r"recommendations by student, run 5 \(.33/.59\): part 0"):
        infer.run("planted")


# --- recommendation --------------------------------------------------------------------------


def no_interactions(n_users, n_items):
    """A pattern without interactions."""
    empty = torch.empty(0, dtype=torch.int64)
    return SparsePattern(empty, empty, (n_users, n_items))


def test_recommend_by_hand():
    user = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    item = torch.tensor([[9.0, 9.0], [1.0, 4.0], [2.0, 3.0], [3.0, 2.0]])
    seen = SparsePattern(torch.tensor([1, 2]), torch.tensor([3, 2]), (3, 4))
    assert infer.recommend(user, item, seen, 1, 3, k=2).tolist() == [[2, 1], [1, 3]]
    assert infer.recommend(user, item, seen, 2, 3, k=1).tolist() == [[1]]
    assert infer.recommend(user, item, no_interactions(3, 4), 1, 2).tolist() == [[3, 2, 1]]


@pytest.mark.parametrize("scores", [1, 200, 1 << 24])
def test_recommend_equals_a_plain_loop(monkeypatch, scores):
    monkeypatch.setattr(infer, "_SCORES", scores)
    generator = torch.Generator().manual_seed(1)
    user, item = (torch.randn(n, 5, generator=generator) for n in (23, 40))
    pairs = torch.rand(23, 40, generator=generator) < 0.3
    seen = SparsePattern(*pairs.nonzero().T, (23, 40))
    best = infer.recommend(user, item, seen, 1, 23, k=7)
    for u in range(1, 23):
        ranked = sorted(range(1, 40), key=lambda i, u=u: -float(user[u] @ item[i]))
        assert best[u - 1].tolist() == [i for i in ranked if not pairs[u, i]][:7]


# --- bad input -------------------------------------------------------------------------------


def error_line(capsys, *arguments):
    assert main(["bench", "infer", *arguments]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    return line


def test_bad_input_is_one_line(capsys):
    assert "dataset 'plantd' not found (did you mean 'planted'?)" in error_line(
        capsys, "--dataset=plantd"
    )
    assert "nowhere is no run folder" in error_line(capsys, "--run=nowhere")
    assert "not allowed with argument" in error_line(capsys, "--run=a", "--dataset=planted")


def test_a_run_must_have_pruned(capsys):
    record = run("LightGNNTeacher", "planted", settings={**QUICK["teacher_settings"], "topk": [20]})
    folder = Path(record["result_file"]).parent
    assert f"--run {folder} holds no pruned student" in error_line(capsys, f"--run={folder}")


def test_a_run_on_other_data_is_refused(capsys, trained):
    file = Path("dataset", "planted", "planted.train.inter")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    line = error_line(capsys, f"--run={trained}")
    assert "was trained on other interactions than these" in line
