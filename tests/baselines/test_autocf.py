"""AutoCF against plain loops and values computed by hand."""

import math

import numpy as np
import pytest
import torch
from helpers.conformance import check_model
from helpers.planted import columns, write_planted
from helpers.tiny import dense, double, random_pattern
from recbole.data.interaction import Interaction
from torch.testing import assert_close

from recbole_lightgnn.baselines.autocf import Attention, seed_scores, spread
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.nn.graph import InteractionGraph, norm_without
from recbole_lightgnn.quick_start import run

# A = [[1, 1, 0], [1, 0, 1], [0, 0, 1]], edges by user: (0, 0), (0, 1), (1, 0), (1, 2), (2, 2).
TINY = InteractionGraph.from_pairs(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 2, 2]), 3, 3)
ROWS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


@pytest.mark.slow
def test_it_does_what_every_model_must(build):
    check_model("AutoCF", build)


# --- seeds and masks -------------------------------------------------------------------------


def test_seed_scores_computed_by_hand():
    expected = [0.69679, 0.66976, 0.72722, 0.68997, 0.60998, 0.73106]
    scores = seed_scores(TINY, ROWS, ROWS)
    assert_close(scores, torch.tensor(expected).log(), rtol=1e-4, atol=1e-5)


def test_a_node_without_interactions_has_the_cosine_0():
    graph = InteractionGraph.from_pairs(np.array([0]), np.array([0]), 2, 1)
    scores = seed_scores(graph, ROWS[:2], ROWS[:1])
    assert scores[1].item() == pytest.approx(math.log(0.5))


def test_gradients_of_seed_scores():
    user, item = double(3, 2, seed=1, grad=True), double(3, 2, seed=2, grad=True)
    edges = TINY.interactions
    graph = InteractionGraph(type(edges)(edges.pattern, edges.norm.double()))
    assert torch.autograd.gradcheck(lambda *tables: seed_scores(graph, *tables), (user, item))


def test_norms_about_a_seed_computed_by_hand():
    # The seed is user 2, its neighbor item 2: the edges (2, 2) and (1, 2) are masked.
    masked = torch.tensor([False, False, False, True, True])
    expected = torch.tensor([0.5, 0.70711, 0.70711, 0, 0])
    assert_close(norm_without(TINY, masked), expected, rtol=1e-4, atol=0)


def test_masked_edges_are_those_about_the_seeds(build):
    model = build("AutoCF")
    user, item = model._user, model._item
    near = model.with_neighbors(torch.tensor([3, 100]))
    expected = {3, 100}
    for a, b in zip(user.tolist(), item.tolist(), strict=True):
        if a == 3:
            expected.add(b)
        if b == 100:
            expected.add(a)
    assert set(near.nonzero()[:, 0].tolist()) == expected


@pytest.mark.parametrize("pair_share", [0.0, 0.3])
def test_the_graphs_of_a_step(build, pair_share):
    model = build("AutoCF", seed_share=0.02, pair_share=pair_share)
    scores = torch.full((model._n_nodes,), -50.0)
    scores[[7, 95, 120]] = 0  # certain to be drawn: no noise makes up for 50
    norm, pairs = model.choose_graphs(scores, model.connected())
    near = model.with_neighbors(torch.tensor([7, 95, 120]))
    masked = near[model._user] | near[model._item]
    assert torch.equal(norm == 0, masked)
    assert 0 < masked.sum() < len(masked)
    edges = set(zip(pairs.row.tolist(), pairs.col.tolist(), strict=True))
    assert len(edges) == pairs.nnz, "each pair once"
    assert edges == {(b, a) for a, b in edges}, "both directions"
    assert {(a, a) for a in range(model._n_nodes)} <= edges
    rest = set(zip(model._user[~masked].tolist(), model._item[~masked].tolist(), strict=True))
    assert rest <= edges
    random = {a for a, b in edges - rest - {(b, a) for a, b in rest} if a != b}
    assert not {0, model.n_users} & random, "RecBole's padding nodes"
    if pair_share == 0:
        assert random <= set(near.nonzero()[:, 0].tolist())


def test_the_graphs_hold_for_some_steps_and_never_for_two_epochs(build):
    model = build("AutoCF", mask_steps=3)
    graphs, terms = [], []
    for step in range(6):
        if step == 4:
            model.eval()
            model.train()
        terms.append(model.loss_terms(model.batch)["seeds"].item())
        graphs.append(model._graphs[1])
    assert [value != 0 for value in terms] == [True, False, False, True, True, False]
    assert graphs[0] is graphs[1] is graphs[2]
    assert graphs[3] is not graphs[2]
    assert graphs[4] is not graphs[3]
    assert graphs[5] is graphs[4]


# --- attention and spread --------------------------------------------------------------------


def plain_attention(layer, pairs, table):
    """Compute attention one node and one head at a time."""
    maps = [table @ linear.weight.T for linear in (layer.query, layer.key, layer.value)]
    size, rows = table.shape[1] // layer.n_heads, []
    for node in range(len(table)):
        neighbors = pairs.col[pairs.row == node].tolist()
        parts = []
        for head in range(layer.n_heads):
            query, key, value = (m[:, head * size : (head + 1) * size] for m in maps)
            logits = torch.stack([query[node] @ key[b] for b in neighbors]).clamp(-10, 10)
            parts.append(logits.softmax(0) @ torch.stack([value[b] for b in neighbors]))
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def with_a_loop_each(pattern):
    keys = torch.cat([pattern.row * 6 + pattern.col, torch.arange(6) * 7]).unique()
    return type(pattern)(keys // 6, keys % 6, (6, 6))


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_attention_equals_plain_loops(scale):
    pairs = with_a_loop_each(random_pattern(3, (6, 6), 14))
    layer, table = Attention(4, 2).double(), scale * double(6, 4, seed=4)
    assert_close(layer(pairs, table), plain_attention(layer, pairs, table))


def test_gradients_of_attention():
    pairs = with_a_loop_each(random_pattern(3, (6, 6), 14))
    layer = Attention(4, 2).double()
    assert torch.autograd.gradcheck(lambda x: layer(pairs, x), double(6, 4, seed=4, grad=True))


@pytest.mark.parametrize("with_all", [False, True])
def test_spread_equals_plain_loops(with_all):
    table, nodes = double(5, 3, seed=6, grad=True), torch.tensor([0, 2, 3])
    others = range(5) if with_all else nodes.tolist()
    sums = [
        torch.stack([(table[a] @ table[c]).exp() for c in others]).sum().log()
        for a in nodes.tolist()
    ]
    value = spread(table, nodes, with_all=with_all)
    assert value.item() == pytest.approx(torch.stack(sums).mean().item(), rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: spread(x, nodes, with_all=with_all), table)


# --- the model -------------------------------------------------------------------------------


@pytest.mark.parametrize("contrast_with", ["batch", "all"])
def test_terms_equal_plain_loops(build, contrast_with):
    settings = {"contrast_with": contrast_with, "contrast_weight": 0.7, "reg_weight": 0.3}
    model = build("AutoCF", n_layers=2, n_heads=2, seed_share=0.02, **settings)
    users, items, _ = columns(model)
    batch = Interaction({k: v[:24] for k, v in model.batch.interaction.items()})
    terms = model.loss_terms(batch)
    norm, pairs = model._graphs

    scores = seed_scores(model.observed, *model.initial())
    matrix = dense(model.observed.interactions.pattern, norm)
    layers = [torch.cat(model.initial())]
    for _ in range(2):
        user, item = layers[-1].split([model.n_users, model.n_items])
        layers.append(torch.cat([matrix @ item, matrix.T @ user]))
    layers.append(plain_attention(model.attentions[0], pairs, layers[-1]))
    user, item = sum(layers).split([model.n_users, model.n_items])
    losses = [
        torch.stack([user[u] @ item[c] for c in range(1, len(item))]).logsumexp(0)
        - user[u] @ item[i]
        for u, i in zip(users.tolist(), items.tolist(), strict=True)
    ]
    spreads = []
    for table, nodes in ((user, users.unique()), (item, items.unique())):
        others = range(1, len(table)) if contrast_with == "all" else nodes.tolist()
        sums = [
            torch.stack([table[a] @ table[c] for c in others]).logsumexp(0) for a in nodes.tolist()
        ]
        spreads.append(torch.stack(sums).mean())
    squares = [model.user_embedding[1:], model.item_embedding[1:]]
    squares += list(model.attentions.parameters())
    expected = {
        "interaction": torch.stack(losses).mean(),
        "contrast": 0.7 * sum(spreads),
        "seeds": -scores[model.connected()].mean(),
        "decay": 0.3 * sum(part.square().sum() for part in squares),
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-4), name


def test_the_ranking_is_on_the_whole_graph(build):
    model = build("AutoCF", n_layers=1)
    model.loss_terms(model.batch)
    model.eval()
    pattern, norm = model.observed.interactions.pattern, model.observed.interactions.norm
    user, item = model.initial()
    matrix = dense(pattern, norm)
    first, second = torch.cat([user, item]), torch.cat([matrix @ item, matrix.T @ user])
    third = plain_attention(model.attentions[0], model._whole, second)
    assert_close(torch.cat(model.final_embeddings()), first + second + third)
    assert model._whole.nnz == 2 * pattern.nnz + model._n_nodes


def test_seeds_that_mask_every_edge_give_numbers(build):
    model = build("AutoCF", seed_share=1.0, pair_share=1.0)
    terms = model.loss_terms(model.batch)
    assert model._graphs[0].abs().max() == 0
    assert all(torch.isfinite(term) for term in terms.values())


def test_a_seed_gives_the_same_bits(tmp_path):
    write_planted(tmp_path / "dataset")
    settings = {"show_progress": False, "epochs": 2, "embedding_size": 8}
    records = [run("AutoCF", "planted", settings=settings) for _ in range(2)]
    assert records[0]["test"] == records[1]["test"]
    assert records[0]["rows"][0]["valid"] == records[1]["rows"][0]["valid"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_heads": 3}, "embedding_size must be a multiple of n_heads, got 4 and 3"),
        ({"seed_share": 0.0}, "seed_share must be a number x with 0 < x <= 1, got 0.0"),
        ({"mask_steps": 0}, "mask_steps must be an integer >= 1, got 0"),
        ({"contrast_with": "items"}, "contrast_with must be one of batch"),
    ],
)
def test_settings_that_cannot_be_are_refused(build, settings, message):
    with pytest.raises(InputError, match=message):
        build("AutoCF", **settings)
