"""Benchmarks check before they measure, and write what they found. No test depends on speed."""

import contextlib
import io
import json
import time
from pathlib import Path

import pytest
import torch
from helpers.planted import write_planted

from recbole_lightgnn.bench import imports, lightgcn, ops, recbole_models, step
from recbole_lightgnn.bench import measure as measuring
from recbole_lightgnn.bench.graphs import power_law_graph
from recbole_lightgnn.bench.measure import WrongResult, deviation, measure
from recbole_lightgnn.cli.main import main
from recbole_lightgnn.data.pairs import import_pairs
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.ops import products

OPERATIONS = [ops.FORWARD, ops.TRANSPOSED, ops.TO_DENSE, ops.TO_BOTH, ops.SAMPLED]
SMALL = ["bench", "ops", "--interactions=500"]
MEASURED = "a wrong result was measured"


def write_dataset(text, file="toy.train.inter"):
    folder = Path("dataset", "toy")
    folder.mkdir(parents=True)
    (folder / file).write_text(text, encoding="utf-8")


# --- bench ops ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """One run of ``bench ops``: its result, what it printed, and its picture."""
    folder = tmp_path_factory.mktemp("ops")
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.chdir(folder)
        patch.setattr(ops, "SECONDS", 0.1)
        assert main([*SMALL, "--json=out/ops.json", "--plot=ops.svg"]) == 0
    result = json.loads((folder / "out/ops.json").read_text())
    return result, printed.getvalue(), (folder / "ops.svg").read_text()


@pytest.fixture
def quick(monkeypatch):
    """Three short turns of each contender, for tests that do not look at times."""
    monkeypatch.setattr(ops, "SECONDS", 0.0)
    monkeypatch.setattr(ops, "COPIED", 1 << 20)
    monkeypatch.setattr(measuring, "TURN", 1e-3)


def test_bench_ops_measures_every_product_and_its_alternatives(measured):
    result, _, _ = measured
    assert (result["users"], result["items"], result["interactions"]) == (117, 74, 500)
    assert [row["operation"] for row in result["rows"]] == OPERATIONS
    for row in result["rows"]:
        absent = {"COO"} if row["operation"] == ops.SAMPLED else set()
        who = {"ours", "COO", "CSR", "gather"} - absent
        assert set(row["seconds"]) == who
        assert set(row["times_ours"]) == who - {"ours"}
        for taken in row["seconds"].values():
            assert taken["calls"] >= 3
            assert 0 < taken["lower"] <= taken["median"] <= taken["upper"]
        for name, times in row["times_ours"].items():
            quotient = row["seconds"][name]["median"] / row["seconds"]["ours"]["median"]
            assert times == pytest.approx(quotient, rel=1e-12)
    assert 0 < result["deviation"] < 1e-5


def test_bench_ops_reports_bytes_per_second(measured):
    """A product reads 500 rows of 64 numbers, a value and an index each, and writes its result."""
    result, _, _ = measured
    forward, transposed = result["rows"][:2]
    for row, size in ((forward, 117), (transposed, 74)):
        moved = 500 * (64 * 4 + 8) + size * 64 * 4
        median = row["seconds"]["ours"]["median"]
        assert row["bytes_per_second"] == pytest.approx(moved / median, rel=1e-12)
    assert result["copy_bytes_per_second"] > 0


def test_bench_ops_reports_the_environment_and_prints_the_result(measured):
    result, printed, _ = measured
    assert result["environment"]["threads"] == torch.get_num_threads()
    assert result["environment"]["libraries"]["torch"].startswith(torch.__version__.split("+")[0])
    assert "117 users, 74 items, 500 interactions; width 64" in printed
    assert all(any(line.startswith(name) for line in printed.splitlines()) for name in OPERATIONS)
    assert "result: out/ops.json" in printed


def test_the_picture_shows_every_operation(measured):
    _, printed, drawn = measured
    assert printed.endswith("picture: ops.svg\n")
    for name in [*OPERATIONS, "ours", "COO", "gather"]:
        assert f"<!-- {name.replace('<', '&lt;').replace('>', '&gt;')} -->" in drawn


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("file", ["toy.train.inter", "toy.inter"])
def test_bench_ops_on_a_dataset(capsys, file):
    lines = [f"{u % 4}\tu{u}\ti{(u + k) % 7}" for u in range(30) for k in range(3)]
    write_dataset("\n".join(["rating:float\tuser_id:token\titem_id:token", *lines]), file)
    assert main(["bench", "ops", "--dataset=toy"]) == 0
    assert "toy: 30 users, 7 items, 90 interactions" in capsys.readouterr().out


@pytest.mark.usefixtures("quick")
def test_alternatives_that_would_exhaust_the_memory_are_left_out(capsys, monkeypatch):
    monkeypatch.setattr(ops, "conditions", lambda: {"load": 0.0, "free_memory_gb": 1e-6})
    assert main([*SMALL, "--json=ops.json"]) == 0
    rows = {row["operation"]: row for row in json.loads(Path("ops.json").read_text())["rows"]}
    assert list(rows[ops.TO_BOTH]["seconds"]) == ["ours", "gather"]
    assert list(rows[ops.TO_DENSE]["seconds"]) == ["ours", "COO", "CSR", "gather"]
    assert "left out: S X and both gradients by COO and CSR" in capsys.readouterr().out


# --- bench step -----------------------------------------------------------------------------


@pytest.mark.slow
def test_bench_step_checks_and_measures(capsys, monkeypatch):
    monkeypatch.setattr(step, "SECONDS", 0.1)
    monkeypatch.setattr(step, "CHECKED", 3)
    assert main(["bench", "step", "--json=step.json"]) == 0
    result = json.loads(Path("step.json").read_text())
    assert 0 <= result["deviation"] <= 1e-5
    (row,) = result["rows"]
    assert list(row["seconds"]) == [step.OURS, step.MIXED, step.THEIRS, step.STUDENT]
    median = {name: taken["median"] for name, taken in row["seconds"].items()}
    assert row["times_ours"][step.THEIRS] == pytest.approx(median[step.THEIRS] / median[step.OURS])
    assert "943 users, 1682 items" in capsys.readouterr().out


def test_other_losses_are_reported_and_not_measured(monkeypatch, tmp_path):
    write_planted(tmp_path / "dataset")
    monkeypatch.setitem(step.SETTINGS, "train_batch_size", 256)
    monkeypatch.setattr(step, "CHECKED", 2)
    monkeypatch.setattr(step, "DECAY", 1e-2)
    monkeypatch.setattr(lightgcn, "lightgcn", lambda graph, user, item, n_layers: (user, item))
    monkeypatch.setattr(step, "measure", lambda *_, **__: pytest.fail(MEASURED))
    with pytest.raises(WrongResult, match="ours: of the first 2 losses one is wrong by"):
        step.run("planted")


# --- bench recbole --------------------------------------------------------------------------


@pytest.mark.slow
def test_bench_recbole_checks_and_measures(capsys, monkeypatch, tmp_path):
    write_planted(tmp_path / "dataset")
    monkeypatch.setattr(recbole_models, "SECONDS", 0.01)
    assert main(["bench", "recbole", "--dataset=planted", "--json=recbole.json"]) == 0
    result = json.loads(Path("recbole.json").read_text())
    assert 0 <= result["deviation"] <= 1e-5
    assert [row["operation"] for row in result["rows"]] == [
        f"a step of {name}" for name in ("LightGCN", "SGL", "NCL", "NGCF", "GCMC", "DGCF")
    ]
    names = [recbole_models.OURS, recbole_models.THEIRS]
    assert all(list(row["seconds"]) == names for row in result["rows"])
    assert "planted: 90 users, 60 items" in capsys.readouterr().out


def test_the_old_name_of_bench_recbole_works(monkeypatch):
    given = []

    def run(dataset):
        given.append(dataset)
        raise InputError("nothing is measured in this test")

    monkeypatch.setattr(recbole_models, "run", run)
    for name in ("recbole", "stock"):
        assert main(["bench", name, f"--dataset={name}"]) == 2
    assert given == ["recbole", "stock"]


def test_other_losses_than_recboles_are_reported_and_not_measured(monkeypatch, tmp_path):
    write_planted(tmp_path / "dataset")

    def without_layers(model):
        model.n_layers = 0

    monkeypatch.setattr(recbole_models, "accelerate_model", without_layers)
    monkeypatch.setattr(recbole_models, "measure", lambda *_, **__: pytest.fail(MEASURED))
    with pytest.raises(WrongResult, match="SGL: of the first 3 losses one is wrong by"):
        recbole_models.run("planted", ("SGL",))


# --- bench import ---------------------------------------------------------------------------


@pytest.mark.slow
def test_bench_import_checks_and_measures(capsys, monkeypatch):
    monkeypatch.setattr(imports, "SECONDS", 0.1)
    assert main(["bench", "import", "--interactions=5000", "--json=out/import.json"]) == 0
    result = json.loads(Path("out/import.json").read_text())
    assert result["interactions"] == 5000
    seconds = result["seconds"]["names"]
    quotient = seconds["ours"]["median"] / seconds["read_csv"]["median"]
    assert result["times_read_csv"]["names"] == pytest.approx(quotient)
    assert result["memory"]["interactions"] == 50_000
    peaks = {name: peak["peak_mb"] for name, peak in result["memory"]["peaks"].items()}
    assert list(peaks) == ["loaded", "ours", "read_csv"]
    assert 20 < peaks["loaded"] <= peaks["ours"]
    printed = capsys.readouterr().out
    assert f"import / read_csv: {result['times_read_csv']['names']:.2f}" in printed
    assert "a table of 50000 interactions, each in its own process" in printed


def test_a_wrong_import_is_reported_and_not_measured(monkeypatch):
    def loses_lines(table, name, out, overwrite):
        lines = table.read_text().splitlines(keepends=True)
        table.write_text("".join(lines[:500]))
        folder = import_pairs(table, name, out, overwrite)
        table.write_text("".join(lines))
        return folder

    monkeypatch.setattr(imports, "measure", lambda *_, **__: pytest.fail(MEASURED))
    with pytest.raises(WrongResult, match=r"the import of \d+ pairs gave \d+, or others"):
        imports.run(1000, loses_lines)
    with pytest.raises(InputError, match="needs 1000 interactions or more, got 999"):
        imports.run(999, loses_lines)


# --- wrong results --------------------------------------------------------------------------


def spoil(function, when):
    """The same function, but with 1 added to its first number if ``when(first argument)``."""

    def spoilt(first, *arguments, **more):
        result = function(first, *arguments, **more).clone()
        if when(first):
            result.view(-1)[0] += 1
        return result

    return spoilt


@pytest.mark.parametrize(
    ("where", "name", "when", "message"),
    [
        # The small graph has 47 users and 29 items, the other one 117 and 74.
        (ops, "product", lambda m: len(m) == 47, f"{ops.FORWARD} by ours on a small graph: part 0"),
        (ops, "product", lambda m: len(m) == 29, f"{ops.TRANSPOSED} by ours on a small graph: p"),
        (ops, "product", lambda m: len(m) == 117, f"{ops.FORWARD} by ours on the graph: part 0"),
        (ops, "spmm", lambda p: p.nnz == 500, f"{ops.TO_DENSE} by ours on the graph: part 0"),
        (ops, "sddmm", lambda p: True, f"{ops.SAMPLED} by ours on a small graph: part 0"),
        (ops, "_gather", None, f"{ops.FORWARD} by gather on a small graph: part 0"),
        # It computes the gradient with respect to the values.
        (products, "sddmm", lambda p: True, f"{ops.TO_BOTH} by ours on a small graph: part 1"),
    ],
)
def test_a_wrong_product_is_reported_and_not_measured(
    capsys, monkeypatch, where, name, when, message
):
    spoilt = spoil(getattr(where, name), when) if when else lambda *_: torch.zeros(47, 8)
    monkeypatch.setattr(where, name, spoilt)
    monkeypatch.setattr(ops, "measure", lambda *_, **__: pytest.fail(MEASURED))
    assert main([*SMALL, "--json=ops.json"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"internal error: WrongResult: {message}")
    assert " is wrong by " in line
    assert not Path("ops.json").exists()


def test_deviation_equals_a_hand_computed_value():
    truth = torch.tensor([2.0, -4.0], dtype=torch.float64)
    assert deviation("it", [truth + 2e-5], [truth]) == pytest.approx(5e-6)
    with pytest.raises(WrongResult, match=r"it: part 1 is wrong by 0.25 of its largest entry"):
        deviation("it", [truth, truth + 1], [truth, truth])
    with pytest.raises(WrongResult, match="wrong by nan"):
        deviation("it", [truth * float("nan")], [truth])
    with pytest.raises(WrongResult, match=r"has shape \(1,\), not \(2,\)"):
        deviation("it", [truth[:1]], [truth])


# --- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["--interactions=99"], ["needs 100 interactions or more, got 99"]),
        (["--interactions=many"], ["--interactions: invalid int value: 'many'"]),
        (["--interactions=500", "--dataset=toy"], ["not allowed with argument --interactions"]),
        (["--dataset=tox"], ["'tox' not found", "'toy'", "dataset/tox/tox.train.inter"]),
        (["--dataset=toy"], ["toy.train.inter must have columns user_id and item_id", "0 lines"]),
        (["--json=dataset"], ["--json dataset is a folder"]),
        (["--plot=ops.txt"], ["--plot ops.txt: expected a name that ends in .png, .svg, .pdf"]),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, facts):
    write_dataset("user_id:token\titem_id:token\n")
    assert main(["bench", "ops", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    for fact in facts:
        assert fact in line


@pytest.mark.parametrize("text", ["", "a:token\tb:token\n1\t2\n", "user_id:token\n1\t2\t3\n1\n"])
def test_a_file_that_holds_no_interactions(capsys, text):
    write_dataset(text)
    assert main(["bench", "ops", "--dataset=toy"]) == 2
    assert capsys.readouterr().err.startswith("error: dataset/toy/toy.train.inter ")


# --- measuring and graphs -------------------------------------------------------------------


def test_contenders_take_turns_and_drop_out_when_their_time_is_up(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    calls = []

    def call(name, seconds):
        calls.append(name)
        clock[0] += seconds

    taken = measure(
        {"short": lambda: call("s", 0.008), "long": lambda: call("l", 3.0)}, seconds=0.1
    )
    # After the warm-up, a turn is 3 calls of 8 ms or one call of 3 s. The short contender has used
    # its 50 ms after three turns, and the long one after its first, but each gets three turns.
    assert "".join(calls) == "sl" + "sssl" * 3
    assert taken == {
        name: {key: pytest.approx(seconds) for key in ("median", "lower", "upper")} | {"calls": n}
        for name, seconds, n in (("short", 0.008, 9), ("long", 3.0, 3))
    }


def test_the_generated_graph_is_the_same_every_time_and_as_large_as_asked():
    one, same, other = (power_law_graph(5000, seed=seed).interactions.pattern for seed in (1, 1, 2))
    assert one.nnz == other.nnz == 5000
    assert one.shape == (1171, 735)
    assert torch.equal(one.row, same.row)
    assert torch.equal(one.col, same.col)
    assert not torch.equal(one.row, other.row)
    assert len(torch.unique(one.row * 735 + one.col)) == 5000


def test_the_degrees_of_the_generated_graph_fall_with_the_square_root_of_their_rank():
    pattern = power_law_graph(100_000).interactions.pattern
    for index, size in zip((pattern.row, pattern.col), pattern.shape, strict=True):
        degree = torch.bincount(index, minlength=size)
        falling = degree.sort(descending=True).values
        assert not torch.equal(degree, falling), "the numbers of nodes are sorted by degree"
        share = falling.cumsum(0) / pattern.nnz
        assert float(share[size // 100]) == pytest.approx(0.1, rel=0.06)
        assert float(share[size * 4 // 100]) == pytest.approx(0.2, rel=0.06)
