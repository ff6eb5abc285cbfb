"""Costs of inference, against values computed by hand."""

from pathlib import Path

import pytest
import torch
from helpers.planted import write_planted
from helpers.tiny_world import TRAIN, write_tiny
from torch.utils.flop_counter import FlopCounterMode

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.ops import multiply_adds
from recbole_lightgnn.studies import efficiency, ratios
from recbole_lightgnn.studies.cost import (
    GraphSize,
    hccf_multiply_adds,
    inference_multiply_adds,
    joules,
    lightgcn_multiply_adds,
    lrgccf_multiply_adds,
    ngcf_multiply_adds,
    student_cost,
    working_bytes,
)
from recbole_lightgnn.studies.efficiency import inference_of
from recbole_lightgnn.studies.place import Place

# The tiny world: four users, four items, and RecBole's padding of each; five interactions.
SIZE = GraphSize(nodes=10, edges=5)


@pytest.fixture
def tiny(build, tmp_path):
    """Function that builds a model of the tiny world, in evaluation mode."""
    write_tiny(tmp_path / "dataset")
    top = {"topk": [2], "valid_metric": "Recall@2"}  # RecBole refuses more items than there are
    return lambda name, **settings: build(name, **top, **settings).eval()


# --- multiply-adds -----------------------------------------------------------------------------


def test_lightgcn_by_hand():
    # A layer of width 2: 5 edges x 2 directions x 2 = 20, and the sum of layers, 10 nodes x 2 = 20.
    assert lightgcn_multiply_adds(SIZE, width=2, n_layers=2) == 2 * (20 + 20)
    assert lightgcn_multiply_adds(SIZE, width=2, n_layers=0) == 0


def test_lrgccf_by_hand():
    # A layer of width 2: 20 for the edges, and 20 for the loops of 10 nodes.
    assert lrgccf_multiply_adds(SIZE, width=2, n_layers=3) == 3 * (20 + 20)


def test_ngcf_by_hand():
    # From width 2 to 3: edges 20; sum and product with the layer before 2 x 20; two transformations
    # 2 x 60 with biases 2 x 30; their sum, LeakyReLU, squares and division 4 x 30.
    first = 20 + 40 + 120 + 60 + 120
    # From width 3 to 1: edges 30; 2 x 30; 2 x 30 with biases 2 x 10; 4 x 10.
    second = 30 + 60 + 60 + 20 + 40
    assert ngcf_multiply_adds(SIZE, widths=[2, 3]) == first
    assert ngcf_multiply_adds(SIZE, widths=[2, 3, 1]) == first + second
    assert ngcf_multiply_adds(SIZE, widths=[2]) == 0


def test_hccf_by_hand():
    # H with 3 hyperedges: scaling 10 x 2 and product 10 x 2 x 3. A layer: edges 20; to the
    # hyperedges and back 2 x 60; LeakyReLU of 2 x 3 hyperedges of width 2, and of the nodes, 20;
    # two sums of tables 2 x 20.
    layer = 20 + 120 + 12 + 20 + 40
    got = hccf_multiply_adds(SIZE, width=2, n_layers=2, n_hyperedges=3)
    assert got == (20 + 60) + 2 * layer


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("LightGCN", {"embedding_size": 2, "n_layers": 3}, 120),
        ("SimGCL", {"embedding_size": 2, "n_layers": 3}, 120),
        ("UnKD", {"embedding_size": 2, "n_layers": 3}, 120),
        ("LRGCCF", {"embedding_size": 2, "n_layers": 3}, 120),
        ("NGCF", {"embedding_size": 2, "hidden_size_list": [3, 1]}, 570),
        ("HCCF", {"embedding_size": 2, "n_layers": 2, "n_hyperedges": 3}, 504),
    ],
)
def test_the_count_of_a_model_reads_its_sizes(tiny, name, settings, expected):
    assert inference_multiply_adds(tiny(name, **settings)) == expected


def test_a_model_without_formula_is_refused(tiny):
    with pytest.raises(InputError, match="DirectAU are not known"):
        inference_multiply_adds(tiny("DirectAU"))


def test_dense_and_sized_counts_of_lightgcn_agree(tiny):
    observed = tiny("SimGCL").observed
    assert observed.n_edges == len(TRAIN) == SIZE.edges
    for width, n_layers in ((2, 1), (3, 4), (5, 0)):
        rows, cols = (torch.empty(size, width) for size in (observed.n_users, observed.n_items))
        pattern = observed.interactions.pattern
        counted = multiply_adds(pattern, rows, cols, n_products=n_layers)
        assert counted == lightgcn_multiply_adds(SIZE, width=width, n_layers=n_layers)


def test_an_unpruned_student_counts_as_lightgcn_and_a_pruned_one_by_what_is_left(tiny):
    model = tiny("LightGNN", embedding_size=2, n_layers=2)
    assert inference_multiply_adds(model) == 80
    kept = torch.zeros(5, 2, dtype=torch.bool)
    kept[1:4, 0] = True  # the first entry of the three users, and of the three items
    for table in (model.user_embedding, model.item_embedding):
        table.prune(kept)
    # The first layer meets one entry for each edge and direction (10), the second two (20). Each
    # adds the six entries.
    cost = student_cost(model, calls=1)
    dense = not hasattr(model.user_embedding.rows(), "index")  # without the compiled kernel
    assert cost["multiply_adds"] == (80 if dense else 10 + 20 + 2 * 6)
    assert cost["seconds"] > 0


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("NGCF", {"embedding_size": 2, "hidden_size_list": [3, 1]}),
        ("HCCF", {"embedding_size": 2, "n_layers": 2, "n_hyperedges": 3}),
    ],
)
def test_dense_products_are_those_that_torch_counts(tiny, name, settings):
    model = tiny(name, **settings)
    with FlopCounterMode(display=False) as counter:
        inference_of(model)()
    counts = {str(op): count for op, count in counter.get_flop_counts()["Global"].items()}
    # Two dense transformations a layer: 2 x 10 x (2 x 3 + 3 x 1). H, and twice through it: 5 x 60.
    expected = {"NGCF": 180, "HCCF": 300}[name]
    assert counts.keys() <= {"aten.addmm", "aten.mm"}  # no sparse products
    assert sum(counts.values()) == 2 * expected  # torch counts additions, too


# --- inference, memory and energy --------------------------------------------------------------


@pytest.mark.parametrize("name", ["NGCF", "LightGCN", "LRGCCF", "HCCF", "UnKD", "LightGNN"])
def test_inference_is_computed_anew_and_without_gradients(tiny, name):
    model = tiny(name)
    infer = inference_of(model)
    user, item = infer()
    assert not user.requires_grad
    assert (len(user), len(item)) == (5, 5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    assert not torch.equal(infer()[0][1:], user[1:])  # no cache


def test_working_bytes_by_hand():
    def call():
        one = torch.zeros(1000)  # 4000 bytes
        two = torch.zeros(2000)  # 12000 with the first
        del one
        return two, torch.zeros(500)  # 10000

    assert working_bytes(call) == 12_000
    assert working_bytes(call) == 12_000  # what an earlier call left does not count
    kept = torch.zeros(1000)
    assert working_bytes(lambda: kept.zero_()) == 0


def write_counter(root, name, now, largest=999):
    folder = root / name
    folder.mkdir(exist_ok=True)
    (folder / "energy_uj").write_text(f"{now}\n")
    (folder / "max_energy_range_uj").write_text(f"{largest}\n")


def test_energy_by_hand(tmp_path):
    write_counter(tmp_path, "intel-rapl:0", 400)
    write_counter(tmp_path, "intel-rapl:1", 900)
    write_counter(tmp_path, "intel-rapl:0:0", 0)  # a part of the first processor

    def call():
        write_counter(tmp_path, "intel-rapl:0", 700)  # 300 more
        write_counter(tmp_path, "intel-rapl:1", 100)  # 200 more: after 999 follows 0
        write_counter(tmp_path, "intel-rapl:0:0", 999)

    assert joules(call, seconds=0.0, root=tmp_path) == pytest.approx(500e-6)


def test_energy_without_counters_is_not_measured(tmp_path):
    def call():
        raise AssertionError("called for nothing")

    assert joules(call, seconds=1.0, root=tmp_path / "none") is None
    write_counter(tmp_path, "intel-rapl:0", "not a number")
    assert joules(call, seconds=1.0, root=tmp_path) is None


# --- the study ---------------------------------------------------------------------------------


def content():
    """Costs of four models: NGCF's are 10 times LightGCN's."""
    columns = ("width", "entries", "edges", "recall")
    of_lightgcn = [100.0, 40.0, 5.0, 2.0, 1.0, 7.0, None]
    rows = [
        ["NGCF", 256, 1.0, 1.0, 0.1, *(10 * x for x in of_lightgcn[:-1]), None],
        ["UnKD", 64, 1.0, 1.0, 0.1, *of_lightgcn],
        ["LightGCN", 64, 1.0, 1.0, 0.1, *of_lightgcn[:3], 8.0, 1.0, 7.0, None],
        ["LightGNN .33/.77", 64, 0.33, 0.77, 0.1, 250.0, 200.0, 10.0, 15.0, 1.0, 7.0, None],
    ]
    assert len(rows[0]) == 1 + len(columns) + len(of_lightgcn)
    tables = [efficiency._cost_table(rows, 0.0), efficiency._relative_table(rows)]
    return {"dataset": "planted", "tables": tables}


def test_costs_are_relative_to_ngcf():
    cost, relative = content()["tables"]
    assert "energy cannot be read" in cost["title"]
    rows = {row[0]: row[1:] for row in relative["rows"]}
    assert rows["NGCF"] == [1, 1, 1, 1, 1, 1, None]
    assert rows["UnKD"] == pytest.approx([0.1] * 6 + [None])
    assert rows["LightGNN .33/.77"][:4] == pytest.approx([0.25, 0.5, 0.2, 0.75])
    assert len(cost["columns"]) == len(cost["rows"][0])
    assert len(relative["columns"]) == len(relative["rows"][0])


def test_findings_compare_with_the_claims():
    parameters, size, adds, time, others, code, pruned = efficiency.findings(content())
    assert "it is 75 % less for LightGNN .33/.77. All students reach the claim." in parameters
    assert "it is 50 % less" in size
    assert "it is 80 % less" in adds
    assert "it is 25 % less" in time
    assert all(text.endswith("No student reaches the claim.") for text in (size, adds, time))
    assert others.endswith("UnKD 0.10 and 0.10; LightGCN 0.10 and 0.40.")
    assert "takes 8 ms and UnKD (this package) 2 ms" in code
    assert "150 % more memory (parameters), 100 % more computation, and 650 % more time" in pruned


@pytest.mark.slow
def test_the_study_measures_every_model(monkeypatch, tmp_path):
    write_planted(Path("dataset"))
    monkeypatch.setattr(efficiency, "MODELS", ("NGCF", "UnKD", "LightGCN"))
    mild = {**ratios.VARIANTS["Mild"], "n_pruning_runs": 2}
    monkeypatch.setattr(efficiency, "VARIANTS", {"Mild": mild})
    monkeypatch.setattr(efficiency, "STUDENTS", ("student-01", "student-02"))
    monkeypatch.setattr(efficiency, "SECONDS", 0.1)
    teacher = {"embedding_size": 16, "epochs": 5, "learning_rate": 0.01}
    given = {"epochs": 2, "embedding_size": 16, "train_batch_size": 256}
    given |= {f"{name}.teacher_settings": teacher for name in ("UnKD", "Mild")}
    given |= {"Mild.use_intermediate": False}
    place = Place("planted", [1, 2], tmp_path / "out", 1, given, tmp_path / "out" / "runs")
    got = {"dataset": "planted", **efficiency.measure(place)}
    assert got["seeds"] == [1]
    rows = {row[0]: row[1:] for row in got["tables"][0]["rows"]}
    students = [name for name in rows if name.startswith("LightGNN")]
    assert list(rows) == ["NGCF", "UnKD", "LightGCN", *students]
    assert len(students) == 2
    # 90 users and 60 items of width 16; NGCF has three layers of width 64 with two matrices each.
    weights = 2 * (16 * 64 + 64 + 2 * (64 * 64 + 64))
    assert rows["NGCF"][4] == pytest.approx((150 * 16 + weights) / 1e3)
    assert rows["UnKD"][4] == rows["LightGCN"][4] == 2.4
    assert rows["NGCF"][0] == 16 + 3 * 64
    adds = [rows[name][6] for name in students]
    assert rows["UnKD"][6] == rows["LightGCN"][6] > adds[0] > adds[1] > 0
    for row in rows.values():
        assert min(row[7:10]) > 0  # times and working memory
    (figure,) = efficiency.figures(got)
    assert all(name in figure.alt for name in rows)
    assert len(efficiency.findings(got)) == 7
