"""The truncated decomposition of the graph: by hand, against the dense one, on tiny components."""

import numpy as np
import pytest
import torch
from helpers.tiny import adjacency, random_graph
from helpers.tiny_world import TRAIN
from torch.testing import assert_close

from recbole_lightgnn.nn.graph import InteractionGraph
from recbole_lightgnn.nn.spectral import low_rank_graph

SINGULAR_VALUES = {0.0: [1, 0.80902], 1.0: [0.63341, 0.48203]}  # the third: .30902 and .18196

TINY_GRAPH = [[0.5, 0.70711, 0], [0.5, 0, 0.5], [0, 0, 0.70711]]


def tiny():
    return InteractionGraph.from_pairs(*np.array(TRAIN).T, 3, 3)


def product(parts):
    return (parts.user * parts.value) @ parts.item.T


@pytest.mark.parametrize("offset", SINGULAR_VALUES)
def test_singular_values_by_hand(offset):
    parts = low_rank_graph(tiny(), rank=2, degree_offset=offset)
    assert parts.value.tolist() == pytest.approx(SINGULAR_VALUES[offset], abs=1e-5)


def test_the_view_of_rank_one_by_hand():
    view = product(low_rank_graph(tiny(), rank=1, degree_offset=0))
    row = [0.4, 0.28284, 0.4]
    expected = torch.tensor([row, row, [0.28284, 0.2, 0.28284]])
    assert_close(view, expected, atol=1e-5, rtol=0)
    assert (view @ torch.tensor([0.0, 1, 0])).tolist() == pytest.approx(
        [0.28284, 0.28284, 0.2], abs=1e-5
    )


@pytest.mark.parametrize("offset", [0, 2.5])
@pytest.mark.parametrize(("seed", "shape", "rank"), [(0, (12, 7), 3), (1, (6, 20), 5)])
def test_it_equals_the_dense_decomposition(seed, shape, rank, offset):
    graph = random_graph(seed, *shape, 30)
    matrix = adjacency(graph)
    user, item = matrix.sum(axis=1) + offset, matrix.sum(axis=0) + offset
    scaled = matrix / np.sqrt(np.outer(np.maximum(user, 1e-9), np.maximum(item, 1e-9)))
    left, value, right = np.linalg.svd(scaled)
    expected = (left[:, :rank] * value[:rank]) @ right[:rank]
    parts = low_rank_graph(graph, rank=rank, degree_offset=offset)
    assert_close(product(parts), torch.from_numpy(expected).float(), rtol=1e-4, atol=1e-5)
    again = low_rank_graph(graph, rank=rank, degree_offset=offset)
    assert all(torch.equal(a, b) for a, b in zip(parts, again, strict=True))


def test_the_offset_takes_the_rank_from_tiny_components():
    """Ten components of one edge have the value 1, as the block has; with an offset it leads."""
    pairs = [(u, i) for u in range(5) for i in range(6)] + [(5 + k, 6 + k) for k in range(10)]
    graph = InteractionGraph.from_pairs(*np.array(pairs).T, 15, 16)
    assert low_rank_graph(graph, rank=3, degree_offset=0).value.tolist() == pytest.approx([1] * 3)
    parts = low_rank_graph(graph, rank=1, degree_offset=1)
    assert parts.value.item() == pytest.approx((30 / 42) ** 0.5, rel=1e-6)
    assert parts.user[5:].abs().max() < 1e-6


def test_nodes_without_interactions_have_no_part_in_the_view():
    pairs = np.array(TRAIN) + 1  # node 0 is isolated, as RecBole's padding is
    graph = InteractionGraph.from_pairs(*pairs.T, 5, 6)
    parts = low_rank_graph(graph, rank=4, degree_offset=0)
    assert parts.user[[0, 4]].abs().max() == 0
    assert parts.item[[0, 4, 5]].abs().max() == 0
    assert_close(product(parts)[1:4, 1:4], torch.tensor(TINY_GRAPH), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("rank", "offset", "message"),
    [
        (0, 0, r"rank must lie in \[1, 3\) \(got 0\)"),
        (3, 0, r"rank must lie in \[1, 3\) \(got 3\)"),
        (1, -1, r"degree_offset must be at least 0 \(got -1\)"),
    ],
)
def test_bad_arguments_are_refused(rank, offset, message):
    with pytest.raises(ValueError, match=message):
        low_rank_graph(tiny(), rank=rank, degree_offset=offset)
