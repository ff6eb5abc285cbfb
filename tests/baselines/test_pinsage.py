"""PinSage against plain loops and values computed by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.conformance import check_model
from helpers.planted import columns, write_planted
from helpers.tiny import adjacency, random_graph
from recbole.data.interaction import Interaction
from torch.testing import assert_close

from recbole_lightgnn.baselines.pinsage import Convolution
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.nn.graph import InteractionGraph, walk_neighbors
from recbole_lightgnn.quick_start import run

# Users 0, 1, 2 above items 3, 4, 5: A = [[1, 1, 0], [1, 0, 1], [0, 0, 1]].
TINY = InteractionGraph.from_pairs(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 2, 2]), 3, 3)


def table_of(pattern, values):
    """Return the shares as {node: {neighbor: share}}."""
    table = {}
    for a, b, share in zip(pattern.row.tolist(), pattern.col.tolist(), values, strict=True):
        table.setdefault(a, {})[b] = pytest.approx(share.item(), rel=1e-6)
    return table


def test_it_does_what_every_model_must(build):
    check_model("PinSage", build)


# --- neighbors -------------------------------------------------------------------------------


def test_neighbors_computed_by_hand():
    # Walks of two steps: users (.75, .25, 0), (.25, .5, .25), (0, .5, .5);
    # items (.5, .25, .25), (.5, .5, 0), (.25, 0, .75). The node itself is left out.
    users = {0: {1: 1.0}, 1: {0: 0.5, 2: 0.5}, 2: {1: 1.0}}
    items = {3: {4: 0.5, 5: 0.5}, 4: {3: 1.0}, 5: {3: 1.0}}
    assert table_of(*walk_neighbors(TINY, length=2, cap=2)) == users | items
    # A tie goes to the smaller node number.
    single = table_of(*walk_neighbors(TINY, length=2, cap=1))
    assert single == users | items | {1: {0: 1.0}, 3: {4: 1.0}}
    # One step: the mean over a node's interactions.
    first = table_of(*walk_neighbors(TINY, length=1, cap=9))
    assert first == {
        0: {3: 0.5, 4: 0.5},
        1: {3: 0.5, 5: 0.5},
        2: {5: 1.0},
        3: {0: 0.5, 1: 0.5},
        4: {0: 1.0},
        5: {1: 0.5, 2: 0.5},
    }


@pytest.mark.parametrize("length", [1, 2, 3, 4])
@pytest.mark.parametrize("cap", [1, 4, 1000])
def test_neighbors_are_the_largest_of_a_power_of_the_walk_matrix(length, cap):
    graph = random_graph(length, 20, 15, 50)  # some nodes have no interaction
    matrix = adjacency(graph)
    both = np.block([[np.zeros((20, 20)), matrix], [matrix.T, np.zeros((15, 15))]])
    degree = both.sum(axis=1, keepdims=True)
    power = np.linalg.matrix_power(both / np.maximum(degree, 1), length)
    np.fill_diagonal(power, 0)
    expected = {}
    for a, row in enumerate(power):
        best = sorted((-round(p, 12), b) for b, p in enumerate(row) if p > 0)[:cap]
        total = sum(p for p, _ in best)
        if best:
            expected[a] = {b: p / total for p, b in best}
    assert table_of(*walk_neighbors(graph, length=length, cap=cap, memory_mb=1)) == expected


def test_neighbors_do_not_depend_on_the_memory_bound(monkeypatch):
    graph = random_graph(0, 300, 200, 3000)
    monkeypatch.setattr("recbole_lightgnn.nn.graph._PATH_BYTES", 10**4)  # many blocks
    blocks = walk_neighbors(graph, length=2, cap=5, memory_mb=1)
    monkeypatch.undo()
    whole = walk_neighbors(graph, length=2, cap=5)
    assert torch.equal(blocks[0].row, whole[0].row)
    assert torch.equal(blocks[0].col, whole[0].col)
    assert torch.equal(blocks[1], whole[1])


@pytest.mark.parametrize(("length", "cap"), [(0, 1), (1, 0)])
def test_neighbors_need_a_step_and_a_place(length, cap):
    with pytest.raises(ValueError, match="length and cap must be at least 1"):
        walk_neighbors(TINY, length=length, cap=cap)


# --- the model -------------------------------------------------------------------------------


def test_a_convolution_computed_by_hand():
    layer, eye = Convolution(3), torch.eye(3)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.message.weight.copy_(eye)
        layer.update.weight.copy_(torch.cat([eye, eye], dim=1))
    result = layer(*walk_neighbors(TINY, length=2, cap=2), torch.cat([eye, eye]))
    expected = [[0.81650, 0.40825, 0.40825], [0.70711, 0.70711, 0], [0.70711, 0, 0.70711]]
    assert_close(result[3:], torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_gradients_of_a_convolution():
    layer = Convolution(3).double()
    pattern, shares = walk_neighbors(TINY, length=2, cap=2)
    hidden = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    hidden.requires_grad_()
    shares = shares.double()
    assert torch.autograd.gradcheck(lambda h: layer(pattern, shares, h), hidden)


@pytest.mark.parametrize("walk_length", [1, 2])
def test_terms_equal_plain_loops(build, walk_length):
    model = build(
        "PinSage", interaction_loss="bpr", walk_length=walk_length, n_neighbors=3, reg_weight=0.3
    )
    users, items, negatives = columns(model)
    terms = model.loss_terms(Interaction({k: v[:24] for k, v in model.batch.interaction.items()}))

    shares = table_of(model._neighbors, model._shares)
    hidden = [*model.user_embedding, *model.item_embedding]
    for layer in model.convolutions:
        messages = [F.relu(layer.message.weight @ h + layer.message.bias) for h in hidden]
        updated = []
        for node, own in enumerate(hidden):
            gathered = torch.zeros(4)
            for neighbor, share in shares.get(node, {}).items():
                gathered = gathered + share.expected * messages[neighbor]
            both = torch.cat([own, gathered])
            updated.append(F.relu(layer.update.weight @ both + layer.update.bias))
        hidden = [F.normalize(z, dim=0) for z in updated]
    first, _, last = model.head
    final = [last.weight @ F.relu(first.weight @ h + first.bias) for h in hidden]
    user, item = final[: model.n_users], final[model.n_users :]
    losses, squares = [], []
    for u, i, j in zip(users.tolist(), items.tolist(), negatives.tolist(), strict=True):
        losses.append(-torch.log(torch.sigmoid(user[u] @ item[i] - user[u] @ item[j])))
        rows = (user[u], item[i], item[j])
        squares.append(sum(row.square().sum() for row in rows))
    assert terms.keys() == {"interaction", "decay"}
    assert terms["interaction"].item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)
    decay = 0.3 * torch.stack(squares).mean().item() / 2
    assert terms["decay"].item() == pytest.approx(decay, rel=1e-5)


def test_nodes_that_walk_nowhere_and_caps_above_the_catalog_are_no_fault(build):
    model = build("PinSage", n_neighbors=10**6).eval()
    assert all(torch.isfinite(table).all() for table in model.final_embeddings())
    # RecBole's padding nodes have no interactions, as isolated nodes have none.
    assert not {0, model.n_users} & set(model._neighbors.row.tolist())


def test_a_seed_gives_the_same_bits(tmp_path):
    write_planted(tmp_path / "dataset")
    settings = {"show_progress": False, "epochs": 2, "embedding_size": 8}
    records = [run("PinSage", "planted", settings=settings) for _ in range(2)]
    assert records[0]["test"] == records[1]["test"]
    assert records[0]["rows"][0]["valid"] == records[1]["rows"][0]["valid"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_neighbors": 0}, "n_neighbors must be an integer >= 1, got 0"),
        ({"walk_length": 0}, "walk_length must be an integer >= 1, got 0"),
        ({"n_layers": 0}, "n_layers must be an integer >= 1, got 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(build, settings, message):
    with pytest.raises(InputError, match=message):
        build("PinSage", **settings)
