"""Inference of the student from its remaining entries and edges, compared with its encoder."""

import numpy as np
import pytest
import torch
from helpers.planted import QUICK, write_planted
from helpers.tiny import double, in_double, random_graph
from recbole.utils import get_model
from torch.testing import assert_close

from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.loaders import load_data
from recbole_lightgnn.nn.graph import InteractionGraph
from recbole_lightgnn.nn.propagation import weighted_lightgcn, weighted_lightgcn_inference
from recbole_lightgnn.nn.prunable_embedding import PrunableEmbedding
from recbole_lightgnn.ops import PackedRows, expands_in_hardware


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Return a function that makes a student on the planted world, with random edge weights."""
    monkeypatch.chdir(tmp_path)
    write_planted(tmp_path / "dataset")
    shared = {key: QUICK[key] for key in ("show_progress", "topk", "valid_metric")}

    def make(**settings):
        config = build_config("LightGNN", "planted", (), {**shared, **settings})
        dataset = load_data(config)[0].dataset
        torch.manual_seed(5)
        model = get_model("LightGNN")(config, dataset)
        with torch.no_grad():
            model.edge_weight.uniform_(-0.5, 2.0)
        return model

    return make


def assert_infers(model):
    """Assert that final embeddings equal those of `encode`, to 1e-5 of the largest entry."""
    with torch.no_grad():
        expected = model.encode()
    for got, truth in zip(model.eval().final_embeddings(), expected, strict=True):
        assert not got.requires_grad
        assert_close(got, truth, rtol=1e-5, atol=1e-5 * float(truth.abs().max()))


# --- the formula -----------------------------------------------------------------------------


@pytest.mark.parametrize("n_layers", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_polynomial_is_the_sum_of_layers(n_layers, weighted):
    graph = in_double(random_graph(4, 8, 6, 14))
    tables = double(8, 3, seed=1), double(6, 3, seed=2)
    weight = double(graph.n_edges, seed=3) if weighted else None
    expected = weighted_lightgcn(graph, weight, *tables, n_layers=n_layers)
    for got, truth in zip(
        weighted_lightgcn_inference(graph, weight, *tables, n_layers=n_layers),
        expected,
        strict=True,
    ):
        assert_close(got, truth, rtol=1e-12, atol=1e-12)


# --- a table's rows --------------------------------------------------------------------------


def dense(rows):
    return rows.dense() if isinstance(rows, PackedRows) else rows


def test_a_table_is_packed_once_it_is_pruned_where_the_processor_can():
    table = PrunableEmbedding(5, 20)
    assert table.rows().data_ptr() == table.values.data_ptr()
    table.prune(torch.arange(100).view(5, 20) % 3 == 0)
    rows = table.rows()
    assert isinstance(rows, PackedRows) == expands_in_hardware()
    assert torch.equal(dense(rows), table())
    assert not dense(rows).requires_grad
    if isinstance(rows, PackedRows):
        assert rows.values.data_ptr() == table.values.data_ptr(), "no copy"
    assert isinstance(table.double().rows(), torch.Tensor)


def test_rows_follow_values_masks_and_checkpoints():
    table, other = PrunableEmbedding(5, 20), PrunableEmbedding(5, 20)
    some, few = (torch.arange(100).view(5, 20) % k == 0 for k in (2, 6))
    other.prune(few)
    unpruned = {name: tensor.clone() for name, tensor in table.state_dict().items()}
    for mask in (some, few):
        table.prune(mask)
        assert torch.equal(dense(table.rows()), table())
        with torch.no_grad():
            table.values.mul_(2.0)
        assert torch.equal(dense(table.rows()), table())
    table.prune(some & few & (torch.arange(5) > 2)[:, None])
    table.load_state_dict(other.state_dict())
    assert torch.equal(dense(table.rows()), other())
    table.load_state_dict(unpruned)
    assert torch.equal(dense(table.rows()), unpruned["values"])


# --- the student -----------------------------------------------------------------------------


@pytest.mark.parametrize("n_layers", [0, 1, 2, 3])
@pytest.mark.parametrize("width", [4, 20, 64])
def test_a_student_infers_what_it_encodes_run_by_run(build, n_layers, width):
    model = build(n_layers=n_layers, embedding_size=width, entry_ratio=0.6, edge_ratio=0.8)
    for _ in range(4):
        assert_infers(model)
        model.train()
        model.prune()
    assert model.user_embedding.pruned


@pytest.mark.parametrize("share", [0.9, 0.3, 0.02])
def test_nodes_may_lose_all_their_entries_and_edges(build, share):
    model = build(embedding_size=16, entry_ratio=share, edge_ratio=share)
    model.floors = {"entry": 0, "edge": 0}
    model.prune()
    if share == 0.02:
        degree = torch.bincount(model.graph.interactions.pattern.row, minlength=model.n_users)
        assert degree[1:].min() == 0
        assert model.user_embedding.entry_mask[1:].sum(dim=1).min() == 0
    assert_infers(model)


def test_a_student_without_any_entry_or_edge(build):
    model = build(embedding_size=16, edge_pruning="none")
    for table in (model.user_embedding, model.item_embedding):
        table.prune(torch.zeros(table.shape, dtype=torch.bool))
    model._set_edges(torch.zeros(model.observed.n_edges, dtype=torch.bool))
    model.edge_weight = torch.nn.Parameter(torch.empty(0))
    user, item = model.eval().final_embeddings()
    assert not user.any()
    assert not item.any()


@pytest.mark.parametrize("pruning", ["entry_pruning", "edge_pruning"])
def test_either_part_may_be_left_unpruned(build, pruning):
    model = build(embedding_size=16, **{pruning: "none"})
    model.prune()
    assert_infers(model)


def test_binary_edges_infer_with_weights_of_one(build):
    model = build(embedding_size=16, edge_weights="binary")
    model.prune()
    assert_infers(model)


def test_final_embeddings_follow_the_weights(build):
    model = build(embedding_size=16)
    model.prune()
    before = model.eval().final_embeddings()
    assert model.final_embeddings()[0] is before[0], "propagated once"
    model.train()
    with torch.no_grad():
        model.user_embedding.values.mul_(3.0)
    assert_infers(model)
    assert not torch.allclose(model.final_embeddings()[0], before[0])


def test_one_user():
    graph = InteractionGraph.from_pairs(np.zeros(3, dtype=int), np.array([0, 1, 3]), 1, 4)
    user, item = PrunableEmbedding(1, 64), PrunableEmbedding(4, 64)
    user.prune(torch.arange(64)[None] % 5 == 0)
    item.prune(torch.arange(256).view(4, 64) % 7 == 0)
    weight = torch.tensor([1.0, -2.0, 0.5])
    expected = weighted_lightgcn(graph, weight, user(), item(), n_layers=2)
    got = weighted_lightgcn_inference(graph, weight, user.rows(), item.rows(), n_layers=2)
    for table, truth in zip(got, expected, strict=True):
        assert_close(table, truth)
