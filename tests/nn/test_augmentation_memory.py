"""Augmentation under a bound of memory: the same result, in blocks that keep to it."""

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
    augment_same_side,
)

AUGMENTATIONS = {
    "hops": lambda graph, memory_mb: augment_hops(graph, hops=3, cap=2, memory_mb=memory_mb),
    "same_side": lambda graph, memory_mb: augment_same_side(graph, cap=2, memory_mb=memory_mb),
}
both = pytest.mark.parametrize("augment", AUGMENTATIONS.values(), ids=AUGMENTATIONS)


def same(one, other):
    return all(
        torch.equal(a, b)
        for first, second in zip(one.relations, other.relations, strict=True)
        for a, b in (
            (first.pattern.row, second.pattern.row),
            (first.pattern.col, second.pattern.col),
            (first.norm, second.norm),
        )
    )


# --- the same result ------------------------------------------------------------------------


@both
@pytest.mark.parametrize("pairs_at_once", [1, 5, 20, 60])
def test_the_bound_does_not_change_the_result(augment, pairs_at_once, monkeypatch):
    graph = random_graph(3, 15, 12, 40)
    at_once = augment(graph, 256)
    monkeypatch.setattr(graph_module, "_PATH_BYTES", 1e6 / pairs_at_once)
    assert same(augment(graph, 1), at_once)


@both
def test_a_bound_below_1_is_refused(augment):
    with pytest.raises(ValueError, match=r"memory_mb must be at least 1 \(got 0\)"):
        augment(random_graph(3, 15, 12, 40), 0)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_the_setting_reaches_the_augmentation(augmentation, monkeypatch):
    seen = []
    name = {"hops": "augment_hops", "same_side": "augment_same_side"}[augmentation]
    monkeypatch.setattr(intermediate, name, lambda graph, **bounds: seen.append(bounds) or graph)
    settings = {"augmentation": augmentation, "augmentation_memory": 7, "show_progress": False}
    config = build_config("LightGNNIntermediate", "ml-100k", (), settings)
    intermediate.LightGNNIntermediate(config, load_data(config)[0].dataset)
    assert [bounds["memory_mb"] for bounds in seen] == [7]


# --- blocks ---------------------------------------------------------------------------------


def test_blocks_by_hand(monkeypatch):
    """Of 100000 pairs: 60 000 and 40 000 fit, the row of 250 000 is alone, the others together."""
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
    """u0-i0-u1-i1-u2, and u3 alone: 2, 4, 2 walks of two steps; 3, 6, 3 of three, to two items."""
    graph = InteractionGraph.from_pairs(np.array([0, 1, 1, 2]), np.array([0, 0, 1, 1]), 4, 2)
    rows = _to_scipy(graph.interactions)
    back = rows.T.tocsr()
    assert _most_pairs(rows, back, 1).tolist() == [1, 2, 1, 0]
    assert _most_pairs(rows, back, 2).tolist() == [2, 4, 2, 0]
    assert _most_pairs(rows, back, 3).tolist() == [2, 4, 2, 0]


# --- memory ---------------------------------------------------------------------------------


def peak_bytes(action):
    """Most memory that NumPy and SciPy held at once for arrays."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@both
def test_temporary_arrays_keep_to_the_bound(augment, monkeypatch):
    graph = power_law_graph(8000)
    monkeypatch.setattr(graph_module, "_PATH_BYTES", 48 * 1000)  # so that 1 MB is a kilobyte
    rest = peak_bytes(lambda: augment(graph, 20))  # the graph and what is added to it, mostly
    unbounded = peak_bytes(lambda: augment(graph, 10**9))
    assert peak_bytes(lambda: augment(graph, 300)) <= rest + 300_000
    assert unbounded > rest + 2 * 300_000
