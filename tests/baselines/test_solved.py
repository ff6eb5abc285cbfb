"""Models computed without gradients: values by hand, plain twins, and what every one must do."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from helpers.planted import quick_settings, write_planted
from recbole.data import create_dataset
from recbole.data.interaction import Interaction
from recbole.quick_start import load_data_and_model, run_recbole
from recbole.utils import get_model, get_trainer

from recbole_lightgnn.baselines.sparseease import largest_entries
from recbole_lightgnn.cli.main import main
from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.loaders import load_data
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.solved import largest_products
from recbole_lightgnn.nn.graph import largest_in_rows
from recbole_lightgnn.nn.truncated_svd import truncated_svd
from recbole_lightgnn.quick_start import run
from recbole_lightgnn.runs.user_metrics import read_users, users_file

# Two users and two items are linked closely; the third user and the third item have one pair.
TINY = [(0, 0), (0, 1), (1, 0), (1, 2), (2, 2)]
FULL = [
    {"filter": "linear"},
    {"filter": "gfcf"},
    {"filter": "turbo"},
    {"filter": "cheby", "order": 3},
]
SOLVED = [
    ("Spectral", {}),
    ("Spectral", {"filter": "svdae", "degree_offset": 1}),
    *(("Spectral", settings) for settings in FULL),
    ("RP3beta", {}),
    ("RP3beta", {"normalize": True, "degree_offset": 2.0}),
    ("IALS", {}),
    ("SparseEASE", {"reg_weight": 10.0, "density": 0.2}),
]
WITHOUT_WIDTH = ("RP3beta", "SparseEASE")
EVERY = pytest.mark.parametrize(("name", "settings"), SOLVED)


@pytest.fixture
def tiny(tmp_path):
    """Function that builds a model on the graph `TINY`, solves it and returns it.

    With ``isolated``, validation and test have a user and an item that train does not have.
    """

    def make(name, *, isolated=False, **settings):
        parts = {".train": TINY, ".valid": [(3, 3)], ".test": [(3, 0)]} if isolated else {"": TINY}
        folder = tmp_path / "dataset" / "tiny"
        folder.mkdir(parents=True, exist_ok=True)
        for part, pairs in parts.items():
            text = "".join(f"u{u}\ti{i}\n" for u, i in pairs)
            file = folder / f"tiny{part}.inter"
            file.write_text(f"user_id:token\titem_id:token\n{text}", encoding="utf-8")
        config = build_config(name, "tiny", (), {"show_progress": False} | settings)
        if isolated:
            dataset = load_data(config)[0]._dataset
        else:
            dataset = create_dataset(config)
            dataset._change_feat_format()  # as its split does
        torch.manual_seed(3)
        model = get_model(name)(config, dataset)
        model.solve()
        return model.eval()

    return make


def scores(model):
    """Scores of all users and items without RecBole's padding."""
    users = torch.arange(model.n_users)
    rows = model.full_sort_predict(Interaction({model.USER_ID: users}))
    return rows.view(model.n_users, model.n_items)[1:, 1:].numpy()


PUBLISHED = {"degree_offset": 0.0, "item_exponent": 0.5, "singular_exponent": 1.0}


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        (
            {"filter": "linear"},
            {0: (0.85355, 0.85355, 0.25), 1: (0.75, 0.35355, 1), 2: (0.25, 0, 0.75)},
        ),
        (
            {"filter": "ideal", "embedding_size": 1},
            {0: (0.8, 0.4, 0.8), 1: (0.8, 0.4, 0.8), 2: (0.4, 0.2, 0.4)},
        ),
        (
            {"filter": "svdae", "embedding_size": 1},
            {0: (0.8, 0.4, 0.68284), 2: (0.56569, 0.28284, 0.48284)},
        ),
        (
            {"filter": "gfcf", "embedding_size": 1, "ideal_weight": 0.5},
            {0: (1.25355, 1.05355, 0.65), 2: (0.45, 0.1, 0.95)},
        ),
        ({"filter": "turbo", "order": 2}, {0: (0.91605, 0.97855, 0.09911)}),
        (
            {"filter": "ideal", "embedding_size": 1, "degree_offset": 1.0},
            {0: (0.79673, 0.37745, 0.71723)},
        ),
    ],
)
def test_filters_have_the_values_computed_by_hand(tiny, settings, rows):
    found = scores(tiny("Spectral", **(PUBLISHED | settings)))
    for user, expected in rows.items():
        assert found[user] == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("order", [2, 3, 8])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_cheby_equals_a_filter_of_the_eigenvalues(tiny, order, offset):
    given = {"ideal_weight": 0.2, "item_exponent": 0.4, "flatness": 1.5, "embedding_size": 2}
    model = tiny("Spectral", filter="cheby", order=order, degree_offset=offset, **given)
    a = model.interactions[1:, 1:].toarray()
    user, item = a.sum(axis=1) + offset, a.sum(axis=0) + offset
    r = a / np.sqrt(np.outer(user, item))
    values, vectors = np.linalg.eigh(np.eye(3) - r.T @ r)
    nodes = np.cos((np.arange(order + 1) + 0.5) * np.pi / (order + 1))
    plateau = [0.5 + 0.5 * abs(x) ** 1.5 if x < 0 else 0.5 - 0.5 * x**1.5 for x in nodes]
    polynomial = np.polyfit(nodes, plateau, order)  # through every node
    low = vectors @ np.diag(np.polyval(polynomial, 2 * values - 1)) @ vectors.T
    ideal = vectors[:, :2] @ vectors[:, :2].T  # the smallest of the Laplacian
    expected = (a * item**-0.4) @ (low + 0.2 * ideal) * item**0.4
    assert scores(model) == pytest.approx(expected, abs=2e-5)


def test_turbo_equals_its_polynomials_of_dense_matrices(tiny):
    a = np.zeros((3, 3))
    a[tuple(zip(*TINY, strict=True))] = 1
    r = a.sum(axis=1, keepdims=True) ** -0.6 * a * a.sum(axis=0) ** -0.4
    p = (r.T @ r) ** 0.7
    cubed = p + 0.01 * (-p @ p @ p + 10 * p @ p - 29 * p)
    for order, matrix in ((1, p), (2, 2 * p - p @ p), (3, cubed)):
        given = {"user_exponent": 0.6, "power": 0.7, "order": order, "degree_offset": 0.0}
        assert scores(tiny("Spectral", filter="turbo", **given)) == pytest.approx(
            a @ matrix, abs=1e-5
        )


def test_rp3beta_has_the_values_computed_by_hand(tiny):
    given = {"alpha": 1.0, "beta": 0.5, "n_neighbors": 3}
    weights = tiny("RP3beta", **given)._weights.toarray()[1:, 1:]
    expected = [[0, 0.25, 0.17678], [0.35355, 0, 0], [0.17678, 0, 0]]
    assert weights == pytest.approx(np.array(expected), abs=1e-5)
    assert tiny("RP3beta", **(given | {"n_neighbors": 1}))._weights.nnz == 3
    normal = tiny("RP3beta", **given, normalize=True)._weights.toarray()[1:, 1:]
    assert normal.sum(axis=1) == pytest.approx(np.ones(3))


def test_rp3beta_with_an_offset_equals_a_plain_loop(build):
    model = build("RP3beta", alpha=0.7, beta=0.3, degree_offset=2.0, n_neighbors=5)
    model.solve()
    a = model.interactions.toarray()
    user, item = a.sum(axis=1), a.sum(axis=0)
    for i in (1, 17, 60):
        row = np.zeros(61)
        for j in range(1, 61):
            for u in np.flatnonzero(a[:, i] * a[:, j]):
                walk = (1 / (item[i] + 2)) ** 0.7 * (1 / (user[u] + 2)) ** 0.7
                row[j] += walk / item[j] ** 0.3
        row[i] = 0
        kept = np.sort(row)[-5]
        expected = np.where(row >= kept, row, 0)
        found = model._weights[[i]].toarray()[0]
        assert (found > 0).sum() == 5
        assert found[found > 0] == pytest.approx(expected[found > 0], rel=1e-5)


def test_sparseease_has_the_values_computed_by_hand(tiny):
    """A^T A + I = [[3, 1, 1], [1, 2, 0], [1, 0, 3]], with determinant 13."""
    whole = tiny("SparseEASE", reg_weight=1.0, density=1.0)._weights.toarray()[1:, 1:]
    expected = [[0, 3 / 8, 2 / 5], [1 / 2, 0, -1 / 5], [1 / 3, -1 / 8, 0]]
    assert whole == pytest.approx(np.array(expected), abs=1e-6)
    half = tiny("SparseEASE", reg_weight=1.0, density=0.34)._weights  # three of nine
    kept = {(row, column) for row, column in zip(*half.nonzero(), strict=True)}
    assert kept == {(1, 2), (1, 3), (2, 1)}


def test_sparseease_equals_recboles_ease(build):
    model = build("SparseEASE", reg_weight=50.0, density=1.0)
    model.solve()
    weights = build("EASE", reg_weight=50.0).item_similarity
    assert model._weights.toarray() == pytest.approx(np.asarray(weights), abs=1e-5)


@pytest.mark.parametrize("count", [0, 1, 17, 400])
def test_largest_entries_are_those_of_a_sort_with_ties(count, monkeypatch):
    monkeypatch.setattr("recbole_lightgnn.baselines.sparseease._ROWS", 3)
    matrix = np.random.default_rng(0).integers(-4, 5, (20, 15)).astype(np.float32)
    order = np.argsort(-np.abs(matrix), axis=None, kind="stable")[:count]
    expected = np.zeros(300, np.float32)
    expected[order] = matrix.flat[order]
    found = largest_entries(matrix, count)
    assert found.toarray() == pytest.approx(expected.reshape(20, 15))
    assert found.nnz == min(count, np.count_nonzero(matrix))


def test_ials_has_the_values_computed_by_hand(tiny):
    given = {"embedding_size": 1, "unobserved_weight": 0.5, "reg_weight": 0.5}
    model = tiny("IALS", **given)
    model.item_table[1:] = 1.0
    model.solve()
    assert model.user_table[1:, 0].tolist() == pytest.approx([0.38095, 0.38095, 0.26667], abs=1e-5)
    assert model.item_table[1:, 0].tolist() == pytest.approx([0.34306, 0.24175, 0.30165], abs=1e-5)


def test_ials_lowers_its_objective_and_equals_a_plain_solve(build):
    model = build("IALS", unobserved_weight=0.1, reg_weight=0.05, frequency_exponent=0.5)
    a = model.interactions.toarray()[1:, 1:]

    def objective():
        x, y = model.user_table[1:].double().numpy(), model.item_table[1:].double().numpy()
        y_hat = x @ y.T
        loss = ((1 - y_hat)[a > 0] ** 2).sum() + 0.1 * (y_hat**2).sum()
        for side, table in ((a, x), (a.T, y)):
            weight = np.sqrt(side.sum(axis=1) + 0.1 * side.shape[1])
            loss += 0.05 * (weight * (table**2).sum(axis=1)).sum()
        return loss

    model.solve()
    first, items = objective(), model.item_table[1:].double().numpy().copy()
    model.solve()
    assert objective() < first
    own = items[a[4] > 0]
    system = own.T @ own + 0.1 * items.T @ items
    system += 0.05 * np.sqrt(len(own) + 0.1 * 60) * np.eye(items.shape[1])
    expected = np.linalg.solve(system, own.sum(axis=0))
    assert model.user_table[5].numpy() == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_ials_in_several_batches_is_the_same(build, monkeypatch):
    whole = build("IALS")
    torch.manual_seed(0)
    start = torch.randn_like(whole.item_table[1:])
    whole.item_table[1:] = start
    whole.solve()
    monkeypatch.setattr("recbole_lightgnn.baselines.ials._NUMBERS", 500)
    parts = build("IALS")
    parts.item_table[1:] = start
    parts.solve()
    torch.testing.assert_close(parts.user_table, whole.user_table)


@EVERY
def test_scores_are_finite_for_users_and_items_without_interactions(tiny, name, settings):
    width = {} if name in WITHOUT_WIDTH else {"embedding_size": 2}
    model = tiny(name, isolated=True, **width, **settings)
    found = scores(model)
    assert found.shape == (4, 4)
    assert np.isfinite(found).all()
    assert np.abs(found[3]).max() == 0
    assert np.abs(found[:, 3]).max() == 0


@pytest.mark.slow
@EVERY
def test_it_learns_the_planted_world(name, settings, tmp_path):
    write_planted(tmp_path / "dataset")
    flags = [f"--{key}={value}" for key, value in settings.items()]
    flags += [] if name in WITHOUT_WIDTH else ["--embedding_size=8"]
    file = tmp_path / "record.json"
    command = ["run", f"--model={name}", "--dataset=planted", f"--result_file={file}", *flags]
    assert main([*command, "--show_progress=False"]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    (row,) = record["rows"]
    assert record["test"]["recall@20"] > 0.8
    assert row["entries"] > 0 or settings.get("filter") in ("linear", "turbo")


@pytest.mark.slow
@EVERY
def test_unmodified_recbole_trains_and_loads_it(name, settings, tmp_path):
    write_planted(tmp_path / "dataset")
    width = {} if name in WITHOUT_WIDTH else {"embedding_size": 8}
    given = {"show_progress": False, **width, **settings}
    result = run_recbole(model=name, dataset="planted", config_dict=given)
    (path,) = (tmp_path / "saved").glob(f"{name}-planted-*/{name}.safetensors")
    config, model, _, _, valid, test = load_data_and_model(model_file=str(path))
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    assert trainer.evaluate(valid, load_best_model=False) == result["best_valid_result"]
    assert trainer.evaluate(test, load_best_model=False) == result["test_result"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "own"), [("Spectral", {}), ("Spectral", {"filter": "linear"}), ("RP3beta", {})]
)
def test_it_may_be_the_teacher(name, own, tmp_path):
    write_planted(tmp_path / "dataset")
    own = own if name in WITHOUT_WIDTH else {**own, "embedding_size": 16}
    settings = quick_settings(n_pruning_runs=1, use_intermediate=False, learning_rate=0.01)
    settings |= {"teacher": name, "teacher_settings": own}
    record = run("LightGNN", "planted", settings=settings)
    assert [row["key"] for row in record["rows"]] == ["teacher", "student-00", "student-01"]
    assert record["test"]["recall@20"] > 0.8


def test_the_same_seed_gives_the_same_bits(tmp_path):
    write_planted(tmp_path / "dataset")
    for name in ("Spectral", "IALS"):
        given = {"show_progress": False, "embedding_size": 8}
        first, second = (run(name, "planted", settings=given) for _ in range(2))
        assert first["best_valid"] == second["best_valid"]
        assert first["test"] == second["test"]


def test_users_metrics_are_recorded_for_a_model_without_tables(tmp_path):
    write_planted(tmp_path / "dataset")
    record = run("RP3beta", "planted", settings={"show_progress": False})
    users = read_users(users_file(Path(record["result_file"])))
    assert users is not None
    for metric in ("recall@20", "ndcg@20"):
        mean = users.rows["RP3beta"][metric].mean()
        assert mean == pytest.approx(record["test"][metric], abs=1e-6)


def test_a_rank_above_the_smaller_side_is_refused(tmp_path, capsys):
    write_planted(tmp_path / "dataset")
    command = ["run", "--model=Spectral", "--dataset=planted", "--embedding_size=61"]
    assert main(command) == 2
    message = capsys.readouterr().err
    assert "embedding_size is 61" in message
    assert "at most 60" in message


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_lanczos_and_lapack_give_the_same_decomposition(rank, monkeypatch):
    matrix = sp.random_array((40, 30), density=0.2, rng=np.random.default_rng(1)).tocsr()
    dense = truncated_svd(matrix, rank)
    monkeypatch.setattr("recbole_lightgnn.nn.truncated_svd._DENSE", 0)
    sparse = truncated_svd(matrix, rank)
    assert sparse[1] == pytest.approx(dense[1])
    for one, other in ((sparse[0], dense[0]), (sparse[2], dense[2])):
        assert one @ one.T == pytest.approx(other @ other.T, abs=1e-8)


def test_a_rank_above_the_smaller_side_has_a_message():
    with pytest.raises(InputError, match="only 3 singular values"):
        truncated_svd(sp.csr_matrix(np.ones((3, 5))), 4)


def test_largest_in_rows_keeps_the_first_of_equal_values():
    matrix = sp.csr_matrix(np.array([[1.0, 3, 3, 3], [0, 0, 2, 0], [5, 4, 3, 2]]))
    expected = [[0, 3, 3, 0], [0, 0, 2, 0], [5, 4, 0, 0]]
    assert largest_in_rows(matrix, 2).toarray().tolist() == expected


def test_largest_products_equal_those_of_the_whole_product(monkeypatch):
    random = np.random.default_rng(2)
    left, right = random.random((50, 20)), random.random((20, 50))
    monkeypatch.setattr("recbole_lightgnn.models.solved._ROWS", 7)
    found = largest_products(sp.csr_matrix(left), sp.csr_matrix(right), 4).toarray()
    whole = left @ right
    np.fill_diagonal(whole, 0)
    kept = whole >= np.sort(whole, axis=1)[:, -4:-3]
    assert found == pytest.approx(np.where(kept, whole, 0))
