"""The interaction graph and its augmentation, against dense matrices and plain loops."""

import numpy as np
import pytest
import torch
from helpers.tiny import REFERENCE, TOLERANCE, adjacency, edges, random_graph
from torch.testing import assert_close

from recbole_lightgnn.nn.graph import InteractionGraph, augment_hops
from recbole_lightgnn.utils.edge_norm import edge_norm

LARGE = 10_000


def graph_of(pairs, n_users, n_items):
    user, item = np.array(pairs).T
    return InteractionGraph.from_pairs(user, item, n_users, n_items)


def normalized(matrix):
    """Entries divided by the square roots of their row sum and column sum; 0 stays 0."""
    degrees = matrix.sum(axis=1)[:, None] * matrix.sum(axis=0)[None, :]
    return np.divide(matrix, np.sqrt(degrees), out=np.zeros_like(matrix), where=degrees > 0)


def whole(matrix):
    """The square symmetric matrix over users and items."""
    n_users, n_items = matrix.shape
    return np.block(
        [[np.zeros((n_users, n_users)), matrix], [matrix.T, np.zeros((n_items, n_items))]]
    )


def strength(graph, hops):
    """Users x items block of the normalized adjacency to the largest odd power up to hops."""
    n_users = graph.n_users
    power = np.linalg.matrix_power(
        whole(normalized(adjacency(graph))), hops if hops % 2 else hops - 1
    )
    return power[:n_users, n_users:]


def strongest_by_loop(candidates, cap):
    """For every row the cap strongest columns of {(row, col): strength}; ties: smaller column."""
    chosen = set()
    for row in {row for row, _ in candidates}:
        ranked = [(-round(value, 7), col) for (r, col), value in candidates.items() if r == row]
        chosen |= {(row, col) for _, col in sorted(ranked)[:cap]}
    return chosen


def transposed(candidates):
    return {(col, row): value for (row, col), value in candidates.items()}


def augment_hops_by_loop(graph, hops, cap):
    """Each user chooses cap pairs, then each item chooses cap of these; observed pairs stay."""
    values, observed = strength(graph, hops), edges(graph.interactions)
    candidates = {
        (int(u), int(i)): values[u, i] for u, i in np.argwhere(values > 0) if (u, i) not in observed
    }
    candidates = {pair: candidates[pair] for pair in strongest_by_loop(candidates, cap)}
    return observed | {(u, i) for i, u in strongest_by_loop(transposed(candidates), cap)}


# --- the observed graph ----------------------------------------------------------------------


def test_from_pairs_by_hand():
    """User 0 has two items, item 0 two users; user 1 and item 2 have none; (2, 0) is repeated."""
    graph = graph_of([(2, 0), (0, 1), (0, 0), (2, 0)], n_users=3, n_items=3)
    assert graph.interactions.pattern.row.tolist() == [0, 0, 2]
    assert graph.interactions.pattern.col.tolist() == [0, 1, 0]
    assert_close(graph.interactions.norm, torch.tensor([0.5, 2**-0.5, 2**-0.5]))
    assert (graph.n_users, graph.n_items, graph.n_edges) == (3, 3, 3)


@pytest.mark.parametrize("seed", range(3))
def test_norm_is_the_symmetric_normalization(seed):
    graph = random_graph(seed, 9, 7, 25)
    pattern = graph.interactions.pattern
    expected = normalized(adjacency(graph))[pattern.row, pattern.col]
    assert_close(graph.interactions.norm.double().numpy(), expected, rtol=1e-6, atol=0)


def test_degrees_of_the_reference_graph():
    """The reference adjacency has self loops, so its degrees are ours plus one."""
    graph = graph_of(REFERENCE["pairs"], REFERENCE["n_users"], REFERENCE["n_items"])
    with_loops = whole(adjacency(graph)) + np.eye(11)
    square = REFERENCE["adjacency"]
    assert edges(graph.interactions) == {tuple(pair) for pair in REFERENCE["pairs"]}
    assert_close(
        normalized(with_loops)[square["row"], square["col"]], np.array(square["value"]), **TOLERANCE
    )
    assert len(square["value"]) == int(with_loops.sum())


def test_order_and_repetition_of_pairs_do_not_matter():
    draw = np.random.default_rng(0)
    user, item = draw.integers(0, 6, 20), draw.integers(0, 5, 20)
    order = draw.permutation(np.tile(np.arange(20), 2))
    one = InteractionGraph.from_pairs(user, item, 6, 5).interactions
    other = InteractionGraph.from_pairs(user[order], item[order], 6, 5).interactions
    assert torch.equal(one.pattern.row, other.pattern.row)
    assert torch.equal(one.pattern.col, other.pattern.col)
    assert torch.equal(one.norm, other.norm)


def test_relabelling_relabels():
    draw = np.random.default_rng(1)
    user, item = draw.integers(0, 6, 20), draw.integers(0, 5, 20)
    new_user, new_item = draw.permutation(6), draw.permutation(5)
    plain = InteractionGraph.from_pairs(user, item, 6, 5)
    moved = InteractionGraph.from_pairs(new_user[user], new_item[item], 6, 5)
    place = moved.interaction_numbers(
        torch.from_numpy(new_user)[plain.interactions.pattern.row],
        torch.from_numpy(new_item)[plain.interactions.pattern.col],
    )
    assert sorted(place.tolist()) == list(range(plain.n_edges))
    assert torch.equal(moved.interactions.norm[place], plain.interactions.norm)


def test_small_integer_types_do_not_overflow():
    user, item = np.array([1, 2], dtype=np.int8), np.array([100, 120], dtype=np.int8)
    graph = InteractionGraph.from_pairs(user, item, 3, 127)
    assert edges(graph.interactions) == {(1, 100), (2, 120)}


def test_interaction_numbers():
    graph = graph_of([(0, 1), (1, 0), (1, 2)], n_users=3, n_items=3)
    user, item = torch.tensor([1, 0, 2, 1, 0]), torch.tensor([2, 0, 2, 0, 1])
    assert graph.interaction_numbers(user, item).tolist() == [2, -1, -1, 1, 0]


def test_keep_leaves_degrees_alone():
    """Eq. 4 divides by the degrees of A, before pruning."""
    graph = graph_of([(0, 0), (0, 1), (1, 0)], n_users=2, n_items=2)
    kept = graph.keep(torch.tensor([True, False, False]))
    assert edges(kept.interactions) == {(0, 0)}
    assert kept.interactions.norm.tolist() == [0.5]
    assert (kept.n_users, kept.n_items, kept.n_edges) == (2, 2, 1)
    assert graph.keep(torch.zeros(3, dtype=torch.bool)).n_edges == 0


@pytest.mark.parametrize(
    ("user", "item", "message"),
    [
        ([], [], "at least one interaction"),
        ([0, 3], [0, 0], r"user numbers must lie in \[0, 3\) \(got 0 to 3\)"),
        ([0, 1], [-1, 0], r"item numbers must lie in \[0, 2\) \(got -1 to 0\)"),
    ],
)
def test_bad_pairs_are_refused(user, item, message):
    with pytest.raises(ValueError, match=message):
        InteractionGraph.from_pairs(np.array(user), np.array(item), 3, 2)


# --- pairs within some hops (Eq. 7) ----------------------------------------------------------


def test_augment_hops_by_hand():
    """Chain u0-i0-u1-i1-u2: three hops add (0, 1) and (2, 0), and degrees grow."""
    chain = graph_of([(0, 0), (1, 0), (1, 1), (2, 1)], n_users=3, n_items=2)
    augmented = augment_hops(chain, hops=3, cap=LARGE)
    assert edges(augmented.interactions) == {(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)}
    assert_close(augmented.interactions.norm, torch.full((6,), 6**-0.5))


@pytest.mark.parametrize("hops", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(3))
def test_uncapped_augmentation_is_the_power_with_self_loops(seed, hops):
    graph = random_graph(seed, 12, 10, 18)
    reachable = np.linalg.matrix_power(whole(adjacency(graph)) + np.eye(22), hops)[:12, 12:] > 0
    augmented = augment_hops(graph, hops=hops, cap=LARGE)
    assert np.array_equal(adjacency(augmented), reachable)
    assert_close(augmented.interactions.norm, _norms(adjacency(augmented), augmented))


def _norms(matrix, graph):
    pattern = graph.interactions.pattern
    return torch.from_numpy(normalized(matrix)[pattern.row, pattern.col]).float()


@pytest.mark.parametrize("cap", [1, 2, 4])
@pytest.mark.parametrize("hops", [3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_capped_augmentation_equals_the_plain_loop(seed, hops, cap):
    graph = random_graph(seed, 15, 12, 30)
    augmented = augment_hops(graph, hops=hops, cap=cap)
    assert edges(augmented.interactions) == augment_hops_by_loop(graph, hops, cap)
    added = adjacency(augmented) - adjacency(graph)
    assert added.min() == 0, "an observed interaction was lost"
    assert added.sum(axis=0).max() == cap
    assert added.sum(axis=1).max() == cap


def test_ties_go_to_the_earlier_item():
    """User 0 reaches items 1, 2 and 3 through item 0 by paths of equal strength."""
    star = graph_of([(0, 0), (1, 0), (1, 1), (2, 0), (2, 2), (3, 0), (3, 3)], 4, 4)
    added = edges(augment_hops(star, hops=3, cap=1).interactions) - edges(star.interactions)
    assert (0, 1) in added
    assert not added & {(0, 2), (0, 3)}


def test_relabelling_relabels_the_augmentation():
    """Without ties in strength, the choice does not depend on the numbering."""
    draw = np.random.default_rng(5)
    graph = random_graph(6, 20, 20, 120)
    new_user, new_item = draw.permutation(20), draw.permutation(20)
    values = np.round(strength(graph, 3), 7) * (1 - adjacency(graph))
    assert all(len(np.unique(v[v > 0])) == (v > 0).sum() for v in (*values, *values.T))
    moved = graph_of([(new_user[u], new_item[i]) for u, i in edges(graph.interactions)], 20, 20)
    expected = {
        (new_user[u], new_item[i])
        for u, i in edges(augment_hops(graph, hops=3, cap=2).interactions)
    }
    assert edges(augment_hops(moved, hops=3, cap=2).interactions) == expected


@pytest.mark.parametrize(("hops", "cap"), [(0, 5), (3, 0)])
def test_hops_and_cap_below_1_are_refused(hops, cap):
    graph = graph_of([(0, 0)], 1, 1)
    with pytest.raises(ValueError, match=f"got hops={hops}, cap={cap}"):
        augment_hops(graph, hops=hops, cap=cap)


def test_one_user_has_nothing_to_add():
    graph = graph_of([(0, 0), (0, 2)], n_users=1, n_items=3)
    assert edges(augment_hops(graph, hops=5, cap=3).interactions) == {(0, 0), (0, 2)}


# --- exponents of the degrees ---------------------------------------------------------------------


@pytest.mark.parametrize("exponents", [(0.5, 0.5), (0.4, 0.1), (0.0, 1.0), (1.0, 0.0)])
def test_norms_are_powers_of_the_two_degrees(exponents):
    pairs = [(0, 0), (0, 1), (0, 2), (1, 2), (3, 2), (3, 2)]
    graph = InteractionGraph.from_pairs(*np.array(pairs).T, 4, 3, exponents)
    a, b = exponents
    expected = [3**-a, 3**-a, 3**-a * 3**-b, 3**-b, 3**-b]  # the repeated pair counts once
    assert_close(graph.interactions.norm, torch.tensor(expected), rtol=1e-6, atol=0)
    augmented = augment_hops(graph, hops=3, cap=1, exponents=exponents)
    matrix, relation = adjacency(augmented), augmented.interactions
    degrees = matrix.sum(axis=1), matrix.sum(axis=0)
    user, item = relation.pattern.row.numpy(), relation.pattern.col.numpy()
    expected = degrees[0][user] ** -a * degrees[1][item] ** -b
    np.testing.assert_allclose(relation.norm.numpy(), expected, rtol=1e-6)


def test_equal_exponents_of_a_half_give_the_same_bits_as_the_square_root():
    """So that results of earlier versions stay as they are."""
    degrees = np.random.default_rng(0).integers(1, 5000, (2, 10_000))
    expected = 1.0 / np.sqrt(degrees[0] * degrees[1])
    assert np.array_equal(edge_norm(*degrees), expected)
