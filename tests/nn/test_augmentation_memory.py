"""Augmentation with a memory bound: blocks stay within it, and the result does not change."""

import tracemalloc

import numpy as np
import pytest
import torch
from helpers.tiny import random_graph

from recbole_lightgnn.bench.graphs import power_law_graph
from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.loaders import load_data
from recbole_lightgnn.models import intermediate
from recbole_lightgnn.nn import graph as graph_module
from recbole_lightgnn.nn.graph import (
    InteractionGraph,
    _blocks,
    _most_pairs,
    _to_scipy,
    augment_hops,
)


def augment(graph, memory_mb):
    return augment_hops(graph, hops=3, cap=2, memory_mb=memory_mb)


def same(one, other):
    first, second = one.interactions, other.interactions
    return (
        torch.equal(first.pattern.row, second.pattern.row)
        and torch.equal(first.pattern.col, second.pattern.col)
        and torch.equal(first.norm, second.norm)
    )


# --- the same result ------------------------------------------------------------------------


@pytest.mark.parametrize("pairs_at_once", [1, 5, 20, 60])
def test_the_bound_does_not_change_the_result(pairs_at_once, monkeypatch):
    graph = random_graph(3, 15, 12, 40)
    at_once = augment(graph, 256)
    monkeypatch.setattr(graph_module, "_PATH_BYTES", 1e6 / pairs_at_once)
    assert same(augment(graph, 1), at_once)


def test_a_bound_below_1_is_refused():
    with pytest.raises(ValueError, match=r"memory_mb must be at least 1 \(got 0\)"):
        augment(random_graph(3, 15, 12, 40), 0)


def test_the_setting_reaches_the_augmentation(monkeypatch):
    calls = []

    def record(graph, **arguments):
        calls.append(arguments)
        return graph

    monkeypatch.setattr(intermediate, "augment_hops", record)
    settings = {"augmentation": "hops", "augmentation_memory": 7, "show_progress": False}
    config = build_config("LightGNNIntermediate", "ml-100k", (), settings)
    intermediate.LightGNNIntermediate(config, load_data(config)[0].dataset)
    assert [arguments["memory_mb"] for arguments in calls] == [7]


# --- blocks ---------------------------------------------------------------------------------


def test_blocks_by_hand(monkeypatch):
    """At most 100 000 pairs a block: 60 000 and 40 000 fit; 250 000 is a block of its own."""
    monkeypatch.setattr(graph_module, "_PATH_BYTES", 10)
    pairs = 1000 * np.array([60, 40, 1, 250, 0, 99, 1, 2])
    blocks = [(block.start, block.stop) for block in _blocks(pairs, 1)]
    assert blocks == [(0, 2), (2, 3), (3, 4), (4, 7), (7, 8)]
    assert list(_blocks(np.array([]), 1)) == []


@pytest.mark.parametrize("seed", range(4))
def test_no_product_has_more_pairs_than_counted(seed):
    graph = random_graph(seed, 15, 12, 25)
    rows = _to_scipy(graph.interactions)
    back = rows.T.tocsr()
    products = [rows, rows @ back, rows @ back @ rows]
    entries = np.array([np.diff(product.tocsr().indptr) for product in products])
    for length in (1, 2, 3):
        assert (_most_pairs(rows, back, length) >= entries[:length].max(axis=0)).all()


def test_pairs_are_counted_by_hand():
    """Chain u0-i0-u1-i1-u2, and u3 without items.

    The three users have 2, 4 and 2 walks of two steps. They have 3, 6 and 3 walks of three steps,
    which end at no more than two items.
    """
    graph = InteractionGraph.from_pairs(np.array([0, 1, 1, 2]), np.array([0, 0, 1, 1]), 4, 2)
    rows = _to_scipy(graph.interactions)
    back = rows.T.tocsr()
    assert _most_pairs(rows, back, 1).tolist() == [1, 2, 1, 0]
    assert _most_pairs(rows, back, 2).tolist() == [2, 4, 2, 0]
    assert _most_pairs(rows, back, 3).tolist() == [2, 4, 2, 0]


# --- memory ---------------------------------------------------------------------------------


def peak_bytes(action):
    """Peak memory of NumPy and SciPy arrays, in bytes."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_temporary_arrays_keep_to_the_bound(monkeypatch):
    graph = power_law_graph(8000)
    monkeypatch.setattr(graph_module, "_PATH_BYTES", 48 * 1000)  # memory_mb now counts kilobytes
    rest = peak_bytes(lambda: augment(graph, 20))  # mostly the graph and its additions
    unbounded = peak_bytes(lambda: augment(graph, 10**9))
    assert peak_bytes(lambda: augment(graph, 300)) <= rest + 300_000
    assert unbounded > rest + 2 * 300_000
