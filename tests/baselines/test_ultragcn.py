"""UltraGCN: by hand, against plain loops, and what every model must do."""

import math

import numpy as np
import pytest
import torch
from helpers.conformance import check_model
from helpers.planted import columns, interactions
from helpers.tiny_world import TINY, TRAIN, write_tiny
from recbole.data.interaction import Interaction
from torch.testing import assert_close

from recbole_lightgnn.baselines.ultragcn import similar_items
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.nn.graph import InteractionGraph

GRAPH = InteractionGraph.from_pairs(*np.array(TRAIN).T, 3, 3)
WEIGHTS = {"positive_base": 0.3, "positive_beta": 0.7, "negative_base": 0.2, "negative_beta": 0.9}
WEIGHTS |= {"negative_weight": 5.0, "similar_weight": 0.6, "reg_weight": 0.05, "init_std": 0.3}


def test_it_does_what_every_model_must(build):
    # With 60 items, a drawn item is a positive item more often than the authors' weight allows.
    check_model("UltraGCN", build, settings={"negative_weight": 5.0})


# --- by hand ---------------------------------------------------------------------------------


def test_beta_by_hand(build, tmp_path):
    write_tiny(tmp_path / "dataset")
    model = build("UltraGCN")
    beta = model.user_factor[TINY, None] * model.item_factor[TINY]
    expected = [[0.5, 0.61237, 0.5], [0.5, 0.61237, 0.5], [0.8165, 1, 0.8165]]
    assert_close(beta, torch.tensor(expected), rtol=0, atol=1e-5)


def test_omega_by_hand():
    similar, omega = similar_items(GRAPH, 2)
    assert similar.tolist() == [[1, 2], [0, 0], [0, 0]]
    half = math.sqrt(0.5)
    expected = torch.tensor([[half, half], [half, 0], [half, 0]])
    assert_close(omega, expected)


@pytest.mark.parametrize("count", [3, 100])
def test_omega_equals_a_plain_loop(build, count):
    graph = build("UltraGCN").observed
    known = interactions(build("UltraGCN"))
    users = {i: {u for u, j in known if j == i} for i in range(graph.n_items)}
    together = {(i, j): len(users[i] & users[j]) for i in users for j in users if i != j}
    total = {i: sum(together[i, j] for j in users if j != i) for i in users}
    similar, omega = similar_items(graph, count)
    for i in (0, 1, 17, 60):
        weights = {
            j: together[i, j] / total[i] * math.sqrt(total[i] / total[j])
            for j in users
            if j != i and together[i, j]
        }
        best = sorted(weights.values(), reverse=True)[:count]
        best += [0.0] * (count - len(best))
        assert sorted(omega[i].tolist(), reverse=True) == pytest.approx(best, rel=1e-5)
        for j, weight in zip(similar[i].tolist(), omega[i].tolist(), strict=True):
            assert weight == pytest.approx(weights.get(j, 0.0), rel=1e-5)


# --- against plain loops -----------------------------------------------------------------------


def log_sigmoid(score):
    return torch.log(torch.sigmoid(score))


def plain_terms(model, batch, drawn):
    """All terms, one interaction at a time."""
    known = interactions(model)
    similar, omega = similar_items(model.observed, 10)
    terms = {"interaction": [], "negative": [], "similar": []}

    def beta(u, i):
        d_u, d_i = sum(v == u for v, _ in known), sum(j == i for _, j in known)
        return math.sqrt((d_u + 1) / (d_i + 1)) / d_u

    def score(u, i):
        return model.user_embedding[u] @ model.item_embedding[i]

    for u, i in zip(batch[0].tolist(), batch[1].tolist(), strict=True):
        terms["interaction"].append(-(0.3 + 0.7 * beta(u, i)) * log_sigmoid(score(u, i)))
        against = [(0.2 + 0.9 * beta(u, c)) * log_sigmoid(-score(u, c)) for c in drawn]
        terms["negative"].append(-5.0 * sum(against) / len(drawn))
        near = zip(similar[i].tolist(), omega[i].tolist(), strict=True)
        terms["similar"].append(-0.6 * sum(w * log_sigmoid(score(u, j)) for j, w in near))
    squares = sum(table[1:].square().sum() for table in model.initial())
    means = {name: torch.stack(values).mean() for name, values in terms.items()}
    return means | {"decay": 0.05 * squares / (2 * len(batch[0]))}


def test_the_terms_equal_plain_loops(build):
    model = build("UltraGCN", n_negatives=7, **WEIGHTS)
    batch = columns(model)
    torch.manual_seed(3)
    terms = model.loss_terms(Interaction({k: model.batch[k][:24] for k in model.batch.columns}))
    torch.manual_seed(3)
    drawn = torch.randint(1, model.n_items, (7,)).tolist()
    expected = plain_terms(model, batch, drawn)
    assert terms.keys() == expected.keys()
    parameters = list(model.parameters())
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-5), name
    ours, plain = (torch.autograd.grad(sum(t.values()), parameters) for t in (terms, expected))
    for a, b in zip(ours, plain, strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_the_gradients_are_exact(build):
    model = build("UltraGCN", n_negatives=7, **WEIGHTS).double()
    batch = Interaction({k: model.batch[k][:9] for k in model.batch.columns})

    def loss(user, item):
        torch.manual_seed(3)
        tables = {"user_embedding": user, "item_embedding": item}
        call = torch.func.functional_call
        return call(Loss(model), {f"model.{k}": v for k, v in tables.items()}, (batch,))

    assert torch.autograd.gradcheck(loss, model.initial())


class Loss(torch.nn.Module):
    """The loss of a model as a module that can be called with other parameters."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch):
        return self.model.calculate_loss(batch)


# --- what is special about it ------------------------------------------------------------------


def test_without_weights_of_the_graph_it_is_plain_matrix_factorization(build):
    settings = {"positive_base": 1.0, "positive_beta": 0.0, "negative_weight": 0.0}
    settings |= {"similar_weight": 0.0, "reg_weight": 0.0, "init_std": 0.3}
    model = build("UltraGCN", **settings)
    users, items, _ = columns(model, len(model.batch))
    plain = [
        -log_sigmoid(model.user_embedding[u] @ model.item_embedding[i])
        for u, i in zip(users.tolist(), items.tolist(), strict=True)
    ]
    expected = torch.stack(plain).mean().item()
    assert model.calculate_loss(model.batch).item() == pytest.approx(expected, rel=1e-5)


def test_the_same_seed_has_the_same_bits_and_another_seed_other_items(build):
    model = build("UltraGCN", init_std=0.3)

    def negative(seed):
        torch.manual_seed(seed)
        return model.loss_terms(model.batch)["negative"].item()

    assert negative(1) == negative(1) != negative(2)


def test_nodes_without_interactions_have_finite_scores(build, tmp_path):
    write_tiny(tmp_path / "dataset")
    model = build("UltraGCN", n_similar=50)
    assert model.similar.shape == (5, 50)
    assert torch.isfinite(model.calculate_loss(model.batch))
    user, item = model.eval().final_embeddings()
    assert torch.isfinite(user @ item.T).all()
    assert model.omega[4].abs().max() == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_negatives": 0}, "n_negatives must be an integer >= 1, got 0"),
        ({"n_similar": 0}, "n_similar must be an integer >= 1, got 0"),
        ({"init_std": 0}, "init_std must be a number > 0, got 0"),
        ({"negative_weight": -1}, "negative_weight must be a number >= 0, got -1"),
    ],
)
def test_settings_that_cannot_be_are_refused(build, settings, message):
    with pytest.raises(InputError, match=message):
        build("UltraGCN", **settings)
