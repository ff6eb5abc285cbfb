"""Narrow tables closest to given scores, and initial embeddings for given final ones."""

import numpy as np
import pytest
import torch
from helpers.tiny import double, in_double, random_graph
from torch.testing import assert_close

from recbole_lightgnn.nn.propagation import weighted_lightgcn
from recbole_lightgnn.nn.warm_start import closest_tables, unpropagated


def given():
    """Tables of 30 users and 20 items with 7 columns, and their scores, centred by user."""
    user, item = double(30, 7, seed=1), double(20, 7, seed=2) + 3.0
    scores = (user @ item.T)[1:, 1:]
    return user, item, scores - scores.mean(dim=1, keepdim=True)


@pytest.mark.parametrize("width", [1, 3, 7])
def test_the_closest_tables_are_those_of_the_truncated_svd(width):
    user, item, scores = given()
    left, values, right = np.linalg.svd(scores.numpy())
    expected = torch.from_numpy(left[:, :width] * values[:width] @ right[:width])
    narrow = closest_tables(user, item, width)
    assert [tuple(table.shape) for table in narrow] == [(30, width), (20, width)]
    assert_close((narrow[0] @ narrow[1].T)[1:, 1:], expected, rtol=1e-7, atol=1e-7)
    assert not narrow[0][0].any()
    assert not narrow[1][0].any()
    lengths = [table.square().sum(dim=0) for table in narrow]
    assert_close(lengths[0], lengths[1])


def test_tables_with_fewer_dimensions_than_columns_leave_the_rest_zero():
    user, item = double(30, 2, seed=1), double(20, 2, seed=2)
    doubled = torch.cat([user, user], dim=1), torch.cat([item, item], dim=1)
    narrow = closest_tables(*doubled, 4)
    scores = 2 * user @ item.T
    scores = (scores - scores[:, 1:].mean(dim=1, keepdim=True))[1:, 1:]
    assert_close((narrow[0] @ narrow[1].T)[1:, 1:], scores, rtol=1e-6, atol=1e-6)
    assert max(table[:, 2:].abs().max() for table in narrow) < 1e-5
    nothing = closest_tables(torch.zeros(30, 4), torch.ones(20, 4), 3)
    assert not nothing[0].any()
    assert not nothing[1].any()


@pytest.mark.parametrize("n_layers", [0, 1, 2, 3])
def test_propagating_what_was_found_gives_the_final_embeddings(n_layers):
    graph = in_double(random_graph(4, 30, 20, 120))
    weight = 0.5 + double(graph.n_edges, seed=3).abs()

    def propagate(user, item):
        return weighted_lightgcn(graph, weight, user, item, n_layers=n_layers)

    final = double(30, 3, seed=1), double(20, 3, seed=2)
    final[1][:, 2] = final[0][:, 2] = 0.0
    found = unpropagated(propagate, *final, steps=200)
    again = propagate(*found)
    for table, expected in zip(again, final, strict=True):
        assert_close(table, expected, rtol=1e-3, atol=1e-3)
    assert not found[0][:, 2].any(), "a column of zeros stays one"


def test_twenty_steps_leave_less_than_a_hundredth_of_the_error():
    """In the usual norm of the edges, with both exponents 1/2."""
    graph = in_double(random_graph(4, 300, 200, 3000))
    final = double(300, 3, seed=1), double(200, 3, seed=2)

    def propagate(user, item):
        return weighted_lightgcn(graph, None, user, item, n_layers=2)

    again = propagate(*unpropagated(propagate, *final))
    left = sum((one - two).square().sum() for one, two in zip(again, final, strict=True))
    assert left < 1e-4 * sum(table.square().sum() for table in final)
