"""Propagation against dense matrices; prunable embeddings and their checkpoints."""

import pytest
import torch
from helpers.tiny import dense, double, in_double, random_graph
from torch.testing import assert_close

from recbole_lightgnn.nn.graph import InteractionGraph
from recbole_lightgnn.nn.propagation import (
    dropped_layer,
    lightgcn,
    mean_of_layers,
    noisy_layers,
    weighted_lightgcn,
)
from recbole_lightgnn.nn.prunable_embedding import PrunableEmbedding, pack_mask, unpack_mask

N_USERS, N_ITEMS = 8, 6


def graph_of(*pairs, n_users, n_items):
    user, item = torch.tensor(pairs).T.numpy()
    return in_double(InteractionGraph.from_pairs(user, item, n_users, n_items))


@pytest.fixture
def graph():
    """A graph with at least one user without interactions."""
    plain = random_graph(4, N_USERS, N_ITEMS, 14)
    degree = torch.bincount(plain.interactions.pattern.row, minlength=N_USERS)
    assert degree.min() == 0
    return in_double(plain)


@pytest.fixture
def tables():
    return double(N_USERS, 3, seed=1), double(N_ITEMS, 3, seed=2)


def square(graph, weight):
    """The symmetric normalized matrix over users and items, each edge times its weight."""
    size = graph.n_users + graph.n_items
    matrix = torch.zeros(size, size, dtype=torch.float64)
    users, items = slice(graph.n_users), slice(graph.n_users, size)
    assert weight.shape == (graph.n_edges,)
    block = dense(graph.interactions.pattern, graph.interactions.norm * weight)
    matrix[users, items] += block
    matrix[items, users] += block.T
    return matrix


# --- LightGCN (Eq. 1, 2) ---------------------------------------------------------------------


def test_lightgcn_by_hand():
    """User 0 and item 0 swap values at each layer; user 1 and item 1 have no edges."""
    graph = graph_of((0, 0), n_users=2, n_items=2)
    user = torch.tensor([[1.0], [5.0]], dtype=torch.float64)
    item = torch.tensor([[10.0], [7.0]], dtype=torch.float64)
    for n_layers, users, items in (
        (0, [1.0, 5.0], [10.0, 7.0]),
        (1, [11.0, 5.0], [11.0, 7.0]),
        (2, [12.0, 5.0], [21.0, 7.0]),
    ):
        out = lightgcn(graph, user, item, n_layers=n_layers)
        assert [table.flatten().tolist() for table in out] == [users, items]


@pytest.mark.parametrize("n_layers", [0, 1, 2, 4])
def test_lightgcn_equals_the_dense_formula(n_layers, tables):
    graph = in_double(random_graph(4, N_USERS, N_ITEMS, 14))
    matrix = square(graph, torch.ones(graph.n_edges))
    powers = [torch.linalg.matrix_power(matrix, k) for k in range(n_layers + 1)]
    expected = sum(powers) @ torch.cat(tables)
    out = torch.cat(lightgcn(graph, *tables, n_layers=n_layers))
    assert_close(out, expected, rtol=1e-12, atol=1e-12)


# --- a layer with edges dropped (HCCF, LightGCL) ---------------------------------------------


def test_a_layer_drops_each_direction_of_an_edge_by_itself():
    """1000 pairs of users and items with a value of 1: each direction of an edge has 0 or 4."""
    graph = graph_of(*((k, k) for k in range(1000)), n_users=1000, n_items=1000)
    ones = torch.ones(1000, 1, dtype=torch.float64)
    torch.manual_seed(1)
    user, item = dropped_layer(graph, ones, ones, keep_rate=0.25)
    for table in (user, item):
        assert set(table.flatten().tolist()) == {0.0, 4.0}
        assert table.mean().item() == pytest.approx(1, abs=0.2)
    both = ((user > 0) & (item > 0)).double().mean().item()
    assert both == pytest.approx(1 / 16, abs=0.03)


def test_a_layer_that_keeps_all_edges_is_the_dense_product_and_draws_nothing(tables):
    graph = in_double(random_graph(4, N_USERS, N_ITEMS, 14))
    state = torch.get_rng_state()
    out = torch.cat(dropped_layer(graph, *tables, keep_rate=1.0))
    assert_close(out, square(graph, torch.ones(graph.n_edges)) @ torch.cat(tables))
    assert torch.equal(torch.get_rng_state(), state)


# --- SimGCL's layers -------------------------------------------------------------------------


def test_mean_of_layers_by_hand():
    """User 0 and item 0 swap values at each layer; layers of nodes without edges are zero."""
    graph = graph_of((0, 0), n_users=2, n_items=2)
    user = torch.tensor([[1.0], [5.0]], dtype=torch.float64)
    item = torch.tensor([[10.0], [7.0]], dtype=torch.float64)
    for n_layers, users, items in (
        (1, [10.0, 0.0], [1.0, 0.0]),
        (2, [5.5, 0.0], [5.5, 0.0]),
        (4, [5.5, 0.0], [5.5, 0.0]),
    ):
        out = mean_of_layers(graph, user, item, n_layers=n_layers)
        assert [table.flatten().tolist() for table in out] == [users, items]


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_mean_of_layers_equals_the_dense_formula(n_layers, tables):
    graph = in_double(random_graph(4, N_USERS, N_ITEMS, 14))
    matrix = square(graph, torch.ones(graph.n_edges))
    powers = [torch.linalg.matrix_power(matrix, k + 1) for k in range(n_layers)]
    out = torch.cat(mean_of_layers(graph, *tables, n_layers=n_layers))
    assert_close(out, sum(powers) @ torch.cat(tables) / n_layers)


def test_every_layer_has_noise_of_one_length_in_the_orthant_of_its_node(tables):
    graph = in_double(random_graph(4, N_USERS, N_ITEMS, 14))
    matrix, before = square(graph, torch.ones(graph.n_edges)), torch.cat(tables)
    isolated = matrix.sum(dim=1) == 0
    noise_sizes = []
    torch.manual_seed(1)
    for layer in noisy_layers(graph, *tables, n_layers=3, noise=0.3):
        clean, noisy = matrix @ before, torch.cat(layer)
        shift = noisy - clean
        assert_close(shift.norm(dim=1), torch.where(isolated, 0.0, 0.3).double())
        assert (shift * clean >= 0).all()
        noise_sizes.append(shift[~isolated].abs())
        before = noisy
    assert not torch.allclose(noise_sizes[0], noise_sizes[1], atol=1e-3)


def test_noise_is_uniform_before_it_is_normalized():
    """For z uniform in [0, 1]: E z / sqrt(E z^2) = sqrt(3) / 2 and E z^4 / (E z^2)^2 = 9 / 5."""
    graph = graph_of(*((user, 0) for user in range(50)), n_users=50, n_items=1)
    user, item = (torch.full((n, 4000), -1.0, dtype=torch.float64) for n in (50, 1))
    torch.manual_seed(1)
    ((shifted, _),) = noisy_layers(graph, user, item, n_layers=1, noise=2.0)
    size = (-1 / 50**0.5 - shifted) * 4000**0.5 / 2  # of root mean square 1
    assert size.min() >= 0
    assert size.max().item() == pytest.approx(3**0.5, abs=0.05)
    assert size.mean().item() == pytest.approx(3**0.5 / 2, abs=0.003)
    assert (size**4).mean().item() == pytest.approx(9 / 5, abs=0.01)


def test_noisy_layers_without_noise_are_the_powers(tables):
    graph = in_double(random_graph(4, N_USERS, N_ITEMS, 14))
    matrix = square(graph, torch.ones(graph.n_edges))
    for power, layer in enumerate(noisy_layers(graph, *tables, n_layers=3, noise=0.0), start=1):
        expected = torch.linalg.matrix_power(matrix, power) @ torch.cat(tables)
        assert_close(torch.cat(layer), expected)


def test_noise_is_a_constant_to_gradients(tables):
    graph = in_double(random_graph(4, N_USERS, N_ITEMS, 14))
    weights = double(N_USERS + N_ITEMS, 3, seed=5)

    def weighed(user, item, noise):
        torch.manual_seed(2)
        layers = noisy_layers(graph, user, item, n_layers=2, noise=noise)
        return sum((torch.cat(layer) * weights).sum() for layer in layers)

    leaves = tuple(table.requires_grad_() for table in tables)
    assert torch.autograd.gradcheck(lambda *t: weighed(*t, 0.2), leaves)
    noisy, clean = (torch.autograd.grad(weighed(*leaves, noise), leaves) for noise in (0.2, 0.0))
    assert_close(noisy, clean)


# --- weighted propagation (Eq. 4) ------------------------------------------------------------


def test_weighted_lightgcn_by_hand():
    """Weight 2 on (0, 0): layers (1, 10), (21, 12), (45, 54); user 1 has no edges: 5 + 5 + 5."""
    graph = graph_of((0, 0), n_users=2, n_items=1)
    user = torch.tensor([[1.0], [5.0]], dtype=torch.float64)
    item = torch.tensor([[10.0]], dtype=torch.float64)
    weight = torch.tensor([2.0], dtype=torch.float64)
    out_user, out_item = weighted_lightgcn(graph, weight, user, item, n_layers=2)
    assert out_user.flatten().tolist() == [67.0, 15.0]
    assert out_item.flatten().tolist() == [76.0]


@pytest.mark.parametrize("n_layers", [0, 1, 2, 4])
@pytest.mark.parametrize("weights", ["none", "ones", "learned"])
def test_weighted_lightgcn_equals_the_dense_formula(graph, tables, weights, n_layers):
    """The final embeddings are the sum over layers l of (I + A W)^l E."""
    learned = double(graph.n_edges, seed=3)
    weight = {"none": None, "ones": torch.ones_like(learned), "learned": learned}[weights]
    step = square(graph, torch.ones_like(learned) if weight is None else weight)
    step += torch.eye(len(step), dtype=torch.float64)
    powers = [torch.linalg.matrix_power(step, k) for k in range(n_layers + 1)]
    expected = sum(powers) @ torch.cat(tables)
    out = torch.cat(weighted_lightgcn(graph, weight, *tables, n_layers=n_layers))
    assert_close(out, expected, rtol=1e-12, atol=1e-12)


def test_gradients_of_weights_and_embeddings(graph):
    tables = double(N_USERS, 2, seed=1, grad=True), double(N_ITEMS, 2, seed=2, grad=True)
    assert torch.autograd.gradcheck(
        lambda w, u, i: weighted_lightgcn(graph, w, u, i, n_layers=2),
        (double(graph.n_edges, seed=3, grad=True), *tables),
    )


def test_a_pruned_edge_is_an_edge_of_weight_zero(tables):
    graph = in_double(random_graph(4, N_USERS, N_ITEMS, 14))
    weight = double(graph.n_edges, seed=3)
    mask = weight > 0
    assert 0 < mask.sum() < graph.n_edges
    gone = weighted_lightgcn(graph.keep(mask), weight[mask], *tables, n_layers=3)
    zero = weighted_lightgcn(graph, weight * mask, *tables, n_layers=3)
    for one, other in zip(gone, zero, strict=True):
        assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_with_all_edges_pruned_each_layer_is_the_initial_embedding(tables):
    graph = in_double(random_graph(4, N_USERS, N_ITEMS, 14))
    empty = graph.keep(torch.zeros(graph.n_edges, dtype=torch.bool))
    weight = double(0, seed=1)
    out = weighted_lightgcn(empty, weight, *tables, n_layers=2)
    for table, embedding in zip(out, tables, strict=True):
        assert_close(table, 3 * embedding)
    out = lightgcn(empty, *tables, n_layers=2)
    for table, embedding in zip(out, tables, strict=True):
        assert torch.equal(table, embedding)


def test_relabelling_nodes_relabels_the_result(tables):
    plain = random_graph(4, N_USERS, N_ITEMS, 14)
    pattern, weight = plain.interactions.pattern, double(plain.n_edges, seed=3)
    new_user, new_item = torch.tensor([5, 2, 7, 0, 1, 6, 3, 4]), torch.tensor([4, 0, 3, 5, 1, 2])
    user, item = new_user[pattern.row], new_item[pattern.col]
    moved = InteractionGraph.from_pairs(user.numpy(), item.numpy(), N_USERS, N_ITEMS)
    moved_weight = torch.empty_like(weight)
    moved_weight[moved.interaction_numbers(user, item)] = weight
    moved_tables = [torch.empty_like(table) for table in tables]
    moved_tables[0][new_user], moved_tables[1][new_item] = tables
    expected = weighted_lightgcn(in_double(plain), weight, *tables, n_layers=2)
    out = weighted_lightgcn(in_double(moved), moved_weight, *moved_tables, n_layers=2)
    for table, new, want in zip(out, (new_user, new_item), expected, strict=True):
        assert_close(table[new], want)


# --- packed masks ----------------------------------------------------------------------------


def test_pack_mask_by_hand():
    mask = torch.tensor([1, 0, 0, 0, 0, 0, 1, 1, 1, 0]).bool().view(2, 5)
    assert pack_mask(mask).tolist() == [0b10000011, 0b10000000]
    assert pack_mask(mask).dtype == torch.uint8


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 64])
def test_unpack_mask_undoes_pack_mask(size):
    mask = double(size, seed=size) > 0
    assert len(pack_mask(mask)) == -(-size // 8)
    assert torch.equal(unpack_mask(pack_mask(mask), size), mask)


# --- embeddings that shrink ------------------------------------------------------------------


def embedding_of(*masks, n_nodes=6, width=4):
    """A table pruned with each of the masks in turn."""
    torch.manual_seed(0)
    table = PrunableEmbedding(n_nodes, width)
    for mask in masks:
        table.prune(mask)
    return table


def masks(*shares):
    """Nested masks of a 6 x 4 table that keep the given numbers of entries."""
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    rank = torch.empty(24, dtype=torch.int64)
    rank[order] = torch.arange(24)
    return [(rank < share).view(6, 4) for share in shares]


def test_unpruned_table_is_its_parameter():
    table = embedding_of()
    assert table() is table.values
    assert not table.pruned
    assert table.entry_mask.all()
    assert table.entry_mask.shape == (6, 4)
    bound = (6 / (6 + 4)) ** 0.5  # Xavier
    assert 0.5 * bound < table.values.abs().max() <= bound


def test_pruning_by_hand():
    table = PrunableEmbedding(2, 2)
    with torch.no_grad():
        table.values.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    table.prune(torch.tensor([[False, True], [True, True]]))
    assert table.values.tolist() == [2.0, 3.0, 4.0]
    assert table().tolist() == [[0.0, 2.0], [3.0, 4.0]]
    assert table.bits.tolist() == [0b01110000]
    table.prune(torch.tensor([[False, False], [True, False]]))
    assert table.values.tolist() == [3.0]
    assert table().tolist() == [[0.0, 0.0], [3.0, 0.0]]
    assert table.entry_mask.tolist() == [[False, False], [True, False]]


def test_pruning_really_shrinks_parameter_and_checkpoint():
    whole, some, few = masks(24, 10, 3)
    table = embedding_of()
    full = table().detach().clone()
    for mask, entries in ((whole, 24), (some, 10), (few, 3)):
        table.prune(mask)
        assert [p.shape for p in table.parameters()] == [(entries,)]
        assert table.pruned
        assert torch.equal(table.entry_mask, mask)
        assert torch.equal(table(), full * mask)
        state = table.state_dict()
        assert set(state) == {"values", "bits"}
        assert sum(t.nbytes for t in state.values()) == 4 * entries + 3


def test_everything_pruned():
    table = embedding_of(*masks(0))
    assert table.values.shape == (0,)
    assert not table().any()
    assert not table.entry_mask.any()
    table().sum().backward()
    assert table.values.grad.shape == (0,)
    other = embedding_of()
    other.load_state_dict(table.state_dict())
    assert not other().any()


def test_gradient_reaches_only_living_entries():
    mask = masks(10)[0]
    table = embedding_of(mask).double()
    upstream = double(6, 4, seed=5)
    (table() * upstream).sum().backward()
    assert torch.equal(table.values.grad, upstream[mask])
    optimizer = torch.optim.Adam(table.parameters(), lr=0.1)
    optimizer.step()
    assert not table()[~mask].any()
    state = optimizer.state[table.values]
    assert state["exp_avg"].shape == (10,)


def test_a_pruned_entry_never_comes_back():
    some, few = masks(10, 3)
    table = embedding_of(few)
    before = table().detach().clone()
    with pytest.raises(ValueError, match="never comes back"):
        table.prune(some)
    assert torch.equal(table(), before)
    assert torch.equal(table.entry_mask, few)


@pytest.mark.parametrize("before", [(), (10,), (3,)])
@pytest.mark.parametrize("saved", [(), (24,), (10,), (10, 3), (0,)])
def test_a_checkpoint_of_any_pruning_run_loads(before, saved):
    """The table becomes the saved one, whether it was pruned more, less or equally before."""
    source = embedding_of(*masks(*saved))
    table = embedding_of(*masks(*before))
    with torch.no_grad():
        table.values.zero_()
    table.load_state_dict(source.state_dict())
    assert torch.equal(table(), source())
    assert torch.equal(table.entry_mask, source.entry_mask)
    assert table.pruned == source.pruned
    assert [p.shape for p in table.parameters()] == [p.shape for p in source.parameters()]
    assert table.state_dict().keys() == source.state_dict().keys()
    table().sum().backward()
    assert table.values.grad.shape == table.values.shape


def test_a_checkpoint_loads_within_a_larger_model():
    model, source = (torch.nn.ModuleDict({"user": embedding_of(*m)}) for m in ([], masks(10)))
    model.load_state_dict(source.state_dict())
    assert torch.equal(model["user"](), source["user"]())


@pytest.mark.parametrize("pruned", [False, True])
def test_a_checkpoint_of_another_table_is_refused(pruned):
    other = PrunableEmbedding(7, 4)
    if pruned:
        other.prune(torch.arange(28).view(7, 4) % 2 == 0)
    with pytest.raises(RuntimeError, match=r"size mismatch"):
        embedding_of().load_state_dict(other.state_dict())


def test_an_incomplete_checkpoint_is_refused():
    state = embedding_of(*masks(10)).state_dict()
    del state["bits"]
    with pytest.raises(RuntimeError, match=r"Missing key.*bits"):
        embedding_of().load_state_dict(state)
