"""GraphDA: the rewired graph by hand and against plain loops, and what every model must do."""

import math
from pathlib import Path

import pytest
import torch
from helpers.conformance import check_model
from helpers.planted import QUICK, columns, interactions, write_planted
from helpers.tiny import double
from helpers.tiny_world import write_tiny
from recbole.data.interaction import Interaction
from recbole.quick_start import load_data_and_model, run_recbole
from recbole.utils import get_trainer
from torch.testing import assert_close

from recbole_lightgnn.baselines import graphda
from recbole_lightgnn.baselines.graphda import nearest, rewired
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher
from recbole_lightgnn.quick_start import run
from recbole_lightgnn.runs import checkpoint

TEACHER = {"embedding_size": 16, "epochs": 2}


def taught(build, **settings):
    model = build("GraphDA", **settings)
    model.distill_from(FrozenTeacher(build("LightGNNTeacher")))
    return model


def edges_of(edge, weight):
    """The edges as {(node, node): weight}."""
    return dict(zip(zip(*edge.tolist(), strict=True), weight.tolist(), strict=True))


def test_it_does_what_every_model_must(build):
    teacher = {"teacher_settings.epochs": 5, "teacher_settings.embedding_size": 16}
    check_model("GraphDA", build, settings=teacher)


# --- by hand ---------------------------------------------------------------------------------

# Users and items with RecBole's padding row first: it has the largest inner products, and no edges.
USERS = torch.tensor([[9.0, 9], [1, 0], [0, 1], [1.1, 0.9]])
ITEMS = torch.tensor([[9.0, 9], [2, 0], [0, 2], [1, 1.5]])


def test_the_edges_between_users_and_items_by_hand():
    # Nodes: users 1 to 3, items 5 to 7.
    edges = edges_of(*rewired(USERS, ITEMS, (1, 1, 0, 0), 0.5))
    assert edges == {(1, 5): 1, (2, 6): 1, (3, 7): 1, (3, 5): 1}


def test_the_norms_by_hand(build, tmp_path):
    write_tiny(tmp_path / "dataset")
    model = build("GraphDA")
    model.load_state_dict(
        model.state_dict()
        | {"edge": torch.tensor([[1, 2, 3, 3], [6, 7, 6, 8]]).int(), "edge_weight": torch.ones(4)}
    )
    norm = edges_of(torch.stack([model.pattern.row, model.pattern.col]), model.norm)
    assert norm == {
        pair: pytest.approx(value, abs=1e-5)
        for (a, b), value in (((1, 6), 0.70711), ((2, 7), 1), ((3, 8), 0.70711), ((3, 6), 0.5))
        for pair in ((a, b), (b, a))
    }


def test_pairs_below_the_threshold_are_no_edges():
    # sigmoid(2) = .8808 for (1, 5), (2, 6); sigmoid(2.45) = .92 for (3, 7); sigmoid(2.2) = .90.
    edges = edges_of(*rewired(USERS, ITEMS, (1, 1, 0, 0), 0.89))
    assert edges == {(3, 7): 1, (3, 5): 1}


def test_nearest_users_and_items_have_the_weights_of_their_similarity():
    edges = edges_of(*rewired(USERS, ITEMS, (0, 0, 1, 1), 0.5))

    def sigmoid(x):
        return pytest.approx(1 / (1 + math.exp(-x)), rel=1e-6)

    # User 3 is nearest to users 1 and 2; item 7 to items 5 and 6. An edge found twice counts once.
    expected = {(1, 3): sigmoid(1.1), (2, 3): sigmoid(0.9), (5, 7): sigmoid(2), (6, 7): sigmoid(3)}
    assert edges == expected


# --- against plain loops -----------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 100])
@pytest.mark.parametrize("chunk", [3, 512])
def test_neighbors_equal_plain_loops(count, chunk, monkeypatch):
    monkeypatch.setattr(graphda, "_CHUNK", chunk)
    table = double(12, 3, seed=1)
    for rows, cols in (((1, 7), (8, 12)), ((1, 7), (1, 7))):
        found = {}
        for node, neighbor in nearest(table, rows, cols, count).T.tolist():
            found.setdefault(node, []).append(neighbor)
        for node in range(*rows):
            others = [other for other in range(*cols) if other != node]
            best = sorted(others, key=lambda other: -(table[node] @ table[other]).item())
            assert found[node] == best[:count]


def test_propagation_equals_a_dense_matrix(build):
    model = taught(build, n_layers=3)
    nodes = model.n_users + model.n_items
    matrix = torch.zeros(nodes, nodes)
    for (a, b), weight in edges_of(model.edge, model.edge_weight).items():
        matrix[a, b] = matrix[b, a] = weight
    scale = matrix.sum(dim=1).clamp(min=1e-9).rsqrt()
    matrix = scale[:, None] * matrix * scale
    start = torch.cat(model.initial())
    expected = sum(torch.linalg.matrix_power(matrix, k) @ start for k in range(4))
    assert_close(torch.cat(model.encode()), expected, rtol=1e-4, atol=1e-6)


def test_the_terms_equal_plain_loops(build):
    model = taught(build, reg_weight=0.05)
    terms = model.loss_terms(Interaction({k: model.batch[k][:24] for k in model.batch.columns}))
    user, item = model.encode()
    losses, squares = [], 0.0
    for u, i, j in zip(*(index.tolist() for index in columns(model)), strict=True):
        losses.append(-torch.log(torch.sigmoid(user[u] @ item[i] - user[u] @ item[j])))
        rows = (model.user_embedding[u], model.item_embedding[i], model.item_embedding[j])
        squares += sum(row.square().sum() for row in rows)
    assert terms["interaction"].item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)
    assert terms["decay"].item() == pytest.approx(0.05 * squares.item() / 48, rel=1e-5)


# --- what is special about it ------------------------------------------------------------------


def test_without_a_teacher_it_is_lightgcn(build):
    model, plain = build("GraphDA", n_layers=3), build("LightGNNTeacher", n_layers=3)
    for one, other in zip(model.encode(), plain.encode(), strict=True):
        assert_close(one, other)
    assert model.sizes()["interactions"] == 810


def test_every_user_is_joined_to_its_best_items(build):
    model = taught(
        build,
        similarity="inner",
        items_per_user=4,
        users_per_item=0,
        users_per_user=0,
        items_per_item=0,
    )
    teacher = FrozenTeacher(build("LightGNNTeacher"))
    scores = teacher.user @ teacher.item.T
    edges = edges_of(model.edge, model.edge_weight)
    for user in (1, 44, 90):
        best = sorted(range(1, model.n_items), key=lambda i: -scores[user, i])[:4]
        assert {b - model.n_users for a, b in edges if a == user} == set(best)
    # The items of train are among them.
    assert any((a, b - model.n_users) in interactions(model) for a, b in edges)


def test_cosines_do_not_depend_on_the_length_of_embeddings(build):
    teacher = build("LightGNNTeacher")
    graphs = {}
    for similarity in ("inner", "cosine"):
        for factor in (1.0, 50.0):
            frozen = FrozenTeacher(teacher)
            frozen.item = frozen.item.clone()
            frozen.item[7] *= factor  # an item that is longer than the others
            model = build("GraphDA", similarity=similarity)
            model.distill_from(frozen)
            graphs[similarity, factor] = set(edges_of(model.edge, model.edge_weight))
    assert graphs["cosine", 1.0] == graphs["cosine", 50.0]
    assert graphs["inner", 1.0] != graphs["inner", 50.0]


def test_more_neighbors_than_nodes_are_all_nodes(build, tmp_path):
    write_tiny(tmp_path / "dataset")
    names = ("items_per_user", "users_per_item", "users_per_user", "items_per_item")
    model = taught(build, edge_threshold=0.0, **dict.fromkeys(names, 50))
    assert len(model.edge_weight) == 4 * 4 + 6 + 6
    assert model.edge.min() == 1
    assert 5 not in model.edge.tolist()[1]
    user, item = model.eval().final_embeddings()
    assert torch.isfinite(user @ item.T).all()


def test_without_any_edge_scores_are_finite(build):
    names = ("items_per_user", "users_per_item", "users_per_user", "items_per_item")
    model = taught(build, **dict.fromkeys(names, 0))
    assert len(model.edge_weight) == 0
    assert torch.isfinite(model.calculate_loss(model.batch))
    assert torch.equal(model.encode()[0], model.user_embedding)


def test_its_checkpoint_holds_the_graph(tmp_path):
    write_planted(tmp_path / "dataset")
    shared = {key: QUICK[key] for key in ("show_progress", "topk", "valid_metric")}
    settings = {**shared, "embedding_size": 16, "epochs": 2, "teacher_settings": TEACHER}
    record = run("GraphDA", "planted", settings=settings)
    assert [row["model"] for row in record["rows"]] == ["LightGCN", "GraphDA"]
    last = record["rows"][1]
    folder = Path(record["result_file"]).parent
    tensors, _ = checkpoint.load(folder / "GraphDA.safetensors")
    assert tensors["edge"].shape == (2, last["interactions"])
    assert last["bytes"] == sum(tensor.nbytes for tensor in tensors.values())
    again = run("GraphDA", "planted", settings=settings)
    assert again["test"] == record["test"]


def test_unmodified_recbole_trains_and_loads_it(tmp_path):
    write_planted(tmp_path / "dataset")
    settings = {"show_progress": False, "epochs": 2, "embedding_size": 8}
    settings["teacher_settings"] = TEACHER
    result = run_recbole(model="GraphDA", dataset="planted", config_dict=settings)
    (path,) = (tmp_path / "saved").glob("GraphDA-planted-*/GraphDA.safetensors")
    config, model, _, _, _, test = load_data_and_model(model_file=str(path))
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    assert trainer.evaluate(test, load_best_model=False) == result["test_result"]


def test_a_teacher_without_embeddings_is_refused(build):
    with pytest.raises(InputError, match="RP3beta gives only scores: choose a graph model"):
        build("GraphDA").distill_from(FrozenTeacher(build("RP3beta")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"items_per_user": -1}, "items_per_user must be an integer >= 0, got -1"),
        ({"edge_threshold": 2}, "edge_threshold must be a number x with 0 <= x <= 1, got 2"),
        ({"teacher": "LightGNN"}, "must be a general recommender that needs no teacher itself"),
    ],
)
def test_settings_that_cannot_be_are_refused(build, settings, message):
    with pytest.raises(InputError, match=message):
        build("GraphDA", **settings)
